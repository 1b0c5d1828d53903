"""Policy losses over trained tokens, with TRL's option names and definitions.

In: flat tensors over the `N` trained tokens of one micro-batch, and a normaliser computed over the whole batch. Out: a
scalar whose sum over micro-batches is the loss of the batch, so that any split gives the same gradients.

Sources: TRL 1.16 `GRPOTrainer._compute_loss` for grpo, bnpo, dr_grpo, dapo, cispo; OpenPipe ART 0.5.18 `art.loss` for
`art` (`art_loss.py`); LUFFY (arXiv:2504.14945) and TOPR (arXiv:2503.14286) for recorded actions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.grpo.art_loss import art_token_loss
from trainer.grpo.objective import (
    Correction,
    LossInputs,
    LossSettings,
    LossType,
    Normaliser,
    RatioLevel,
    RecordedLoss,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOutput:
    """The micro-batch's share of the loss, and what the diagnostics need."""

    loss: Tensor
    ratio_N: Tensor
    """exp(new - old) per token, without gradient."""
    clipped_N: Tensor
    """Whether clipping took a token's gradient (or, with a constant weight, capped it)."""
    correction_N: Tensor
    """Weight of the sampler-learner correction; 1 where there is none."""


def policy_loss(inputs: LossInputs, settings: LossSettings, norm: Normaliser) -> LossOutput:
    """The micro-batch's share of the batch's loss."""
    if settings.loss_type is LossType.ART:
        per_token, ratio, clipped = art_token_loss(inputs, settings, norm)
    elif settings.loss_type is LossType.SFT:
        per_token = -inputs.advantages_S[inputs.sample_index_N] * inputs.logprobs_N
        ratio = torch.ones_like(per_token).detach()
        clipped = torch.zeros_like(per_token, dtype=torch.bool)
    else:
        per_token, ratio, clipped = _ratio_token_loss(inputs, settings)
    correction = _correction(inputs, settings)
    per_token = per_token * correction
    per_token = _with_recorded(per_token, inputs, settings)
    if settings.beta > 0 and settings.loss_type is not LossType.ART:
        per_token = per_token + settings.beta * _divergence(inputs, settings)
    weights = _token_weights(inputs, settings, norm)
    return LossOutput(
        loss=(per_token * weights).sum(), ratio_N=ratio.detach(), clipped_N=clipped, correction_N=correction
    )


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Schulman's estimator of KL(policy || reference) from the policy's own samples: never negative, unbiased."""
    gap = reference - logprobs
    return gap.exp() - gap - 1


def _divergence(inputs: LossInputs, settings: LossSettings) -> Tensor:
    plain = k3(inputs.logprobs_N, _reference(inputs))
    if not settings.use_bias_correction_kl:
        return plain
    return plain * log_importance(inputs, settings.importance_sampling_level).exp()


def log_importance(inputs: LossInputs, level: RatioLevel) -> Tensor:
    """Log-ratio new to old per token; at sequence level the answer's mean stands at each of its tokens."""
    gap = inputs.logprobs_N - inputs.old_logprobs_N
    if level is RatioLevel.TOKEN:
        return gap
    return inputs.mean_per_sample(gap)[inputs.sample_index_N]


def _ratio_token_loss(inputs: LossInputs, settings: LossSettings) -> tuple[Tensor, Tensor, Tensor]:
    advantages = inputs.advantages_S[inputs.sample_index_N]
    ratio = log_importance(inputs, settings.importance_sampling_level).exp()
    if settings.loss_type is LossType.CISPO:
        capped = ratio.clamp(max=settings.upper).detach()
        return -capped * advantages * inputs.logprobs_N, ratio, (ratio > settings.upper) & (advantages > 0)
    clipped = ratio.clamp(1 - settings.epsilon, 1 + settings.upper)
    unclipped = ratio if settings.delta is None else ratio.clamp(max=settings.delta)
    outside = ((ratio < 1 - settings.epsilon) & (advantages < 0)) | ((ratio > 1 + settings.upper) & (advantages > 0))
    return -torch.min(unclipped * advantages, clipped * advantages), ratio, outside


def _correction(inputs: LossInputs, settings: LossSettings) -> Tensor:
    """Truncated (or masked) importance weight between what the sampler and the learner computed for the same policy.

    1 where the sampler measured nothing: an invented ratio would be worse than none.
    """
    ones = torch.ones_like(inputs.old_logprobs_N)
    if settings.correction is Correction.NONE:
        return ones
    measured = ~inputs.sampling_logprobs_N.isnan()
    gap = torch.where(measured, inputs.old_logprobs_N - inputs.sampling_logprobs_N, 0.0).detach()
    if settings.correction in (Correction.SEQUENCE_TRUNCATE, Correction.SEQUENCE_MASK):
        gap = (inputs.mean_per_sample(gap) * inputs.lengths_S(gap.dtype))[inputs.sample_index_N]
    ratio = gap.exp()
    low, high = settings.correction_min or 0.0, settings.correction_max or float("inf")
    if settings.correction in (Correction.TOKEN_TRUNCATE, Correction.SEQUENCE_TRUNCATE):
        ratio = ratio.clamp(min=low, max=high)
    else:
        ratio = torch.where((ratio >= low) & (ratio <= high), ratio, 0.0)
    return torch.where(measured, ratio, ones)


def _with_recorded(per_token: Tensor, inputs: LossInputs, settings: LossSettings) -> Tensor:
    """Replace the terms of recorded actions: they were not drawn from any version of this policy."""
    if settings.loss_type is LossType.SFT or not bool(inputs.recorded_S.any()):
        return per_token
    advantages = inputs.advantages_S[inputs.sample_index_N]
    if settings.recorded is RecordedLoss.LUFFY:
        probability = inputs.logprobs_N.exp()
        term = -advantages * probability / (probability + settings.luffy_gamma)
    else:
        term = -advantages * _topr_weight(inputs)[inputs.sample_index_N] * inputs.logprobs_N
    return torch.where(inputs.recorded_S[inputs.sample_index_N], term, per_token)


def _topr_weight(inputs: LossInputs) -> Tensor:
    """1 for positive answers; clip(policy / behaviour, 0, 1) of the whole answer for negative ones.

    The behaviour's log-probabilities are the recorded ones, else the reference policy's.
    """
    behaviour = inputs.sampling_logprobs_N
    if inputs.reference_logprobs_N is not None:
        behaviour = torch.where(behaviour.isnan(), inputs.reference_logprobs_N, behaviour)
    if bool((behaviour.isnan() & inputs.recorded_S[inputs.sample_index_N]).any()):
        raise ValueError("topr: a recorded action has no behaviour log-probabilities and there is no reference policy")
    gap = torch.where(behaviour.isnan(), 0.0, inputs.logprobs_N.detach() - behaviour)
    total = inputs.mean_per_sample(gap) * inputs.lengths_S(gap.dtype)
    return torch.where(inputs.advantages_S > 0, 1.0, total.exp().clamp(max=1.0))


def _reference(inputs: LossInputs) -> Tensor:
    assert inputs.reference_logprobs_N is not None, "the update computes them whenever the settings need them"
    return inputs.reference_logprobs_N


def _token_weights(inputs: LossInputs, settings: LossSettings, norm: Normaliser) -> Tensor | float:
    match settings.loss_type:
        case LossType.GRPO | LossType.ART:
            lengths = inputs.lengths_S(inputs.logprobs_N.dtype)
            return 1.0 / (lengths[inputs.sample_index_N] * norm.num_samples)
        case LossType.DR_GRPO:
            return 1.0 / (norm.num_samples * settings.max_completion_length)
        case _:
            return 1.0 / norm.num_tokens
