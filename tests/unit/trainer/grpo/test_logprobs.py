"""Chunked log-probabilities against log_softmax: values, gradients, entropies, every chunk size."""

import pytest
import torch

from trainer.grpo.logprobs import token_logprobs

N, H, V = 11, 6, 29


def problem(*, seed=0, dtype=torch.float64, frozen=False, bias=True):
    """Hidden states, a head, targets and temperatures."""
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(N, H, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, H, generator=generator, dtype=dtype, requires_grad=not frozen)
    offset = torch.randn(V, generator=generator, dtype=dtype, requires_grad=not frozen) if bias else None
    targets = torch.randint(0, V, (N,), generator=generator)
    temperature = torch.rand(N, generator=generator, dtype=dtype) + 0.5
    return hidden, weight, offset, targets, temperature


def plainly(hidden, weight, bias, targets, temperature):
    """The definition."""
    logits = torch.nn.functional.linear(hidden, weight, bias) / temperature[:, None]
    logprobs = logits.log_softmax(-1)
    return logprobs.gather(1, targets[:, None]).squeeze(1), -(logprobs.exp() * logprobs).sum(-1)


@pytest.mark.parametrize("rows", [1, 3, 4, 10, 11, 100])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_values_and_gradients_are_log_softmax(rows, frozen, bias):
    """Any number of rows per chunk, dividing N or not, frozen head or trained: 1e-12 in float64."""
    given = problem(frozen=frozen, bias=bias)
    found = token_logprobs(*given, chunk_elements=rows * V)
    expected, entropies = plainly(*given)
    torch.testing.assert_close(found.logprobs_N, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.entropies_N, entropies.detach(), rtol=1e-12, atol=1e-12)
    slope = torch.linspace(-1, 2, N, dtype=torch.float64)
    wanted = [tensor for tensor in given[:3] if tensor is not None and tensor.requires_grad]
    mine = torch.autograd.grad((found.logprobs_N * slope).sum(), wanted)
    theirs = torch.autograd.grad((expected * slope).sum(), wanted)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_float32_stays_close():
    """Single precision agrees to 1e-5 in values and gradients."""
    given = problem(dtype=torch.float32)
    found = token_logprobs(*given, chunk_elements=4 * V).logprobs_N
    expected, _ = plainly(*given)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    mine, theirs = (torch.autograd.grad(value.sum(), given[0])[0] for value in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_bfloat16_hidden_states_give_float32_values():
    """Half-precision states and weights: the softmax runs in float32, the gradient comes back in bfloat16."""
    hidden, weight, _, targets, temperature = problem(dtype=torch.float32, bias=False)
    low, head = hidden.detach().bfloat16().requires_grad_(), weight.detach().bfloat16()
    found = token_logprobs(low, head, None, targets, temperature).logprobs_N
    assert torch.float32 is found.dtype
    assert torch.bfloat16 is torch.autograd.grad(found.sum(), low)[0].dtype
    expected, _ = plainly(low.detach().float(), head.float(), None, targets, temperature)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.05)


def test_autocast_computes_the_head_in_its_type():
    """Float32 masters under autocast get float32 gradients through a bfloat16 head."""
    hidden, weight, bias, targets, temperature = problem(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_logprobs(hidden, weight, bias, targets, temperature).logprobs_N
    gradients = torch.autograd.grad(found.sum(), [hidden, weight, bias])
    assert [torch.float32] * 3 == [gradient.dtype for gradient in gradients]
    expected = torch.autograd.grad(plainly(hidden, weight, bias, targets, temperature)[0].sum(), weight)[0]
    assert torch.nn.functional.cosine_similarity(gradients[1].flatten(), expected.flatten(), dim=0) > 0.999


def test_one_chunk_computes_the_head_once():
    """Where all rows fit one chunk the backward multiplies three times in total, not four."""
    given = problem(bias=False)
    counts = []
    for elements in (N * V, 4 * V):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            token_logprobs(*given, chunk_elements=elements).logprobs_N.sum().backward()
        names = [event.name for event in profile.events()]
        counts.append(sum(name in {"aten::mm", "aten::addmm", "aten::addmm_"} for name in names))
    assert [3, 3 * 4] == counts


def test_no_targets_are_no_error():
    """An empty batch of targets has no values and no gradient."""
    hidden, weight, bias, targets, temperature = problem()
    found = token_logprobs(hidden[:0], weight, bias, targets[:0], temperature[:0])
    assert (0,) == found.logprobs_N.shape
    found.logprobs_N.sum().backward()
    assert 0 == weight.grad.abs().sum()
