"""What feedback is about, who is linked to whom, and the numbers of `status`."""

import json
from pathlib import Path

import duckdb
import pytest

from otel_receiver.batch import LogSource, Problem, SpanKind, SpanRow, WriteBatch
from otel_receiver.config import StoreConfig
from otel_receiver.episodes.trace_links import CallLink
from otel_receiver.store import Store
from spanloop.records import Episode, Feedback, QualityFlag
from tests.unit.spanloop.factories import (
    START,
    TRACE,
    assistant,
    make_episode,
    make_step,
    span_id,
    trace_id,
    user,
    weather_episode,
)

AGENT_SPAN, ROOT_SPAN, LONELY_SPAN = span_id(100), span_id(101), span_id(102)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that does not exist yet."""
    return Store(tmp_path / "episodes.duckdb", StoreConfig())


def span(name: str, parent: str | None = None, **changes) -> SpanRow:
    """The row of a model call's span."""
    fields = {
        "trace_id": TRACE,
        "kind": SpanKind.MODEL_CALL,
        "dialect": "openinference",
        "service_name": "weather-service",
        "log_position": 0,
    }
    return SpanRow(span_id=name, parent_span_id=parent, name="chat", **(fields | changes))


def judged(store: Store, *feedback: Feedback, episodes: tuple[Episode, ...] | None = None) -> dict[str, tuple]:
    """What each judgement is about: episode, step and conversation by the public view."""
    spans = (
        span(span_id(1), AGENT_SPAN), span(span_id(2), AGENT_SPAN), span(AGENT_SPAN, ROOT_SPAN), span(ROOT_SPAN),
        span(LONELY_SPAN, ROOT_SPAN),
    )  # fmt: skip
    episodes = (weather_episode(),) if episodes is None else episodes
    store.write(WriteBatch(committed_position=1, episodes=episodes, spans=spans, feedback=feedback))
    with duckdb.connect(str(store.path), read_only=True) as connection:
        rows = connection.execute(
            "SELECT feedback_id, episode_id, step_index, conversation_id FROM feedback"
        ).fetchall()
    assert len(rows) == len(feedback)
    return {row[0]: row[1:] for row in rows}


def about(name: str, **target: str) -> Feedback:
    """A judgement of a target."""
    return Feedback(feedback_id=name, name="correct", score=1.0, **target)


def test_feedback_on_a_model_call_is_about_its_step(store: Store):
    """The span of a model call, the span merged into it and the answer's id all name the step."""
    first = make_step(0, [user("a")], assistant("b"), response_id="r0", merged_span_ids=(span_id(77),))
    second = make_step(1, [user("a"), assistant("b"), user("c")], assistant("d"), response_id="r1")
    found = judged(
        store,
        about("span", trace_id=TRACE, span_id=span_id(2)),
        about("merged", trace_id=TRACE, span_id=span_id(77)),
        about("response", response_id="r1"),
        episodes=(make_episode(first, second),),
    )
    step = ("episode-1", 1, "conversation-1")
    assert {"span": step, "merged": ("episode-1", 0, "conversation-1"), "response": step} == found


def test_feedback_on_an_agent_span_is_about_its_episode(store: Store):
    """A span that is no model call stands for the calls under it, at any depth."""
    found = judged(
        store,
        about("agent", trace_id=TRACE, span_id=AGENT_SPAN),
        about("root", trace_id=TRACE, span_id=ROOT_SPAN),
    )
    assert dict.fromkeys(("agent", "root"), ("episode-1", None, "conversation-1")) == found


def test_feedback_on_a_span_without_calls_is_about_the_trace(store: Store):
    """A tool's span, or one that never arrived, still belongs to the trace's episode."""
    found = judged(
        store,
        about("lonely", trace_id=TRACE, span_id=LONELY_SPAN),
        about("unknown", trace_id=TRACE, span_id=span_id(999)),
        about("trace", trace_id=TRACE),
    )
    assert dict.fromkeys(("lonely", "unknown", "trace"), ("episode-1", None, "conversation-1")) == found


def test_feedback_on_a_trace_with_several_episodes_is_about_the_last_one(store: Store):
    """Of a trace's episodes the last that is nobody's sub-agent is meant; under a span, the one that ran there."""
    main = make_episode(make_step(0, [user("a")], assistant("b")), episode_id="main", started_at=START)
    later = make_episode(
        make_step(0, [user("c")], assistant("d"), span_id=span_id(50)), episode_id="later", started_at=START + 5
    )
    helper = make_episode(
        make_step(0, [user("e")], assistant("f"), span_id=span_id(51)),
        episode_id="helper",
        started_at=START + 9,
        parent_episode_id="main",
    )
    found = judged(
        store,
        about("trace", trace_id=TRACE),
        about("agent", trace_id=TRACE, span_id=AGENT_SPAN),
        episodes=(main, later, helper),
    )
    assert ("later", "main") == (found["trace"][0], found["agent"][0])


def test_feedback_is_not_about_the_judge_beside_what_is_judged(store: Store):
    """A judge's own call may run later under the same span; it is meant only where nothing else is there."""
    answer = make_episode(make_step(0, [user("a")], assistant("b")), episode_id="answer", started_at=START)
    judge = make_episode(
        make_step(0, [user("c")], assistant("d"), span_id=span_id(2)),
        episode_id="judge",
        started_at=START + 5,
        quality_flags=frozenset({QualityFlag.NOT_POLICY}),
    )
    target = about("agent", trace_id=TRACE, span_id=AGENT_SPAN)
    assert "answer" == judged(store, target, episodes=(answer, judge))["agent"][0]


def test_feedback_on_a_conversation_is_about_no_single_episode(store: Store):
    """Its conversation is all it names."""
    found = judged(store, about("talk", conversation_id="conversation-1"))
    assert {"talk": (None, None, "conversation-1")} == found


def test_feedback_may_come_before_its_target(store: Store):
    """A judgement of what is not there yet is kept, and finds its step when that arrives."""
    early = about("early", trace_id=TRACE, span_id=span_id(1))
    assert {"early": (None, None, None)} == judged(store, early, episodes=())
    store.write(WriteBatch(committed_position=2, episodes=(weather_episode(),)))
    with duckdb.connect(str(store.path), read_only=True) as connection:
        assert [("episode-1", 0)] == connection.execute("SELECT episode_id, step_index FROM feedback").fetchall()


def test_feedback_follows_the_newest_revision(store: Store):
    """After a revision there is still one row per judgement."""
    found = judged(store, about("f", trace_id=TRACE, span_id=span_id(2)))
    store.write(WriteBatch(committed_position=2, episodes=(weather_episode(user_id="late"),)))
    with duckdb.connect(str(store.path), read_only=True) as connection:
        rows = connection.execute("SELECT feedback_id, episode_id, step_index FROM feedback").fetchall()
    assert [("f", *found["f"][:2])] == rows


def link(number: int, **changes) -> CallLink:
    """A loose end of the trace of this number."""
    fields = {"service_name": "svc", "conversation_id": None, "started_at": START}
    return CallLink(trace_id=trace_id(number), span_id=span_id(number), **(fields | changes))


@pytest.mark.parametrize(
    ("wanted", "linked"),
    [
        ({"before_hash": "h1"}, True),
        ({"after_hash": "h0"}, True),
        ({"before_hash": "h0"}, False),
        ({"before_hash": "h1", "service_name": "other"}, False),
        ({"before_hash": "h1", "conversation_id": "c1"}, True),
        ({"before_hash": "h1", "conversation_id": "c2"}, False),
        ({"before_hash": None, "after_hash": None}, False),
    ],
)
def test_traces_are_linked_by_matching_ends(store: Store, wanted: dict, linked: bool):
    """What one call leaves and another continues must be equal, in one service and not in two conversations."""
    stored = link(1, before_hash="h0", after_hash="h1", conversation_id="c1")
    store.write(WriteBatch(committed_position=1, links=(stored,), trace_ids=frozenset({stored.trace_id})))
    assert (frozenset({trace_id(1)}) if linked else frozenset()) == store.linked_traces([link(2, **wanted)])


def test_a_trace_is_not_linked_to_itself(store: Store):
    """Asking with ends that are stored already does not give their own trace."""
    ends = (link(1, after_hash="h"), link(1, before_hash="h"))
    store.write(WriteBatch(committed_position=1, links=ends, trace_ids=frozenset({trace_id(1)})))
    assert frozenset() == store.linked_traces(ends)


def test_links_of_a_derived_trace_are_replaced(store: Store):
    """Deriving a trace again forgets its earlier ends and keeps those of others."""
    old, other = link(1, after_hash="old"), link(3, after_hash="old")
    traces = frozenset({old.trace_id, other.trace_id})
    store.write(WriteBatch(committed_position=1, links=(old, other), trace_ids=traces))
    store.write(
        WriteBatch(committed_position=2, links=(link(1, after_hash="new"),), trace_ids=frozenset({old.trace_id}))
    )
    assert frozenset({trace_id(3)}) == store.linked_traces([link(2, before_hash="old")])
    assert frozenset({trace_id(1)}) == store.linked_traces([link(2, before_hash="new")])


def test_positions_lead_back_to_the_log(store: Store):
    """Entries of spans and of log records are found by trace, each once, in order."""
    spans = (span(span_id(1), log_position=70), span(span_id(2), log_position=20), span(span_id(3), log_position=70))
    foreign = span(span_id(1), trace_id=trace_id(5), log_position=1)
    sources = (LogSource(trace_id=TRACE, log_position=50), LogSource(trace_id=TRACE, log_position=20))
    store.write(WriteBatch(committed_position=90, spans=(*spans, foreign), log_sources=sources))
    assert {TRACE: (20, 50, 70)} == store.positions_of([TRACE])
    assert {TRACE: (20, 50, 70), trace_id(5): (1,)} == store.positions_of([TRACE, trace_id(5), trace_id(6)])


def test_status_counts_per_sender(store: Store):
    """Spans, episodes, steps, trainable steps and flags are counted per service, dialect and scope."""
    cut = make_step(
        1, [user("x")], assistant("y"),
        quality_flags=frozenset({QualityFlag.PROMPT_TRUNCATED, QualityFlag.IDS_SYNTHESISED}),
    )  # fmt: skip
    synthesised = make_step(0, [user("x")], assistant("y"), quality_flags=frozenset({QualityFlag.IDS_SYNTHESISED}))
    episode = make_episode(synthesised, cut, quality_flags=frozenset({QualityFlag.ROOT_MISSING}))
    spans = (
        span(span_id(1), scope="oi 1", received_at=5), span(span_id(2), scope="oi 1", received_at=9),
        span(span_id(3), scope=None, dialect=None, kind=SpanKind.OTHER),
    )  # fmt: skip
    problems = (
        Problem(reason="crashed twice", num_records=2),
        Problem(reason="crashed twice"),
        Problem(reason="retired"),
    )
    store.write(
        WriteBatch(committed_position=5, log_id="log", episodes=(episode,), spans=spans, problems=problems,
                   feedback=(about("f", trace_id=TRACE),))
    )  # fmt: skip
    status = store.status()
    assert status is not None
    assert (1, 2, 1, 3, 1, 1) == (
        status.num_episodes, status.num_steps, status.num_trainable, status.num_spans, status.num_feedback,
        status.num_conversations,
    )  # fmt: skip
    assert (1, "log", 5, 1) == (status.schema_version, status.log_id, status.committed_position, status.num_batches)
    assert (("crashed twice", 3), ("retired", 1)) == status.problems
    known, unknown = status.senders
    assert ("weather-service", "openinference", "oi 1", 2, 1, 2, 1, 9) == (
        known.service_name, known.dialect, known.scope, known.num_spans, known.num_episodes, known.num_steps,
        known.num_trainable, known.last_received_at,
    )  # fmt: skip
    assert (
        (QualityFlag.IDS_SYNTHESISED, 2),
        (QualityFlag.PROMPT_TRUNCATED, 1),
        (QualityFlag.ROOT_MISSING, 1),
    ) == known.flags
    assert (None, None, 1, 0, 0, ()) == (
        unknown.dialect, unknown.scope, unknown.num_spans, unknown.num_episodes, unknown.num_steps, unknown.flags,
    )  # fmt: skip
    assert (0.5, None) == (known.trainable_share, unknown.trainable_share)


def test_status_counts_the_newest_revisions_only(store: Store):
    """A revised episode is counted once."""
    spans = (span(span_id(1)), span(span_id(2)))
    for user_id in ("a", "b"):
        store.write(WriteBatch(committed_position=1, episodes=(weather_episode(user_id=user_id),), spans=spans))
    status = store.status()
    assert status is not None
    assert (1, 2, 1, 2) == (
        status.num_episodes, status.num_steps, status.senders[0].num_episodes, status.senders[0].num_steps,
    )  # fmt: skip


def group_sizes(plan: dict) -> list[int]:
    """Rows that leave each grouping of a profiled plan, in the words of DuckDB 1.5 or 2.0."""
    kind = plan.get("type") or plan.get("operator_type") or ""
    size = plan.get("intermediate_rows", plan.get("operator_cardinality"))
    inner = [*plan.get("children", ()), *plan.get("operator", ())]
    return ([size] if "GROUP_BY" in kind else []) + [size for child in inner for size in group_sizes(child)]


@pytest.mark.parametrize(
    "condition",
    [
        "agent_name = 'agent-3'",
        "agent_name = 'agent-3' AND started_at >= TIMESTAMP '2023-11-14'",
        "list_contains(['e3'], episode_id)",
        "trainable AND conversation_id = 'c3'",
        f"span_id = '{span_id(3)}'",
        "finish_reason = 'stop' AND model = 'm3'",
    ],
)
def test_filters_on_decision_points_come_before_the_messages(store: Store, condition: str):
    """Only the steps that survive a filter have their messages joined into JSON, whatever column it names."""
    episodes = [
        make_episode(
            make_step(0, [user("x")], assistant("y"), span_id=span_id(n), finish_reason="stop", model=f"m{n}"),
            episode_id=f"e{n}",
            agent_name=f"agent-{n}",
            conversation_id=f"c{n}",
        )
        for n in range(200)
    ]
    store.write(WriteBatch(committed_position=1, episodes=tuple(episodes)))
    with duckdb.connect(str(store.path), read_only=True) as connection:
        sql = f"EXPLAIN (ANALYZE, FORMAT JSON) SELECT messages, action FROM decision_points WHERE {condition}"
        plan = json.loads(connection.execute(sql).fetchall()[0][1])
    assert {1} == set(group_sizes(plan))
