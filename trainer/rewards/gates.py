"""Criterion scores to one reward: a weighted mean of what could be scored, capped by every gate that fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.rewards.base import CriterionScore, Reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Correctness before progress: a criterion below its threshold caps the whole reward."""

    criterion: str
    threshold: float
    """The gate fails below this score."""
    cap: float
    """The most the reward can be once the gate has failed."""


def combine(scores: Sequence[CriterionScore], weights: Mapping[str, float], gates: Sequence[Gate]) -> Reward:
    """The reward of one answer.

    Unscored criteria count neither in the sum nor in the weights, and their gates stand open. When the check behind
    a gate broke, nobody knows whether the answer is correct, so the answer is unscored.
    """
    by_name = {score.name: score for score in scores}
    broken = [gate.criterion for gate in gates if by_name[gate.criterion].broken]
    if broken:
        return _unscored(scores, f"the check behind a gate failed: {', '.join(broken)}")
    mean = _weighted_mean(scores, weights)
    if mean is None:
        return _unscored(scores, "no weighted criterion could be scored")
    failed = [gate for gate in gates if _fails(gate, by_name[gate.criterion].value)]
    return Reward(
        value=min([mean, *(gate.cap for gate in failed)]),
        criteria=tuple(scores),
        failed_gates=tuple(gate.criterion for gate in failed),
    )


def _fails(gate: Gate, value: float | None) -> bool:
    return value is not None and value < gate.threshold


def _weighted_mean(scores: Sequence[CriterionScore], weights: Mapping[str, float]) -> float | None:
    scored = [(weights[score.name], score.value) for score in scores if score.value is not None]
    total = sum(weight for weight, _ in scored)
    return sum(weight * value for weight, value in scored) / total if total > 0 else None


def _unscored(scores: Sequence[CriterionScore], reason: str) -> Reward:
    return Reward(value=None, criteria=tuple(scores), metadata={"reason": reason})
