"""The columns in which rows are handed to DuckDB, and Arrow tables of them.

`schema.sql` is the definition; a contract test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from spanloop.wire import utf8_text

Row = Sequence[object]

TEXT, NUMBER, INDEX, BYTES = pa.large_string(), pa.int64(), pa.int32(), pa.large_binary()
TIME, FLAG, REAL = pa.timestamp("ns"), pa.bool_(), pa.float64()
TEXTS, NUMBERS = pa.large_list(TEXT), pa.large_list(NUMBER)

TIME_MAX = 2**63 - 1
"""Latest time DuckDB holds in nanoseconds (the year 2262); later ones, from broken clocks, are stored as unknown."""

COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "messages": {
        "message_id": NUMBER, "message_hash": TEXT, "role": TEXT, "chat": TEXT, "tool_status": TEXT, "record": BYTES,
    },
    "histories": {"history_id": NUMBER, "message_ids": NUMBERS},
    "tool_sets": {"tools_id": NUMBER, "tools_hash": TEXT, "chat": TEXT, "record": BYTES},
    "blobs": {"sha256": TEXT, "mime_type": TEXT, "num_bytes": NUMBER, "data": BYTES},
    "episodes": {
        "episode_number": NUMBER, "episode_id": TEXT, "revision": INDEX, "conversation_id": TEXT, "user_id": TEXT,
        "agent_name": TEXT, "service_name": TEXT, "model": TEXT, "dialect": TEXT, "started_at": TIME, "ended_at": TIME,
        "status": TEXT, "end_reason": TEXT, "parent_episode_id": TEXT, "parent_call_id": TEXT, "quality_flags": TEXTS,
        "num_steps": INDEX, "num_tool_calls": INDEX, "input_tokens": NUMBER, "output_tokens": NUMBER,
        "content_hash": TEXT, "written_at": TIME,
    },
    "hidden_revisions": {"episode_id": TEXT, "revision": INDEX, "reason": TEXT, "hidden_at": TIME},
    "steps": {
        "episode_id": TEXT, "revision": INDEX, "step_index": INDEX, "conversation_id": TEXT, "agent_name": TEXT,
        "history_id": NUMBER, "num_messages": INDEX, "tools_id": NUMBER, "action_id": NUMBER,
        "observation_ids": NUMBERS, "shown_from": INDEX, "shown_ids": NUMBERS, "finish_reason": TEXT, "model": TEXT,
        "response_model": TEXT, "response_id": TEXT, "input_tokens": NUMBER, "output_tokens": NUMBER,
        "cache_read_tokens": NUMBER, "cache_write_tokens": NUMBER, "reasoning_tokens": NUMBER, "dialect": TEXT,
        "trace_id": TEXT, "span_id": TEXT, "merged_span_ids": TEXTS, "started_at": TIME, "ended_at": TIME,
        "error": TEXT, "quality_flags": TEXTS, "trainable": FLAG,
    },
    "tool_calls": {
        "episode_id": TEXT, "revision": INDEX, "step_index": INDEX, "call_index": INDEX, "call_id": TEXT,
        "name": TEXT, "arguments": TEXT, "result_id": NUMBER, "status": TEXT,
    },
    "feedback": {
        "feedback_id": TEXT, "name": TEXT, "score": REAL, "label": TEXT, "comment": TEXT, "source": TEXT,
        "trace_id": TEXT, "span_id": TEXT, "response_id": TEXT, "conversation_id": TEXT, "received_at": TIME,
    },
    "spans": {
        "trace_id": TEXT, "span_id": TEXT, "parent_span_id": TEXT, "name": TEXT, "kind": TEXT, "dialect": TEXT,
        "service_name": TEXT, "scope": TEXT, "started_at": TIME, "ended_at": TIME, "error": TEXT,
        "received_at": TIME, "log_position": NUMBER,
    },
    "log_sources": {"trace_id": TEXT, "log_position": NUMBER},
    "call_links": {
        "trace_id": TEXT, "span_id": TEXT, "service_name": TEXT, "before_hash": TEXT, "after_hash": TEXT,
        "conversation_id": TEXT, "started_at": TIME,
    },
    "problems": {
        "log_position": NUMBER, "trace_id": TEXT, "reason": TEXT, "num_records": NUMBER, "received_at": TIME,
    },
}  # fmt: skip
"""The columns rows are given in, per table, in the order of the rows."""


def arrow_table(name: str, rows: Sequence[Row]) -> pa.Table:
    """The rows of a table as Arrow; times that DuckDB cannot hold become unknown, lone surrogates U+FFFD."""
    columns = COLUMNS[name]
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.table({key: _array(list(column), columns[key]) for key, column in zip(columns, values, strict=True)})


def _array(values: list[object], kind: pa.DataType) -> pa.Array:
    if kind == TIME:
        return pa.array([_time(value) for value in values], kind)
    try:
        return pa.array(values, kind)
    except UnicodeEncodeError:
        return pa.array([_encodable(value) for value in values], kind)


def _time(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= TIME_MAX else None


def _encodable(value: object) -> object:
    if isinstance(value, str):
        return utf8_text(value)
    return [_encodable(item) for item in value] if isinstance(value, list | tuple) else value
