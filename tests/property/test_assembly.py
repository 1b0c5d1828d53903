"""What holds of assembly whatever the readings are and however they come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_receiver.config import BufferConfig
from otel_receiver.dialects.base import Context, Reading
from otel_receiver.episodes.assemble import Derivation, assemble
from otel_receiver.episodes.trace_buffer import TraceBuffer
from otel_receiver.spans import Span
from spanloop.records import EndReason, Message, QualityFlag, Role, TextPart
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    agent,
    asks,
    call,
    hex_id,
    result,
    root,
    says,
    system,
    tool,
    user,
)

QUIET = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.sampled_from(["a", "b"])
FEW = st.integers(0, 3)
TIMES = st.one_of(st.none(), st.integers(0, 60))


@st.composite
def scenarios(draw: st.DrawFn) -> list[Reading]:
    """Runs of one or two traces, with every defect that assembly has a word for, drawn at random."""
    numbers = iter(range(2, 10_000))
    readings: list[Reading] = []
    for trace in range(1, 1 + draw(st.integers(1, 2))):
        if draw(st.booleans()):
            readings.append(agent(1, trace=trace) if draw(st.booleans()) else root(trace=trace))
        for _ in range(draw(st.integers(1, 2))):
            readings.extend(_run(draw, numbers, trace))
    return readings


def _run(draw: st.DrawFn, numbers: Iterator[int], trace: int) -> Iterator[Reading]:
    history: list[Message] = [draw(st.sampled_from([SYSTEM, system("Be brief.")])), user(draw(WORDS))]
    context = Context(dialect="d", service_name="svc", conversation_id=draw(st.sampled_from([None, "x", "y"])))
    lossy = draw(st.booleans())
    for _ in range(draw(st.integers(1, 3))):
        number = next(numbers)
        calls = tuple(asks(f"c{draw(FEW)}_{i}", draw(WORDS)) for i in range(draw(st.integers(0, 2))))
        output = says(draw(WORDS), *calls)
        parent = draw(st.sampled_from([None, 1, number - 1, number, 7777]))
        reading = call(
            number,
            draw(TIMES),
            history,
            draw(st.sampled_from([output, output, output, None])),
            took=draw(st.one_of(st.none(), FEW)),
            trace=trace,
            parent=parent,
            context=context,
            span={"failed": draw(st.booleans()) and not calls},
            response_id=draw(st.sampled_from([None, "r1", "r2"])),
            lossy_history=lossy,
        )
        yield reading
        if draw(st.booleans()):
            twin = replace(reading.span, span_id=hex_id(next(numbers), 16), parent_span_id=reading.span.span_id)
            yield replace(reading, span=twin, context=replace(context, dialect="e", dialect_version="e 1"))
        for part in calls:
            if draw(st.booleans()):
                yield tool(
                    next(numbers), draw(TIMES), trace=trace, call_id=draw(st.sampled_from([part.id, None])), result="r"
                )
        told = draw(st.sampled_from([output, says("", *calls), says(output.text)]))
        results = [result(draw(st.sampled_from([part.id, ""])), draw(WORDS)) for part in calls]
        history = [*history, told, *results]
        if not calls:
            history.append(user(draw(WORDS)))


def derive(readings: Sequence[Reading]) -> Derivation:
    """The derivation of readings that were read to their end."""
    return assemble(readings, EndReason.IMPORTED)


@QUIET
@given(scenarios(), st.randoms(use_true_random=False))
def test_order_and_repetition_change_nothing(readings, random):
    """Any order of arrival, with any spans sent again, gives the same derivation."""
    again = [*readings, *random.choices(readings, k=3)]
    random.shuffle(again)
    assert derive(readings) == derive(again)


@QUIET
@given(scenarios())
def test_every_call_is_told_once(readings):
    """A span is in one step at most, as its span or merged into it; only failed attempts are left out."""
    told = [
        (step.trace_id, span_id)
        for episode in derive(readings).episodes
        for step in episode.steps
        for span_id in (step.span_id, *step.merged_span_ids)
    ]
    assert len(told) == len(set(told))
    spans = {(r.span.trace_id, r.span.span_id): r for r in readings if r.model_calls}
    left_out = [spans[key] for key in spans.keys() - set(told)]
    assert all(reading.span.failed for reading in left_out)


@QUIET
@given(scenarios())
def test_histories_only_grow(readings):
    """Within an episode each state holds the earlier state's messages, by number and words, and then its action."""
    for episode in derive(readings).episodes:
        for earlier, later in zip(episode.steps, episode.steps[1:], strict=False):
            if earlier.action is None:
                continue
            before = [message for message in earlier.messages if message.role is not Role.SYSTEM]
            after = [message for message in later.messages if message.role is not Role.SYSTEM]
            assert [message.role for message in before] == [message.role for message in after[: len(before)]]
            assert after[len(before)].role is Role.ASSISTANT
            assert earlier.action.tool_calls == after[len(before)].tool_calls


@QUIET
@given(scenarios())
def test_results_answer_the_calls_of_their_step(readings):
    """Where nothing is flagged ambiguous, observations are in the order of the calls, one for each at most."""
    for episode in derive(readings).episodes:
        for step in episode.steps:
            if QualityFlag.AMBIGUOUS_MATCH in step.quality_flags or step.action is None:
                continue
            asked = [part.id for part in step.action.tool_calls]
            answered = [message.tool_result.call_id for message in step.observations]
            assert answered == [call_id for call_id in asked if call_id in answered]
            missing = QualityFlag.TOOL_RESULT_MISSING in step.quality_flags
            assert missing is (len(answered) < len(asked))


@QUIET
@given(scenarios(), scenarios())
def test_unrelated_traces_change_nothing(readings, others):
    """Episodes of another service's traces, with equal words, neither join nor alter these."""
    elsewhere = [_moved(reading) for reading in others]
    together = derive([*readings, *elsewhere]).episodes
    apart = (*derive(readings).episodes, *derive(elsewhere).episodes)
    assert sorted(apart, key=lambda episode: episode.episode_id) == sorted(
        together, key=lambda episode: episode.episode_id
    )


def _moved(reading: Reading) -> Reading:
    span = replace(reading.span, trace_id="f" + reading.span.trace_id[1:])
    reports = tuple(replace(report, response_id=None) for report in reading.model_calls)
    return replace(reading, span=span, context=replace(reading.context, service_name="other"), model_calls=reports)


@QUIET
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4)), max_size=12), st.randoms(use_true_random=False))
def test_a_trace_leaves_the_buffer_with_all_its_spans_in_any_order(keys, random):
    """Whatever the order, repetition and split of arrival, each trace is released once with each span once."""

    def spans(pairs):
        return [
            Span(
                trace_id=hex_id(trace, 32),
                span_id=hex_id(number, 16),
                parent_span_id=None if number == 1 else hex_id(1, 16),
                name="s",
                start_time_unix_nano=0,
                end_time_unix_nano=0,
            )
            for trace, number in pairs
        ]

    shuffled = [*keys, *keys]
    random.shuffle(shuffled)
    buffer = TraceBuffer(BufferConfig(quiet_s=1, idle_s=2))
    for position, span in enumerate(spans(shuffled)):
        buffer.add_span(span, position, now=0.0)
    released = buffer.due(2.0)
    held = sorted((trace.trace_id, span.span_id) for trace in released for span in trace.spans)
    assert sorted({(span.trace_id, span.span_id) for span in spans(keys)}) == held
    assert len(shuffled) - len(held) == buffer.num_duplicates
    assert len(released) == len({trace.trace_id for trace in released})


def _long_run(num_calls: int) -> list[Reading]:
    """One run whose every call repeats the whole history, each in messages of its own as a parser makes them."""
    history: list[Message] = [SYSTEM, user("Go.")]
    readings = [root(0, 10**7)]
    for number in range(num_calls):
        output = says("On.", asks(f"c{number}", "Paris"))
        fresh = [Message(role=message.role, parts=message.parts) for message in history]
        readings.append(call(number + 2, 10 * number, fresh, output))
        history += [output, result(f"c{number}", "sun")]
    return readings


def _cost(num_calls: int) -> float:
    """Seconds of processor time per message assembled, the best of three."""
    readings = _long_run(num_calls)
    num_messages = sum(len(reading.model_calls[0].messages) for reading in readings if reading.model_calls)
    costs = []
    for _ in range(3):
        started = time.process_time()
        derivation = derive(readings)
        costs.append(time.process_time() - started)
        assert num_calls == len(derivation.episodes[0].steps)
    return min(costs) / num_messages


def test_the_cost_is_linear_in_the_messages():
    """Six times the calls cost no more per message: no prompt is compared with all the others."""
    assert _cost(360) < 2.5 * _cost(60)


def test_deep_and_circular_traces_cost_bounded_time():
    """A chain of 5,000 spans, each inside the one before, and a circle at its top, end without recursion errors."""
    deep = [
        replace(call(number, number, [SYSTEM, Message(role=Role.USER, parts=(TextPart(text=str(number)),))], None))
        for number in range(2, 5_002)
    ]
    deep = [
        replace(
            reading, span=replace(reading.span, parent_span_id=hex_id(max(2, number - 1) if number > 2 else 5_001, 16))
        )
        for number, reading in enumerate(deep, 2)
    ]
    started = time.process_time()
    derivation = derive(deep)
    assert 5_000 == sum(len(episode.steps) for episode in derivation.episodes)
    assert time.process_time() - started < 60
