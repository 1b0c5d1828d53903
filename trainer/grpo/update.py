"""One update of the policy: samples in, changed weights and a report out.

The order: choose how attention is computed (once, checked on the first batch), measure what must be known before the
first optimizer step (old and reference log-probabilities, where the settings need them), then for each iteration and
mini-batch: forward and backward per micro-batch with the mini-batch's normaliser, clip, check, step. A gradient that is
not finite, or a policy further from its reference than the budget, stops the run before the weights change.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from trainer.errors import TrainerError
from trainer.grpo.advantages import DropReason
from trainer.grpo.diagnostics import StepRecord, TokenRecord, UpdateFacts, summarise
from trainer.grpo.distributed import World, place_like
from trainer.grpo.learner import AttentionChoice, ComputeSettings, Learner, choose_attention
from trainer.grpo.loss import policy_loss
from trainer.grpo.objective import LossInputs, LossSettings, LossType, Normaliser, RecordedLoss, normaliser
from trainer.grpo.optimizer import OptimizerSettings, build_optimizer, learning_rate
from trainer.grpo.policy import Policy
from trainer.grpo.samples import Sample, SampleSource
from trainer.grpo.trie import MicroBatch


class TrainingStopped(TrainerError):
    """The update was refused before it changed the weights; the last checkpoint stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopLimits:
    """When to stop rather than go on. `None` switches a limit off."""

    kl_budget: float | None = None
    """Mean k3 divergence from the reference policy, in nats per token."""
    mismatch: float | None = 1.0
    """Mean absolute difference of sampler's and learner's log-probabilities in nats per token: beyond it the samples
    are not this policy's."""
    grad_norm: float | None = 1e6
    """Norm of the gradient before clipping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSettings:
    """Everything about an update but the samples."""

    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    limits: StopLimits = field(default_factory=StopLimits)
    max_grad_norm: float = 1.0
    num_iterations: int = 1
    """Passes over the samples (TRL's name; mu of the GRPO paper)."""
    num_minibatches: int = 1
    """Optimizer steps per pass."""
    seed: int = 0
    """Of the order of mini-batches."""

    def __post_init__(self) -> None:
        """Refuse an update without a step."""
        if min(self.num_iterations, self.num_minibatches) < 1 or self.max_grad_norm <= 0:
            raise ValueError(
                f"update: num_iterations {self.num_iterations}, num_minibatches {self.num_minibatches}, max_grad_norm"
                f" {self.max_grad_norm}; the counts start at 1 and the norm is above 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReport:
    """What an update did."""

    num_optimizer_steps: int
    metrics: Mapping[str, float]
    """Names in the sections of ART's taxonomy: `loss/`, `offpolicy/`, `data/`, `throughput/`, `time/`."""
    attention: AttentionChoice | None
    """`None` when there was nothing to train."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """Log-probabilities per sample that stay as they were before the first step; `None` where not needed."""

    old: tuple[Tensor, ...] | None
    reference: tuple[Tensor, ...] | None


class Updater:
    """The policy's optimizer and what persists between updates.

    Under `torchrun` every process calls `update` with the same samples; micro-batches are divided among them.
    """

    def __init__(self, policy: Policy, settings: OptimizerSettings, *, reference: Policy | None = None) -> None:
        """`reference` is needed only for a KL term with full weights; an adapter has its base."""
        self.policy = policy
        self.reference = reference
        self.world = World.current()
        self.optimizer_step = 0
        """Optimizer steps taken so far."""
        self._settings = settings
        self._optimizer: torch.optim.Optimizer | None = None
        self._attention: AttentionChoice | None = None
        self._learner: Learner | None = None

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """Built when first asked for: sharding replaces the parameters it holds."""
        if self._optimizer is None:
            self._optimizer = build_optimizer(self.policy.trainable_parameters().values(), self._settings)
        return self._optimizer

    def update(
        self, samples: Sequence[Sample], settings: UpdateSettings, *, dropped: Mapping[DropReason, int] | None = None
    ) -> UpdateReport:
        """Train on the samples; `dropped` groups are only reported.

        Raises:
            TrainingStopped: a limit was passed or a gradient is not finite; the weights are as before that step.

        """
        started = time.monotonic()
        if settings.optimizer.optimizer is not self._settings.optimizer:
            raise ValueError(f"update: the optimizer is {self._settings.optimizer}; another one needs a new updater")
        answered = any(sample.num_tokens for sample in samples)
        records = self._train(samples, settings) if answered else []
        facts = UpdateFacts(
            samples=tuple(samples), dropped=dropped or {}, seconds=time.monotonic() - started, policy=self.policy
        )
        return UpdateReport(
            num_optimizer_steps=len(records), metrics=summarise(facts, records, self.world), attention=self._attention
        )

    @property
    def attention(self) -> AttentionChoice | None:
        """How attention is computed; `None` before the first update."""
        return self._attention

    def accumulate(self, samples: Sequence[Sample], settings: UpdateSettings) -> StepRecord:
        """The gradient of one optimizer step on all samples, left in the parameters and not applied."""
        learner = self._ready_learner(samples, settings.compute)
        with learner.active():
            fixed = self._measure_fixed(learner, samples, settings)
            return self._backward(learner, samples, list(range(len(samples))), fixed, settings)

    def _train(self, samples: Sequence[Sample], settings: UpdateSettings) -> list[StepRecord]:
        learner = self._ready_learner(samples, settings.compute)
        records = []
        with learner.active():
            fixed = self._measure_fixed(learner, samples, settings)
            generator = torch.Generator().manual_seed(settings.seed + self.optimizer_step)
            for _ in range(settings.num_iterations):
                order = torch.randperm(len(samples), generator=generator).tolist()
                share = math.ceil(len(samples) / settings.num_minibatches)
                parts = [sorted(order[start : start + share]) for start in range(0, len(samples), share)]
                trainable = [part for part in parts if any(samples[index].num_tokens for index in part)]
                for part in trainable:
                    step = self._backward(learner, samples, part, fixed, settings)
                    records.append(self._apply(step, settings))
        return records

    def _ready_learner(self, samples: Sequence[Sample], compute: ComputeSettings) -> Learner:
        if self._learner is None or (self._learner.settings != compute and self.world.size == 1):
            choice = self.world.slowest(choose_attention(self.policy, samples, compute))
            before = self.policy.trainable_parameters()
            self._learner = self.world.shard(Learner(self.policy, choice.kind, compute))
            self._attention = choice
            self._follow(before)
        return self._learner

    def _follow(self, before: Mapping[str, nn.Parameter]) -> None:
        """Sharding replaces parameters: build the optimizer on the new ones, with the state it had of the old.

        Not later: between a forward and its backward a sharded module shows whole parameters, which are no leaves.
        """
        if self._optimizer is None or self.world.size > 1:
            old = {} if self._optimizer is None else self._optimizer.state
            self._optimizer = build_optimizer(self.policy.trainable_parameters().values(), self._settings)
            for name, parameter in self.policy.trainable_parameters().items():
                state = old.get(before[name], {})
                self._optimizer.state[parameter].update({key: place_like(v, parameter) for key, v in state.items()})

    def _measure_fixed(self, learner: Learner, samples: Sequence[Sample], settings: UpdateSettings) -> _Fixed:
        penalised = settings.loss.loss_type is LossType.ART and settings.loss.art.kl_penalty_coef > 0
        several = settings.num_iterations * settings.num_minibatches > 1
        proxied = settings.loss.recorded is RecordedLoss.TOPR and any(_lacks_behaviour(s) for s in samples)
        referred = settings.loss.needs_reference or settings.limits.kl_budget is not None or proxied
        old = self._logprobs(learner, samples) if several or penalised else None
        return _Fixed(old=old, reference=self._reference_logprobs(learner, samples) if referred else None)

    def _reference_logprobs(self, learner: Learner, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        if self.reference is not None:
            with (other := Learner(self.reference, learner.kind, learner.settings)).active():
                return self._logprobs(other, samples)
        with self.policy.reference():
            return self._logprobs(learner, samples)

    @torch.no_grad()
    def _logprobs(self, learner: Learner, samples: Sequence[Sample]) -> tuple[Tensor, ...]:
        """Per sample, its segments' tokens in order."""
        mine: dict[int, Tensor] = {}
        for batch, counts in self.world.assign(learner.micro_batches(samples)):
            logprobs = learner(batch).logprobs_N
            lengths = [samples[index].num_tokens for index in batch.sample_indices]
            if counts:
                mine.update(zip(batch.sample_indices, logprobs.split(lengths), strict=True))
        everything = self.world.union(mine, self.policy.device)
        return tuple(everything.get(index, torch.empty(0)) for index in range(len(samples)))

    def _backward(
        self, learner: Learner, samples: Sequence[Sample], part: list[int], fixed: _Fixed, settings: UpdateSettings
    ) -> StepRecord:
        """The gradient of one optimizer step on some of the samples."""
        chosen = [samples[index] for index in part]
        norm = _normaliser(
            chosen, [_pick(fixed.old, i) for i in part], [_pick(fixed.reference, i) for i in part], settings
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss, tokens, computed = 0.0, [], 0
        for batch, counts in self.world.assign(learner.micro_batches(chosen)):
            output = learner(batch)
            inputs = _loss_inputs(output.logprobs_N, batch, chosen, [part[i] for i in batch.sample_indices], fixed)
            result = policy_loss(inputs, settings.loss, norm)
            # FSDP averages over processes what is to be summed; a batch repeated to keep step counts for nothing.
            torch.autograd.backward(result.loss * (self.world.size if counts else 0))
            if counts:
                loss += result.loss.item()
                computed += batch.num_tokens
                tokens.append(TokenRecord.of(inputs, result, output.entropies_N))
        return StepRecord.of(self.world.sum(loss), self.world.gather(tokens), self.world.sum(computed), chosen)

    def _apply(self, step: StepRecord, settings: UpdateSettings) -> StepRecord:
        """Check, clip, step."""
        rate = learning_rate(settings.optimizer, self.optimizer_step)
        parameters = list(self.policy.trainable_parameters().values())
        norm = self.world.clip(parameters, settings.max_grad_norm)
        step = replace(step, grad_norm=norm, learning_rate=rate)
        reason = _stop_reason(step, settings.limits)
        if reason is not None:
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingStopped(f"update stopped before optimizer step {self.optimizer_step}: {reason}")
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.optimizer_step += 1
        return step


def _lacks_behaviour(sample: Sample) -> bool:
    return sample.source is SampleSource.RECORDED and any(segment.logprobs is None for segment in sample.segments)


def _pick(values: tuple[Tensor, ...] | None, index: int) -> Tensor | None:
    return None if values is None else values[index]


def _normaliser(
    samples: Sequence[Sample],
    old: Sequence[Tensor | None],
    reference: Sequence[Tensor | None],
    settings: UpdateSettings,
) -> Normaliser:
    norm = normaliser(samples, settings.loss)
    gaps = [(a - b).sum().item() for a, b in zip(old, reference, strict=True) if a is not None and b is not None]
    return replace(norm, mean_kl=sum(gaps) / norm.num_tokens)


def _loss_inputs(
    logprobs: Tensor, batch: MicroBatch, samples: Sequence[Sample], indices: Sequence[int], fixed: _Fixed
) -> LossInputs:
    """`indices` are the batch's samples in the whole update, where the fixed log-probabilities are."""
    device = logprobs.device
    chosen = [samples[index] for index in batch.sample_indices]
    old = None if fixed.old is None else torch.cat([fixed.old[index] for index in indices]).to(device)
    reference = None if fixed.reference is None else torch.cat([fixed.reference[index] for index in indices])
    return LossInputs(
        logprobs_N=logprobs,
        old_logprobs_N=logprobs.detach() if old is None else old,
        sampling_logprobs_N=batch.targets.sampling_logprobs_N.to(device),
        reference_logprobs_N=None if reference is None else reference.to(device),
        sample_index_N=batch.targets.sample_index_N.to(device),
        advantages_S=torch.tensor([sample.advantage for sample in chosen], dtype=logprobs.dtype, device=device),
        recorded_S=torch.tensor([sample.source is SampleSource.RECORDED for sample in chosen], device=device),
    )


def _stop_reason(step: StepRecord, limits: StopLimits) -> str | None:
    """Why this step must not be taken, if so."""
    if not (math.isfinite(step.loss) and math.isfinite(step.grad_norm)):
        return f"loss {step.loss}, gradient norm {step.grad_norm}: not finite; lower the learning rate"
    if limits.grad_norm is not None and step.grad_norm > limits.grad_norm:
        return f"gradient norm {step.grad_norm:.3g} is above the limit {limits.grad_norm:.3g}: the run diverges"
    kl, mismatch = step.mean_kl, step.mean_mismatch
    if limits.kl_budget is not None and kl is not None and kl > limits.kl_budget:
        return f"divergence from the reference policy {kl:.4f} nats per token is above the budget {limits.kl_budget}"
    if limits.mismatch is not None and mismatch is not None and mismatch > limits.mismatch:
        return (
            f"sampler and learner differ by {mismatch:.3f} nats per token (limit {limits.mismatch}): the samples are"
            " not this policy's; check temperature, template and adapter of the sampler"
        )
    return None
