"""Packed gradients are per-sample gradients on random trees of samples, and any split gives the same."""

from __future__ import annotations

from functools import cache

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.trainer.grpo.factories import tiny_policy
from trainer.grpo.attention import AttentionKind
from trainer.grpo.learner import ComputeSettings, Learner
from trainer.grpo.samples import Sample, Segment

TOKEN = st.integers(2, 6)
"""A small alphabet, so that prompts and answers share starts, and are equal, often."""
PROMPT = st.lists(TOKEN, min_size=1, max_size=9).map(tuple)
ANSWER = st.lists(TOKEN, max_size=5).map(tuple)


@st.composite
def trees(draw):
    """Samples over a trunk and its prefixes, some unrelated, some with several calls, some empty or identical."""
    trunk = draw(PROMPT)
    samples = []
    for _ in range(draw(st.integers(1, 6))):
        segments = []
        for _ in range(draw(st.integers(1, 2))):
            prompt = trunk[: draw(st.integers(1, len(trunk)))] if draw(st.booleans()) else draw(PROMPT)
            segments.append(Segment(prompt_ids=prompt, token_ids=draw(ANSWER)))
        temperature = draw(st.sampled_from([1.0, 0.7]))
        samples.append(Sample(segments=tuple(segments), advantage=draw(st.floats(-2, 2)), temperature=temperature))
    return samples + draw(st.lists(st.sampled_from(samples), max_size=2))


@cache
def policy_of(dtype: torch.dtype):
    """One model per precision; its weights never change."""
    return tiny_policy(dtype=dtype)


def per_sample(policy, samples):
    """The weighted log-likelihood's gradient from the model's own logits, one segment at a time."""
    parameters = list(policy.trainable_parameters().values())
    total = [torch.zeros_like(p) for p in parameters]
    for sample in samples:
        for segment in sample.segments:
            if not segment.token_ids:
                continue
            ids = torch.tensor([segment.prompt_ids + segment.token_ids])
            logits = policy.module(input_ids=ids).logits[0, len(segment.prompt_ids) - 1 : -1] / sample.temperature
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(segment.token_ids)[:, None])
            shares = torch.autograd.grad(chosen.sum() * sample.advantage, parameters)
            total = [a + b for a, b in zip(total, shares, strict=True)]
    return total


def packed(policy, samples, kind, budget, enough=None):
    """The same through micro-batches of at most `budget` tokens, or of `enough` where little is shared."""
    parameters = list(policy.trainable_parameters().values())
    total = [torch.zeros_like(p) for p in parameters]
    learner = Learner(policy, kind, ComputeSettings(micro_batch_tokens=budget, micro_batch_enough=enough))
    with learner.active():
        for batch in learner.micro_batches(samples):
            weights = torch.tensor([samples[i].advantage for i in batch.sample_indices], dtype=torch.float64)
            logprobs = learner(batch).logprobs_N
            weighted = logprobs * weights[batch.targets.sample_index_N].to(logprobs.dtype)
            shares = torch.autograd.grad(weighted.sum(), parameters)
            total = [a + b for a, b in zip(total, shares, strict=True)]
    return total


def assert_close(found, expected, tolerance):
    """Within the tolerance of the largest entry of any gradient."""
    scale = max(1.0, *(tensor.abs().max().item() for tensor in expected))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=tolerance * scale)


SLOW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@SLOW
@given(samples=trees(), budget=st.integers(1, 60), enough=st.none() | st.integers(1, 30))
def test_packed_gradients_are_per_sample_gradients(samples, budget, enough):
    """Float64, any tree, any micro-batch split, by blocks: 1e-10."""
    policy = policy_of(torch.float64)
    assert_close(packed(policy, samples, AttentionKind.BLOCKS, budget, enough), per_sample(policy, samples), 1e-10)


@settings(SLOW, max_examples=15)
@given(samples=trees(), kind=st.sampled_from([AttentionKind.DENSE, AttentionKind.UNPACKED]))
def test_every_way_gives_per_sample_gradients(samples, kind):
    """Float64 by dense masks, and unpacked: 1e-10."""
    policy = policy_of(torch.float64)
    assert_close(packed(policy, samples, kind, 40), per_sample(policy, samples), 1e-10)


@settings(SLOW, max_examples=15)
@given(samples=trees(), budget=st.integers(1, 60))
def test_single_precision_stays_close(samples, budget):
    """Float32, by blocks: 1e-5 of the largest entry."""
    policy = policy_of(torch.float32)
    assert_close(packed(policy, samples, AttentionKind.BLOCKS, budget), per_sample(policy, samples), 1e-5)
