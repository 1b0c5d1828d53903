"""One token per row from logits and a uniform number."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.rollouts.token_choice import BLOCK, choose, row_uniforms

CHI_SQUARE_999 = {2: 13.82, 5: 20.52, 199: 267.5}
"""Upper 0.1 % points of the chi-square distribution by degrees of freedom."""


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    """Pearson's statistic."""
    return float(((counts - expected) ** 2 / expected).sum())


def draw(probabilities: list[float], *, num: int, temperature: float = 1.0, top_p: float = 1.0) -> torch.Tensor:
    """How often each token is chosen in `num` rows with noise of their own."""
    logits = torch.tensor(probabilities).log().expand(num, -1)
    uniforms = row_uniforms("a fixed key", num)
    chosen = choose(logits, uniforms, temperature=temperature, top_p=top_p).tokens_B
    return torch.bincount(chosen, minlength=len(probabilities)).double()


def test_uniform_numbers_choose_by_cumulative_probability() -> None:
    """With probabilities .2 .3 .5 the numbers below .2, below .5 and above choose tokens 0, 1 and 2."""
    logits = torch.tensor([0.2, 0.3, 0.5]).log().expand(6, -1)
    uniforms = torch.tensor([0.0, 0.19, 0.21, 0.49, 0.51, 0.999999], dtype=torch.float64)
    choice = choose(logits, uniforms, temperature=1.0, top_p=1.0)
    assert [0, 0, 1, 1, 2, 2] == choice.tokens_B.tolist()
    expected = torch.tensor([0.2, 0.2, 0.3, 0.3, 0.5, 0.5]).log()
    torch.testing.assert_close(choice.logprobs_B, expected)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_follow_the_softmax_at_the_temperature(temperature: float) -> None:
    """20,000 draws fit softmax(logits / temperature) by a chi-square test."""
    base = [0.4, 0.3, 0.15, 0.1, 0.04, 0.01]
    weights = torch.tensor(base, dtype=torch.float64) ** (1 / temperature)
    counts = draw(base, num=20_000, temperature=temperature)
    assert chi_square(counts, 20_000 * weights / weights.sum()) < CHI_SQUARE_999[5]


def test_frequencies_over_several_blocks() -> None:
    """A vocabulary larger than a block is sampled as faithfully, also in its last, incomplete block."""
    weights = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.1
    assert 200 > 3 * BLOCK
    probabilities = weights / weights.sum()
    counts = draw(probabilities.tolist(), num=40_000)
    assert chi_square(counts, 40_000 * probabilities) < CHI_SQUARE_999[199]


def test_top_p_keeps_the_smallest_set_that_holds_the_mass() -> None:
    """At top_p .8 of (.1, .5, .3, .1) only tokens 1 and 2 are drawn, five times to three."""
    counts = draw([0.1, 0.5, 0.3, 0.1], num=8_000, top_p=0.8 - 1e-6)
    assert [0, 0] == [counts[0], counts[3]]
    assert chi_square(counts[1:3], torch.tensor([5000.0, 3000.0])) < CHI_SQUARE_999[2]


def test_top_p_reports_the_whole_distribution() -> None:
    """The log-probability is before the nucleus is renormalised."""
    logits = torch.tensor([[0.1, 0.5, 0.4]]).log()
    choice = choose(logits, torch.tensor([0.1], dtype=torch.float64), temperature=1.0, top_p=0.3)
    assert [1] == choice.tokens_B.tolist()
    assert math.isclose(math.log(0.5), float(choice.logprobs_B[0]), rel_tol=1e-6)


def test_top_p_always_leaves_one_token() -> None:
    """Even a vanishing top_p leaves the most likely token."""
    counts = draw([0.3, 0.4, 0.3], num=50, top_p=1e-9)
    assert [0, 50, 0] == counts.tolist()


def test_greedy_takes_the_peak_and_its_probability() -> None:
    """Temperature 0 takes the most likely token and reports its log-probability undivided."""
    logits = torch.tensor([[0.0, 3.0, 1.0]])
    choice = choose(logits, torch.tensor([0.9], dtype=torch.float64), temperature=0, top_p=1.0)
    assert [1] == choice.tokens_B.tolist()
    expected = 3 - math.log(1 + math.e**3 + math.e)
    assert math.isclose(expected, float(choice.logprobs_B[0]), rel_tol=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_impossible_tokens_are_never_chosen(uniform: float) -> None:
    """The ends of the unit interval fall on tokens with probability, not on those around them."""
    logits = torch.full((1, 300), float("-inf"))
    logits[0, [100, 150]] = 0.0
    choice = choose(logits, torch.tensor([uniform], dtype=torch.float64), temperature=1.0, top_p=1.0)
    assert [100 if uniform == 0 else 150] == choice.tokens_B.tolist()


def test_log_probabilities_are_log_softmax() -> None:
    """Over a large vocabulary and large logits the reported values are those of log_softmax."""
    logits = torch.randn(16, 5000, generator=torch.Generator().manual_seed(0)) * 20
    choice = choose(logits, row_uniforms("k", 16), temperature=1.3, top_p=0.9)
    expected = (logits / 1.3).log_softmax(-1).gather(-1, choice.tokens_B[:, None]).squeeze(-1)
    torch.testing.assert_close(choice.logprobs_B, expected, rtol=0, atol=1e-5)


def test_half_precision_logits_are_summed_in_single() -> None:
    """bfloat16 logits give float32 log-probabilities of exactly those logits."""
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    choice = choose(logits, row_uniforms("k", 4), temperature=1.0, top_p=1.0)
    expected = logits.float().log_softmax(-1).gather(-1, choice.tokens_B[:, None]).squeeze(-1)
    torch.testing.assert_close(choice.logprobs_B, expected, rtol=0, atol=1e-5)


def test_noise_belongs_to_its_key() -> None:
    """One key, one sequence, of which a shorter request is the beginning; another key, another sequence."""
    long, short = row_uniforms("a", 8), row_uniforms("a", 3)
    assert long[:3].tolist() == short.tolist()
    assert long.tolist() != row_uniforms("b", 8).tolist()
