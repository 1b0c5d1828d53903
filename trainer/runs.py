"""Runs in the workspace: how one is started, found again and described.

A run's configuration, reward specification and pools are written when it starts and never change; what happens to it
is appended.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

from trainer.config import RunConfig, load_resolved
from trainer.dataset import Candidate, Dataset, Pool
from trainer.errors import RunError
from trainer.rewards.spec import SpecRewardModel
from trainer.rows import RunEventRow, RunPointRow, RunRow, now
from trainer.workspace import Workspace

SHUFFLED = "shuffled"
"""The control: rewards permuted among the answers of a step."""

STARTED, RESUMED, INTERRUPTED, FAILED, FINISHED = "started", "resumed", "interrupted", "failed", "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A training run."""

    run_id: str
    config: RunConfig
    control: str | None
    spec_hash: str
    steps_done: int
    policy_version: int
    """After the last recorded step; below `steps_done` where a service took no update of a step that taught nothing."""
    last_checkpoint: Path | None
    """Saved after the last recorded step; `None`: no step is recorded."""
    folder: Path


def start_run(
    workspace: Workspace, config: RunConfig, dataset: Dataset, reward_model: SpecRewardModel, control: str | None
) -> Run:
    """A new run with its pools, recorded."""
    moment = now()
    run_id = f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    row = RunRow(
        run_id=run_id,
        created_at=moment,
        control=control,
        seed=config.train.seed,
        config=config.model_dump_json(),
        base=config.policy.base or "",
        reward_name=reward_model.spec.name,
        spec_hash=reward_model.spec_hash,
        reward_spec=reward_model.spec.model_dump_json(),
        max_steps=config.train.max_steps,
        left_out=json.dumps(dict(dataset.left_out)),
    )
    points = [
        RunPointRow(
            run_id=run_id,
            point_id=item.point_id,
            revision=item.revision,
            state_hash=item.state_hash,
            pool=pool,
            multiplicity=item.multiplicity,
        )
        for pool, items in dataset.pools.items()
        for item in items
    ]
    workspace.insert([row, RunEventRow(run_id=run_id, happened_at=moment, event=STARTED, detail=None), *points])
    return _save_config(load_run(workspace, run_id))


def _save_config(run: Run) -> Run:
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "config.json").write_text(run.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return run


def load_run(workspace: Workspace, run_id: str | None = None) -> Run:
    """The run of that id, or of that beginning of an id, or the newest; raises `RunError` when there is none."""
    rows = workspace.query(
        "SELECT run_id, config, control, spec_hash FROM runs WHERE run_id LIKE ? ORDER BY run_id DESC",
        [f"{run_id or ''}%"],
    )
    if not rows:
        known = [str(row[0]) for row in workspace.query("SELECT run_id FROM runs ORDER BY run_id DESC LIMIT 5")]
        what = f"no run {run_id!r}" if run_id else "no runs"
        hint = f"there are {', '.join(known)}" if known else "start one with `trainer train`"
        raise RunError(f"{what} in {workspace.path}; {hint}")
    found, config, control, spec_hash = (None if value is None else str(value) for value in rows[0])
    assert found is not None
    assert config is not None
    steps = workspace.query(
        "SELECT u.step, u.policy_version, c.path FROM updates AS u LEFT JOIN checkpoints AS c USING (checkpoint_id) "
        "WHERE u.run_id = ? ORDER BY u.step DESC LIMIT 1",
        [found],
    )
    step, version, path = steps[0] if steps else (0, 0, None)
    return Run(
        run_id=found,
        config=load_resolved(config),
        control=control,
        spec_hash=spec_hash or "",
        steps_done=int(str(step)),
        policy_version=int(str(version)),
        last_checkpoint=workspace.folder / str(path) if path else None,
        folder=workspace.folder / "runs" / found,
    )


def unfinished_run(workspace: Workspace, run_id: str | None = None) -> Run:
    """The run to resume; raises `RunError` when it has finished."""
    run = load_run(workspace, run_id)
    if last_event(workspace, run.run_id) == FINISHED:
        raise RunError(
            f"run {run.run_id} has finished its {run.steps_done} steps; start a new one with `trainer train`"
        )
    return run


def last_event(workspace: Workspace, run_id: str) -> str | None:
    """What happened last to a run."""
    rows = workspace.query("SELECT last_event FROM run_status WHERE run_id = ?", [run_id])
    return None if not rows or rows[0][0] is None else str(rows[0][0])


def note(workspace: Workspace, run_id: str, event: str, detail: str | None = None) -> None:
    """Append to what happened to a run."""
    workspace.insert([RunEventRow(run_id=run_id, happened_at=now(), event=event, detail=detail)])


def run_pool(workspace: Workspace, run_id: str, pool: Pool) -> tuple[Candidate, ...]:
    """The points of a run's pool as they were split when it started."""
    with workspace.transaction() as connection:
        rows = connection.execute(
            "SELECT p.point_id, p.revision, p.state_hash, p.episode_id, p.step_index, p.conversation_id, p.agent_name, "
            "p.dialect, p.started_at, p.trainable, p.quality_flags, p.num_chars, r.multiplicity "
            "FROM run_points AS r JOIN decision_points AS p USING (point_id, revision) "
            "WHERE r.run_id = ? AND r.pool = ? ORDER BY p.point_id",
            [run_id, str(pool)],
        ).fetchall()
    return tuple(
        Candidate(
            point_id=row[0],
            revision=row[1],
            state_hash=row[2],
            episode_id=row[3],
            step_index=row[4],
            conversation_id=row[5],
            agent_name=row[6],
            dialect=row[7],
            started_at=row[8],
            trainable=row[9],
            quality_flags=frozenset(row[10]),
            num_chars=row[11],
            multiplicity=row[12],
        )
        for row in rows
    )
