"""`trainer eval`: open a pool, ask the recorded, base and tuned policy the same questions, compare and record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainer.dataset import DecisionPoint, Pool
from trainer.errors import RunError
from trainer.evaluate import (
    BASE,
    TUNED,
    Evaluation,
    PoolEvaluation,
    choose_points,
    compare_all,
    evaluate_policy,
    evaluate_recorded,
)
from trainer.recording import evaluation_rows
from trainer.registry import is_service_name
from trainer.rewards.spec import SpecRewardModel, load_reward_model
from trainer.rollouts.base import Sampler
from trainer.runs import Run, run_pool
from trainer.stages import open_sampler
from trainer.threads import torch_threads
from trainer.workspace import Workspace


def evaluate_run(
    workspace: Workspace, run: Run, *, pool: Pool = Pool.HELDOUT, step: int | None = None
) -> PoolEvaluation:
    """Evaluate the run's checkpoint after `step` (by default its last) and record everything."""
    reward_model = _same_reward_model(run)
    checkpoint, version = _checkpoint(workspace, run, step)
    candidates = run_pool(workspace, run.run_id, pool)
    if not candidates:
        raise RunError(f"run {run.run_id}: its {pool} pool is empty; pull more conversations and start a new run")
    points, num_trained_before = choose_points(workspace, run.run_id, pool, candidates, run.config.eval)
    evaluations = [evaluate_recorded(points, reward_model)]
    settings = run.config.eval
    with torch_threads(run.config.train.num_threads), open_sampler(run) as sampler:
        for_base = (*settings.temperatures, *settings.base_temperatures)
        evaluations += [_ask(points, sampler, reward_model, run, BASE, 0, t) for t in for_base]
        sampler.load_policy(checkpoint, version)
        evaluations += [_ask(points, sampler, reward_model, run, TUNED, version, t) for t in settings.temperatures]
    comparisons = compare_all(run.run_id, pool, evaluations, run.config.eval)
    for item in evaluations:
        workspace.insert(evaluation_rows(run.run_id, pool, item, run.spec_hash))
    workspace.insert(comparisons)
    return PoolEvaluation(
        run_id=run.run_id,
        pool=pool,
        policy_version=version,
        evaluations=tuple(evaluations),
        comparisons=comparisons,
        num_points=len(points),
        num_trained_before=num_trained_before,
        refused=Counter(_refusals(evaluations)),
    )


def _refusals(evaluations: Sequence[Evaluation]) -> Iterator[str]:
    for item in {
        point.point.point_id: point for found in evaluations for point in found.answered if point.refused
    }.values():
        assert item.refused is not None
        yield item.refused


def _same_reward_model(run: Run) -> SpecRewardModel:
    model = load_reward_model(Path(run.config.reward.spec or ""), cache_entries_max=run.config.reward.cache_entries_max)
    if model.spec_hash != run.spec_hash:
        raise RunError(
            f"run {run.run_id}: the reward specification or one of its checks has changed since it started; "
            f"restore it, so that before and after are measured alike"
        )
    return model


def _checkpoint(workspace: Workspace, run: Run, step: int | None) -> tuple[Path, int]:
    rows = workspace.query(
        "SELECT path, policy_version FROM checkpoints WHERE run_id = ? AND (step = ? OR ? IS NULL) "
        "ORDER BY step DESC LIMIT 1",
        [run.run_id, step, step],
    )
    what = f"step {step}" if step is not None else "any step"
    if not rows:
        raise RunError(f"run {run.run_id}: no checkpoint of {what}; see `trainer runs`")
    location = str(rows[0][0])
    path = workspace.folder / location
    if not path.is_dir() and not is_service_name(location):
        raise RunError(f"run {run.run_id}: checkpoint {path} is gone (train.save_total_limit); evaluate a later step")
    return path, int(str(rows[0][1]))


def _ask(
    points: Sequence[DecisionPoint],
    sampler: Sampler,
    reward_model: SpecRewardModel,
    run: Run,
    policy: str,
    version: int,
    temperature: float,
) -> Evaluation:
    return evaluate_policy(
        points,
        sampler,
        reward_model,
        policy=policy,
        policy_version=version,
        temperature=temperature,
        settings=run.config.eval,
        max_tokens=run.config.train.max_completion_length,
    )
