"""Answered points to groups: which have something to teach, and what each answer is trained on.

GRPO learns from differences within a group. A group without any is dropped and the reason recorded; an unscored answer
leaves its group. In a control run the rewards are permuted among the step's answers, so that there is nothing to learn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev

from trainer.answers import AnsweredPoint
from trainer.grpo.advantages import DropReason

EQUAL_WITHIN = 1e-9
"""Rewards closer than this are the same: what is left is rounding, and dividing by it would amplify it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The answers to one point in one step."""

    answered: AnsweredPoint
    trained_values: tuple[float | None, ...]
    """What the update uses for each answer: its reward, or a permuted one in a control run. `None`: unscored."""

    @property
    def scored(self) -> tuple[float, ...]:
        """The values of the answers that have one."""
        return tuple(value for value in self.trained_values if value is not None)

    @property
    def drop_reason(self) -> str | None:
        """Why the group teaches nothing; `None`: it is trained on."""
        if self.answered.refused is not None:
            return self.answered.refused
        if len(self.scored) < 2:
            return DropReason.SINGLE_ANSWER if self.scored else DropReason.UNSCORED
        return DropReason.ZERO_VARIANCE if max(self.scored) - min(self.scored) <= EQUAL_WITHIN else None

    @property
    def reward_std(self) -> float | None:
        """Standard deviation over n of the values the update uses."""
        return pstdev(self.scored) if self.scored else None


def make_groups(answered: Sequence[AnsweredPoint], *, shuffle_seed: int | None = None) -> tuple[Group, ...]:
    """One group per point; with a seed, all scored answers of the step exchange their rewards."""
    values = [[reward.value for reward in item.rewards] for item in answered]
    if shuffle_seed is not None:
        values = _permuted(values, shuffle_seed)
    return tuple(Group(answered=item, trained_values=tuple(own)) for item, own in zip(answered, values, strict=True))


def _permuted(values: Sequence[Sequence[float | None]], seed: int) -> list[list[float | None]]:
    """The same values in the same shape, permuted; unscored answers keep their place."""
    scored = [value for own in values for value in own if value is not None]
    random.Random(seed).shuffle(scored)  # noqa: S311  # a control experiment, not a secret
    draws = iter(scored)
    return [[None if value is None else next(draws) for value in own] for own in values]
