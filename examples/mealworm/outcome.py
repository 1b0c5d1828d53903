"""What the demo found, read from the trainer's workspace: one table for a person, one JSON file for a program."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import duckdb

from examples.mealworm.teacher import HABIT_FAULT, habit_at
from spanloop.convert import messages_from_chat

REWARD = "reward"
AT_ONE, GREEDY = 1.0, 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One line of `comparisons`: two policies on one aspect at one temperature."""

    baseline: str
    candidate: str
    temperature: float
    aspect: str
    step_index: int | None
    baseline_mean: float | None
    candidate_mean: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    relative_gain: float | None
    relative_low: float | None
    num_points: int
    num_clusters: int


class Results:
    """Reads one run's evidence from a workspace."""

    def __init__(self, workspace: Path, run_id: str, pool: str) -> None:
        """Look at one pool of one run."""
        self.workspace = workspace
        self.run_id = run_id
        self.pool = pool
        columns = ", ".join(Compared.__dataclass_fields__)
        rows = query(
            workspace,
            f"SELECT {columns} FROM comparisons WHERE run_id = ? AND pool = ? ORDER BY compared_at",  # noqa: S608  our own columns
            [run_id, pool],
        )
        names = tuple(Compared.__dataclass_fields__)
        # DuckDB's cells have the types the workspace's schema gives them.
        self.compared = tuple(Compared(**cast("Any", dict(zip(names, row, strict=True)))) for row in rows)

    def find(
        self,
        temperature: float,
        *,
        baseline: str = "base",
        candidate: str = "tuned",
        aspect: str = REWARD,
        step_index: int | None = None,
    ) -> Compared:
        """The newest comparison of this kind; raises LookupError when the evaluation did not make it."""
        wanted = (baseline, candidate, temperature, aspect, step_index)
        for row in reversed(self.compared):
            if (row.baseline, row.candidate, row.temperature, row.aspect, row.step_index) == wanted:
                return row
        raise LookupError(f"run {self.run_id}: no comparison {wanted} on the {self.pool} pool")

    @property
    def aspects(self) -> tuple[str, ...]:
        """The reward first, then the criteria in their order."""
        return tuple(dict.fromkeys(row.aspect for row in self.compared if row.step_index is None))

    @property
    def steps(self) -> tuple[int, ...]:
        """The step indices that were evaluated."""
        return tuple(sorted({row.step_index for row in self.compared if row.step_index is not None}))

    def best_base(self) -> tuple[float, float]:
        """The base's best temperature and its mean reward there."""
        rows = query(
            self.workspace,
            "SELECT temperature, reward_mean FROM evaluations WHERE run_id = ? AND pool = ? AND policy = 'base' "
            "ORDER BY reward_mean DESC LIMIT 1",
            [self.run_id, self.pool],
        )
        ((temperature, mean),) = rows
        return float(str(temperature)), float(str(mean))

    def by_habit(self, temperature: float) -> dict[str, dict[str, float]]:
        """Per habit: answers in its context, mean reward of base and tuned, share of answers with its fault."""
        rows = query(self.workspace, HABIT_QUERY, [self.run_id, self.pool, temperature])
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for policy, messages, value, reasons in rows:
            habit = habit_at(messages_from_chat(json.loads(str(messages))))
            if habit is not None:
                cell = values[habit.value]
                cell[f"{policy}_mean"].append(float(str(value)))
                cell[f"{policy}_fault"].append(float(HABIT_FAULT[habit].value in str(reasons).split(", ")))
        return {habit: _means(cells) for habit, cells in sorted(values.items())}


HABIT_QUERY = """
SELECT e.policy, any_value(p.messages), w.value, string_agg(c.reason, ', ') FILTER (WHERE c.reason IS NOT NULL)
FROM evaluations AS e
JOIN rewards AS w ON w.evaluation_id = e.evaluation_id
JOIN decision_points AS p ON p.point_id = w.point_id AND p.revision = w.revision
LEFT JOIN criterion_scores AS c ON c.reward_id = w.reward_id
WHERE e.run_id = ? AND e.pool = ? AND e.temperature = ? AND w.value IS NOT NULL
GROUP BY e.policy, w.reward_id, w.value
"""


def _means(cells: Mapping[str, Sequence[float]]) -> dict[str, float]:
    means = {name: round(sum(values) / len(values), 4) for name, values in sorted(cells.items())}
    return {"num_answers": float(len(cells.get("base_mean", ()))), **means}


def query(workspace: Path, sql: str, parameters: Sequence[object]) -> list[tuple[object, ...]]:
    """Rows of the workspace's database."""
    with duckdb.connect(str(workspace / "workspace.duckdb"), read_only=True) as connection:
        return connection.execute(sql, list(parameters)).fetchall()


def last_checkpoint(workspace: Path, run_id: str) -> Path:
    """Where the run's last policy was saved."""
    rows = query(workspace, "SELECT path FROM checkpoints WHERE run_id = ? ORDER BY step DESC LIMIT 1", [run_id])
    if not rows:
        raise LookupError(f"run {run_id}: no checkpoint; it did not finish a step")
    return workspace / str(rows[0][0])


def num_trained(workspace: Path, run_id: str) -> tuple[int, int]:
    """Gradient steps, and distinct decision points answered in them."""
    sql = "SELECT count(DISTINCT step), count(DISTINCT point_id) FROM groups WHERE run_id = ?"
    rows = query(workspace, sql, [run_id])
    return int(str(rows[0][0])), int(str(rows[0][1]))


def conversations_of(workspace: Path, run_id: str, pool: str) -> tuple[str, ...]:
    """The conversations of one pool, in a fixed order."""
    rows = query(
        workspace,
        "SELECT DISTINCT p.conversation_id FROM run_points AS r "
        "JOIN decision_points AS p ON p.point_id = r.point_id AND p.revision = r.revision "
        "WHERE r.run_id = ? AND r.pool = ? ORDER BY p.conversation_id",
        [run_id, pool],
    )
    return tuple(str(row[0]) for row in rows)


def summary(results: Results) -> dict[str, object]:
    """The evidence as plain numbers: gains at temperature 1 under the plain names, greedy ones beside them."""
    at_one, greedy = results.find(AT_ONE), results.find(GREEDY)
    recorded = results.find(AT_ONE, baseline="recorded", candidate="tuned")
    best_temperature, best_mean = results.best_base()
    num_steps, num_points = num_trained(results.workspace, results.run_id)
    return {
        "run_id": results.run_id,
        "recorded_mean": recorded.baseline_mean,
        "baseline_mean": at_one.baseline_mean,
        "tuned_mean": at_one.candidate_mean,
        "gain_ci95": [at_one.gain_low, at_one.gain_high],
        "relative_gain": at_one.relative_gain,
        "relative_gain_low": at_one.relative_low,
        "baseline_greedy": greedy.baseline_mean,
        "tuned_greedy": greedy.candidate_mean,
        "gain_greedy_ci95": [greedy.gain_low, greedy.gain_high],
        "relative_gain_greedy": greedy.relative_gain,
        "relative_gain_greedy_low": greedy.relative_low,
        "best_base_temperature": best_temperature,
        "best_base_mean": best_mean,
        "num_heldout": at_one.num_points,
        "num_heldout_conversations": at_one.num_clusters,
        "num_steps": num_steps,
        "num_data_points": num_points,
        "by_turn": {step: _turn(results, step) for step in results.steps},
        "by_habit": {"T = 1": results.by_habit(AT_ONE), "greedy": results.by_habit(GREEDY)},
    }


def _turn(results: Results, step: int) -> dict[str, float | int | None]:
    at_one, greedy = results.find(AT_ONE, step_index=step), results.find(GREEDY, step_index=step)
    return {
        "num_points": at_one.num_points,
        "base": at_one.baseline_mean,
        "tuned": at_one.candidate_mean,
        "base_greedy": greedy.baseline_mean,
        "tuned_greedy": greedy.candidate_mean,
    }


def control_summary(results: Results, seed: int) -> dict[str, object]:
    """A control run's gains, with their intervals."""
    at_one, greedy = results.find(AT_ONE), results.find(GREEDY)
    return {
        "seed": seed,
        "gain": at_one.gain,
        "gain_ci95": [at_one.gain_low, at_one.gain_high],
        "gain_greedy": greedy.gain,
        "gain_greedy_ci95": [greedy.gain_low, greedy.gain_high],
    }


def table(results: Results) -> str:
    """Recorded policy, base and tuned per criterion, at temperature 1 and greedy, with the gains' intervals."""
    side = f"{'tuned':>6}  {'gain [95 %]':>24}"
    head = f"{'':12} {'recorded':>8} │ {'T = 1':>6} {side} │ {'greedy':>6} {side}"
    lines = [head, "─" * len(head)]
    for aspect in results.aspects:
        recorded = results.find(AT_ONE, baseline="recorded", candidate="tuned", aspect=aspect)
        cells = [f"{aspect:12} {number(recorded.baseline_mean):>8}"]
        cells += [_side(results.find(temperature, aspect=aspect)) for temperature in (AT_ONE, GREEDY)]
        lines.append(" │ ".join(cells))
    return "\n".join(lines)


def details(results: Results) -> str:
    """What a mean hides: the base at its best temperature, rewards by turn, and rewards by habit."""
    temperature, mean = results.best_base()
    lines = [f"the base at its best temperature ({temperature:g}): {mean:.3f}", "", _detail_head("by turn", "points")]
    for step in results.steps:
        at_one, greedy = results.find(AT_ONE, step_index=step), results.find(GREEDY, step_index=step)
        values = (row for one in (at_one, greedy) for row in (one.baseline_mean, one.candidate_mean))
        lines.append(_detail_row(f"turn {step}", at_one.num_points, *values))
    lines += ["", _detail_head("in the context of a habit", "answers")]
    at_ones, greedies = results.by_habit(AT_ONE), results.by_habit(GREEDY)
    for habit, one in at_ones.items():
        best = greedies.get(habit, {})
        values = (cells.get(name) for cells in (one, best) for name in ("base_mean", "tuned_mean"))
        lines.append(_detail_row(habit, int(one["num_answers"]), *values))
    return "\n".join(lines)


def _detail_head(what: str, counted: str) -> str:
    return f"{what:25} {counted:>8}   {'T = 1':>6} {'tuned':>6}   {'greedy':>6} {'tuned':>6}"


def _detail_row(name: str, count: int, *values: float | None) -> str:
    one, one_tuned, greedy, greedy_tuned = (number(value) for value in values)
    return f"{name:25} {count:>8}   {one:>6} {one_tuned:>6}   {greedy:>6} {greedy_tuned:>6}"


def _side(row: Compared) -> str:
    interval = f"{number(row.gain, sign=True)} [{number(row.gain_low, sign=True)}, {number(row.gain_high, sign=True)}]"
    return f"{number(row.baseline_mean):>6} {number(row.candidate_mean):>6}  {interval:>24}"


def number(value: float | None, *, sign: bool = False) -> str:
    """Three decimals, or a dash for what is not known."""
    if value is None:
        return "-"
    return f"{value:+.3f}" if sign else f"{value:.3f}"
