"""What a batch leaves in the file, as the public views show it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from otel_receiver.batch import LogSource, Problem, SpanRow, WriteBatch
from otel_receiver.config import StoreConfig
from otel_receiver.dialects.base import Blob
from otel_receiver.errors import LogMismatch
from otel_receiver.store import Store
from spanloop.records import (
    EndReason,
    Episode,
    Feedback,
    MediaKind,
    MediaPart,
    Message,
    QualityFlag,
    ReasoningPart,
    Role,
    ToolDefinition,
    ToolStatus,
)
from tests.unit.spanloop.factories import (
    START,
    TRACE,
    assistant,
    call,
    make_episode,
    make_step,
    result,
    says,
    span_id,
    system,
    trace_id,
    user,
    weather_episode,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that does not exist yet."""
    return Store(tmp_path / "episodes.duckdb", StoreConfig())


def batch(*episodes: Episode, position: int = 1, **changes) -> WriteBatch:
    """A batch of these episodes that re-derived their traces."""
    traces = frozenset(step.trace_id for episode in episodes for step in episode.steps)
    return WriteBatch(**({"committed_position": position, "episodes": episodes, "trace_ids": traces} | changes))


@contextmanager
def opened(store: Store) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file as anybody opens it between two batches."""
    with duckdb.connect(str(store.path), read_only=True) as connection:
        yield connection


def rows(store: Store, sql: str) -> list[tuple]:
    """All rows of a query, by a reader of its own."""
    with opened(store) as connection:
        return connection.execute(sql).fetchall()


def points(store: Store) -> list[dict]:
    """Decision points in order, their JSON parsed."""
    sql = "SELECT step_index, messages, tools, action FROM decision_points ORDER BY episode_id, step_index"
    keys = ("step_index", "messages", "tools", "action")
    return [
        dict(zip(keys, (row[0], *(None if v is None else json.loads(v) for v in row[1:])), strict=True))
        for row in rows(store, sql)
    ]


CALLS = [
    {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
    {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Basel"}'}},
]
STATE = [
    {"role": "system", "content": "You forecast."},
    {"role": "user", "content": "Will it rain in Bern and Basel?"},
]


def test_decision_points_are_in_chat_form(store: Store):
    """Each step shows the messages before it, the tools and the action as an OpenAI client would send them."""
    store.write(batch(weather_episode()))
    tools = [
        {
            "type": "function",
            "function": {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}},
        }
    ]
    asks = {"role": "assistant", "content": None, "tool_calls": CALLS}
    answers = [
        {"role": "tool", "content": "rain", "tool_call_id": "call_1"},
        {"role": "tool", "content": "no such city", "tool_call_id": "call_2"},
    ]
    final = {"role": "assistant", "content": "It rains in Bern."}
    assert [
        {"step_index": 0, "messages": STATE, "tools": tools, "action": asks},
        {"step_index": 1, "messages": [*STATE, asks, *answers], "tools": tools, "action": final},
    ] == points(store)


def test_tool_calls_have_results_and_statuses(store: Store):
    """Each call of an action is a row; its result is found by the call's id."""
    store.write(batch(weather_episode()))
    assert [
        (0, 0, "call_1", "weather", '{"city":"Bern"}', "rain", "ok"),
        (0, 1, "call_2", "weather", '{"city":"Basel"}', "no such city", "error"),
    ] == rows(
        store,
        "SELECT step_index, call_index, call_id, name, arguments, result, status FROM tool_calls ORDER BY call_index",
    )


def test_arguments_that_are_no_json_are_a_json_string(store: Store):
    """A model's broken arguments do not break the JSON column; a call without a result is `missing`."""
    store.write(batch(make_episode(make_step(0, [user("x")], assistant(call(1, '{"city": "Be'))))))
    assert [('{"city": "Be', None, "missing")] == rows(
        store, "SELECT arguments ->> '$', result, status FROM tool_calls"
    )


def test_the_episode_sums_up_its_steps(store: Store):
    """Counts and token sums come from the steps, times are UTC timestamps."""
    store.write(batch(weather_episode()))
    assert [("episode-1", 1, 2, 2, 20, 4, "2023-11-14 22:13:20", "ok", "root_ended")] == rows(
        store,
        "SELECT episode_id, revision, num_steps, num_tool_calls, input_tokens, output_tokens, "
        "CAST(started_at AS VARCHAR), status, end_reason FROM episodes",
    )


def test_a_step_that_carries_nothing_is_still_a_row(store: Store):
    """Without messages, tools and action a step is an empty list and two NULLs, and is not trainable."""
    store.write(batch(make_episode(make_step(0, tools=None))))
    assert [{"step_index": 0, "messages": [], "tools": None, "action": None}] == points(store)
    assert [(False,)] == rows(store, "SELECT trainable FROM decision_points")


def test_the_transcript_reads_like_the_conversation(store: Store):
    """Every message appears once, in order, although the second step repeats those of the first."""
    store.write(batch(weather_episode()))
    assert [
        (0, "system", "You forecast."),
        (1, "user", "Will it rain in Bern and Basel?"),
        (2, "assistant", 'calls weather({"city":"Bern"})\ncalls weather({"city":"Basel"})'),
        (3, "tool", "rain"),
        (4, "tool", "no such city"),
        (5, "assistant", "It rains in Bern."),
    ] == rows(store, "SELECT position, role, text FROM transcript ORDER BY position")


def test_the_transcript_shows_what_was_said_twice_twice(store: Store):
    """An equal message said again is shown again; one that is only repeated by a later state is not."""
    first = make_step(0, [user("yes")], assistant("ok"))
    second = make_step(1, [user("yes"), assistant("ok"), user("yes")], assistant("ok"))
    store.write(batch(make_episode(first, second)))
    texts = [row[0] for row in rows(store, "SELECT text FROM transcript ORDER BY position")]
    assert ["yes", "ok", "yes", "ok"] == texts


def test_the_transcript_survives_a_compacted_history(store: Store):
    """A state that drops old messages and adds a summary shows the summary only."""
    first = make_step(0, [system("s"), user("long story")], assistant("hm"))
    second = make_step(1, [system("s"), user("summary")], assistant("done"))
    store.write(batch(make_episode(first, second)))
    texts = [row[0] for row in rows(store, "SELECT text FROM transcript ORDER BY position")]
    assert ["s", "long story", "hm", "summary", "done"] == texts


def test_media_and_reasoning_are_readable(store: Store):
    """A transcript names media by kind and marks reasoning."""
    picture = says(Role.USER, "Look", MediaPart(kind=MediaKind.IMAGE, uri="https://media.example/a.png"))
    store.write(batch(make_episode(make_step(0, [picture], assistant(ReasoningPart(text="hm"), "A cat.")))))
    assert [("Look\n[image]",), ("(thinks) hm\nA cat.",)] == rows(
        store, "SELECT text FROM transcript ORDER BY position"
    )


def test_equal_content_writes_no_new_revision(store: Store):
    """Deriving the same again, even closed for another reason, leaves revision 1."""
    store.write(batch(weather_episode()))
    outcome = store.write(batch(weather_episode(end_reason=EndReason.IMPORTED)))
    assert (0, 0, 1) == (outcome.new_episodes, outcome.new_revisions, outcome.unchanged_episodes)
    assert [(1,)] == rows(store, "SELECT revision FROM episodes")
    assert [(1,)] == rows(store, "SELECT count(*) FROM store.episodes")


def test_changed_content_is_a_new_revision(store: Store):
    """The views show the newest revision in all its rows; the older stays in the tables."""
    store.write(batch(weather_episode()))
    late = replace(weather_episode(), quality_flags=frozenset({QualityFlag.ROOT_MISSING}))
    outcome = store.write(batch(late))
    assert (0, 1) == (outcome.new_episodes, outcome.new_revisions)
    assert [(2, ["root_missing"])] == rows(store, "SELECT revision, quality_flags FROM episodes")
    counts = [rows(store, f"SELECT count(*) FROM {view}") for view in ("decision_points", "tool_calls", "transcript")]
    assert [[(2,)], [(2,)], [(6,)]] == counts
    assert [(1,), (2,)] == rows(store, "SELECT revision FROM store.episodes ORDER BY revision")


@pytest.mark.parametrize(
    "change",
    [
        {"finish_reason": "length"},
        {"response_id": "r"},
        {"error": "boom"},
        {"tools": None},
        {"tools": ()},
        {"action": None},
        {"quality_flags": frozenset({QualityFlag.RETRIED})},
        {"ended_at": START + 99},
        {"merged_span_ids": (span_id(9),)},
        {"messages": (user("Hello"), user("again"))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_field_of_a_step_counts_as_content(store: Store, change: dict):
    """Whatever changes in a step makes a new revision."""
    step = make_step(0, [user("Hello")], assistant("Hi"))
    store.write(batch(make_episode(step)))
    assert 1 == store.write(batch(make_episode(replace(step, **change)))).new_revisions


def test_episodes_that_are_no_longer_derived_are_retired(store: Store):
    """Two episodes that turn out to be one leave one in the views."""
    one = make_episode(make_step(0, [user("a")], assistant("b"), trace_id=trace_id(1)), episode_id="one")
    two = make_episode(make_step(0, [user("c")], assistant("d"), trace_id=trace_id(2)), episode_id="two")
    store.write(batch(one, two))
    joined = make_episode(*one.steps, replace(two.steps[0], step_index=1), episode_id="one")
    outcome = store.write(batch(joined))
    assert 1 == outcome.retired_episodes
    assert [("one", 2, 2)] == rows(store, "SELECT episode_id, revision, num_steps FROM episodes")
    assert [("one", "superseded"), ("two", "retired")] == rows(
        store, "SELECT episode_id, reason FROM store.hidden_revisions ORDER BY 1"
    )


def test_a_retired_episode_can_come_back(store: Store):
    """Derived again with equal content, it is visible again, as a new revision."""
    store.write(batch(weather_episode()))
    store.write(batch(trace_ids=frozenset({TRACE})))
    assert [] == rows(store, "SELECT episode_id FROM episodes")
    store.write(batch(weather_episode()))
    assert [("episode-1", 2)] == rows(store, "SELECT episode_id, revision FROM episodes")


def test_episodes_of_other_traces_stay(store: Store):
    """A batch that derives one trace leaves the episodes of the others alone."""
    store.write(batch(weather_episode()))
    store.write(batch(trace_ids=frozenset({trace_id(7)})))
    assert [("episode-1",)] == rows(store, "SELECT episode_id FROM episodes")


def test_a_message_is_stored_once(store: Store):
    """Two episodes with the same prompt share its rows; an equal tool list is one row."""
    store.write(batch(weather_episode(), weather_episode(episode_id="episode-2")))
    store.write(batch(weather_episode(episode_id="episode-3")))
    assert [(6, 6)] == rows(store, "SELECT count(*), count(DISTINCT message_hash) FROM store.messages")
    assert [(1,)] == rows(store, "SELECT count(*) FROM store.tool_sets")


def test_spans_are_stored_once(store: Store):
    """The first received span of an id wins, within a batch and across batches; ids count per trace."""
    span = SpanRow(trace_id=TRACE, span_id=span_id(1), name="first", log_position=0)
    other = replace(span, trace_id=trace_id(3), name="other trace")
    outcome = store.write(batch(spans=(span, replace(span, name="again"), other)))
    assert (2, 1) == (outcome.new_spans, outcome.known_spans)
    assert (0, 1) == (lambda o: (o.new_spans, o.known_spans))(store.write(batch(spans=(replace(span, name="late"),))))
    assert [("first",), ("other trace",)] == rows(store, "SELECT name FROM store.spans ORDER BY name")


def test_blobs_problems_and_sources_are_kept(store: Store):
    """Bytes are stored once under their hash; what could not be read is counted with its reason."""
    blob = Blob(sha256="0" * 64, mime_type="image/png", data=b"\x00\xff")
    problem = Problem(reason="entry retired", num_records=3, log_position=5)
    written = batch(
        blobs=(blob, blob), problems=(problem,), log_sources=(LogSource(trace_id=TRACE, log_position=5),) * 2
    )
    store.write(written)
    store.write(replace(written, problems=()))
    assert [(b"\x00\xff", 2)] == rows(store, "SELECT data, num_bytes FROM store.blobs")
    assert [("entry retired", 3)] == rows(store, "SELECT reason, num_records FROM store.problems")
    assert [(5,)] == rows(store, "SELECT log_position FROM store.log_sources")


def test_position_is_committed_with_the_rows(store: Store):
    """The position and the log it belongs to are those of the last batch."""
    assert 0 == store.committed_position()
    store.write(batch(position=17, log_id="log-a"))
    store.write(batch(position=23))
    progress = store.progress()
    assert ("log-a", 23) == (progress.log_id, progress.committed_position)


def test_a_batch_of_another_log_is_refused(store: Store):
    """Positions of one log mean nothing in another: the store keeps what it has."""
    store.write(batch(position=17, log_id="log-a"))
    with pytest.raises(LogMismatch, match="log-a"):
        store.write(batch(weather_episode(), position=1, log_id="log-b"))
    assert 17 == store.committed_position()
    assert [] == rows(store, "SELECT episode_id FROM episodes")


ODD_TEXTS = {
    "nul": "before\x00after",
    "surrogate": "half \ud800 pair",
    "escape": 'quote " back \\ slash \x1f \u2028',
    "emoji": "🙂 éø",
    "empty": "",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=list(ODD_TEXTS))
def test_odd_text_loses_no_neighbours(store: Store, text: str):
    """NUL, lone surrogates and control characters arrive, and so does the episode beside them."""
    odd = make_episode(
        make_step(0, [user(text)], assistant(text, call(1, text, name=text)), error=text), agent_name=text
    )
    store.write(batch(odd, weather_episode(episode_id="neighbour")))
    kept = text.replace("\ud800", "\N{REPLACEMENT CHARACTER}")
    assert [(kept, kept, kept)] == rows(
        store,
        "SELECT messages ->> '$[0].content', action ->> '$.content', agent_name FROM decision_points "
        "WHERE episode_id = 'episode-1'",
    )
    assert [(2,)] == rows(store, "SELECT count(*) FROM decision_points WHERE episode_id = 'neighbour'")
    assert [(kept, kept)] == rows(
        store, "SELECT name, arguments ->> '$' FROM tool_calls WHERE episode_id = 'episode-1'"
    )


def test_huge_text_is_kept(store: Store):
    """A string of 20 million characters is a row like any other."""
    store.write(batch(make_episode(make_step(0, [user("x" * 20_000_000)], assistant("ok")))))
    assert [(20_000_000,)] == rows(store, "SELECT length(messages ->> '$[0].content') FROM decision_points")


def test_times_beyond_the_calendar_are_unknown(store: Store):
    """A broken clock's time does not fail the batch."""
    store.write(batch(make_episode(make_step(0, [user("x")], assistant("y"), started_at=2**64 - 1, ended_at=-5))))
    assert [(None, None)] == rows(store, "SELECT started_at, ended_at FROM store.steps")


def test_long_histories_stay_linear(store: Store):
    """An episode of 2,000 steps and 4,000 messages has 4,000 message rows and one list of 3,999."""
    said: list[Message] = []
    steps = []
    for turn in range(2_000):
        said.append(user(f"question {turn}"))
        action = assistant(f"answer {turn}")
        steps.append(make_step(turn, said, action))
        said.append(action)
    store.write(batch(make_episode(*steps)))
    assert [(4_000,)] == rows(store, "SELECT count(*) FROM store.messages")
    assert [(1, 3_999)] == rows(store, "SELECT count(*), sum(len(message_ids)) FROM store.histories")
    assert [(3_999, "question 1999")] == rows(
        store,
        "SELECT json_array_length(messages), messages ->> '$[3998].content' FROM decision_points "
        "WHERE step_index = 1999",
    )


def test_a_history_of_ten_thousand_messages_works(store: Store):
    """One step with 10,000 messages is written and read back whole."""
    said = [user(f"message {number}") for number in range(10_000)]
    store.write(batch(make_episode(make_step(0, said, assistant("ok")))))
    assert said == list(store.newest_episodes(0, 1)[0].episode.steps[0].messages)


def test_branches_have_histories_of_their_own(store: Store):
    """Two parallel branches of one beginning keep their own messages."""
    start = user("start")
    steps = [
        make_step(0, [start], assistant("go")),
        make_step(1, [start, user("left")], assistant("l")),
        make_step(2, [start, user("right")], assistant("r")),
        make_step(3, [start, user("left"), user("more")], assistant("l2")),
    ]
    store.write(batch(make_episode(*steps)))
    texts = [[m["content"] for m in point["messages"]] for point in points(store)]
    assert [["start"], ["start", "left"], ["start", "right"], ["start", "left", "more"]] == texts
    assert [(2,)] == rows(store, "SELECT count(*) FROM store.histories")


def test_written_episodes_can_be_read_back(store: Store):
    """Every field of an episode comes back equal, also what the chat form cannot tell."""
    signed = assistant(ReasoningPart(text="hm", signature="proof"), "a", "b")
    odd_tool = ToolDefinition(name="f", parameters='{ "spaced" : true }')
    full = make_episode(
        make_step(0, [user("x")], signed, tools=(odd_tool,), response_id="r", response_model="m", error="e"),
        make_step(1, [user("x"), signed, result(1, "late", ToolStatus.ERROR)], None, tools=None),
        user_id="u",
        parent_episode_id="p",
        parent_call_id="c",
        quality_flags=frozenset({QualityFlag.ROOT_MISSING}),
    )
    store.write(batch(weather_episode(episode_id="episode-0"), full))
    read = store.newest_episodes(0, 10)
    assert [weather_episode(episode_id="episode-0"), full] == [item.episode for item in read]
    assert [] == list(store.newest_episodes(read[-1].cursor, 10))


def test_a_cursor_finds_what_is_new(store: Store):
    """A new revision comes after everything that was written before it."""
    store.write(batch(weather_episode(), weather_episode(episode_id="episode-2")))
    cursor = store.newest_episodes(0, 10)[-1].cursor
    store.write(batch(weather_episode(user_id="late"), weather_episode(episode_id="episode-2")))
    assert [("episode-1", 2)] == [(i.episode.episode_id, i.revision) for i in store.newest_episodes(cursor, 10)]


def test_feedback_is_stored_once(store: Store):
    """A resent judgement is the same row."""
    judgement = Feedback(feedback_id="f", name="correct", score=1.0, trace_id=TRACE, received_at=START)
    store.write(batch(feedback=(judgement,)))
    store.write(batch(feedback=(judgement,)))
    assert (judgement,) == store.feedback()
