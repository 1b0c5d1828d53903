"""Which checkpoint is current: promoted only on evidence, taken back with one command.

`current` in the workspace's folder is a link to the promoted checkpoint's directory, replaced atomically, so a server
may read through it at any time. Every promotion, refusal and rollback is recorded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.config import PromotionConfig
from trainer.errors import PromotionError
from trainer.rows import PromotionRow, now
from trainer.runs import Run
from trainer.workspace import Value, Workspace

CURRENT = "current"
PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a comparison on the held-out pool says of one aspect at one temperature."""

    aspect: str
    temperature: float
    gain: float | None
    gain_low: float | None
    relative_low: float | None
    num_points: int
    num_clusters: int


def promote(workspace: Workspace, run: Run, settings: PromotionConfig) -> PromotionRow:
    """Make the run's evaluated checkpoint current; raises `PromotionError`, and records it, when the gate refuses."""
    previous = current_checkpoint(workspace)
    checkpoint_id, path = _evaluated_checkpoint(workspace, run)
    problems = gate_problems(workspace, run, checkpoint_id, settings)
    if is_service_name(path):
        problems = (*problems, f"its weights are {path}, which the service keeps; serve them from there")
    elif not (workspace.folder / path).is_dir():
        problems = (*problems, f"its directory {path} is gone")
    reason = "; ".join(problems) or _summary(_evidence(workspace, run, checkpoint_id))
    row = PromotionRow(
        decided_at=now(),
        action=REFUSED if problems else PROMOTED,
        checkpoint_id=checkpoint_id,
        previous_checkpoint_id=previous,
        reason=reason,
    )
    if not problems:
        _point_at(workspace.folder, workspace.folder / path)
    workspace.insert([row])
    if problems:
        raise PromotionError(f"checkpoint {checkpoint_id} is not promoted: {reason}")
    return row


def rollback(workspace: Workspace) -> PromotionRow:
    """Make the checkpoint before the current one current again; before the first promotion there is only the base."""
    history = _current_history(workspace)
    if not history:
        raise PromotionError("nothing is promoted, so there is nothing to roll back; see `trainer runs`")
    left, previous = history[-1], history[-2] if len(history) > 1 else None
    row = PromotionRow(
        decided_at=now(),
        action=ROLLED_BACK,
        checkpoint_id=previous,
        previous_checkpoint_id=left,
        reason="taken back by hand",
    )
    if previous is None:
        (workspace.folder / CURRENT).unlink(missing_ok=True)
    else:
        _point_at(workspace.folder, workspace.folder / _path_of(workspace, previous))
    workspace.insert([row])
    return row


def current_checkpoint(workspace: Workspace) -> str | None:
    """Id of the promoted checkpoint; `None`: the base is current."""
    history = _current_history(workspace)
    return history[-1] if history else None


def promoted_paths(workspace: Workspace) -> frozenset[Path]:
    """Directories a rollback may return to; whoever prunes checkpoints leaves them."""
    return frozenset(workspace.folder / _path_of(workspace, item) for item in _current_history(workspace))


def relative_location(location: str, folder: Path) -> str:
    """Where a checkpoint is, as recorded: a path from the workspace's folder, or the name a service has for it."""
    return location if is_service_name(location) else os.path.relpath(location, folder)


def is_service_name(location: str) -> bool:
    """Whether a checkpoint's weights are with a service, under this name, and not in a directory."""
    return "://" in location


def gate_problems(workspace: Workspace, run: Run, checkpoint_id: str, settings: PromotionConfig) -> tuple[str, ...]:
    """Why the checkpoint may not become current; empty when it may."""
    if run.control is not None:
        return (f"run {run.run_id} is a control run ({run.control} rewards)",)
    evidence = _evidence(workspace, run, checkpoint_id)
    if not evidence:
        return (f"it has not been compared on held-out conversations; run `trainer eval --run {run.run_id}`",)
    wanted = run.config.eval.temperatures
    missing = [f"no comparison at temperature {t:g}" for t in wanted if not _at(evidence, "reward", t)]
    problems = [problem for item in evidence if (problem := _problem(item, settings)) is not None]
    return (*missing, *problems)


def _problem(item: Evidence, settings: PromotionConfig) -> str | None:
    where = f"{item.aspect} at temperature {item.temperature:g}"
    if item.gain_low is None:
        return None if item.aspect != "reward" else f"{where}: too few conversations for an interval"
    if item.aspect == "reward":
        low = f"{where}: the gain's lower bound {item.gain_low:+.4f} is not above {settings.min_gain:g}"
        return None if item.gain_low > settings.min_gain else low
    if item.gain_low >= -settings.max_regression:
        return None
    return f"{where}: may have fallen, lower bound {item.gain_low:+.4f} is below -{settings.max_regression:g}"


def _at(evidence: Sequence[Evidence], aspect: str, temperature: float) -> bool:
    return any(item.aspect == aspect and item.temperature == temperature for item in evidence)


def _evidence(workspace: Workspace, run: Run, checkpoint_id: str) -> tuple[Evidence, ...]:
    """The newest held-out comparison of each aspect that is gated, and of the reward, with the base."""
    rows = workspace.query_records(
        "SELECT aspect, temperature, gain, gain_low, relative_low, num_points, num_clusters "
        "FROM comparisons JOIN checkpoints AS k USING (run_id, policy_version) "
        "WHERE run_id = ? AND k.checkpoint_id = ? AND pool = 'heldout' AND baseline = 'base' AND candidate = 'tuned' "
        "AND step_index IS NULL AND (aspect = 'reward' OR aspect IN "
        '(SELECT unnest(from_json(reward_spec, \'{"gates": [{"criterion": "VARCHAR"}]}\').gates).criterion '
        "FROM runs WHERE runs.run_id = ?)) "
        "QUALIFY row_number() OVER (PARTITION BY aspect, temperature ORDER BY compared_at DESC) = 1 "
        "ORDER BY aspect, temperature",
        [run.run_id, checkpoint_id, run.run_id],
    )
    return tuple(_as_evidence(row) for row in rows)


def _as_evidence(row: dict[str, Value]) -> Evidence:
    return Evidence(
        aspect=str(row["aspect"]),
        temperature=_number(row["temperature"]) or 0.0,
        gain=_number(row["gain"]),
        gain_low=_number(row["gain_low"]),
        relative_low=_number(row["relative_low"]),
        num_points=int(_number(row["num_points"]) or 0),
        num_clusters=int(_number(row["num_clusters"]) or 0),
    )


def _number(value: Value) -> float | None:
    assert value is None or isinstance(value, int | float)
    return None if value is None else float(value)


def _summary(evidence: Sequence[Evidence]) -> str:
    parts = [
        f"T={item.temperature:g}: gain {item.gain or 0:+.3f} (lower bound {item.gain_low or 0:+.3f}, "
        f"{item.num_points} points, {item.num_clusters} conversations)"
        for item in evidence
        if item.aspect == "reward"
    ]
    return "; ".join(parts)


def _evaluated_checkpoint(workspace: Workspace, run: Run) -> tuple[str, str]:
    """Id and path of the checkpoint that was compared last on held-out points, or else the run's last."""
    rows = workspace.query(
        "SELECT k.checkpoint_id, k.path FROM checkpoints AS k LEFT JOIN comparisons AS c "
        "ON c.run_id = k.run_id AND c.policy_version = k.policy_version AND c.pool = 'heldout' "
        "WHERE k.run_id = ? ORDER BY c.compared_at DESC NULLS LAST, k.step DESC LIMIT 1",
        [run.run_id],
    )
    if not rows:
        raise PromotionError(f"run {run.run_id} has no checkpoint yet; finish a step with `trainer train --resume`")
    return str(rows[0][0]), str(rows[0][1])


def _path_of(workspace: Workspace, checkpoint_id: str) -> str:
    rows = workspace.query("SELECT path FROM checkpoints WHERE checkpoint_id = ?", [checkpoint_id])
    if not rows:
        raise PromotionError(f"checkpoint {checkpoint_id} is not in {workspace.path}")
    return str(rows[0][0])


def _current_history(workspace: Workspace) -> tuple[str, ...]:
    """Promoted checkpoints that were not taken back, oldest first."""
    rows = workspace.query("SELECT action, checkpoint_id FROM promotions ORDER BY decided_at")
    history: list[str] = []
    for action, checkpoint_id in rows:
        if action == PROMOTED:
            history.append(str(checkpoint_id))
        elif action == ROLLED_BACK:
            history = history[:-1]
    return tuple(history)


def _point_at(folder: Path, target: Path) -> None:
    """Replace the link in one rename: readers see the old checkpoint or the new one, never neither."""
    fresh = folder / f".{CURRENT}.new"
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(target.resolve().relative_to(folder.resolve()), target_is_directory=True)
    fresh.replace(folder / CURRENT)
