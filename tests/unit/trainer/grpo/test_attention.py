"""Attention over a trie: blocks, dense and per-path computation agree; the check before the first update works."""

import pytest
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention

from tests.unit.trainer.grpo.factories import tiny_lora_policy, tiny_policy
from trainer.grpo import learner as learner_module
from trainer.grpo.attention import (
    AttentionKind,
    DenseAttention,
    FlexAttention,
    attention_interface,
    padded_length,
    trie_attention,
)
from trainer.grpo.blocks import (
    LONG_CHAIN,
    BlockAttention,
    FlashCpuKernel,
    PlainKernel,
    block_plan,
    chains_of,
    choose_kernel,
)
from trainer.grpo.learner import ComputeSettings, Learner, choose_attention
from trainer.grpo.policy import PolicyError
from trainer.grpo.samples import Sample, Segment
from trainer.grpo.trie import pack

CPU = torch.device("cpu")


def sample(prompt, answer):
    """One answer to one prompt."""
    return Sample(segments=(Segment(prompt_ids=tuple(prompt), token_ids=tuple(answer)),), advantage=1.0)


def episode(*, long=0):
    """Three answers at each of three points of an episode, one branching twice, and one unrelated sample."""
    trunk = [5, 6, 7, 8, 9, 10, 11, 12] + [13] * long
    answers = [[20, 21, 22, 23], [20, 21, 30], [40, 41, 42, 43, 44]]
    points = [trunk[:3], trunk[:6], trunk]
    return [sample(p, [*a, 50 + i]) for i, p in enumerate(points) for a in answers] + [sample([90], [91, 92])]


def tensors(length, dtype=torch.float64, heads=4, kv_heads=2):
    """Query, key and value of one layer."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, heads, length, 8), (1, kv_heads, length, 8), (1, kv_heads, length, 8)]
    return [torch.randn(*s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def by_path(packed, query, key, value, scale):
    """Each token alone: its ancestors are those before it whose subtree holds it."""
    ends = packed.subtree_end_T.tolist()
    key, value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    rows = []
    for place in range(packed.num_tokens):
        path = [other for other in range(place + 1) if place < ends[other]]
        rows.append(
            functional.scaled_dot_product_attention(
                query[:, :, place : place + 1], key[:, :, path], value[:, :, path], scale=scale
            )
        )
    return torch.cat(rows, 2)


@pytest.mark.parametrize("long", [0, 600])
@pytest.mark.parametrize("kind", [AttentionKind.BLOCKS, AttentionKind.DENSE])
def test_attention_is_over_the_path(kind, long):
    """Values and gradients in float64 equal attention over each token's own path, short chains and long."""
    (packed,) = pack(episode(long=long), token_budget=10_000)
    given = tensors(packed.num_tokens)
    expected = by_path(packed, *given, 0.3)
    found = trie_attention(kind, packed, CPU)(*given, 0.3)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    slope = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for mine, theirs in zip(
        torch.autograd.grad((found * slope).sum(), given),
        torch.autograd.grad((expected * slope).sum(), given),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def test_plan_covers_each_pair_once():
    """Chains and rectangles together are exactly the pairs of a token and an ancestor or itself."""
    (packed,) = pack(episode(long=600), token_budget=10_000)
    plan = block_plan(packed.nodes, CPU)
    covered = torch.zeros(packed.num_tokens, packed.num_tokens, dtype=torch.int64)
    for start, end in plan.long_chains:
        covered[start:end, start:end] += torch.ones(end - start, end - start, dtype=torch.int64).tril()
    for batch in plan.chain_batches:
        for chain, gap in zip(batch.index.view(batch.num_chains, -1), batch.padding.flatten(1), strict=True):
            real = chain[~gap]
            covered[real[:, None], real] += torch.ones(len(real), len(real), dtype=torch.int64).tril()
    for block in plan.rectangles:
        covered[block.query_start : block.query_end, block.key_start : block.key_end] += 1
    expected = DenseAttention(packed, CPU).mask[0, 0].long()
    assert torch.equal(expected, covered)
    assert plan.long_chains
    assert plan.rectangles


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flash_kernel_agrees_with_the_plain_one(dtype):
    """The two kernels give the same attention and gradients, so the fast one may be chosen here."""
    assert isinstance(choose_kernel("cpu", dtype), FlashCpuKernel)
    (packed,) = pack(episode(long=600), token_budget=10_000)
    plan = block_plan(packed.nodes, CPU)
    given = tensors(packed.num_tokens, dtype)
    results = []
    for kernel in (FlashCpuKernel(), PlainKernel()):
        attention = BlockAttention(plan, kernel)
        out = attention(*given, 0.3)
        results.append([out, *torch.autograd.grad(out.square().sum(), given)])
    tolerance = 1e-4 if dtype is torch.float32 else 1e-10
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def test_other_devices_take_the_plain_kernel():
    """The flash kernel is the CPU's."""
    assert isinstance(choose_kernel("cuda", torch.float32), PlainKernel)


def test_interface_comes_and_goes():
    """The model's own attention is back after the block, also after an error."""
    model = tiny_policy().causal_lm
    own = model.config._attn_implementation
    with attention_interface(model):
        assert own != model.config._attn_implementation
    assert own == model.config._attn_implementation
    block = attention_interface(model)
    block.__enter__()
    assert not block.__exit__(RuntimeError, RuntimeError(), None)
    assert own == model.config._attn_implementation


def test_fastest_way_that_passes_is_chosen():
    """On a CPU an ordinary model takes blocks, and nothing was rejected."""
    choice = choose_attention(tiny_policy(), episode(), ComputeSettings())
    assert (AttentionKind.BLOCKS, ()) == (choice.kind, choice.rejected)


def test_a_wrong_way_is_rejected_with_its_reason(monkeypatch):
    """A block attention that forgets its rectangles is caught by the check, and dense attention takes over."""

    def forgetful(nodes, device):
        plan = block_plan(nodes, device)
        return type(plan)(long_chains=plan.long_chains, chain_batches=plan.chain_batches, rectangles=())

    monkeypatch.setattr("trainer.grpo.attention.block_plan", forgetful)
    choice = choose_attention(tiny_policy(), episode(), ComputeSettings())
    assert AttentionKind.DENSE is choice.kind
    assert "blocks: log-probabilities differ" in choice.rejected[0]
    with pytest.raises(PolicyError, match="differ from plain computation"):
        choose_attention(tiny_policy(), episode(), ComputeSettings(attention=AttentionKind.BLOCKS))


class _CompilerError(Exception):
    """As compilers have them: of no more special class."""


def test_a_way_that_does_not_run_is_passed_over_with_its_reason(monkeypatch):
    """Whatever error it raises, the next way is tried, and the choice keeps the words."""

    def broken(nodes, device):
        raise _CompilerError("out of resources")

    monkeypatch.setattr("trainer.grpo.attention.block_plan", broken)
    choice = choose_attention(tiny_policy(), episode(), ComputeSettings())
    assert AttentionKind.DENSE is choice.kind
    assert ("blocks: _CompilerError: out of resources",) == choice.rejected


def test_windowed_layers_are_computed_unpacked():
    """Layers that see a window only are not packed, and the choice says why."""
    policy = tiny_policy()
    policy.causal_lm.config.layer_types = ["full_attention", "sliding_attention"]
    choice = choose_attention(policy, episode(), ComputeSettings())
    assert AttentionKind.UNPACKED is choice.kind
    assert "sliding_attention" in choice.rejected[0]


@pytest.mark.parametrize("kind", [AttentionKind.BLOCKS, AttentionKind.UNPACKED])
def test_recomputing_layers_changes_nothing(tmp_path, kind):
    """Gradient checkpointing gives the same gradients of an adapter, and leaves no layer in training mode."""
    policy = tiny_lora_policy(tmp_path)
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.02)
    found = []
    for checkpointing in (False, True):
        learner = Learner(policy, kind, ComputeSettings(gradient_checkpointing=checkpointing))
        (batch,) = learner.micro_batches(episode())
        with learner.active():
            loss = learner(batch).logprobs_N.sum()
            found.append(torch.autograd.grad(loss, list(policy.trainable_parameters().values())))
    for plain, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-5, atol=1e-5)
    assert not any(module.training for module in policy.module.modules())


def test_offloaded_activations_change_nothing():
    """Keeping activations in host memory gives the same gradients."""
    policy = tiny_policy()
    found = []
    for offload in (False, True):
        learner = Learner(policy, AttentionKind.BLOCKS, ComputeSettings(activation_offload=offload))
        (batch,) = learner.micro_batches(episode())
        with learner.active():
            loss = learner(batch).logprobs_N.sum()
            found.append(torch.autograd.grad(loss, list(policy.trainable_parameters().values())))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_check_samples_branch():
    """The samples compared before the first update are neighbours: they share a prompt and part from it."""
    few = learner_module._check_samples(episode())
    (packed,) = pack(few, token_budget=10_000)
    assert len(packed.nodes) > len(few) / 2
    assert learner_module.CHECK_SAMPLES == len(few)


@pytest.mark.parametrize(("shared", "kept"), [(0, 640 + 3 * 128), (3000, 512 + 4 * 128), (40, 640 + 3 * 128)])
def test_the_check_takes_no_more_memory_than_a_micro_batch(shared, kept):
    """Of long samples the check keeps about a thousand tokens, a long chain among them, and they still branch."""
    samples = [sample([5] * shared + [10 + i] * 2000, [20 + i] * 500) for i in range(6)]
    few = learner_module._check_samples(samples)
    (packed,) = pack(few, token_budget=10_000)
    assert 4 == len(few)
    assert kept - 4 == packed.num_tokens, "the last token of each answer is only a target"
    assert max(end - start for start, end in chains_of(packed.nodes)) >= LONG_CHAIN
    assert min(len(each.segments[0].token_ids) for each in few) == 64


def test_rows_are_padded_to_whole_blocks():
    """Flex attention computes whole blocks of 128."""
    assert [128, 128, 256] == [padded_length(n) for n in (1, 128, 129)]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("long", [0, 600])
def test_flex_attention_sees_what_the_mask_shows(monkeypatch, long):
    """Its block mask and its padding on a CPU, forward and not compiled, which is what it can do there."""
    monkeypatch.setattr("trainer.grpo.attention._compiled_flex", lambda: flex_attention)
    (packed,) = pack(episode(long=long), token_budget=10_000)
    given = [t.detach().float() for t in tensors(padded_length(packed.num_tokens))]
    flex = FlexAttention(packed, CPU)(*given, 0.3)
    dense = DenseAttention(packed, CPU)(*(t[:, :, : packed.num_tokens] for t in given), 0.3)
    torch.testing.assert_close(flex[:, :, : packed.num_tokens], dense, rtol=1e-5, atol=1e-5)
    assert flex.isfinite().all(), "a padding token sees itself"


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_a_model_gives_the_same_through_flex_attention(monkeypatch):
    """Packed and padded to whole blocks, the log-probabilities are those of the boolean mask."""
    monkeypatch.setattr("trainer.grpo.attention._compiled_flex", lambda: flex_attention)
    policy, found = tiny_policy(), []
    for kind in (AttentionKind.FLEX, AttentionKind.DENSE):
        learner = Learner(policy, kind, ComputeSettings())
        (batch,) = learner.micro_batches(episode(long=300))
        with learner.active(), torch.no_grad():
            found.append(learner(batch).logprobs_N)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-5)


@pytest.mark.gpu
def test_flex_attention_is_the_dense_one():
    """On CUDA flex attention with a block mask gives the values and gradients of a boolean mask."""
    device = torch.device("cuda")
    (packed,) = pack(episode(long=600), token_budget=10_000)
    length = padded_length(packed.num_tokens)
    given = [t.detach().float().to(device).requires_grad_() for t in tensors(length)]
    inside = [t[:, :, : packed.num_tokens] for t in given]
    flex = FlexAttention(packed, device)(*given, 0.3)[:, :, : packed.num_tokens]
    dense = DenseAttention(packed, device)(*inside, 0.3)
    torch.testing.assert_close(flex, dense, rtol=1e-3, atol=1e-3)
    pairs = zip(torch.autograd.grad(flex.sum(), given), torch.autograd.grad(dense.sum(), given), strict=True)
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
