"""What a policy loss is given: its settings, the batch's normaliser and the tokens of one micro-batch.

Option names and defaults are TRL's `GRPOConfig`'s where it has them, and OpenPipe ART's in `ArtSettings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from trainer.grpo.samples import Sample


class LossType(StrEnum):
    """How tokens are weighed against each other and the ratio is clipped."""

    GRPO = "grpo"
    """Mean over an answer's tokens, then over answers."""
    BNPO = "bnpo"
    """Mean over all tokens of the batch."""
    DR_GRPO = "dr_grpo"
    """Sum over tokens, divided by answers times `max_completion_length`."""
    DAPO = "dapo"
    """Mean over all tokens of the batch; TRL's default."""
    CISPO = "cispo"
    """Mean over all tokens of the batch; the ratio is a constant weight capped at `epsilon_high`."""
    ART = "art"
    """OpenPipe ART's loss, see `ArtSettings`."""
    SFT = "sft"
    """Maximum likelihood of the samples, weighted by their advantage: RAFT and cold starts."""


class RatioLevel(StrEnum):
    """What one importance ratio belongs to."""

    TOKEN = "token"  # noqa: S105  # no secret
    SEQUENCE = "sequence"
    """The geometric mean over an answer (GSPO, arXiv:2507.18071)."""
    AVERAGE = "average"
    """Mean of token and sequence ratio; `art` only."""
    GEOMETRIC_AVERAGE = "geometric_average"
    """Geometric mean of both; `art` only."""


class Correction(StrEnum):
    """What is done about a sampler that computes other probabilities than the learner: TRL's modes."""

    NONE = "none"
    TOKEN_TRUNCATE = "token_truncate"  # noqa: S105  # no secret
    TOKEN_MASK = "token_mask"  # noqa: S105  # no secret
    SEQUENCE_TRUNCATE = "sequence_truncate"
    SEQUENCE_MASK = "sequence_mask"


class RecordedLoss(StrEnum):
    """The term of a recorded action."""

    LUFFY = "luffy"
    """`-A * p / (p + luffy_gamma)`: needs no behaviour probability."""
    TOPR = "topr"
    """Positive: likelihood; negative: likelihood weighed by `clip(p / mu, 0, 1)` per answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtSettings:
    """ART's options of `backend.train`, under its names."""

    ppo: bool = False
    """Clipped ratio instead of CISPO."""
    epsilon: float | None = None
    """`None`: 0.2 with `ppo`, else 1."""
    epsilon_high: float | None = None
    """`None`: `epsilon` with `ppo`, else 4."""
    advantage_balance: float = 0.0
    max_negative_advantage_importance_sampling_weight: float | None = None
    """Caps the ratio whatever the sign of the advantage, as ART does."""
    mask_prob_ratio: bool = False
    kimi_k2_tau: float | None = None
    kl_penalty_coef: float = 0.0
    truncated_importance_sampling: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """Names and defaults of TRL's `GRPOConfig` where it has them."""

    loss_type: LossType = LossType.DAPO
    importance_sampling_level: RatioLevel = RatioLevel.TOKEN
    epsilon: float = 0.2
    epsilon_high: float | None = None
    """`None`: `epsilon`. With `cispo` the absolute cap of the ratio."""
    delta: float | None = None
    """Cap of the unclipped ratio (two-sided clipping)."""
    beta: float = 0.0
    """Weight of the k3 estimate of the KL divergence to the reference policy."""
    use_bias_correction_kl: bool = True
    """Multiply that estimate by the importance ratio, with gradient: its gradient is then the divergence's own."""
    max_completion_length: int = 512
    """Of `dr_grpo`."""
    correction: Correction = Correction.NONE
    correction_max: float | None = 3.0
    correction_min: float | None = None
    recorded: RecordedLoss = RecordedLoss.LUFFY
    luffy_gamma: float = 0.1
    art: ArtSettings = field(default_factory=ArtSettings)

    def __post_init__(self) -> None:
        """Refuse combinations without a definition."""
        mixed = self.importance_sampling_level in (RatioLevel.AVERAGE, RatioLevel.GEOMETRIC_AVERAGE)
        if mixed and self.loss_type is not LossType.ART:
            raise ValueError(f"importance_sampling_level {self.importance_sampling_level}: only loss_type art has it")
        if self.epsilon < 0 or self.beta < 0 or self.max_completion_length < 1:
            raise ValueError(
                f"loss: epsilon {self.epsilon}, beta {self.beta}, max_completion_length {self.max_completion_length};"
                " none may be negative and the length starts at 1"
            )

    @property
    def upper(self) -> float:
        """The upper epsilon."""
        return self.epsilon if self.epsilon_high is None else self.epsilon_high

    @property
    def needs_reference(self) -> bool:
        """Whether the loss reads reference log-probabilities of sampled answers."""
        return self.beta > 0 or (self.loss_type is LossType.ART and self.art.kl_penalty_coef > 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normaliser:
    """What the loss of the whole batch is divided by, fixed before it is split."""

    num_tokens: int
    """Trained tokens of all samples."""
    num_samples: int
    """Samples, those without tokens included."""
    advantage_scale: float = 1.0
    """Of `art`: mean of |A| with each answer weighing the same."""
    mean_kl: float = 0.0
    """Of `art` with a KL penalty: mean log-ratio to the reference over all trained tokens."""


def normaliser(samples: Sequence[Sample], settings: LossSettings) -> Normaliser:
    """Of one batch. An empty batch gives one that divides by one, so that nothing becomes NaN."""
    answered = [sample for sample in samples if sample.num_tokens]
    balanced = [abs(balance(sample.advantage, settings.art.advantage_balance)) for sample in answered]
    return Normaliser(
        num_tokens=max(1, sum(sample.num_tokens for sample in samples)),
        num_samples=max(1, len(answered if settings.loss_type is LossType.ART else samples)),
        advantage_scale=sum(balanced) / len(balanced) if any(balanced) else 1.0,
    )


def balance(advantage: float, amount: float) -> float:
    """ART's `advantage_balance`: above 0 it shrinks negative advantages, below 0 positive ones."""
    if amount > 0:
        return advantage if advantage > 0 else advantage * (1 - amount)
    return advantage if advantage < 0 else advantage * (1 + amount)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """The `N` trained tokens of one micro-batch of `S` samples."""

    logprobs_N: Tensor
    """Of the learner, with gradient."""
    old_logprobs_N: Tensor
    """Of the learner before the batch's first optimizer step."""
    sampling_logprobs_N: Tensor
    """Of the sampler; NaN where not measured."""
    reference_logprobs_N: Tensor | None
    sample_index_N: Tensor
    advantages_S: Tensor
    recorded_S: Tensor
    """Which samples are recorded actions."""

    def mean_per_sample(self, values_N: Tensor) -> Tensor:
        """`S` means over each sample's tokens (0 where it has none)."""
        zeros = values_N.new_zeros(self.advantages_S.shape[0])
        sums = zeros.index_add(0, self.sample_index_N, values_N)
        return sums / self.lengths_S(values_N.dtype)

    def lengths_S(self, dtype: torch.dtype) -> Tensor:  # noqa: N802  # shape suffix
        """Tokens per sample, at least 1."""
        counts = torch.bincount(self.sample_index_N, minlength=self.advantages_S.shape[0])
        return counts.clamp(min=1).to(dtype)
