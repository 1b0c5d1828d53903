"""Which head computes log-probabilities, and that the fused one is the chunked one."""

import pytest
import torch

from trainer.grpo.fused_head import HeadKind, choose_head, head_logprobs


def test_a_cpu_computes_in_chunks():
    """The fused kernel is for CUDA in half precision; everything else takes our chunks."""
    weight = torch.randn(11, 4)
    assert HeadKind.CHUNKED is choose_head(weight, None, torch.float32)
    assert HeadKind.CHUNKED is choose_head(weight, torch.zeros(11), torch.bfloat16)


@pytest.mark.gpu
def test_the_fused_head_gives_the_chunked_values():
    """On CUDA cut-cross-entropy agrees with the chunks in bfloat16, at temperatures other than 1 too."""
    generator = torch.Generator(device="cuda").manual_seed(0)
    hidden = torch.randn(64, 128, generator=generator, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(1000, 128, generator=generator, device="cuda", dtype=torch.bfloat16) * 0.1
    targets = torch.randint(0, 1000, (64,), generator=generator, device="cuda")
    temperature = torch.linspace(0.5, 1.5, 64, device="cuda")
    found = [head_logprobs(kind, hidden, weight, None, targets, temperature).logprobs_N for kind in HeadKind]
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.05)
