"""Which head computes log-probabilities, and that the fused ones are the chunked one."""

import importlib.util
import sys
import time
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
import torch

from trainer.grpo.fused_head import HeadKind, choose_head, fastest_head, head_logprobs

FUSED = [HeadKind.CUT_CROSS_ENTROPY, HeadKind.LIGER]


def test_a_cpu_computes_in_chunks():
    """The fused kernels are for CUDA in half precision; everything else takes our chunks."""
    weight = torch.randn(11, 4)
    assert HeadKind.CHUNKED is choose_head(weight, None, torch.float32)
    assert HeadKind.CHUNKED is choose_head(weight, torch.zeros(11), torch.bfloat16)


def right(hidden, weight, targets, **_):
    """A loss per token, in plain torch and faster than our chunks on a small head."""
    return torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="none")


def slow(hidden, weight, targets, **_):
    """Right, but never the fastest."""
    time.sleep(0.05)
    return right(hidden, weight, targets)


def wrong_values(hidden, weight, targets, **_):
    """Off by a tenth of a nat."""
    return right(hidden, weight, targets) + 0.1


class _Alike(torch.autograd.Function):
    """Passes a gradient on as if it were one number for all tokens, as early releases of Liger do."""

    @staticmethod
    def forward(ctx, losses):
        return losses.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.ones_like(grad) * grad.mean()


def wrong_gradients(hidden, weight, targets, **_):
    """Right values, but each token's own weight is lost in the gradient."""
    return _Alike.apply(right(hidden, weight, targets))


def broken(hidden, weight, targets, **_):
    """As where a kernel was not built for the device."""
    raise RuntimeError("no kernel image is available")


class _CompilerError(Exception):
    """Triton's own errors have no more special class."""


def uncompiled(hidden, weight, targets, **_):
    """As where a kernel asks for more shared memory than the device has."""
    raise _CompilerError("out of resources")


@pytest.fixture
def install(monkeypatch):
    """Puts a function where a package has its fused head; what is not installed is not there."""

    def install(**functions):
        for name in FUSED:
            monkeypatch.setitem(sys.modules, name, None)
        for name, function in functions.items():
            package = ModuleType(name)
            package.__spec__ = ModuleSpec(name, None)
            package.linear_cross_entropy = package.liger_fused_linear_cross_entropy = function
            monkeypatch.setitem(sys.modules, name, package)
            monkeypatch.setitem(sys.modules, f"{name}.transformers", package)
            monkeypatch.setitem(sys.modules, f"{name}.transformers.functional", package)

    found = importlib.util.find_spec
    installed = lambda name: found(name) if sys.modules.get(name, found) is not None else None  # noqa: E731
    monkeypatch.setattr("trainer.grpo.fused_head.importlib.util.find_spec", installed)
    return install


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize(
    ("functions", "chosen"),
    [
        ({}, HeadKind.CHUNKED),
        ({"cut_cross_entropy": right}, HeadKind.CUT_CROSS_ENTROPY),
        ({"liger_kernel": right}, HeadKind.LIGER),
        ({"cut_cross_entropy": slow, "liger_kernel": right}, HeadKind.LIGER),
        ({"cut_cross_entropy": slow}, HeadKind.CHUNKED),
        ({"liger_kernel": wrong_values}, HeadKind.CHUNKED),
        ({"liger_kernel": wrong_gradients}, HeadKind.CHUNKED),
        ({"cut_cross_entropy": broken, "liger_kernel": right}, HeadKind.LIGER),
        ({"cut_cross_entropy": uncompiled}, HeadKind.CHUNKED),
    ],
)
def test_the_fastest_head_that_agrees_is_chosen(install, monkeypatch, functions, chosen, trained):
    """By a trial of values, gradients and time; what is wrong, slower, broken or not installed is passed over."""
    install(**functions)
    chunked = head_logprobs

    def no_faster(kind, *arguments):
        if kind is HeadKind.CHUNKED:
            time.sleep(0.02)  # so that the order does not hang on what else the machine does
        return chunked(kind, *arguments)

    monkeypatch.setattr("trainer.grpo.fused_head.head_logprobs", no_faster)
    weight = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(trained)
    assert chosen is fastest_head(weight, torch.float32)


@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_head_divides_by_the_temperature(install, kind):
    """Its log-probabilities are those of the chunks at each token's temperature; the entropy is the sampled one."""
    install(**{str(kind): right})
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 16, generator=generator) for n in (12, 50))
    targets, temperature = torch.arange(12), torch.linspace(0.5, 1.5, 12)
    found = head_logprobs(kind, hidden, weight, None, targets, temperature)
    expected = head_logprobs(HeadKind.CHUNKED, hidden, weight, None, targets, temperature)
    torch.testing.assert_close(found.logprobs_N, expected.logprobs_N, rtol=1e-4, atol=1e-5)
    assert torch.equal(-found.logprobs_N, found.entropies_N)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", FUSED)
def test_a_fused_head_gives_the_chunked_values(kind):
    """On CUDA each installed kernel agrees with the chunks in bfloat16, at temperatures other than 1 too."""
    pytest.importorskip(kind)
    generator = torch.Generator(device="cuda").manual_seed(0)
    hidden = torch.randn(64, 128, generator=generator, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(1000, 128, generator=generator, device="cuda", dtype=torch.bfloat16) * 0.1
    targets = torch.randint(0, 1000, (64,), generator=generator, device="cuda")
    temperature = torch.linspace(0.5, 1.5, 64, device="cuda")
    pair = (HeadKind.CHUNKED, kind)
    found = [head_logprobs(each, hidden, weight, None, targets, temperature).logprobs_N for each in pair]
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.05)
