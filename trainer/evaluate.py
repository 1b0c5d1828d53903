"""Policies compared on decision points: the recorded one, the base and the tuned one, at temperature 1 and greedy.

In: a run and a pool. Out: frozen evaluations and comparisons, and their rows in the workspace. The held-out pool is
noted as opened each time, and states that any run has trained on are left out of it.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from trainer.answers import REWARD, AnsweredPoint, recorded_answers
from trainer.asking import answer_points
from trainer.config import EvalConfig
from trainer.dataset import Candidate, DecisionPoint, Pool, draw_evenly
from trainer.rewards.base import RewardModel
from trainer.rollouts.base import Sampler, SamplingParams
from trainer.rows import ComparisonRow, PoolOpeningRow, now
from trainer.statistics import Pair, compare, mean
from trainer.workspace import Workspace

RECORDED, BASE, TUNED = "recorded", "base", "tuned"
"""The policies that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One policy asked at the points of a pool."""

    policy: str
    policy_version: int | None
    temperature: float | None
    """`None`: the recorded policy."""
    num_samples: int
    answered: tuple[AnsweredPoint, ...]
    evaluation_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def label(self) -> str:
        """How tables and logs name it."""
        if self.temperature is None:
            return self.policy
        return f"{self.policy} greedy" if self.temperature == 0 else f"{self.policy} T={self.temperature:g}"

    def scores(self, aspect: str) -> dict[str, float | None]:
        """Mean score of each point, by point id."""
        return {item.point.point_id: item.score(aspect) for item in self.answered}

    def mean(self, aspect: str) -> float | None:
        """Mean over points of each point's mean score."""
        return mean(list(self.scores(aspect).values()))

    @property
    def num_unscored(self) -> int:
        """Answers without a reward."""
        return sum(reward.value is None for item in self.answered for reward in item.rewards)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolEvaluation:
    """What an evaluation of a pool found."""

    run_id: str
    pool: Pool
    policy_version: int
    evaluations: tuple[Evaluation, ...]
    comparisons: tuple[ComparisonRow, ...]
    num_points: int
    num_trained_before: int
    """Points left out because some run had trained on their state."""
    refused: Counter[str]
    """Points no policy could be asked at, by reason."""

    def comparison(
        self, temperature: float, *, baseline: str = BASE, candidate: str = TUNED, aspect: str = REWARD
    ) -> ComparisonRow | None:
        """The comparison over all step indices, if it was made."""
        return next(
            (
                row
                for row in self.comparisons
                if (row.baseline, row.candidate, row.aspect) == (baseline, candidate, aspect)
                and row.temperature == temperature
                and row.step_index is None
            ),
            None,
        )


def evaluate_recorded(points: Sequence[DecisionPoint], reward_model: RewardModel) -> Evaluation:
    """The recorded policy, scored on what it did."""
    answered = recorded_answers(points, reward_model)
    return Evaluation(policy=RECORDED, policy_version=None, temperature=None, num_samples=1, answered=answered)


def evaluate_policy(
    points: Sequence[DecisionPoint],
    sampler: Sampler,
    reward_model: RewardModel,
    *,
    policy: str,
    policy_version: int,
    temperature: float,
    settings: EvalConfig,
    max_tokens: int,
) -> Evaluation:
    """The sampler's policy at one temperature; greedy takes one answer per point."""
    num_samples = settings.num_samples if temperature > 0 else 1
    params = SamplingParams(num_samples=num_samples, temperature=temperature, max_tokens=max_tokens, seed=settings.seed)
    name = f"evaluate {policy} greedy" if temperature == 0 else f"evaluate {policy} T={temperature:g}"
    answered = answer_points(points, sampler, reward_model, params, label=name)
    return Evaluation(
        policy=policy,
        policy_version=policy_version,
        temperature=temperature,
        num_samples=num_samples,
        answered=answered,
    )


def compare_evaluations(
    run_id: str, pool: Pool, baseline: Evaluation, candidate: Evaluation, settings: EvalConfig
) -> tuple[ComparisonRow, ...]:
    """Reward and every criterion over all points, then the reward by step index."""
    criteria = dict.fromkeys(
        score.name for item in candidate.answered for reward in item.rewards for score in reward.criteria
    )
    steps = sorted({item.point.step_index for item in candidate.answered})
    wanted: list[tuple[str, int | None]] = [(aspect, None) for aspect in (REWARD, *criteria)]
    wanted += [(REWARD, step) for step in steps]
    return tuple(
        _comparison(run_id, pool, baseline, candidate, settings, aspect, step_index) for aspect, step_index in wanted
    )


def _comparison(
    run_id: str,
    pool: Pool,
    baseline: Evaluation,
    candidate: Evaluation,
    settings: EvalConfig,
    aspect: str,
    step_index: int | None,
) -> ComparisonRow:
    before = baseline.scores(aspect)
    pairs = [
        Pair(
            cluster=item.point.conversation_id or f"episode:{item.point.episode_id}",
            baseline=before.get(item.point.point_id),
            candidate=item.score(aspect),
        )
        for item in candidate.answered
        if step_index is None or item.point.step_index == step_index
    ]
    found = compare(pairs, num_bootstrap=settings.bootstrap_samples, confidence=settings.confidence, seed=settings.seed)
    assert candidate.temperature is not None
    assert candidate.policy_version is not None
    return ComparisonRow(
        comparison_id=uuid.uuid4().hex,
        run_id=run_id,
        pool=pool,
        baseline=baseline.policy,
        candidate=candidate.policy,
        temperature=candidate.temperature,
        aspect=aspect,
        step_index=step_index,
        policy_version=candidate.policy_version,
        confidence=settings.confidence,
        num_bootstrap=settings.bootstrap_samples,
        compared_at=now(),
        **asdict(found),
    )


def compare_all(
    run_id: str, pool: Pool, evaluations: Sequence[Evaluation], settings: EvalConfig
) -> tuple[ComparisonRow, ...]:
    """Base against tuned at each temperature, and the recorded policy against both."""
    rows: list[ComparisonRow] = []
    for candidate in evaluations:
        for baseline in evaluations:
            if _comparable(baseline, candidate):
                rows += compare_evaluations(run_id, pool, baseline, candidate, settings)
    return tuple(rows)


def _comparable(baseline: Evaluation, candidate: Evaluation) -> bool:
    if baseline.policy == RECORDED:
        return candidate.policy in {BASE, TUNED}
    return (baseline.policy, candidate.policy) == (BASE, TUNED) and baseline.temperature == candidate.temperature


def choose_points(
    workspace: Workspace, run_id: str, pool: Pool, candidates: Sequence[Candidate], settings: EvalConfig
) -> tuple[tuple[DecisionPoint, ...], int]:
    """The points to evaluate, evenly over step indices, and how many were left out as trained on before.

    Opening the held-out pool is noted in the workspace before anything is asked.
    """
    trained = _trained_states(workspace) if pool is not Pool.TRAIN else set()
    untouched = [item for item in candidates if item.state_hash not in trained]
    chosen = draw_evenly(untouched, settings.max_points, settings.seed)
    left_out = len(candidates) - len(untouched)
    if pool is Pool.HELDOUT:
        opening = PoolOpeningRow(
            run_id=run_id, pool=pool, num_points=len(chosen), num_trained_before=left_out, opened_at=now()
        )
        workspace.insert([opening])
    return workspace.decision_points(chosen), left_out


def _trained_states(workspace: Workspace) -> set[str]:
    rows = workspace.query(
        "SELECT DISTINCT p.state_hash FROM groups AS g "
        "JOIN decision_points AS p ON p.point_id = g.point_id AND p.revision = g.revision"
    )
    return {str(row[0]) for row in rows}
