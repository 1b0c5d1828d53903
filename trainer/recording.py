"""Answers, evaluations and training steps as rows of the workspace, and evaluations read back from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from spanloop.convert import compact_json, message_to_chat
from trainer.answers import REWARD, AnsweredPoint
from trainer.dataset import Pool
from trainer.evaluate import Evaluation
from trainer.groups import Group
from trainer.rewards.base import CriterionScore, Reward
from trainer.rollouts.base import Rollout
from trainer.rows import CriterionScoreRow, EvaluationRow, GroupRow, RewardRow, RolloutRow, Row, now
from trainer.runs import run_pool
from trainer.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOrigin:
    """What an answer belongs to."""

    run_id: str
    point_id: str
    revision: int
    group_id: str | None = None
    evaluation_id: str | None = None


def rollout_row(origin: AnswerOrigin, rollout_id: str, rollout: Rollout) -> RolloutRow:
    """The row of a rollout."""
    return RolloutRow(
        rollout_id=rollout_id,
        run_id=origin.run_id,
        group_id=origin.group_id,
        evaluation_id=origin.evaluation_id,
        point_id=origin.point_id,
        revision=origin.revision,
        rollout_index=rollout.rollout_index,
        policy_version=rollout.policy_version,
        temperature=rollout.temperature,
        token_ids=rollout.token_ids,
        logprobs=rollout.logprobs,
        message=compact_json(message_to_chat(rollout.message)),
        finish_reason=rollout.finish_reason,
    )


def reward_rows(
    origin: AnswerOrigin,
    reward_id: str,
    rollout_id: str | None,
    reward: Reward,
    spec_hash: str,
    *,
    trained_value: float | None = None,
) -> list[Row]:
    """The rows of a reward and its criterion scores."""
    rows: list[Row] = [
        RewardRow(
            reward_id=reward_id,
            run_id=origin.run_id,
            rollout_id=rollout_id,
            evaluation_id=origin.evaluation_id,
            point_id=origin.point_id,
            revision=origin.revision,
            value=reward.value,
            trained_value=trained_value,
            failed_gates=reward.failed_gates,
            reason=reward.metadata.get("reason"),
            spec_hash=spec_hash,
        )
    ]
    rows += [
        CriterionScoreRow(
            reward_id=reward_id, name=score.name, value=score.value, reason=score.reason, broken=score.broken
        )
        for score in reward.criteria
    ]
    return rows


def evaluation_rows(run_id: str, pool: Pool, evaluation: Evaluation, spec_hash: str) -> list[Row]:
    """Every record of an evaluation: itself, its rollouts, their rewards and criterion scores."""
    rows: list[Row] = [
        EvaluationRow(
            evaluation_id=evaluation.evaluation_id,
            run_id=run_id,
            pool=pool,
            policy=evaluation.policy,
            policy_version=evaluation.policy_version,
            temperature=evaluation.temperature,
            num_samples=evaluation.num_samples,
            num_points=len(evaluation.answered),
            reward_mean=evaluation.mean(REWARD),
            num_unscored=evaluation.num_unscored,
            spec_hash=spec_hash,
            evaluated_at=now(),
        )
    ]
    for item in evaluation.answered:
        prefix = f"{evaluation.evaluation_id}/{item.point.point_id}"
        origin = AnswerOrigin(
            run_id=run_id,
            point_id=item.point.point_id,
            revision=item.point.revision,
            evaluation_id=evaluation.evaluation_id,
        )
        rows += [rollout_row(origin, f"{prefix}/{rollout.rollout_index}", rollout) for rollout in item.rollouts]
        for index, reward in enumerate(item.rewards):
            rollout_id = f"{prefix}/{index}" if item.rollouts else None
            rows += reward_rows(origin, f"{prefix}/{index}", rollout_id, reward, spec_hash)
    return rows


def group_rows(run_id: str, step: int, groups: Sequence[Group], spec_hash: str) -> list[Row]:
    """Every record of a step's answers: groups, rollouts, rewards and criterion scores."""
    rows: list[Row] = []
    for group in groups:
        answered = group.answered
        group_id = f"{run_id}/{step}/{answered.point.point_id}"
        origin = AnswerOrigin(
            run_id=run_id, point_id=answered.point.point_id, revision=answered.point.revision, group_id=group_id
        )
        rows.append(_group_row(group_id, run_id, step, group))
        trained = group.drop_reason is None
        for rollout, reward, value in zip(answered.rollouts, answered.rewards, group.trained_values, strict=True):
            rollout_id = f"{group_id}/{rollout.rollout_index}"
            rows.append(rollout_row(origin, rollout_id, rollout))
            used = value if trained else None
            rows += reward_rows(origin, rollout_id, rollout_id, reward, spec_hash, trained_value=used)
    return rows


def _group_row(group_id: str, run_id: str, step: int, group: Group) -> GroupRow:
    rollouts = group.answered.rollouts
    return GroupRow(
        group_id=group_id,
        run_id=run_id,
        step=step,
        point_id=group.answered.point.point_id,
        revision=group.answered.point.revision,
        num_rollouts=len(rollouts),
        num_scored=len(group.scored),
        reward_mean=group.answered.score(REWARD),
        reward_std=group.reward_std,
        drop_reason=group.drop_reason,
        prompt_token_ids=rollouts[0].prompt_token_ids if rollouts else (),
    )


def load_evaluation(
    workspace: Workspace, run_id: str, pool: Pool, policy: str, temperature: float | None
) -> Evaluation | None:
    """The newest evaluation of that kind, with rewards and criterion scores but without rollouts; `None`: none."""
    found = workspace.query(
        "SELECT evaluation_id, policy_version, num_samples FROM evaluations WHERE run_id = ? AND pool = ? "
        "AND policy = ? AND temperature IS NOT DISTINCT FROM ? ORDER BY evaluated_at DESC LIMIT 1",
        [run_id, str(pool), policy, temperature],
    )
    if not found:
        return None
    evaluation_id, version, num_samples = found[0]
    by_point = _rewards_by_point(workspace, str(evaluation_id))
    candidates = [item for item in run_pool(workspace, run_id, pool) if item.point_id in by_point]
    return Evaluation(
        evaluation_id=str(evaluation_id),
        policy=policy,
        policy_version=None if version is None else int(str(version)),
        temperature=temperature,
        num_samples=int(str(num_samples)),
        answered=tuple(
            AnsweredPoint(point=point, rewards=tuple(by_point[point.point_id]))
            for point in workspace.decision_points(candidates)
        ),
    )


def _rewards_by_point(workspace: Workspace, evaluation_id: str) -> dict[str, list[Reward]]:
    with workspace.transaction() as connection:
        rows = connection.execute(
            "SELECT w.point_id, w.value, w.failed_gates, "
            "list({'name': c.name, 'value': c.value, 'reason': c.reason, 'broken': c.broken}) "
            "FILTER (c.name IS NOT NULL) "
            "FROM rewards AS w LEFT JOIN criterion_scores AS c USING (reward_id) WHERE w.evaluation_id = ? "
            "GROUP BY w.reward_id, w.point_id, w.value, w.failed_gates ORDER BY w.reward_id",
            [evaluation_id],
        ).fetchall()
    by_point: dict[str, list[Reward]] = defaultdict(list)
    for point_id, value, failed, criteria in rows:
        scores = tuple(CriterionScore(**score) for score in criteria or ())
        by_point[point_id].append(Reward(value=value, criteria=scores, failed_gates=tuple(failed)))
    return by_point
