"""What an update says about itself: per token, per optimizer step, and as named metrics of the whole update.

Metric names follow the sections of ART's taxonomy (`loss/`, `offpolicy/`, `data/`, `throughput/`, `time/`) and
`model.log` of an ART model takes them as they are. A figure nobody could measure is absent, never 0.
"""

from __future__ import annotations

import resource
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trainer.grpo.advantages import DropReason
from trainer.grpo.loss import LossOutput, k3
from trainer.grpo.objective import LossInputs
from trainer.grpo.policy import Policy
from trainer.grpo.samples import Sample, SampleSource, logical_tokens

if TYPE_CHECKING:
    from trainer.grpo.distributed import World

RATIO_QUANTILES = (0.01, 0.5, 0.99)
PEAK_BF16_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12}
"""Dense peak per second by the name of the device, from the makers' data sheets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """The trained tokens of one micro-batch, without gradients, in host memory."""

    logprobs_N: Tensor
    sampling_logprobs_N: Tensor
    reference_logprobs_N: Tensor
    """NaN where there is no reference."""
    entropies_N: Tensor
    ratio_N: Tensor
    clipped_N: Tensor
    correction_N: Tensor
    recorded_N: Tensor

    @classmethod
    def of(cls, inputs: LossInputs, output: LossOutput, entropies: Tensor) -> TokenRecord:
        """From what a micro-batch computed."""
        reference = inputs.reference_logprobs_N
        missing = torch.full_like(inputs.sampling_logprobs_N, float("nan"))
        return cls(
            logprobs_N=_host(inputs.logprobs_N),
            sampling_logprobs_N=_host(inputs.sampling_logprobs_N),
            reference_logprobs_N=_host(missing if reference is None else reference),
            entropies_N=_host(entropies),
            ratio_N=_host(output.ratio_N),
            clipped_N=_host(output.clipped_N),
            correction_N=_host(output.correction_N),
            recorded_N=_host(inputs.recorded_S[inputs.sample_index_N]),
        )

    @classmethod
    def joined(cls, records: Sequence[TokenRecord]) -> TokenRecord:
        """One record of all tokens."""
        names = cls.__dataclass_fields__
        return cls(**{name: torch.cat([getattr(record, name) for record in records]) for name in names})


def _host(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.bool if values.dtype is torch.bool else torch.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One optimizer step."""

    loss: float
    tokens: TokenRecord
    tokens_computed: int
    """By the model in forwards with gradient."""
    tokens_logical: int
    """That would have been computed had samples shared nothing."""
    grad_norm: float = float("nan")
    """Before clipping."""
    learning_rate: float = 0.0

    @classmethod
    def of(
        cls, loss: float, tokens: Sequence[TokenRecord], tokens_computed: float, samples: Sequence[Sample]
    ) -> StepRecord:
        """From the micro-batches of the step."""
        return cls(
            loss=loss,
            tokens=TokenRecord.joined(tokens),
            tokens_computed=int(tokens_computed),
            tokens_logical=logical_tokens(samples),
        )

    @property
    def mean_kl(self) -> float | None:
        """Mean k3 divergence from the reference policy over tokens of the policy's own."""
        own = ~self.tokens.recorded_N & ~self.tokens.reference_logprobs_N.isnan()
        return _mean(k3(self.tokens.logprobs_N[own], self.tokens.reference_logprobs_N[own]))

    @property
    def mean_mismatch(self) -> float | None:
        """Mean absolute difference between what sampler and learner computed, over tokens of the policy's own."""
        own = ~self.tokens.recorded_N & ~self.tokens.sampling_logprobs_N.isnan()
        return _mean((self.tokens.logprobs_N[own] - self.tokens.sampling_logprobs_N[own]).abs())


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateFacts:
    """What is known of an update beside its steps."""

    samples: tuple[Sample, ...]
    dropped: Mapping[DropReason, int]
    seconds: float
    policy: Policy


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if values.numel() else None


def summarise(facts: UpdateFacts, steps: Sequence[StepRecord], world: World) -> dict[str, float]:
    """The metrics of an update; figures of several optimizer steps are averaged, except the first mismatch."""
    metrics = _sample_metrics(facts.samples) | _drop_metrics(facts.dropped) | _cost_metrics(facts, steps, world)
    if steps:
        metrics |= _loss_metrics(steps) | _offpolicy_metrics(steps)
    return {name: value for name, value in metrics.items() if value is not None}


def _sample_metrics(samples: Sequence[Sample]) -> dict[str, float | None]:
    lengths = [float(sample.num_tokens) for sample in samples]
    advantages = [sample.advantage for sample in samples]
    return {
        "data/step_num_samples": float(len(samples)),
        "data/step_num_recorded_samples": float(sum(s.source is SampleSource.RECORDED for s in samples)),
        "data/step_trainer_tokens": sum(lengths),
        "data/answer_tokens_mean": statistics.fmean(lengths) if lengths else None,
        "data/answer_tokens_max": max(lengths, default=None),
        "data/answer_tokens_min": min(lengths, default=None),
        "data/advantage_std": statistics.pstdev(advantages) if advantages else None,
        "data/advantage_max": max(advantages, default=None),
        "data/advantage_min": min(advantages, default=None),
    }


def _drop_metrics(dropped: Mapping[DropReason, int]) -> dict[str, float | None]:
    return {f"data/groups_dropped_{reason}": float(dropped.get(reason, 0)) for reason in DropReason}


def _cost_metrics(facts: UpdateFacts, steps: Sequence[StepRecord], world: World) -> dict[str, float | None]:
    computed = sum(step.tokens_computed for step in steps)
    logical = sum(step.tokens_logical for step in steps)
    cuda = facts.policy.device.type == "cuda"
    # Linux reports the largest resident size in KiB.
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "data/step_num_gradient_steps": float(len(steps)),
        "data/tokens_computed": float(computed),
        "data/tokens_logical": float(logical),
        "data/tokens_saved_share": 1 - computed / logical if logical else None,
        "throughput/logical_tokens_per_s": logical / facts.seconds if facts.seconds else None,
        "throughput/computed_tokens_per_s": computed / facts.seconds if facts.seconds else None,
        "throughput/mfu": _mfu(facts, computed, world) if cuda else None,
        "throughput/peak_memory_bytes": float(peak),
        "time/step_update_s": facts.seconds,
    }


def _mfu(facts: UpdateFacts, computed: int, world: World) -> float | None:
    """Share of the devices' peak that forward and backward of the computed tokens need, recomputation not counted."""
    name = torch.cuda.get_device_name(facts.policy.device)
    peak = next((flops for part, flops in PEAK_BF16_FLOPS.items() if part in name), None)
    if peak is None or not facts.seconds:
        return None
    size = sum(parameter.numel() for parameter in facts.policy.module.parameters())
    per_token = (4 if facts.policy.has_adapter else 6) * size
    return per_token * computed / facts.seconds / (peak * world.size)


def _loss_metrics(steps: Sequence[StepRecord]) -> dict[str, float | None]:
    last = steps[-1]
    divergences = [step.mean_kl for step in steps if step.mean_kl is not None]
    return {
        "loss/train": statistics.fmean(step.loss for step in steps),
        "loss/grad_norm": statistics.fmean(step.grad_norm for step in steps),
        "loss/learning_rate": last.learning_rate,
        "loss/entropy": statistics.fmean(step.tokens.entropies_N.mean().item() for step in steps),
        "loss/kl_policy_ref": statistics.fmean(divergences) if divergences else None,
        "loss/clip_fraction": statistics.fmean(step.tokens.clipped_N.float().mean().item() for step in steps),
    }


def _offpolicy_metrics(steps: Sequence[StepRecord]) -> dict[str, float | None]:
    tokens = TokenRecord.joined([step.tokens for step in steps])
    ratio = tokens.ratio_N[~tokens.recorded_N]
    metrics: dict[str, float | None] = {
        "offpolicy/ess": _effective_share(ratio),
        "offpolicy/correction_mean": tokens.correction_N.mean().item(),
    }
    for quantile in RATIO_QUANTILES if ratio.numel() else ():
        metrics[f"offpolicy/ratio_p{round(100 * quantile):02d}"] = _quantile(ratio, quantile)
    first = steps[0]
    measured = ~first.tokens.sampling_logprobs_N.isnan() & ~first.tokens.recorded_N
    gaps = (first.tokens.logprobs_N - first.tokens.sampling_logprobs_N)[measured].abs()
    metrics["offpolicy/mismatch_mean"] = _mean(gaps)
    metrics["offpolicy/mismatch_max"] = gaps.max().item() if gaps.numel() else None
    recorded = tokens.logprobs_N[tokens.recorded_N]
    metrics["offpolicy/recorded_logprob_mean"] = _mean(recorded)
    return metrics


def _effective_share(ratio: Tensor) -> float | None:
    """Effective sample size of the importance weights as a share of the tokens: 1 when all are equal."""
    if not ratio.numel():
        return None
    weights = ratio.double()
    return (weights.sum().square() / (weights.numel() * weights.square().sum()).clamp(min=1e-300)).item()


def _quantile(values: Tensor, quantile: float) -> float:
    """Nearest rank; `torch.quantile` refuses more than 2^24 values."""
    rank = min(values.numel() - 1, int(quantile * values.numel()))
    return float(values.kthvalue(rank + 1).values.item())
