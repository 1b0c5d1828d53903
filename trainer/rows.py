"""The workspace's rows: one frozen record per table of `workspace.sql`, where every column is documented.

A test holds records and tables together column by column.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


def now() -> datetime:
    """The current time as the workspace stores it: UTC, without a zone."""
    return datetime.now(UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRow:
    """A row of `pulls`."""

    pull_id: str
    source: str
    pulled_at: datetime
    filters: str
    episodes_new: int
    episodes_revised: int
    episodes_unchanged: int
    points_added: int
    points_refused: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRow:
    """A row of `episodes`."""

    episode_id: str
    revision: int
    conversation_id: str | None
    agent_name: str | None
    dialect: str | None
    status: str | None
    pull_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """A row of `decision_points`."""

    point_id: str
    revision: int
    episode_id: str
    step_index: int
    conversation_id: str | None
    agent_name: str | None
    model: str | None
    dialect: str | None
    messages: str | None
    tools: str | None
    action: str | None
    finish_reason: str | None
    trainable: bool
    quality_flags: tuple[str, ...]
    trace_id: str | None
    span_id: str | None
    started_at: int | None
    state_hash: str
    num_chars: int
    pull_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A row of `runs`."""

    run_id: str
    created_at: datetime
    control: str | None
    seed: int
    config: str
    base: str
    reward_name: str
    spec_hash: str
    reward_spec: str
    max_steps: int
    left_out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEventRow:
    """A row of `run_events`."""

    run_id: str
    happened_at: datetime
    event: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPointRow:
    """A row of `run_points`."""

    run_id: str
    point_id: str
    revision: int
    state_hash: str
    pool: str
    multiplicity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRow:
    """A row of `updates`."""

    run_id: str
    step: int
    policy_version: int
    checkpoint_id: str
    num_groups: int
    num_groups_trained: int
    reward_mean: float | None
    metrics: str
    seconds: float
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRow:
    """A row of `groups`."""

    group_id: str
    run_id: str
    step: int
    point_id: str
    revision: int
    num_rollouts: int
    num_scored: int
    reward_mean: float | None
    reward_std: float | None
    drop_reason: str | None
    prompt_token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRow:
    """A row of `evaluations`."""

    evaluation_id: str
    run_id: str
    pool: str
    policy: str
    policy_version: int | None
    temperature: float | None
    num_samples: int
    num_points: int
    reward_mean: float | None
    num_unscored: int
    spec_hash: str
    evaluated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """A row of `rollouts`."""

    rollout_id: str
    run_id: str
    group_id: str | None
    evaluation_id: str | None
    point_id: str
    revision: int
    rollout_index: int
    policy_version: int
    temperature: float
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    message: str
    finish_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardRow:
    """A row of `rewards`."""

    reward_id: str
    run_id: str
    rollout_id: str | None
    evaluation_id: str | None
    point_id: str
    revision: int
    value: float | None
    trained_value: float | None
    failed_gates: tuple[str, ...]
    reason: str | None
    spec_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionScoreRow:
    """A row of `criterion_scores`."""

    reward_id: str
    name: str
    value: float | None
    reason: str | None
    broken: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """A row of `checkpoints`."""

    checkpoint_id: str
    run_id: str
    step: int
    policy_version: int
    path: str
    saved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """A row of `comparisons`."""

    comparison_id: str
    run_id: str
    pool: str
    baseline: str
    candidate: str
    temperature: float
    aspect: str
    step_index: int | None
    policy_version: int
    baseline_mean: float | None
    candidate_mean: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    relative_gain: float | None
    relative_low: float | None
    relative_high: float | None
    num_points: int
    num_clusters: int
    num_unscored: int
    confidence: float
    num_bootstrap: int
    compared_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOpeningRow:
    """A row of `pool_openings`."""

    run_id: str
    pool: str
    num_points: int
    num_trained_before: int
    opened_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionRow:
    """A row of `promotions`."""

    decided_at: datetime
    action: str
    checkpoint_id: str | None
    previous_checkpoint_id: str | None
    reason: str


Row = (
    PullRow
    | EpisodeRow
    | PointRow
    | RunRow
    | RunEventRow
    | RunPointRow
    | UpdateRow
    | GroupRow
    | EvaluationRow
    | RolloutRow
    | RewardRow
    | CriterionScoreRow
    | CheckpointRow
    | ComparisonRow
    | PoolOpeningRow
    | PromotionRow
)

TABLES: dict[type[Row], str] = {
    PullRow: "pulls",
    EpisodeRow: "episodes",
    PointRow: "decision_points",
    RunRow: "runs",
    RunEventRow: "run_events",
    RunPointRow: "run_points",
    UpdateRow: "updates",
    GroupRow: "groups",
    EvaluationRow: "evaluations",
    RolloutRow: "rollouts",
    RewardRow: "rewards",
    CriterionScoreRow: "criterion_scores",
    CheckpointRow: "checkpoints",
    ComparisonRow: "comparisons",
    PoolOpeningRow: "pool_openings",
    PromotionRow: "promotions",
}
"""Where each kind of row is kept."""
