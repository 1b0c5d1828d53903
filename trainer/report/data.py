"""What the report shows, read from the workspace: plain records, no drawing."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from spanloop.convert import compact_json
from trainer.runs import Run, last_event
from trainer.workspace import Value, Workspace

EXAMPLES_MAX = 6
"""Points shown with their answers."""
TEXT_MAX = 1200
"""Characters of a message that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """A gradient step."""

    step: int
    reward_mean: float | None
    num_groups: int
    num_trained: int
    dropped: tuple[tuple[str, int], ...]
    seconds: float
    metrics: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyMean:
    """One policy's mean reward on a pool."""

    policy: str
    policy_version: int | None
    temperature: float | None
    reward_mean: float | None
    num_points: int
    num_unscored: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """A paired comparison of base and tuned."""

    temperature: float
    aspect: str
    step_index: int | None
    base: float | None
    tuned: float | None
    gain: float | None
    low: float | None
    high: float | None
    relative: float | None
    relative_low: float | None
    num_points: int
    num_clusters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One answer of an example."""

    policy: str
    text: str
    reward: float | None
    remarks: tuple[str, ...]
    """Criteria below 1, with their reasons."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A point with the answers of all policies."""

    point_id: str
    span_id: str | None
    context: str
    """The last message of the state."""
    answers: tuple[Shown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """Everything on the page."""

    run: Run
    state: str | None
    reward_name: str
    pool: str | None
    """The pool of the final comparison: held-out, or else validation."""
    num_openings: int
    """Times the held-out pool was opened for this run."""
    num_openings_of_all: int
    """Times it was opened for any run of the workspace: choosing among runs by it wears it out too."""
    steps: tuple[StepRecord, ...]
    watched: tuple[PolicyMean, ...]
    """Evaluations on the validation pool, in order."""
    means: tuple[PolicyMean, ...]
    gains: tuple[Gain, ...]
    examples: tuple[Example, ...]
    pools: tuple[tuple[str, int, int], ...]
    """Pool, points, recorded points."""
    left_out: tuple[tuple[str, int], ...]


def read_report(workspace: Workspace, run: Run) -> ReportData:
    """What there is to show about a run, finished or not."""
    pool = _compared_pool(workspace, run.run_id)
    row = workspace.query("SELECT reward_name, left_out FROM runs WHERE run_id = ?", [run.run_id])[0]
    openings = workspace.query("SELECT count(*) FILTER (run_id = ?), count(*) FROM pool_openings", [run.run_id])[0]
    return ReportData(
        run=run,
        state=last_event(workspace, run.run_id),
        reward_name=str(row[0]),
        pool=pool,
        num_openings=_integer(openings[0]),
        num_openings_of_all=_integer(openings[1]),
        steps=_steps(workspace, run.run_id),
        watched=_means(workspace, run.run_id, "validation"),
        means=_newest(_means(workspace, run.run_id, pool)) if pool else (),
        gains=_gains(workspace, run.run_id, pool) if pool else (),
        examples=_examples(workspace, run.run_id, pool) if pool else (),
        pools=_pools(workspace, run.run_id),
        left_out=tuple(json.loads(str(row[1])).items()),
    )


def _compared_pool(workspace: Workspace, run_id: str) -> str | None:
    rows = workspace.query("SELECT DISTINCT pool FROM comparisons WHERE run_id = ?", [run_id])
    pools = {str(row[0]) for row in rows}
    return next((pool for pool in ("heldout", "validation") if pool in pools), None)


def _steps(workspace: Workspace, run_id: str) -> tuple[StepRecord, ...]:
    dropped: dict[int, Counter[str]] = defaultdict(Counter)
    for step, reason in workspace.query(
        "SELECT step, drop_reason FROM groups WHERE run_id = ? AND drop_reason IS NOT NULL ORDER BY drop_reason",
        [run_id],
    ):
        dropped[_integer(step)][str(reason)] += 1
    rows = workspace.query(
        "SELECT step, reward_mean, num_groups, num_groups_trained, seconds, metrics FROM updates "
        "WHERE run_id = ? ORDER BY step",
        [run_id],
    )
    return tuple(
        StepRecord(
            step=_integer(row[0]),
            reward_mean=_number(row[1]),
            num_groups=_integer(row[2]),
            num_trained=_integer(row[3]),
            dropped=tuple(dropped[_integer(row[0])].items()),
            seconds=_number(row[4]) or 0.0,
            metrics=tuple((name, value) for name, value in json.loads(str(row[5])).items() if value is not None),
        )
        for row in rows
    )


def _means(workspace: Workspace, run_id: str, pool: str) -> tuple[PolicyMean, ...]:
    rows = workspace.query(
        "SELECT policy, policy_version, temperature, reward_mean, num_points, num_unscored FROM evaluations "
        "WHERE run_id = ? AND pool = ? ORDER BY evaluated_at",
        [run_id, pool],
    )
    return tuple(
        PolicyMean(
            policy=str(row[0]),
            policy_version=None if row[1] is None else _integer(row[1]),
            temperature=_number(row[2]),
            reward_mean=_number(row[3]),
            num_points=_integer(row[4]),
            num_unscored=_integer(row[5]),
        )
        for row in rows
    )


def _newest(means: Sequence[PolicyMean]) -> tuple[PolicyMean, ...]:
    """The last evaluation of each policy at each temperature."""
    return tuple({(item.policy, item.temperature): item for item in means}.values())


def _gains(workspace: Workspace, run_id: str, pool: str) -> tuple[Gain, ...]:
    rows = workspace.query(
        "SELECT temperature, aspect, step_index, baseline_mean, candidate_mean, gain, gain_low, gain_high, "
        "relative_gain, relative_low, num_points, num_clusters FROM comparisons "
        "WHERE run_id = ? AND pool = ? AND baseline = 'base' AND candidate = 'tuned' "
        "QUALIFY row_number() OVER (PARTITION BY temperature, aspect, step_index ORDER BY compared_at DESC) = 1 "
        "ORDER BY temperature DESC, step_index NULLS FIRST, aspect <> 'reward', compared_at",
        [run_id, pool],
    )
    return tuple(
        Gain(
            temperature=_number(row[0]) or 0.0,
            aspect=str(row[1]),
            step_index=None if row[2] is None else _integer(row[2]),
            base=_number(row[3]),
            tuned=_number(row[4]),
            gain=_number(row[5]),
            low=_number(row[6]),
            high=_number(row[7]),
            relative=_number(row[8]),
            relative_low=_number(row[9]),
            num_points=_integer(row[10]),
            num_clusters=_integer(row[11]),
        )
        for row in rows
    )


_ANSWERS = """
WITH chosen AS (
  SELECT evaluation_id, policy, temperature FROM evaluations
  WHERE run_id = $run_id AND pool = $pool
    AND (policy = 'recorded' OR temperature = (SELECT min(temperature) FROM evaluations
      WHERE run_id = $run_id AND pool = $pool AND policy = 'tuned'))
  QUALIFY row_number() OVER (PARTITION BY policy ORDER BY evaluated_at DESC) = 1
)
SELECT w.point_id, c.policy, coalesce(o.message, p.action), w.value, p.messages, p.span_id,
  list({'name': s.name, 'value': s.value, 'reason': s.reason} ORDER BY s.name) FILTER (s.value < 1)
FROM chosen AS c
JOIN rewards AS w ON w.evaluation_id = c.evaluation_id
LEFT JOIN rollouts AS o ON o.rollout_id = w.rollout_id
JOIN decision_points AS p ON p.point_id = w.point_id AND p.revision = w.revision
LEFT JOIN criterion_scores AS s ON s.reward_id = w.reward_id
WHERE o.rollout_index IS NULL OR o.rollout_index = 0
GROUP BY ALL ORDER BY w.point_id, c.policy
"""


def _examples(workspace: Workspace, run_id: str, pool: str) -> tuple[Example, ...]:
    """Where the policy gained most, where it lost most, and some of the rest: not only the fine ones."""
    with workspace.transaction() as connection:
        rows = connection.execute(_ANSWERS, {"run_id": run_id, "pool": pool}).fetchall()
    by_point: dict[str, list[tuple[str, str, float | None, str, str | None, list[dict[str, str | float | None]]]]]
    by_point = defaultdict(list)
    for point_id, *rest in rows:
        policy, message, value, messages, span_id, scores = rest
        by_point[point_id].append((policy, message, value, messages, span_id, scores or []))
    examples = [_example(point_id, answers) for point_id, answers in by_point.items()]
    ranked = sorted(examples, key=lambda item: -_change(item))
    gains = _varied([item for item in ranked if _change(item) > 0])
    losses = _varied([item for item in reversed(ranked) if _change(item) < 0])[: EXAMPLES_MAX // 3]
    same = _varied([item for item in ranked if _change(item) == 0])
    room = EXAMPLES_MAX - len(losses) - min(1, len(same))
    return tuple([*gains[:room], *losses, *same][:EXAMPLES_MAX])


def _varied(examples: Sequence[Example]) -> list[Example]:
    """The same examples, one of each step index first: the first turn alone would fill the page."""
    seen: Counter[str] = Counter()
    rounds: list[tuple[int, int, Example]] = []
    for position, example in enumerate(examples):
        step = example.point_id.rpartition(":")[2]
        rounds.append((seen[step], position, example))
        seen[step] += 1
    return [example for _, _, example in sorted(rounds, key=lambda item: item[:2])]


def _change(example: Example) -> float:
    rewards = {answer.policy: answer.reward for answer in example.answers}
    before, after = rewards.get("base"), rewards.get("tuned")
    return 0.0 if before is None or after is None else after - before


_ORDER = {"recorded": 0, "base": 1, "tuned": 2}


def _example(
    point_id: str,
    answers: Sequence[tuple[str, str, float | None, str, str | None, list[dict[str, str | float | None]]]],
) -> Example:
    shown = [
        Shown(policy=policy, text=readable(message), reward=value, remarks=tuple(_remark(score) for score in scores))
        for policy, message, value, _, _, scores in sorted(answers, key=lambda item: _ORDER.get(item[0], 9))
    ]
    _, _, _, messages, span_id, _ = answers[0]
    state = json.loads(messages)
    context = readable(json.dumps(state[-1])) if state else ""
    return Example(point_id=point_id, span_id=span_id, context=context, answers=tuple(shown))


def _remark(score: dict[str, str | float | None]) -> str:
    reason = f": {score['reason']}" if score["reason"] else ""
    return f"{score['name']} {score['value']:.2f}{reason}"


def readable(chat_json: str | None) -> str:
    """A message in chat form as a person reads it, cut at `TEXT_MAX` characters."""
    if not chat_json:
        return ""
    chat = json.loads(chat_json)
    content = chat.get("content")
    parts = [content] if isinstance(content, str) else [compact_json(content)] if content else []
    parts += [f"{call['function']['name']}({call['function']['arguments']})" for call in chat.get("tool_calls") or ()]
    text = "\n".join(part for part in parts if part)
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}…"


def _pools(workspace: Workspace, run_id: str) -> tuple[tuple[str, int, int], ...]:
    rows = workspace.query(
        "SELECT pool, count(*), sum(multiplicity)::BIGINT FROM run_points WHERE run_id = ? GROUP BY pool "
        "ORDER BY list_position(['train', 'validation', 'heldout'], pool)",
        [run_id],
    )
    return tuple((str(row[0]), _integer(row[1]), _integer(row[2])) for row in rows)


def _number(value: Value) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _integer(value: Value) -> int:
    assert isinstance(value, int)
    return value
