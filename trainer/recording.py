"""Answers, evaluations and training steps as rows of the workspace."""

from __future__ import annotations

from dataclasses import dataclass

from spanloop.convert import compact_json, message_to_chat
from trainer.answers import REWARD
from trainer.dataset import Pool
from trainer.evaluate import Evaluation
from trainer.rewards.base import Reward
from trainer.rollouts.base import Rollout
from trainer.rows import CriterionScoreRow, EvaluationRow, RewardRow, RolloutRow, Row, now


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
