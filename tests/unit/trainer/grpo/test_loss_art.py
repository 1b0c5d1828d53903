"""The `art` loss against the installed `art.loss.loss_fn` with `art.preprocessing.pack`'s weights and scales."""

import pytest
import torch
from art.loss import loss_fn

from trainer.backends.art_compat import restore_transformers
from trainer.grpo.loss import policy_loss
from trainer.grpo.objective import ArtSettings, LossInputs, LossSettings, LossType, Normaliser, RatioLevel, normaliser
from trainer.grpo.samples import Sample, Segment

restore_transformers()

LENGTHS = [4, 1, 3]
ADVANTAGES = [1.3, -0.6, -0.9]


def tokens(seed, scale=1.0):
    """A value per trained token."""
    return torch.randn(sum(LENGTHS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def art_row(values, fill):
    """Tokens of all answers in one of ART's rows: each answer after one prompt token, then one of padding."""
    pieces = []
    for part in values.split(LENGTHS):
        pieces += [torch.tensor([fill], dtype=part.dtype), part]
    return torch.cat([*pieces, torch.tensor([fill], dtype=values.dtype)])[None]


def from_art_row(row):
    """The gradient entries of trained tokens, which ART reads one position to the left."""
    mask = art_row(torch.ones(sum(LENGTHS), dtype=torch.float64), 0.0)[0].bool()
    return row[0, :-1][mask[1:]]


def art_loss(logprobs, old, reference, config, level_balance=0.0):
    """ART's loss as its packer would call it, and its gradient per trained token."""
    weights = torch.cat([torch.full((length,), 1 / length, dtype=torch.float64) for length in LENGTHS])
    weights = weights / weights.mean()
    spread = torch.cat([torch.full((n,), a, dtype=torch.float64) for n, a in zip(LENGTHS, ADVANTAGES, strict=True)])
    if level_balance > 0:
        spread = torch.where(spread > 0, spread, spread * (1 - level_balance))
    spread = spread / (spread.abs() * weights).mean()
    groups = torch.cat(
        [torch.full((length,), index + 1.0, dtype=torch.float64) for index, length in enumerate(LENGTHS)]
    )
    inputs = {
        "logprobs": art_row(old, float("nan")),
        "advantages": art_row(spread, 0.0),
        "assistant_mask": art_row(torch.ones_like(spread), 0.0).bool(),
        "weights": art_row(weights, 0.0),
        "group_ids": art_row(groups, 0.0).long(),
    }

    def shifted(values):
        return torch.cat([art_row(values, 0.0)[:, 1:], torch.zeros(1, 1, dtype=torch.float64)], 1)

    new = shifted(logprobs).requires_grad_()
    result = loss_fn(inputs, new, None if reference is None else shifted(reference), None, config)
    result.policy_loss.backward()
    return result.policy_loss.item(), from_art_row(new.grad)


def engine_loss(logprobs, old, reference, settings):
    """Ours, and its gradient per trained token."""
    samples = [
        Sample(segments=(Segment(prompt_ids=(1,), token_ids=(2,) * n),), advantage=a)
        for n, a in zip(LENGTHS, ADVANTAGES, strict=True)
    ]
    new = logprobs.clone().requires_grad_()
    norm = normaliser(samples, settings)
    if reference is not None:
        gap = (logprobs - reference).mean().item()
        norm = Normaliser(
            num_tokens=norm.num_tokens,
            num_samples=norm.num_samples,
            advantage_scale=norm.advantage_scale,
            mean_kl=gap,
        )
    inputs = LossInputs(
        logprobs_N=new,
        old_logprobs_N=torch.where(old.isnan(), logprobs, old),
        sampling_logprobs_N=torch.full_like(new, float("nan")).detach(),
        reference_logprobs_N=reference,
        sample_index_N=torch.tensor([0] * LENGTHS[0] + [1] * LENGTHS[1] + [2] * LENGTHS[2]),
        advantages_S=torch.tensor(ADVANTAGES, dtype=torch.float64),
        recorded_S=torch.zeros(3, dtype=torch.bool),
    )
    loss = policy_loss(inputs, settings, norm).loss
    loss.backward()
    return loss.item(), new.grad


CASES = {
    "default": ({}, ArtSettings(), RatioLevel.TOKEN),
    "ppo": ({"ppo": True}, ArtSettings(ppo=True), RatioLevel.TOKEN),
    "ppo asymmetric": (
        {"ppo": True, "epsilon": 0.1, "epsilon_high": 0.3},
        ArtSettings(ppo=True, epsilon=0.1, epsilon_high=0.3),
        RatioLevel.TOKEN,
    ),
    "sequence": ({"importance_sampling_level": "sequence"}, ArtSettings(), RatioLevel.SEQUENCE),
    "average": ({"importance_sampling_level": "average"}, ArtSettings(), RatioLevel.AVERAGE),
    "geometric": ({"importance_sampling_level": "geometric_average"}, ArtSettings(), RatioLevel.GEOMETRIC_AVERAGE),
    "masked": (
        {"mask_prob_ratio": True, "epsilon": 0.3, "epsilon_high": 0.3},
        ArtSettings(mask_prob_ratio=True, epsilon=0.3, epsilon_high=0.3),
        RatioLevel.TOKEN,
    ),
    "capped": (
        {"max_negative_advantage_importance_sampling_weight": 1.1},
        ArtSettings(max_negative_advantage_importance_sampling_weight=1.1),
        RatioLevel.TOKEN,
    ),
    "kimi": ({"kimi_k2_tau": 0.2}, ArtSettings(kimi_k2_tau=0.2), RatioLevel.TOKEN),
    "truncated": (
        {"truncated_importance_sampling": 1.2},
        ArtSettings(truncated_importance_sampling=1.2),
        RatioLevel.TOKEN,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_loss_is_arts(name):
    """Value and gradient of each of ART's options, off-policy; ART's own 1e-6 in the denominator is the tolerance."""
    config, settings, level = CASES[name]
    logprobs = tokens(0) - 2
    old = logprobs + tokens(1, 0.4)
    expected = art_loss(logprobs, old, None, config)
    loss = LossSettings(loss_type=LossType.ART, importance_sampling_level=level, art=settings)
    found = engine_loss(logprobs, old, None, loss)
    assert expected[0] == pytest.approx(found[0], rel=1e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-7)


def test_kl_penalty_moves_advantages_as_in_art():
    """The penalty shifts advantages by the mean log-ratio to the reference less each token's own."""
    logprobs = tokens(0) - 2
    old, reference = logprobs + tokens(1, 0.2), logprobs + tokens(2, 0.3)
    expected = art_loss(logprobs, old, reference, {"kl_penalty_coef": 0.5})
    loss = LossSettings(loss_type=LossType.ART, art=ArtSettings(kl_penalty_coef=0.5))
    found = engine_loss(logprobs, old, reference, loss)
    assert expected[0] == pytest.approx(found[0], rel=1e-6)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-7)


def test_missing_old_logprobs_mean_a_ratio_of_one():
    """ART's rule for tokens nobody measured."""
    logprobs = tokens(0) - 2
    old = logprobs + tokens(1, 0.4)
    old[2] = float("nan")
    expected = art_loss(logprobs, old, None, {})
    found = engine_loss(logprobs, old, None, LossSettings(loss_type=LossType.ART))
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-7)


def test_advantage_balance_shrinks_one_sign():
    """Half of a positive balance halves negative advantages before they are scaled."""
    logprobs = tokens(0) - 2
    old = logprobs + tokens(1, 0.1)
    expected = art_loss(logprobs, old, None, {}, level_balance=0.5)
    settings = LossSettings(loss_type=LossType.ART, art=ArtSettings(advantage_balance=0.5))
    found = engine_loss(logprobs, old, None, settings)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-7)
