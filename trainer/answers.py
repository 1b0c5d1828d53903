"""Points with answers and rewards: what scoring, training and evaluation have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.dataset import DecisionPoint
from trainer.rewards.base import Answer, Reward, RewardModel
from trainer.rollouts.base import Rollout
from trainer.statistics import mean


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredPoint:
    """A decision point with answers and their rewards, position by position."""

    point: DecisionPoint
    rollouts: tuple[Rollout, ...] = ()
    """Empty for the recorded policy: what it answered is the point's action."""
    rewards: tuple[Reward, ...] = ()
    refused: str | None = None
    """Why no policy could be asked here."""

    def score(self, aspect: str) -> float | None:
        """Mean reward, or mean score of a criterion, over the answers that have one."""
        return mean([_aspect_value(reward, aspect) for reward in self.rewards])


REWARD = "reward"
"""The aspect that is the reward itself; every other aspect is the name of a criterion."""


def _aspect_value(reward: Reward, aspect: str) -> float | None:
    if aspect == REWARD:
        return reward.value
    return next((score.value for score in reward.criteria if score.name == aspect), None)


def recorded_answers(points: Sequence[DecisionPoint], reward_model: RewardModel) -> tuple[AnsweredPoint, ...]:
    """What the recorded policy did at every point, scored by the same reward model."""
    return tuple(_recorded(point, reward_model) for point in points)


def _recorded(point: DecisionPoint, reward_model: RewardModel) -> AnsweredPoint:
    if point.action is None:
        return AnsweredPoint(point=point, refused="the recorded action is missing")
    answer = Answer(point=point, message=point.action, finish_reason=point.finish_reason)
    return AnsweredPoint(point=point, rewards=reward_model.score_group([answer]))
