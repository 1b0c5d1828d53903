"""How fast `decision_points` answers over a million steps, beside a table with the JSON of every step in it.

Builds two files with the same steps in bulk: the store's own tables, and one wide table as most trace stores have it.
Both are asked for one agent's decision points of one day, with messages. Ratios are of medians, on the same machine in
the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from otel_receiver.config import StoreConfig
from otel_receiver.store import Store
from otel_receiver.store_file import ROW_GROUP_ROWS

STEPS_PER_EPISODE = 5
NUM_AGENTS = 20
EPISODES_PER_DAY = 2_000
MESSAGE_CHARS = 400
SYSTEM_CHARS = 3_000
FIRST_DAY = "TIMESTAMP '2026-01-01'"

_FILL = """
INSERT INTO store.messages (message_id, message_hash, role, chat)
SELECT n, CAST(md5(CAST(n AS VARCHAR)) AS UUID), 'user',
  '{{"role":"user","content":"'
    || repeat(md5(CAST(n AS VARCHAR)), CASE WHEN n < {agents} THEN {system} ELSE {words} END) || '"}}'
FROM range({agents} + {episodes} * 2 * {steps}) AS r(n);
INSERT INTO store.tool_sets (tools_id, tools_hash, chat)
SELECT n, CAST(md5('tools' || n) AS UUID),
  '[{{"type":"function","function":{{"name":"search","description":"' || repeat(md5('tools' || n), 30) || '"}}}}]'
FROM range({agents}) AS r(n);
INSERT INTO store.histories (history_id, message_ids)
SELECT e, list_prepend(e % {agents}, range({agents} + e * 2 * {steps}, {agents} + (e + 1) * 2 * {steps} - 1))
FROM range({episodes}) AS r(e);
INSERT INTO store.episodes (episode_number, episode_id, revision, conversation_id, agent_name, dialect, started_at,
  status, end_reason, quality_flags, num_steps, num_tool_calls, content_hash, written_at)
SELECT e, md5('episode' || e), 1, 'conversation-' || (e // 3), 'agent-' || (e % {agents}), 'openinference',
  {day} + INTERVAL (e * 86400 // {per_day}) SECOND, 'ok', 'root_ended', [], {steps}, 0,
  CAST(md5('content' || e) AS UUID), {day}
FROM range({episodes}) AS r(e);
INSERT INTO store.steps (episode_id, revision, step_index, conversation_id, agent_name, history_id, num_messages,
  tools_id, action_id, observation_ids, shown_from, shown_ids, finish_reason, model, dialect, trace_id, span_id,
  merged_span_ids, started_at, quality_flags, trainable)
SELECT md5('episode' || e), 1, s, 'conversation-' || (e // 3), 'agent-' || (e % {agents}), e, 2 + 2 * s,
  e % {agents}, {agents} + e * 2 * {steps} + 2 * s + 1, [], 0, [], 'stop', 'small-model', 'openinference',
  md5('trace' || e), substr(md5('span' || e || '-' || s), 1, 16), [],
  {day} + INTERVAL (e * 86400 // {per_day} + s) SECOND, [], e % 7 <> 0
FROM range({episodes}) AS r(e), range({steps}) AS q(s);
"""

_NAIVE = """
CREATE TABLE naive.decision_points AS
SELECT s.episode_id, s.step_index, s.conversation_id, s.agent_name, s.model, s.dialect,
  '[' || array_to_string(list_transform(l.message_ids[1 : s.num_messages],
    lambda n: '{{"role":"user","content":"' || repeat(md5(CAST(n AS VARCHAR)), CASE WHEN n < {agents} THEN {system}
      ELSE {words} END) || '"}}'), ',') || ']' AS messages,
  t.chat AS tools, a.chat AS action, s.finish_reason, s.trainable, s.quality_flags, s.trace_id, s.span_id,
  CAST(s.started_at AS TIMESTAMP) AS started_at
FROM store.steps AS s
JOIN store.histories AS l ON l.history_id = s.history_id
JOIN store.messages AS a ON a.message_id = s.action_id
JOIN store.tool_sets AS t ON t.tools_id = s.tools_id
"""

QUERIES = {
    "agent and day": "SELECT * FROM {table} WHERE agent_name = 'agent-3' AND started_at >= {middle} "
    "AND started_at < {middle} + INTERVAL 1 DAY",
    "agent and day, count": "SELECT count(*) FROM {table} WHERE agent_name = 'agent-3' AND started_at >= {middle} "
    "AND started_at < {middle} + INTERVAL 1 DAY",
    "one episode": "SELECT * FROM {table} WHERE episode_id = md5('episode777')",
    "agent, message lengths": "SELECT sum(length(messages)) FROM {table} WHERE agent_name = 'agent-3'",
    "count per agent": "SELECT agent_name, count(*) FROM {table} GROUP BY agent_name",
}
NAIVE_SHARE = 0.05
"""The wide table is built for this share of the episodes unless asked otherwise: all of it takes tens of gigabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One question, asked of the view and, where it was built, of the wide table."""

    query: str
    num_rows: int
    view_s: float
    naive_s: float | None


def build(path: Path, num_steps: int, threads: int) -> float:
    """A store with this many steps; seconds it took."""
    began = time.monotonic()
    Store(path, StoreConfig()).prepare()
    with duckdb.connect(":memory:", config={"threads": threads}) as connection:
        connection.execute(f"ATTACH '{path}' AS bench (ROW_GROUP_SIZE {ROW_GROUP_ROWS})")
        connection.execute("USE bench")
        connection.execute(_FILL.format(**_sizes(num_steps))).fetchall()
        connection.execute("CHECKPOINT bench").fetchall()
    return time.monotonic() - began


def _sizes(num_steps: int) -> dict[str, object]:
    return {
        "episodes": num_steps // STEPS_PER_EPISODE,
        "steps": STEPS_PER_EPISODE,
        "agents": NUM_AGENTS,
        "per_day": EPISODES_PER_DAY,
        "words": MESSAGE_CHARS // 32,
        "system": SYSTEM_CHARS // 32,
        "day": FIRST_DAY,
    }


def build_naive(store: Path, path: Path, threads: int) -> float:
    """The same steps as one wide table; seconds it took."""
    began = time.monotonic()
    with duckdb.connect(":memory:", config={"threads": threads}) as connection:
        connection.execute(f"ATTACH '{store}' AS bench (READ_ONLY)")
        connection.execute(f"ATTACH '{path}' AS naive (ROW_GROUP_SIZE {ROW_GROUP_ROWS})")
        connection.execute("USE bench")
        connection.execute(_NAIVE.format(**_sizes(0))).fetchall()
        connection.execute("CHECKPOINT naive").fetchall()
    return time.monotonic() - began


def ask(path: Path, sql: str, threads: int, repeats: int) -> tuple[int, float]:
    """Rows and median seconds of a query whose result is fetched into Python."""
    seconds = []
    rows: list[tuple[object, ...]] = []
    with duckdb.connect(str(path), read_only=True, config={"threads": threads}) as connection:
        for _ in range(repeats):
            began = time.monotonic()
            rows = connection.execute(sql).fetchall()
            seconds.append(time.monotonic() - began)
    return len(rows), statistics.median(seconds)


def measure(store: Path, naive: Path | None, num_steps: int, threads: int, repeats: int) -> list[Timing]:
    """Every question, asked of both files."""
    days = num_steps // STEPS_PER_EPISODE // EPISODES_PER_DAY
    middle = f"{FIRST_DAY} + INTERVAL {max(0, days // 2)} DAY"
    timings = []
    for name, query in QUERIES.items():
        sql = query.format(table="decision_points", middle=middle)
        num_rows, view_s = ask(store, sql, threads, repeats)
        answer = ask(naive, sql, threads, repeats) if naive else None
        assert answer is None or answer[0] == num_rows
        timings.append(Timing(query=name, num_rows=num_rows, view_s=view_s, naive_s=answer[1] if answer else None))
    return timings


def report(title: str, timings: list[Timing], say: Callable[[str], None]) -> None:
    """A table of the timings."""
    say(title)
    for item in timings:
        naive = (
            ""
            if item.naive_s is None
            else f"  wide table {item.naive_s:7.3f} s  ratio {item.naive_s / item.view_s:5.2f}"
        )
        say(f"  {item.query:24} {item.num_rows:7,} rows  view {item.view_s:7.3f} s{naive}")


def main() -> None:
    """Build, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--wide-share", type=float, default=NAIVE_SHARE, help="share of the steps for the comparison")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    args = parser.parse_args()
    say = (lambda _: None) if args.json else print
    with tempfile.TemporaryDirectory() as folder:
        full, part, wide = (Path(folder) / f"{name}.duckdb" for name in ("full", "part", "wide"))
        built_s = build(full, args.steps, args.threads)
        size = full.stat().st_size
        alone = measure(full, None, args.steps, args.threads, args.repeats)
        report(f"{args.steps:,} steps, {size / 1e6:,.0f} MB, built in {built_s:.0f} s", alone, say)
        few = max(STEPS_PER_EPISODE, int(args.steps * args.wide_share))
        build(part, few, args.threads)
        build_naive(part, wide, args.threads)
        beside = measure(part, wide, few, args.threads, args.repeats)
        ratio = wide.stat().st_size / part.stat().st_size
        report(f"{few:,} steps beside a wide table of the same steps, {ratio:.1f} times the bytes", beside, say)
    if args.json:
        print(json.dumps({"steps": args.steps, "bytes": size, "alone": [asdict(t) for t in alone],
                          "beside": [asdict(t) for t in beside], "wide_bytes_ratio": ratio}))  # fmt: skip


if __name__ == "__main__":
    main()
