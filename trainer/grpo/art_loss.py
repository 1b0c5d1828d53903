"""The loss of OpenPipe ART 0.5.18 (`art.loss.loss_fn` with the weights of `art.preprocessing.pack`).

Where it differs from TRL's: each answer weighs the same whatever its length; advantages are divided by the batch's mean
of their absolute values, so the scale of rewards never matters; the default is CISPO with the weight clipped to [0, 5];
a KL penalty moves advantages between tokens instead of adding a term.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.grpo.objective import ArtSettings, LossInputs, LossSettings, Normaliser, RatioLevel, balance


def art_token_loss(inputs: LossInputs, settings: LossSettings, norm: Normaliser) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, importance ratio and clipped mark of each token, before weights and normalisation."""
    art = settings.art
    low, high = _epsilons(art)
    gap = inputs.logprobs_N - inputs.old_logprobs_N
    ratio = _ratio(inputs, gap, settings.importance_sampling_level)
    if art.max_negative_advantage_importance_sampling_weight:
        ratio = ratio.clamp(max=art.max_negative_advantage_importance_sampling_weight)
    if art.mask_prob_ratio:
        ratio = torch.where((ratio > 1 - low) & (ratio < 1 + high), ratio, 0.0)
    advantages = _advantages(inputs, gap, art, norm)
    outside = (ratio < 1 - low) | (ratio > 1 + high)
    clipped = ratio.clamp(1 - low, 1 + high)
    if art.ppo:
        per_token = -torch.min(ratio * advantages, clipped * advantages)
    else:
        per_token = -clipped.detach() * advantages * inputs.logprobs_N
    if art.truncated_importance_sampling:
        per_token = per_token * ratio.clamp(max=art.truncated_importance_sampling).detach()
    return per_token, ratio, outside


def _epsilons(art: ArtSettings) -> tuple[float, float]:
    low = art.epsilon if art.epsilon is not None else (0.2 if art.ppo else 1.0)
    if art.epsilon_high is not None:
        return low, art.epsilon_high
    return low, low if art.ppo else 4.0


def _ratio(inputs: LossInputs, gap: Tensor, level: RatioLevel) -> Tensor:
    token = gap.exp()
    if level is RatioLevel.TOKEN:
        return token
    sequence = inputs.mean_per_sample(gap)[inputs.sample_index_N].exp()
    if level is RatioLevel.SEQUENCE:
        return sequence
    if level is RatioLevel.AVERAGE:
        return (token + sequence) / 2
    return token.sqrt() * sequence.sqrt()


def _advantages(inputs: LossInputs, gap: Tensor, art: ArtSettings, norm: Normaliser) -> Tensor:
    balanced = [balance(advantage, art.advantage_balance) for advantage in inputs.advantages_S.tolist()]
    scaled = inputs.advantages_S.new_tensor(balanced) / norm.advantage_scale
    advantages = scaled[inputs.sample_index_N]
    if art.kimi_k2_tau:
        advantages = advantages - art.kimi_k2_tau * gap.detach()
    if art.kl_penalty_coef > 0 and inputs.reference_logprobs_N is not None:
        kl = (inputs.logprobs_N - inputs.reference_logprobs_N).detach()
        advantages = advantages + art.kl_penalty_coef * (norm.mean_kl - kl)
    return advantages
