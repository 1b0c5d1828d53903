"""Episodes in: the receiver's DuckDB file, read into the workspace, incrementally and any number of times.

The source is opened read-only and only while rows are read, so that the receiver can write its next batch. An episode
is read again when the source has a newer revision of it; its earlier points stay, since runs may have used them.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import duckdb
from tqdm import tqdm

from spanloop.convert import message_from_chat, messages_from_chat, tools_from_chat
from spanloop.hashing import state_hash
from spanloop.records import QualityFlag
from trainer.dataset import nanoseconds
from trainer.errors import SourceError
from trainer.rows import EpisodeRow, PointRow, PullRow, now
from trainer.workspace import Workspace, insert_rows

log = logging.getLogger(__name__)

EPISODES_PER_BATCH = 500
"""Episodes read and written at a time: bounds memory and how long the source is held."""
LOCK_WAIT_S = 30.0
"""Seconds to wait while the receiver, or a forgotten session, holds the file."""
LOCK_POLL_S = 0.05

# Only the light view is read to see what is new: decision_points joins every message it is asked for.
_EPISODES = """
SELECT e.episode_id, e.revision, e.num_steps FROM episodes AS e
WHERE (len($agents) = 0 OR list_contains($agents, e.agent_name))
  AND (len($dialects) = 0 OR list_contains($dialects, e.dialect))
  AND ($since IS NULL OR epoch_ns(e.started_at) >= $since) AND ($until IS NULL OR epoch_ns(e.started_at) < $until)
ORDER BY e.episode_id
"""

_BATCH_EPISODES = """
SELECT episode_id, revision, conversation_id, agent_name, dialect, status FROM episodes
WHERE list_contains($episode_ids, episode_id) ORDER BY episode_id
"""

_BATCH_POINTS = """
SELECT e.revision, p.episode_id, p.step_index, p.conversation_id, p.agent_name, p.model, p.dialect,
  p.messages, p.tools, p.action, p.finish_reason, p.trainable, coalesce(p.quality_flags, []),
  p.trace_id, p.span_id, epoch_ns(p.started_at)
FROM decision_points AS p JOIN episodes AS e USING (episode_id)
WHERE list_contains($episode_ids, p.episode_id) AND (p.trainable OR NOT $trainable_only)
ORDER BY p.episode_id, p.step_index
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFilter:
    """Which episodes are read."""

    agents: tuple[str, ...] = ()
    dialects: tuple[str, ...] = ()
    since: str | None = None
    """ISO 8601; episodes that started at or after it."""
    until: str | None = None
    """ISO 8601; episodes that started before it."""
    trainable_only: bool = False
    """Leave untrainable steps in the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """An episode as the source lists it."""

    episode_id: str
    revision: int
    num_points: int


def pull(workspace: Workspace, source: str, wanted: PullFilter = PullFilter()) -> PullRow:
    """Read what is new in `source` (a path of a DuckDB file); the returned row is also in the workspace."""
    path = _file_of(source)
    with _reading(path) as connection:
        listed = _list_episodes(connection, wanted)
    have = _already_here(workspace)
    news = [item for item in listed if _is_news(item, have.get(item.episode_id), wanted)]
    pull_id = uuid.uuid4().hex
    added, refused = 0, 0
    for batch in tqdm(_batches(news), desc="pull", unit="batch", disable=None, leave=False):
        points_added, points_refused = _copy_batch(workspace, path, batch, wanted, pull_id)
        added, refused = added + points_added, refused + points_refused
    revised = sum(item.episode_id in have for item in news)
    summary = PullRow(
        pull_id=pull_id,
        source=str(path),
        pulled_at=now(),
        filters=json.dumps(asdict(wanted)),
        episodes_new=len(news) - revised,
        episodes_revised=revised,
        episodes_unchanged=len(listed) - len(news),
        points_added=added,
        points_refused=refused,
    )
    workspace.insert([summary])
    return summary


def _file_of(source: str) -> Path:
    if source.startswith("grpc://"):
        raise SourceError(
            f"source {source}: reading from a remote receiver is not part of this version; "
            f"copy or mount its DuckDB file and name that path with --from"
        )
    path = Path(source)
    if not path.is_file():
        raise SourceError(f"source {source}: no such file; name the DuckDB file `otel-receiver` writes (--store)")
    return path.resolve()


@contextmanager
def _reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    connection = _open(path)
    try:
        yield connection
    except duckdb.CatalogException:
        raise SourceError(f"source {path}: has no episodes in it; was it written by `otel-receiver`?") from None
    except duckdb.BinderException as error:
        raise SourceError(
            f"source {path}: written by another version of `otel-receiver`: {_first_line(error)}"
        ) from None
    finally:
        connection.close()


def _open(path: Path) -> duckdb.DuckDBPyConnection:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return duckdb.connect(str(path), read_only=True)
        except duckdb.Error as error:
            if not isinstance(error, duckdb.IOException) or "lock" not in str(error).lower():
                raise SourceError(f"source {path}: not a readable DuckDB file: {_first_line(error)}") from None
            if time.monotonic() > deadline:
                raise SourceError(
                    f"source {path}: another program has held it for {LOCK_WAIT_S:.0f} s; close the session that has it"
                ) from None
            time.sleep(LOCK_POLL_S)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _list_episodes(connection: duckdb.DuckDBPyConnection, wanted: PullFilter) -> tuple[_Listed, ...]:
    parameters = {
        "agents": list(wanted.agents),
        "dialects": list(wanted.dialects),
        "since": nanoseconds(wanted.since),
        "until": nanoseconds(wanted.until),
    }
    rows = connection.execute(_EPISODES, parameters).fetchall()
    return tuple(_Listed(episode_id=row[0], revision=row[1], num_points=row[2]) for row in rows)


def _already_here(workspace: Workspace) -> dict[str, _Listed]:
    with workspace.transaction() as connection:
        rows = connection.execute(
            "SELECT e.episode_id, e.revision, count(p.point_id) FROM episodes AS e "
            "LEFT JOIN current_points AS p USING (episode_id) GROUP BY e.episode_id, e.revision"
        ).fetchall()
    return {row[0]: _Listed(episode_id=row[0], revision=row[1], num_points=row[2]) for row in rows}


def _is_news(listed: _Listed, here: _Listed | None, wanted: PullFilter) -> bool:
    """Also news: the steps an earlier pull of trainable ones left behind."""
    if here is None or listed.revision > here.revision:
        return True
    return listed.revision == here.revision and listed.num_points > here.num_points and not wanted.trainable_only


def _batches(items: Sequence[_Listed]) -> list[Sequence[_Listed]]:
    return [items[start : start + EPISODES_PER_BATCH] for start in range(0, len(items), EPISODES_PER_BATCH)]


def _copy_batch(
    workspace: Workspace, path: Path, batch: Sequence[_Listed], wanted: PullFilter, pull_id: str
) -> tuple[int, int]:
    """Points added, and those of them refused."""
    episode_ids = [item.episode_id for item in batch]
    with _reading(path) as connection:
        connection.begin()  # one snapshot, whatever the receiver writes meanwhile
        episodes = connection.execute(_BATCH_EPISODES, {"episode_ids": episode_ids}).fetchall()
        parameters = {"episode_ids": episode_ids, "trainable_only": wanted.trainable_only}
        read = [_read_point(row, pull_id) for row in connection.execute(_BATCH_POINTS, parameters).fetchall()]
    with workspace.transaction() as connection:
        known = _known_points(connection, episode_ids)
        fresh = [item for item in read if (item.row.point_id, item.row.revision) not in known]
        insert_rows(connection, [_read_episode(row, pull_id) for row in episodes], replace=True)
        insert_rows(connection, [item.row for item in fresh])
    return len(fresh), sum(item.refused for item in fresh)


def _known_points(connection: duckdb.DuckDBPyConnection, episode_ids: Sequence[str]) -> set[tuple[str, int]]:
    rows = connection.execute(
        "SELECT point_id, revision FROM decision_points WHERE list_contains(?, episode_id)", [list(episode_ids)]
    ).fetchall()
    return {(row[0], row[1]) for row in rows}


def _read_episode(row: Sequence[object], pull_id: str) -> EpisodeRow:
    episode_id, revision, conversation, agent, dialect, status = row
    return EpisodeRow(
        episode_id=str(episode_id),
        revision=_integer(revision),
        conversation_id=_text(conversation),
        agent_name=_text(agent),
        dialect=_text(dialect),
        status=_text(status),
        pull_id=pull_id,
    )


class _ReadPoint(NamedTuple):
    """A point, and whether its messages had to be refused."""

    row: PointRow
    refused: bool


def _read_point(row: Sequence[object], pull_id: str) -> _ReadPoint:
    revision, episode_id, step_index, conversation, agent, model, dialect = row[:7]
    messages, tools, action, finish_reason = (_text(value) for value in row[7:11])
    trainable, flags = bool(row[11]), [str(flag) for flag in _sequence(row[12])]
    trace_id, span_id, started_at = row[13:]
    digest = _state_hash(messages, tools, action)
    refused = trainable and digest is None
    if refused:
        log.warning("point_refused point=%s:%s reason=messages_unreadable", episode_id, step_index)
        flags.append(QualityFlag.MESSAGE_UNPARSED)
    point = PointRow(
        point_id=f"{episode_id}:{step_index}",
        revision=_integer(revision),
        episode_id=str(episode_id),
        step_index=_integer(step_index),
        conversation_id=_text(conversation),
        agent_name=_text(agent),
        model=_text(model),
        dialect=_text(dialect),
        messages=messages,
        tools=tools,
        action=action,
        finish_reason=finish_reason,
        trainable=trainable and not refused,
        quality_flags=tuple(flags),
        trace_id=_text(trace_id),
        span_id=_text(span_id),
        started_at=None if started_at is None else _integer(started_at),
        state_hash=digest or "",
        num_chars=len(messages or "") + len(tools or ""),
        pull_id=pull_id,
    )
    return _ReadPoint(row=point, refused=refused)


def _state_hash(messages: str | None, tools: str | None, action: str | None) -> str | None:
    """The hash of a state that can be read back as records; `None` when it cannot."""
    try:
        state = messages_from_chat(json.loads(messages or "[]"))
        definitions = tools_from_chat(json.loads(tools)) if tools and tools != "null" else None
        if action:
            message_from_chat(json.loads(action))
    except (ValueError, TypeError, AttributeError):
        return None
    return state_hash(state, definitions)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value


def _sequence(value: object) -> Sequence[object]:
    assert isinstance(value, list)
    return value
