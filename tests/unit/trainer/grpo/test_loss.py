"""Losses by hand: an oracle written from the papers, recorded actions, likelihood, and what has no definition."""

import math

import pytest
import torch

from trainer.grpo.loss import k3, policy_loss
from trainer.grpo.objective import (
    ArtSettings,
    LossInputs,
    LossSettings,
    LossType,
    Normaliser,
    RatioLevel,
    RecordedLoss,
    balance,
    normaliser,
)
from trainer.grpo.samples import Sample, Segment


def inputs(logprobs, old, advantages, index, *, sampling=None, reference=None, recorded=None):
    """Loss inputs in float64; unmeasured log-probabilities are NaN."""
    new = torch.tensor(logprobs, dtype=torch.float64, requires_grad=True)
    missing = [float("nan")] * len(logprobs)
    return LossInputs(
        logprobs_N=new,
        old_logprobs_N=torch.tensor(old, dtype=torch.float64),
        sampling_logprobs_N=torch.tensor(sampling or missing, dtype=torch.float64),
        reference_logprobs_N=None if reference is None else torch.tensor(reference, dtype=torch.float64),
        sample_index_N=torch.tensor(index),
        advantages_S=torch.tensor(advantages, dtype=torch.float64),
        recorded_S=torch.tensor(recorded or [False] * len(advantages)),
    )


NORM = Normaliser(num_tokens=3, num_samples=2)


def test_clipping_by_hand():
    """Ratios 1.5, 0.5 and 1 with advantages 2, 2 and -1: the first is clipped to 1.2, the others are not."""
    given = inputs([math.log(1.5), math.log(0.5), 0.0], [0.0, 0.0, 0.0], [2.0, -1.0], [0, 0, 1])
    result = policy_loss(given, LossSettings(loss_type=LossType.DAPO, epsilon=0.2), NORM)
    assert result.loss.item() == pytest.approx(-(1.2 * 2 + 0.5 * 2 + 1 * -1) / 3)
    assert [True, False, False] == result.clipped_N.tolist()
    result.loss.backward()
    # d ratio / d logprob = ratio: nothing for the clipped token.
    assert given.logprobs_N.grad.tolist() == pytest.approx([0.0, -0.5 * 2 / 3, 1 / 3])


def test_grpo_weighs_answers_not_tokens():
    """On policy: mean over an answer's tokens, then over answers."""
    given = inputs([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, -1.0], [0, 0, 1])
    assert -(2.0 + -1.0) / 2 == policy_loss(given, LossSettings(loss_type=LossType.GRPO), NORM).loss.item()


def test_dr_grpo_divides_by_the_greatest_length():
    """The sum over tokens, by answers times max_completion_length."""
    given = inputs([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [2.0, -1.0], [0, 0, 1])
    settings = LossSettings(loss_type=LossType.DR_GRPO, max_completion_length=10)
    assert policy_loss(given, settings, NORM).loss.item() == pytest.approx(-(2 + 2 - 1) / 20)


def test_k3_is_zero_at_the_reference_and_positive_beside_it():
    """exp(d) - d - 1 with d = reference - policy."""
    found = k3(torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.0]))
    assert found.tolist() == pytest.approx([0.0, math.exp(-0.5) + 0.5 - 1])


def test_luffy_shapes_the_probability():
    """A recorded token of probability p scores A p / (p + gamma), whatever old and sampling say."""
    given = inputs([math.log(0.3), math.log(0.5)], [-9.0, math.log(0.5)], [2.0, 1.0], [0, 1], recorded=[True, False])
    settings = LossSettings(recorded=RecordedLoss.LUFFY, luffy_gamma=0.1)
    result = policy_loss(given, settings, Normaliser(num_tokens=2, num_samples=2))
    assert result.loss.item() == pytest.approx(-(2 * 0.3 / 0.4 + 1) / 2)
    result.loss.backward()
    # d/dlogp of p/(p+g) is g p / (p+g)^2.
    assert given.logprobs_N.grad[0].item() == pytest.approx(-2 * 0.1 * 0.3 / 0.4**2 / 2)


def test_topr_trains_good_actions_like_text_and_tapers_bad_ones():
    """Positive: weight 1. Negative: clip(policy / behaviour, 0, 1) of the whole answer, as a constant."""
    given = inputs(
        [-1.0, -2.0, -3.0],
        [0.0, 0.0, 0.0],
        [1.5, -0.5],
        [0, 1, 1],
        sampling=[-1.2, -1.5, -2.5],
        recorded=[True, True],
    )
    result = policy_loss(given, LossSettings(recorded=RecordedLoss.TOPR), NORM)
    result.loss.backward()
    weight = math.exp(-5.0 + 4.0)
    assert given.logprobs_N.grad.tolist() == pytest.approx([-1.5 / 3, 0.5 * weight / 3, 0.5 * weight / 3])


def test_topr_takes_the_reference_where_the_behaviour_is_unknown_and_refuses_without():
    """Nobody's probabilities are invented: unmeasured behaviour is the reference policy, or an error."""
    settings = LossSettings(recorded=RecordedLoss.TOPR)
    given = inputs([-1.0], [0.0], [-1.0], [0], reference=[-0.5], recorded=[True])
    policy_loss(given, settings, Normaliser(num_tokens=1, num_samples=1)).loss.backward()
    assert given.logprobs_N.grad.item() == pytest.approx(math.exp(-0.5))
    with pytest.raises(ValueError, match="no behaviour log-probabilities"):
        policy_loss(inputs([-1.0], [0.0], [-1.0], [0], recorded=[True]), settings, NORM)


def test_sft_is_weighted_likelihood():
    """Minus the mean log-probability, each sample weighted by its advantage."""
    given = inputs([-1.0, -2.0, -4.0], [0.0, 0.0, 0.0], [1.0, 0.5], [0, 0, 1])
    found = policy_loss(given, LossSettings(loss_type=LossType.SFT), NORM).loss.item()
    assert found == pytest.approx((1 + 2 + 2) / 3)


def test_normaliser_counts_empty_answers_except_in_art():
    """TRL's mean over answers includes empty ones; ART's does not have them."""
    samples = [
        Sample(segments=(Segment(prompt_ids=(1,), token_ids=ids),), advantage=a)
        for ids, a in [((2, 3), 1.0), ((), -3.0), ((4,), -2.0)]
    ]
    trl = normaliser(samples, LossSettings())
    assert (3, 3) == (trl.num_tokens, trl.num_samples)
    art = normaliser(samples, LossSettings(loss_type=LossType.ART, art=ArtSettings(advantage_balance=-0.5)))
    assert (2, (0.5 * 1.0 + 2.0) / 2) == (art.num_samples, art.advantage_scale)


def test_balance_shrinks_one_sign():
    """Positive amounts shrink negative advantages, negative amounts positive ones."""
    assert [2.0, -1.0] == [balance(2.0, 0.5), balance(-2.0, 0.5)]
    assert [1.0, -2.0] == [balance(2.0, -0.5), balance(-2.0, -0.5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"importance_sampling_level": RatioLevel.AVERAGE},
        {"epsilon": -0.1},
        {"beta": -1.0},
        {"max_completion_length": 0},
    ],
)
def test_settings_without_a_definition_are_refused(wrong):
    """ART's mixed ratio levels belong to `art` alone; nothing may be negative."""
    with pytest.raises(ValueError, match=r"importance_sampling_level|epsilon"):
        LossSettings(**wrong)
