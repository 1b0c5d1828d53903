"""Group advantages: how much better an answer is than the others at the same state.

In: the rewards of one group, `None` or NaN where an answer is unscored. Out: one advantage per answer, or the reason
why the group teaches nothing. Unscored answers get `None`, never 0, and take no part in means and deviations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class AdvantageConvention(StrEnum):
    """How rewards become advantages. All but `none` subtract the group's mean."""

    TRL = "trl"
    """Divided by the group's sample deviation (n - 1) + 1e-4: TRL's `scale_rewards="group"`."""
    ART = "art"
    """Divided by the group's population deviation (n) + 1e-6."""
    VERL = "verl"
    """Divided by the group's sample deviation + 1e-6; a group of one keeps its reward."""
    DR = "dr"
    """Not divided (Dr. GRPO, arXiv:2503.20783): TRL's `scale_rewards="none"`."""
    BATCH = "batch"
    """Divided by the sample deviation of the whole batch + 1e-4: TRL's `scale_rewards="batch"`."""
    NONE = "none"
    """The reward itself: plain REINFORCE without a baseline."""


class DropReason(StrEnum):
    """Why a group gives no gradient."""

    UNSCORED = "unscored"
    """No answer has a reward."""
    SINGLE_ANSWER = "single_answer"
    """One scored answer has nothing to be compared with."""
    ZERO_VARIANCE = "zero_variance"
    """All scored answers have the same reward."""
    NOTHING_SAMPLED = "nothing_sampled"
    """No answer carries tokens that could be trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAdvantages:
    """The advantages of one group."""

    values: tuple[float | None, ...]
    """In the order of the rewards; `None` for unscored answers."""
    mean: float | None
    deviation: float | None
    """Of the scored rewards, over n; `None` without any."""
    dropped: DropReason | None = None
    """Set when every value is `None` or (without a divisor worth the name) zero."""


_EPSILON = {
    AdvantageConvention.TRL: 1e-4,
    AdvantageConvention.ART: 1e-6,
    AdvantageConvention.VERL: 1e-6,
    AdvantageConvention.BATCH: 1e-4,
}


def group_advantages(
    groups: Sequence[Sequence[float | None]], convention: AdvantageConvention = AdvantageConvention.TRL
) -> tuple[GroupAdvantages, ...]:
    """One record per group of rewards. The groups together are the batch of the `batch` convention."""
    scored = [[_scored(reward) for reward in group] for group in groups]
    everything = [reward for group in scored for reward in group if reward is not None]
    batch_deviation = _deviation(everything, correction=1)
    return tuple(_one_group(group, convention, batch_deviation) for group in scored)


def select_best(
    groups: Sequence[Sequence[float | None]], *, threshold: float | None = None
) -> tuple[tuple[bool, ...], ...]:
    """Which answers RAFT fine-tunes on: the best of each group (the first on a tie), if above `threshold`.

    RAFT (arXiv:2304.06767) is the baseline GRPO has to beat and the cold start of a policy that never succeeds.
    """
    return tuple(_best([_scored(reward) for reward in group], threshold) for group in groups)


def _best(rewards: list[float | None], threshold: float | None) -> tuple[bool, ...]:
    best = max((reward for reward in rewards if reward is not None), default=None)
    if best is None or (threshold is not None and best <= threshold):
        return (False,) * len(rewards)
    chosen = rewards.index(best)
    return tuple(index == chosen for index in range(len(rewards)))


def _scored(reward: float | None) -> float | None:
    return None if reward is None or not math.isfinite(reward) else float(reward)


def _one_group(rewards: list[float | None], convention: AdvantageConvention, batch_deviation: float) -> GroupAdvantages:
    scored = [reward for reward in rewards if reward is not None]
    if not scored:
        return GroupAdvantages(values=(None,) * len(rewards), mean=None, deviation=None, dropped=DropReason.UNSCORED)
    mean, divisor = _baseline(scored, convention, batch_deviation)
    return GroupAdvantages(
        values=tuple(None if reward is None else (reward - mean) / divisor for reward in rewards),
        mean=math.fsum(scored) / len(scored),
        deviation=_deviation(scored, correction=0),
        dropped=_drop_reason(scored, convention),
    )


def _baseline(scored: list[float], convention: AdvantageConvention, batch_deviation: float) -> tuple[float, float]:
    """What is subtracted from a reward and what the rest is divided by."""
    mean = math.fsum(scored) / len(scored)
    match convention:
        case AdvantageConvention.NONE:
            return 0.0, 1.0
        case AdvantageConvention.DR:
            return mean, 1.0
        case AdvantageConvention.BATCH:
            return mean, batch_deviation + _EPSILON[convention]
        case AdvantageConvention.VERL if len(scored) == 1:
            return 0.0, 1.0 + _EPSILON[convention]
        case _:
            correction = 0 if convention is AdvantageConvention.ART else 1
            return mean, _deviation(scored, correction=correction) + _EPSILON[convention]


def _drop_reason(scored: list[float], convention: AdvantageConvention) -> DropReason | None:
    if convention is AdvantageConvention.NONE:
        return None
    if len(scored) == 1:
        return None if convention is AdvantageConvention.VERL else DropReason.SINGLE_ANSWER
    return DropReason.ZERO_VARIANCE if min(scored) == max(scored) else None


def _deviation(values: list[float], *, correction: int) -> float:
    """Standard deviation over n - correction; 0 where that is not positive."""
    if len(values) <= correction:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - correction))
