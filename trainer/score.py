"""The recorded policy under the reward specification: what there is to learn, and what the gates catch.

No policy is asked and nothing heavy is loaded: run it first, while writing a reward specification.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from trainer.answers import REWARD, AnsweredPoint, recorded_answers
from trainer.config import DataConfig
from trainer.dataset import Pool, build_dataset
from trainer.rewards.spec import SpecRewardModel
from trainer.statistics import mean
from trainer.workspace import Workspace

NUM_BINS = 10
POINTS_AT_A_TIME = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionSummary:
    """How the recorded actions fare on one criterion."""

    name: str
    mean: float | None
    num_scored: int
    num_unscored: int
    num_broken: int
    """Times the check itself failed."""
    num_gated: int
    """Times its gate capped the reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedScore:
    """How the recorded actions fare."""

    num_points: int
    num_unscored: int
    reward_mean: float | None
    histogram: tuple[int, ...]
    """Rewards in ten bins of equal width; 1.0 is in the last."""
    criteria: tuple[CriterionSummary, ...]
    by_step_index: tuple[tuple[int, int, float | None], ...]
    """Step index, points, mean reward."""
    left_out: tuple[tuple[str, int], ...]
    """Points left out, by reason."""
    broken: tuple[tuple[str, int], ...]
    """Failures of checks, by criterion and reason."""


def score_recorded(workspace: Workspace, data: DataConfig, reward_model: SpecRewardModel) -> RecordedScore:
    """The rewards of what was recorded, over all points that pass the filters and are not held out."""
    dataset = build_dataset(workspace.candidates(), data)
    chosen = [*dataset.pools[Pool.TRAIN], *dataset.pools[Pool.VALIDATION]]
    answered: list[AnsweredPoint] = []
    for start in tqdm(range(0, len(chosen), POINTS_AT_A_TIME), desc="score", disable=None, leave=False):
        points = workspace.decision_points(chosen[start : start + POINTS_AT_A_TIME])
        answered += recorded_answers(points, reward_model)
    left_out = {**dataset.left_out, "held out": len(dataset.pools[Pool.HELDOUT])}
    return RecordedScore(
        num_points=len(answered),
        num_unscored=sum(item.score(REWARD) is None for item in answered),
        reward_mean=mean([item.score(REWARD) for item in answered]),
        histogram=_histogram([item.score(REWARD) for item in answered]),
        criteria=tuple(_summary(criterion.name, answered) for criterion in reward_model.criteria),
        by_step_index=_by_step(answered),
        left_out=tuple((reason, count) for reason, count in left_out.items() if count),
        broken=tuple(sorted(reward_model.broken.items())),
    )


def _histogram(values: Sequence[float | None]) -> tuple[int, ...]:
    bins = Counter(min(NUM_BINS - 1, int(value * NUM_BINS)) for value in values if value is not None)
    return tuple(bins[index] for index in range(NUM_BINS))


def _summary(name: str, answered: Sequence[AnsweredPoint]) -> CriterionSummary:
    rewards = [reward for item in answered for reward in item.rewards]
    scores = [score for reward in rewards for score in reward.criteria if score.name == name]
    return CriterionSummary(
        name=name,
        mean=mean([score.value for score in scores]),
        num_scored=sum(score.value is not None for score in scores),
        num_unscored=sum(score.value is None for score in scores),
        num_broken=sum(score.broken for score in scores),
        num_gated=sum(name in reward.failed_gates for reward in rewards),
    )


def _by_step(answered: Sequence[AnsweredPoint]) -> tuple[tuple[int, int, float | None], ...]:
    steps = sorted({item.point.step_index for item in answered})
    groups = [(step, [item.score(REWARD) for item in answered if item.point.step_index == step]) for step in steps]
    return tuple((step, len(values), mean(values)) for step, values in groups)
