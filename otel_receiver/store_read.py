"""The queries of the receiver itself; everybody else reads the public views."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import cast

from otel_receiver.batch import Progress, SenderStatus, StoreStatus
from otel_receiver.episodes.trace_links import CallLink
from otel_receiver.store_write import Connection, query, texts
from spanloop.records import Feedback, QualityFlag

_VISIBLE = (
    "NOT EXISTS (SELECT 1 FROM store.hidden_revisions AS h "
    "WHERE h.episode_id = {0}.episode_id AND h.revision = {0}.revision)"
)

_POSITIONS = """
SELECT s.trace_id, s.log_position FROM wanted JOIN store.spans AS s ON s.trace_id = wanted.trace_id
UNION
SELECT l.trace_id, l.log_position FROM wanted JOIN store.log_sources AS l ON l.trace_id = wanted.trace_id
ORDER BY 1, 2
"""

_LINKED = """
SELECT DISTINCT k.trace_id
FROM wanted JOIN store.call_links AS k
  ON k.{known} = wanted.{wanted}
WHERE k.service_name IS NOT DISTINCT FROM wanted.service_name
  AND (k.conversation_id = wanted.conversation_id OR k.conversation_id IS NULL OR wanted.conversation_id IS NULL)
"""

_EPISODES = f"""
WITH mine AS (
  SELECT DISTINCT s.episode_id, s.revision FROM wanted JOIN store.steps AS s ON s.trace_id = wanted.trace_id
  WHERE {_VISIBLE.format("s")}
)
SELECT DISTINCT s.episode_id, s.trace_id
FROM mine JOIN store.steps AS s ON s.episode_id = mine.episode_id AND s.revision = mine.revision
"""  # noqa: S608 - the condition is ours

_SENDERS = f"""
WITH
  steps AS (
    SELECT s.episode_id, s.trace_id, s.span_id, s.trainable, s.quality_flags, s.merged_span_ids
    FROM store.steps AS s WHERE {_VISIBLE.format("s")}
  ),
  episodes AS (SELECT e.episode_id, e.quality_flags FROM store.episodes AS e WHERE {_VISIBLE.format("e")}),
  told AS (
    SELECT p.service_name, p.dialect, p.scope, s.episode_id, s.trainable, s.quality_flags
    FROM steps AS s JOIN store.spans AS p ON p.trace_id = s.trace_id AND p.span_id = s.span_id
  ),
  flags AS (
    SELECT service_name, dialect, scope, unnest(quality_flags) AS flag FROM told
    UNION ALL
    SELECT t.service_name, t.dialect, t.scope, unnest(e.quality_flags)
    FROM (SELECT DISTINCT service_name, dialect, scope, episode_id FROM told) AS t
    JOIN episodes AS e ON e.episode_id = t.episode_id
  ),
  counted_flags AS (
    SELECT service_name, dialect, scope, list((flag, num) ORDER BY num DESC, flag) AS flags
    FROM (SELECT service_name, dialect, scope, flag, count(*) AS num FROM flags GROUP BY ALL)
    GROUP BY service_name, dialect, scope
  ),
  counted_steps AS (
    SELECT service_name, dialect, scope, count(DISTINCT episode_id) AS num_episodes, count(*) AS num_steps,
      count(*) FILTER (trainable) AS num_trainable
    FROM told GROUP BY service_name, dialect, scope
  ),
  merged AS (SELECT DISTINCT unnest(merged_span_ids) AS span_id FROM steps)
SELECT p.service_name, p.dialect, p.scope, count(*), epoch_ns(max(p.received_at)),
  any_value(c.num_episodes), any_value(c.num_steps), any_value(c.num_trainable),
  count(m.span_id), any_value(f.flags)
FROM store.spans AS p
LEFT JOIN merged AS m ON m.span_id = p.span_id
LEFT JOIN counted_steps AS c
  ON c.service_name IS NOT DISTINCT FROM p.service_name AND c.dialect IS NOT DISTINCT FROM p.dialect
  AND c.scope IS NOT DISTINCT FROM p.scope
LEFT JOIN counted_flags AS f
  ON f.service_name IS NOT DISTINCT FROM p.service_name AND f.dialect IS NOT DISTINCT FROM p.dialect
  AND f.scope IS NOT DISTINCT FROM p.scope
GROUP BY p.service_name, p.dialect, p.scope
ORDER BY count(*) DESC, p.service_name, p.dialect, p.scope
"""  # noqa: S608 - the condition is ours

_TOTALS = f"""
SELECT
  (SELECT count(*) FROM store.episodes AS e WHERE {_VISIBLE.format("e")}),
  (SELECT count(DISTINCT e.conversation_id) FROM store.episodes AS e WHERE {_VISIBLE.format("e")}),
  (SELECT count(*) FROM store.steps AS s WHERE {_VISIBLE.format("s")}),
  (SELECT count(*) FROM store.steps AS s WHERE s.trainable AND {_VISIBLE.format("s")}),
  (SELECT count(*) FROM store.spans),
  (SELECT count(*) FROM store.feedback)
"""  # noqa: S608 - the condition is ours

_PROBLEMS = "SELECT reason, CAST(sum(num_records) AS BIGINT) FROM store.problems GROUP BY reason ORDER BY 2 DESC, 1"

_FEEDBACK = """
SELECT feedback_id, name, score, label, comment, source, trace_id, span_id, response_id, conversation_id,
  epoch_ns(received_at)
FROM store.feedback ORDER BY received_at, feedback_id
"""


def progress(connection: Connection) -> Progress:
    """The row of `store.progress`."""
    row = query(connection, "SELECT log_id, committed_position FROM store.progress")[0]
    return Progress(log_id=cast("str | None", row[0]), committed_position=cast("int", row[1]))


def positions_of(connection: Connection, trace_ids: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Log entries with spans or log records of each trace, ascending."""
    found: dict[str, list[int]] = defaultdict(list)
    for trace_id, position in query(connection, _POSITIONS, wanted=texts(trace_id=sorted(trace_ids))):
        found[str(trace_id)].append(cast("int", position))
    return {trace_id: tuple(positions) for trace_id, positions in found.items()}


def linked_traces(connection: Connection, links: Collection[CallLink]) -> frozenset[str]:
    """Other traces that hold a predecessor or a successor of these ends."""
    wanted = texts(
        before_hash=[link.before_hash for link in links],
        after_hash=[link.after_hash for link in links],
        service_name=[link.service_name for link in links],
        conversation_id=[link.conversation_id for link in links],
    )
    earlier = query(connection, _LINKED.format(known="after_hash", wanted="before_hash"), wanted=wanted)
    later = query(connection, _LINKED.format(known="before_hash", wanted="after_hash"), wanted=wanted)
    return frozenset(str(row[0]) for row in (*earlier, *later)) - {link.trace_id for link in links}


def episodes_of(connection: Connection, trace_ids: Collection[str]) -> tuple[frozenset[str], ...]:
    """The visible episodes with steps in these traces, each as the traces of all its steps."""
    found: dict[str, set[str]] = defaultdict(set)
    for episode_id, trace_id in query(connection, _EPISODES, wanted=texts(trace_id=sorted(trace_ids))):
        found[str(episode_id)].add(str(trace_id))
    return tuple(map(frozenset, found.values()))


def status(connection: Connection, version: int) -> StoreStatus:
    """Counts of everything visible, in total and per sender."""
    log_id, position, batches, updated = query(
        connection, "SELECT log_id, committed_position, num_batches, epoch_ns(updated_at) FROM store.progress"
    )[0]
    episodes, conversations, steps, trainable, spans, judgements = query(connection, _TOTALS)[0]
    return StoreStatus(
        schema_version=version,
        log_id=cast("str | None", log_id),
        committed_position=cast("int", position),
        num_batches=cast("int", batches),
        updated_at=cast("int | None", updated),
        num_episodes=cast("int", episodes),
        num_steps=cast("int", steps),
        num_trainable=cast("int", trainable),
        num_spans=cast("int", spans),
        num_feedback=cast("int", judgements),
        num_conversations=cast("int", conversations),
        problems=tuple((str(row[0]), cast("int", row[1])) for row in query(connection, _PROBLEMS)),
        senders=tuple(map(_sender, query(connection, _SENDERS))),
    )


def _sender(row: tuple[object, ...]) -> SenderStatus:
    service, dialect, scope, spans, last, episodes, steps, trainable, merged, flags = row
    return SenderStatus(
        service_name=cast("str | None", service),
        dialect=cast("str | None", dialect),
        scope=cast("str | None", scope),
        num_spans=cast("int", spans),
        num_episodes=cast("int | None", episodes) or 0,
        num_steps=cast("int | None", steps) or 0,
        num_trainable=cast("int | None", trainable) or 0,
        num_merged=cast("int", merged),
        flags=tuple((QualityFlag(flag), num) for flag, num in cast("list[tuple[str, int]] | None", flags) or ()),
        last_received_at=cast("int | None", last),
    )


def feedback(connection: Connection) -> tuple[Feedback, ...]:
    """All judgements, in the order they came."""
    return tuple(map(_feedback, query(connection, _FEEDBACK)))


def _feedback(row: tuple[object, ...]) -> Feedback:
    words = cast("tuple[str | None, ...]", row)
    return Feedback(
        feedback_id=str(row[0]),
        name=str(row[1]),
        score=cast("float | None", row[2]),
        label=words[3],
        comment=words[4],
        source=words[5],
        trace_id=words[6],
        span_id=words[7],
        response_id=words[8],
        conversation_id=words[9],
        received_at=cast("int | None", row[10]),
    )
