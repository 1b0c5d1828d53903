"""The SQL of one batch: which rows are new, which revisions they replace. Runs inside the caller's transaction.

Rows travel as Arrow tables, some twenty times faster than row by row. Results are fetched whole before the next
statement: DuckDB 2 refuses to register a table while one is unfinished.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa

from otel_receiver.batch import WriteBatch
from otel_receiver.store_columns import COLUMNS, Row, arrow_table
from otel_receiver.store_rows import EpisodeRows, Hashes, StepRow, episode_rows, message_row, tools_row
from spanloop.records import Episode
from spanloop.wire import utf8_text

Connection = duckdb.DuckDBPyConnection


class Counts(NamedTuple):
    """What a batch changed."""

    new_episodes: int
    new_revisions: int
    unchanged: int
    retired: int
    new_spans: int


class _Newest(NamedTuple):
    """The newest revision of an episode in the store."""

    revision: int
    content_hash: str
    is_hidden: bool


def write_rows(connection: Connection, batch: WriteBatch) -> Counts:
    """Write everything of a batch but its position."""
    now, hashes = time.time_ns(), Hashes()
    derived = [episode_rows(episode, hashes) for episode in _last_of_each(batch.episodes)]
    newest = _newest(connection, [rows.episode.episode_id for rows in derived])
    changed = [rows for rows in derived if _is_news(rows, newest.get(rows.episode.episode_id))]
    _insert_episodes(connection, changed, newest, hashes, now)
    retired = _retire(connection, batch, now)
    new_spans = insert_new(connection, "spans", _records("spans", batch.spans), ("trace_id", "span_id"))
    _insert_others(connection, batch)
    revised = sum(rows.episode.episode_id in newest for rows in changed)
    return Counts(len(changed) - revised, revised, len(derived) - len(changed), retired, new_spans)


def _last_of_each(episodes: Iterable[Episode]) -> list[Episode]:
    return list({episode.episode_id: episode for episode in episodes}.values())


def _is_news(rows: EpisodeRows, known: _Newest | None) -> bool:
    return known is None or known.is_hidden or known.content_hash != rows.content_hash


def query(connection: Connection, sql: str, **tables: pa.Table) -> list[tuple[object, ...]]:
    """All rows of a statement that may name the given Arrow tables."""
    for name, table in tables.items():
        connection.register(name, table)
    try:
        return connection.execute(sql).fetchall()
    finally:
        for name in tables:
            connection.unregister(name)


def texts(**columns: Sequence[str | None]) -> pa.Table:
    """An Arrow table of text columns, to join with."""
    return pa.table(
        {
            name: pa.array([None if v is None else utf8_text(v) for v in values], pa.large_string())
            for name, values in columns.items()
        }
    )


def insert(connection: Connection, table: str, rows: Sequence[Row]) -> int:
    """The number of rows, which are now in the table."""
    if rows:
        names = ", ".join(COLUMNS[table])
        query(
            connection,
            f"INSERT INTO store.{table} ({names}) SELECT {names} FROM incoming",  # noqa: S608 - names are ours
            incoming=arrow_table(table, rows),
        )
    return len(rows)


def insert_new(connection: Connection, table: str, rows: Sequence[Row], key: tuple[str, ...]) -> int:
    """The number of rows whose key was not in the table; the first of equal keys wins."""
    places = [list(COLUMNS[table]).index(name) for name in key]
    distinct: dict[tuple[object, ...], Row] = {}
    for row in rows:
        distinct.setdefault(tuple(row[place] for place in places), row)
    if not distinct:
        return 0
    incoming = arrow_table(table, list(distinct.values()))
    numbered = incoming.append_column("row_number", pa.array(range(len(distinct)), pa.int64()))
    # An inner join builds its hash table on the batch and only scans the store's key columns, whatever their size.
    match = " AND ".join(f"known.{name} = incoming.{name}" for name in key)
    sql = f"SELECT incoming.row_number FROM incoming JOIN store.{table} AS known ON {match}"  # noqa: S608 - names are ours
    known = {row[0] for row in query(connection, sql, incoming=numbered)}
    return insert(connection, table, [row for number, row in enumerate(distinct.values()) if number not in known])


def _records(table: str, records: Iterable[object]) -> list[Row]:
    """Rows of records whose fields are named like the columns."""
    return [[getattr(record, name) for name in COLUMNS[table]] for record in records]


def _newest(connection: Connection, episode_ids: Sequence[str]) -> dict[str, _Newest]:
    if not episode_ids:
        return {}
    rows = query(
        connection,
        "SELECT e.episode_id, e.revision, replace(CAST(e.content_hash AS VARCHAR), '-', ''), h.revision IS NOT NULL "
        "FROM wanted JOIN store.episodes AS e ON e.episode_id = wanted.episode_id "
        "LEFT JOIN store.hidden_revisions AS h ON h.episode_id = e.episode_id AND h.revision = e.revision "
        "ORDER BY e.revision",
        wanted=texts(episode_id=episode_ids),
    )
    return {str(row[0]): _Newest(_number(row[1]), str(row[2]), bool(row[3])) for row in rows}


def _number(value: object) -> int:
    assert isinstance(value, int)
    return value


def _insert_episodes(
    connection: Connection, changed: Sequence[EpisodeRows], newest: Mapping[str, _Newest], hashes: Hashes, now: int
) -> None:
    if not changed:
        return
    numbers = _Numbers(connection, changed, hashes)
    first = _next_number(connection, "episodes", "episode", suffix="number")
    episodes: list[Row] = []
    hidden: list[Row] = []
    steps: list[Row] = []
    calls: list[Row] = []
    for number, rows in enumerate(changed, first):
        episode_id = rows.episode.episode_id
        known = newest.get(episode_id)
        revision = known.revision + 1 if known else 1
        if known and not known.is_hidden:
            hidden.append((episode_id, known.revision, "superseded", now))
        episodes.append((number, *_episode_row(rows, revision, now)))
        histories = [numbers.history(history) for history in rows.histories]
        for row in rows.steps:
            steps.append(_step_row(rows.episode, revision, row, histories[row.history_index], numbers))
            calls.extend(_call_rows(episode_id, revision, row, numbers))
    insert(connection, "histories", numbers.new_histories)
    insert(connection, "episodes", episodes)
    insert(connection, "hidden_revisions", hidden)
    insert(connection, "steps", steps)
    insert(connection, "tool_calls", calls)


class _Numbers:
    """Numbers of messages, tool lists and histories in this file; rows that were new are inserted."""

    def __init__(self, connection: Connection, changed: Sequence[EpisodeRows], hashes: Hashes) -> None:
        needed = dict.fromkeys(key for rows in changed for key in _messages_of(rows))
        self.messages = _numbers_of(connection, "messages", "message", needed)
        new = [key for key in needed if key not in self.messages]
        self._assign(connection, "messages", "message", new, self.messages)
        insert(connection, "messages", [(self.messages[k], k, *message_row(hashes.messages[k])) for k in new])
        lists = dict.fromkeys(row.tools for rows in changed for row in rows.steps if row.tools is not None)
        self.tools = _numbers_of(connection, "tool_sets", "tools", lists)
        new = [key for key in lists if key not in self.tools]
        self._assign(connection, "tool_sets", "tools", new, self.tools)
        insert(connection, "tool_sets", [(self.tools[k], k, *tools_row(hashes.tools[k])) for k in new])
        self._next_history = _next_number(connection, "histories", "history")
        self.new_histories: list[Row] = []

    @staticmethod
    def _assign(connection: Connection, table: str, name: str, new: Sequence[str], numbers: dict[str, int]) -> None:
        if new:
            numbers.update(
                zip(new, range(first := _next_number(connection, table, name), first + len(new)), strict=True)
            )

    def history(self, hashes: Sequence[str]) -> int:
        """The number of a new history."""
        number = self._next_history + len(self.new_histories)
        self.new_histories.append((number, [self.messages[key] for key in hashes]))
        return number


def _messages_of(rows: EpisodeRows) -> Iterable[str]:
    """Every message an episode refers to, in the order it is read in."""
    for row in rows.steps:
        yield from row.shown
    for history in rows.histories:
        yield from history


def _numbers_of(connection: Connection, table: str, name: str, hashes: Iterable[str]) -> dict[str, int]:
    sql = (
        f"SELECT wanted.hash, known.{name}_id FROM wanted "  # noqa: S608 - names are ours
        f"JOIN store.{table} AS known ON known.{name}_hash = CAST(wanted.hash AS UUID)"
    )
    return {str(row[0]): _number(row[1]) for row in query(connection, sql, wanted=texts(hash=list(hashes)))}


def _next_number(connection: Connection, table: str, name: str, *, suffix: str = "id") -> int:
    sql = f"SELECT coalesce(max({name}_{suffix}), 0) + 1 FROM store.{table}"  # noqa: S608 - names are ours
    return _number(query(connection, sql)[0][0])


def _episode_row(rows: EpisodeRows, revision: int, now: int) -> Row:
    episode = rows.episode
    return (
        episode.episode_id, revision, episode.conversation_id, episode.user_id, episode.agent_name,
        episode.service_name, episode.model, episode.dialect, episode.started_at, episode.ended_at,
        str(episode.status), str(episode.end_reason), episode.parent_episode_id, episode.parent_call_id,
        sorted(map(str, episode.quality_flags)), len(episode.steps), sum(len(row.results) for row in rows.steps),
        _sum(step.usage.input_tokens for step in episode.steps),
        _sum(step.usage.output_tokens for step in episode.steps),
        rows.content_hash, now,
    )  # fmt: skip


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _step_row(episode: Episode, revision: int, row: StepRow, history_id: int, numbers: _Numbers) -> Row:
    step, usage = row.step, row.step.usage
    return (
        episode.episode_id, revision, step.step_index, episode.conversation_id, episode.agent_name, history_id,
        row.num_messages, None if row.tools is None else numbers.tools[row.tools],
        None if row.action is None else numbers.messages[row.action],
        [numbers.messages[key] for key in row.observations], row.shown_from,
        [numbers.messages[key] for key in row.shown], step.finish_reason, step.model, step.response_model,
        step.response_id, usage.input_tokens, usage.output_tokens, usage.cache_read_tokens,
        usage.cache_write_tokens, usage.reasoning_tokens, step.dialect, step.trace_id, step.span_id,
        step.merged_span_ids, step.started_at, step.ended_at, step.error, sorted(map(str, step.quality_flags)),
        step.trainable,
    )  # fmt: skip


def _call_rows(episode_id: str, revision: int, row: StepRow, numbers: _Numbers) -> Iterable[Row]:
    calls = row.step.action.tool_calls if row.step.action else ()
    for index, (call, (result, status)) in enumerate(zip(calls, row.results, strict=True)):
        result_id = None if result is None else numbers.messages[result]
        key = (episode_id, revision, row.step.step_index, index)
        yield (*key, call.id, call.name, call.arguments, result_id, str(status))


def _retire(connection: Connection, batch: WriteBatch, now: int) -> int:
    """Hide the visible episodes of the batch's traces that were not derived again; their number."""
    if not batch.trace_ids:
        return 0
    rows = query(
        connection,
        "SELECT DISTINCT s.episode_id, s.revision FROM wanted JOIN store.steps AS s ON s.trace_id = wanted.trace_id "
        "WHERE NOT EXISTS (SELECT 1 FROM store.hidden_revisions AS h "
        "WHERE h.episode_id = s.episode_id AND h.revision = s.revision)",
        wanted=texts(trace_id=sorted(batch.trace_ids)),
    )
    derived = {episode.episode_id for episode in batch.episodes}
    gone = [(row[0], row[1], "retired", now) for row in rows if row[0] not in derived]
    return insert(connection, "hidden_revisions", gone)


def _insert_others(connection: Connection, batch: WriteBatch) -> None:
    insert_new(connection, "feedback", _records("feedback", batch.feedback), ("feedback_id",))
    insert_new(
        connection, "log_sources", _records("log_sources", sorted(batch.log_sources)), ("trace_id", "log_position")
    )
    blobs = [(blob.sha256, blob.mime_type, len(blob.data), blob.data) for blob in batch.blobs]
    insert_new(connection, "blobs", blobs, ("sha256",))
    if batch.trace_ids:
        wanted = texts(trace_id=sorted(batch.trace_ids))
        query(connection, "DELETE FROM store.call_links WHERE trace_id IN (SELECT trace_id FROM wanted)", wanted=wanted)
    insert(connection, "call_links", _records("call_links", batch.links))
    insert(connection, "problems", _records("problems", batch.problems))
