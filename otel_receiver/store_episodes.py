"""Episodes read back from their rows, for whoever wants records rather than SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import cast

import pyarrow as pa

from otel_receiver.batch import StoredEpisode
from otel_receiver.store_write import Connection, query
from spanloop.convert import message_from_chat, tools_from_chat
from spanloop.records import (
    EndReason,
    Episode,
    EpisodeStatus,
    Message,
    QualityFlag,
    Step,
    ToolDefinition,
    ToolStatus,
    Usage,
)
from spanloop.wire import message_from_bytes, tools_from_bytes

_EPISODES = """
SELECT e.episode_number, e.episode_id, e.revision, e.conversation_id, e.user_id, e.agent_name, e.service_name, e.model,
  e.dialect, epoch_ns(e.started_at), epoch_ns(e.ended_at), e.status, e.end_reason, e.parent_episode_id,
  e.parent_call_id, e.quality_flags
FROM store.episodes AS e
WHERE e.episode_number > $after AND NOT EXISTS (
  SELECT 1 FROM store.hidden_revisions AS h WHERE h.episode_id = e.episode_id AND h.revision = e.revision
)
ORDER BY e.episode_number LIMIT $limit
"""

_STEPS = """
SELECT s.episode_id, s.step_index, l.message_ids[1 : s.num_messages], s.tools_id, s.action_id, s.observation_ids,
  s.finish_reason, s.model, s.response_model, s.response_id, s.input_tokens, s.output_tokens, s.cache_read_tokens,
  s.cache_write_tokens, s.reasoning_tokens, s.dialect, s.trace_id, s.span_id, s.merged_span_ids,
  epoch_ns(s.started_at), epoch_ns(s.ended_at), s.error, s.quality_flags
FROM wanted
JOIN store.steps AS s ON s.episode_id = wanted.episode_id AND s.revision = wanted.revision
JOIN store.histories AS l ON l.history_id = s.history_id
ORDER BY s.episode_id, s.step_index
"""

_MESSAGES = """
SELECT m.message_id, m.chat, m.tool_status, m.record
FROM wanted JOIN store.messages AS m ON m.message_id = wanted.number
"""

_TOOLS = "SELECT t.tools_id, t.chat, t.record FROM wanted JOIN store.tool_sets AS t ON t.tools_id = wanted.number"


def newest_episodes(connection: Connection, after: int, limit: int) -> tuple[StoredEpisode, ...]:
    """Visible episodes whose number is above `after`, ascending, at most `limit`."""
    found = connection.execute(_EPISODES, {"after": after, "limit": limit}).fetchall()
    if not found:
        return ()
    wanted = pa.table(
        {"episode_id": [row[1] for row in found], "revision": pa.array([r[2] for r in found], pa.int32())}
    )
    rows = query(connection, _STEPS, wanted=wanted)
    messages = _messages(connection, {n for row in rows for n in (*_list(row[2]), row[4], *_list(row[5]))})
    tools = _tool_lists(connection, {row[3] for row in rows})
    steps: dict[str, list[Step]] = {}
    for row in rows:
        steps.setdefault(str(row[0]), []).append(_step(row, messages, tools))
    return tuple(
        StoredEpisode(cursor=row[0], revision=row[2], episode=_episode(row, tuple(steps[row[1]]))) for row in found
    )


def _list(value: object) -> list[int]:
    return cast("list[int]", value)


def _numbers(wanted: Iterable[object]) -> pa.Table:
    return pa.table({"number": pa.array(sorted(cast("set[int]", set(wanted) - {None})), pa.int64())})


def _messages(connection: Connection, wanted: Iterable[object]) -> dict[int, Message]:
    rows = query(connection, _MESSAGES, wanted=_numbers(wanted))
    return {cast("int", number): _message(chat, status, record) for number, chat, status, record in rows}


def _message(chat: object, status: object, record: object) -> Message:
    if record is not None:
        return message_from_bytes(cast("bytes", record))
    return message_from_chat(json.loads(str(chat)), tool_status=ToolStatus(str(status or ToolStatus.UNKNOWN)))


def _tool_lists(connection: Connection, wanted: Iterable[object]) -> dict[int, tuple[ToolDefinition, ...]]:
    rows = query(connection, _TOOLS, wanted=_numbers(wanted))
    return {
        cast("int", number): tools_from_chat(json.loads(str(chat)))
        if record is None
        else tools_from_bytes(cast("bytes", record))
        for number, chat, record in rows
    }


def _flags(value: object) -> frozenset[QualityFlag]:
    return frozenset(map(QualityFlag, cast("list[str]", value)))


def _episode(row: Sequence[object], steps: tuple[Step, ...]) -> Episode:
    words = cast("Sequence[str | None]", row)
    return Episode(
        episode_id=str(row[1]),
        conversation_id=words[3],
        user_id=words[4],
        agent_name=words[5],
        service_name=words[6],
        model=words[7],
        dialect=str(row[8]),
        started_at=cast("int | None", row[9]),
        ended_at=cast("int | None", row[10]),
        status=EpisodeStatus(str(row[11])),
        end_reason=EndReason(str(row[12])),
        parent_episode_id=words[13],
        parent_call_id=words[14],
        steps=steps,
        quality_flags=_flags(row[15]),
    )


def _step(row: Sequence[object], messages: dict[int, Message], tools: dict[int, tuple[ToolDefinition, ...]]) -> Step:
    words, numbers = cast("Sequence[str | None]", row), cast("Sequence[int | None]", row)
    return Step(
        step_index=cast("int", row[1]),
        messages=tuple(messages[number] for number in _list(row[2])),
        tools=None if numbers[3] is None else tools[numbers[3]],
        action=None if numbers[4] is None else messages[numbers[4]],
        observations=tuple(messages[number] for number in _list(row[5])),
        finish_reason=words[6],
        model=words[7],
        response_model=words[8],
        response_id=words[9],
        usage=Usage(
            input_tokens=numbers[10],
            output_tokens=numbers[11],
            cache_read_tokens=numbers[12],
            cache_write_tokens=numbers[13],
            reasoning_tokens=numbers[14],
        ),
        dialect=str(row[15]),
        trace_id=str(row[16]),
        span_id=str(row[17]),
        merged_span_ids=tuple(cast("list[str]", row[18])),
        started_at=numbers[19],
        ended_at=numbers[20],
        error=words[21],
        quality_flags=_flags(row[22]),
    )
