"""What the commands print: results as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from trainer.answers import REWARD
from trainer.registry import current_checkpoint
from trainer.tables import interval, percent, table
from trainer.workspace import Value, Workspace

if TYPE_CHECKING:
    from trainer.evaluate import PoolEvaluation
    from trainer.rows import ComparisonRow
    from trainer.score import RecordedScore

BAR_WIDTH = 40


def describe_score(found: RecordedScore) -> str:
    """The recorded policy's rewards: mean, histogram, criteria, step indices."""
    mean = "none" if found.reward_mean is None else f"{found.reward_mean:.3f}"
    parts = [f"{found.num_points} recorded actions, mean reward {mean}, {found.num_unscored} unscored"]
    parts += [f"left out: {reason}: {count}" for reason, count in found.left_out]
    parts += [f"a check failed: {what}: {count} times" for what, count in found.broken]
    largest = max([*found.histogram, 1])
    bars = [
        f"{index / 10:.1f}-{(index + 1) / 10:.1f}  {'#' * round(BAR_WIDTH * count / largest):<{BAR_WIDTH}}  {count}"
        for index, count in enumerate(found.histogram)
    ]
    criteria = table(
        ("criterion", "mean", "scored", "unscored", "capped by its gate"),
        [(item.name, item.mean, item.num_scored, item.num_unscored, item.num_gated) for item in found.criteria],
    )
    steps = table(("step index", "points", "mean reward"), found.by_step_index)
    return "\n\n".join(["\n".join(parts), "\n".join(bars), criteria, steps])


def describe_evaluation(found: PoolEvaluation) -> str:
    """Means of every policy, then what the tuned policy gained over the base."""
    head = f"{found.pool}: {found.num_points} points, policy version {found.policy_version} of run {found.run_id}"
    notes = [f"{count} points left out: {reason}" for reason, count in found.refused.items()]
    if found.num_trained_before:
        notes.append(f"{found.num_trained_before} points left out: some run has trained on their state")
    means = table(
        ("policy", "mean reward", "unscored answers"),
        [(item.label, item.mean(REWARD), item.num_unscored) for item in found.evaluations],
    )
    gains = [row for row in found.comparisons if (row.baseline, row.candidate) == ("base", "tuned")]
    overall = table(_GAIN_HEADER, [_gain(row, row.aspect) for row in gains if row.step_index is None])
    steps = table(_GAIN_HEADER, [_gain(row, f"step {row.step_index}") for row in gains if row.step_index is not None])
    return "\n\n".join(["\n".join([head, *notes]), means, overall, steps])


_GAIN_HEADER = ("T", "aspect", "base", "tuned", "gain", "interval", "relative", "relative interval", "points", "conv.")


def _gain(row: ComparisonRow, what: str) -> tuple[str | int | float | None, ...]:
    relative = f"[{percent(row.relative_low)}, {percent(row.relative_high)}]" if row.relative_low is not None else "-"
    return (
        "greedy" if row.temperature == 0 else f"{row.temperature:g}",
        what,
        row.baseline_mean,
        row.candidate_mean,
        row.gain,
        interval(row.gain_low, row.gain_high),
        percent(row.relative_gain),
        relative,
        row.num_points,
        row.num_clusters,
    )


def list_runs(workspace: Workspace) -> list[dict[str, Value]]:
    """Every run with its state and its newest held-out gain."""
    rows = workspace.query_records(
        "SELECT s.run_id, s.last_event AS state, s.steps_done, s.max_steps, s.control, s.reward_name, "
        "(SELECT arg_max(u.reward_mean, u.step) FROM updates AS u WHERE u.run_id = s.run_id) AS last_reward, "
        "h.temperature, h.baseline_mean, h.candidate_mean, h.gain_low, h.gain_high, h.relative_gain, h.relative_low, "
        "(SELECT count(*) FROM pool_openings AS o WHERE o.run_id = s.run_id) AS heldout_openings "
        "FROM run_status AS s LEFT JOIN (SELECT * FROM comparisons WHERE pool = 'heldout' AND baseline = 'base' "
        "AND candidate = 'tuned' AND aspect = 'reward' AND step_index IS NULL "
        "QUALIFY row_number() OVER (PARTITION BY run_id ORDER BY temperature DESC, compared_at DESC) = 1) AS h "
        "USING (run_id) ORDER BY s.run_id"
    )
    current = current_checkpoint(workspace)
    return [{**row, "current": current if str(current or "").startswith(f"{row['run_id']}:") else None} for row in rows]


def describe_runs(rows: Sequence[Mapping[str, Value]]) -> str:
    """One line per run."""
    return table(
        ("run", "state", "steps", "control", "last reward", "held-out base", "tuned", "gain interval", "current"),
        [
            (
                _cell(row["run_id"]),
                _cell(row["state"]),
                f"{row['steps_done']}/{row['max_steps']}",
                _cell(row["control"]),
                _float(row["last_reward"]),
                _float(row["baseline_mean"]),
                _float(row["candidate_mean"]),
                interval(_float(row["gain_low"]), _float(row["gain_high"])),
                _cell(row["current"]),
            )
            for row in rows
        ],
    )


def _cell(value: Value) -> str | None:
    return None if value is None else str(value)


def _float(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None
