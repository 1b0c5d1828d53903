"""When the trace buffer releases a trace, and what it keeps."""

import pytest

from otel_receiver.config import BufferConfig
from otel_receiver.episodes.trace_buffer import OpenTrace, TraceBuffer, log_bytes, span_bytes
from otel_receiver.spans import LogRecord, Span, SpanEvent
from spanloop.records import EndReason

CONFIG = BufferConfig(quiet_s=3, idle_s=60, age_max_s=600)


def span(trace: int, number: int, *, parent: int | None = 1, **fields) -> Span:
    """A span of a trace."""
    defaults = {"name": "s", "start_time_unix_nano": 0, "end_time_unix_nano": 0}
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        parent_span_id=None if parent is None else f"{parent:016x}",
        **{**defaults, **fields},
    )


def summary(traces: tuple[OpenTrace, ...]) -> list[tuple[int, int, EndReason]]:
    """Trace, number of spans and end reason of each."""
    return [(int(trace.trace_id, 16), len(trace.spans), trace.end_reason) for trace in traces]


def test_a_trace_leaves_after_its_root_and_a_quiet_time():
    """The root alone does not release a trace; three quiet seconds after the last arrival do, once."""
    buffer = TraceBuffer(CONFIG)
    buffer.add_span(span(7, 2), 0, now=100.0)
    buffer.add_span(span(7, 1, parent=None), 10, now=101.0)
    buffer.add_span(span(7, 3), 20, now=102.0)
    assert [] == summary(buffer.due(104.9))
    assert [(7, 3, EndReason.ROOT_ENDED)] == summary(buffer.due(105.0))
    assert [] == summary(buffer.due(106.0))


def test_a_trace_without_a_root_waits_for_the_idle_time():
    """Without a root or a marker only silence of idle_s ends a trace."""
    buffer = TraceBuffer(CONFIG)
    buffer.add_span(span(7, 2), 0, now=100.0)
    assert [] == summary(buffer.due(159.9))
    assert [(7, 1, EndReason.IDLE_TIMEOUT)] == summary(buffer.due(160.0))


def test_an_end_marker_stands_for_the_root():
    """A marker span releases a rootless trace after the quiet time."""
    buffer = TraceBuffer(CONFIG, ends_trace=lambda span: span.name == "marker")
    buffer.add_span(span(7, 2, name="marker"), 0, now=100.0)
    assert [] == summary(buffer.due(102.9))
    assert [(7, 1, EndReason.END_MARKER)] == summary(buffer.due(103.0))


def test_the_clock_of_the_span_does_not_matter():
    """A span that says it is from the far future waits as long as any other."""
    buffer = TraceBuffer(CONFIG)
    buffer.add_span(span(7, 1, parent=None, end_time_unix_nano=2**62), 0, now=100.0)
    assert [(7, 1, EndReason.ROOT_ENDED)] == summary(buffer.due(103.0))


def test_the_first_of_two_equal_spans_is_kept():
    """A span id seen before is counted and dropped, in its own trace only."""
    buffer = TraceBuffer(CONFIG)
    first = span(7, 1, parent=None, name="first")
    assert buffer.add_span(first, 0, now=0.0)
    assert not buffer.add_span(span(7, 1, parent=None, name="second"), 10, now=0.0)
    assert buffer.add_span(span(8, 1, parent=None), 20, now=0.0)
    assert 1 == buffer.num_duplicates
    assert (first,) == buffer.due(3.0)[0].spans


def test_a_log_record_sent_twice_is_kept_once():
    """Equal log records are one; records that differ in their body are two; positions of both are remembered."""
    buffer = TraceBuffer(CONFIG)
    records = [LogRecord(trace_id="7" * 32, span_id="1" * 16, body={"text": text}) for text in ("a", "a", "b")]
    taken = [buffer.add_log(record, position, now=0.0) for position, record in enumerate(records)]
    assert [True, False, True] == taken
    trace = buffer.due(60.0)[0]
    assert (records[0], records[2]) == trace.logs
    assert (0, 1, 2) == trace.positions


def test_records_that_differ_in_their_time_of_observation_are_two():
    """A sender that sets no other time may say the same thing twice in one history."""
    buffer = TraceBuffer(CONFIG)
    records = [LogRecord(trace_id="7" * 32, body="Yes.", observed_time_unix_nano=time) for time in (1, 2, 1)]
    assert [True, True, False] == [buffer.add_log(record, 0, now=0.0) for record in records]


def test_a_home_of_log_records_waits_for_no_root():
    """Records that name only their answer leave after the quiet time, each with the entry it came in first."""
    buffer = TraceBuffer(CONFIG)
    for position, text in enumerate(("a", "b", "a")):
        buffer.add_log(LogRecord(body=text), position, now=0.0, home="answer-1")
    assert () == buffer.due(2.9)
    (home,) = buffer.due(3.0)
    assert ("answer-1", EndReason.ROOT_ENDED, (0, 1)) == (home.trace_id, home.end_reason, home.log_positions)


def test_what_comes_late_waits_for_no_second_root():
    """A record of a trace that left with its root goes after the quiet time, as long as that is remembered."""
    buffer = TraceBuffer(CONFIG.model_copy(update={"traces_max": 2}))
    for trace in (5, 6):
        buffer.add_span(span(trace, 1, parent=None), 0, now=0.0)
    buffer.due(3.0)
    buffer.add_span(span(5, 2), 10, now=100.0)
    assert [] == summary(buffer.due(102.9))
    assert [(5, 1, EndReason.ROOT_ENDED)] == summary(buffer.due(103.0))
    buffer.add_span(span(7, 1, parent=None), 20, now=200.0)
    buffer.due(203.0)
    for trace in (5, 6, 7):
        buffer.add_log(LogRecord(trace_id=f"{trace:032x}"), 30, now=300.0)
    assert [5, 7] == [trace for trace, _, _ in summary(buffer.due(303.0))]


def test_a_record_outside_any_trace_is_refused():
    """Only records of a trace can wait for it."""
    with pytest.raises(AssertionError, match="without a trace id"):
        TraceBuffer(CONFIG).add_log(LogRecord(), 0, now=0.0)


def test_too_many_traces_close_the_oldest():
    """The trace that began first goes, with the reason LIMIT, as soon as there is one too many."""
    buffer = TraceBuffer(CONFIG.model_copy(update={"traces_max": 2}))
    for trace in (5, 6, 7):
        buffer.add_span(span(trace, 1, parent=None), trace, now=0.0)
    assert [(5, 1, EndReason.LIMIT)] == summary(buffer.due(0.0))
    assert 1 == buffer.num_limited
    assert 2 == len(buffer)


def test_too_many_bytes_close_the_oldest():
    """Bytes over the limit release traces from the oldest on, until the rest is within it."""
    one = span_bytes(span(0, 1, parent=None, attributes={"text": "x" * 1000}))
    buffer = TraceBuffer(CONFIG.model_copy(update={"bytes_max": 2 * one}))
    for trace in (5, 6, 7, 8):
        buffer.add_span(span(trace, 1, parent=None, attributes={"text": "x" * 1000}), trace, now=0.0)
    assert 4 * one == buffer.num_bytes
    assert [(5, 1, EndReason.LIMIT), (6, 1, EndReason.LIMIT)] == summary(buffer.due(0.0))
    assert 2 * one == buffer.num_bytes


def test_too_many_records_close_their_own_trace():
    """A trace of records_per_trace_max records goes; what still comes before it is released goes with it."""
    buffer = TraceBuffer(CONFIG.model_copy(update={"records_per_trace_max": 3}))
    buffer.add_span(span(5, 1, parent=None), 0, now=0.0)
    for number in range(1, 5):
        buffer.add_span(span(6, number), number, now=0.0)
    assert [(6, 4, EndReason.LIMIT)] == summary(buffer.due(0.0))
    assert 1 == len(buffer)


def test_an_old_trace_is_closed_while_news_still_come():
    """A trace that is never quiet is released at age_max_s."""
    buffer = TraceBuffer(CONFIG)
    for second in range(0, 600, 2):
        buffer.add_span(span(5, second + 1), second, now=float(second))
        assert [] == summary(buffer.due(float(second)))
    assert [(5, 300, EndReason.LIMIT)] == summary(buffer.due(600.0))


def test_draining_releases_everything():
    """At the end of an import every trace goes with that reason, but one over a limit says LIMIT."""
    buffer = TraceBuffer(CONFIG.model_copy(update={"traces_max": 1}))
    buffer.add_span(span(5, 1, parent=None), 0, now=0.0)
    buffer.add_span(span(6, 1, parent=None), 1, now=0.0)
    assert [(5, 1, EndReason.LIMIT), (6, 1, EndReason.IMPORTED)] == summary(buffer.drain(EndReason.IMPORTED))
    assert 0 == len(buffer)


def test_the_oldest_position_is_that_of_what_still_waits():
    """Positions of released traces no longer hold the log back; a record read again may set it back."""
    buffer = TraceBuffer(CONFIG)
    assert buffer.oldest_position is None
    buffer.add_span(span(5, 1, parent=None), 10, now=0.0)
    buffer.add_span(span(6, 2), 20, now=0.0)
    buffer.add_span(span(5, 2), 30, now=0.0)
    assert 10 == buffer.oldest_position
    buffer.due(3.0)
    assert 20 == buffer.oldest_position
    buffer.add_log(LogRecord(trace_id=f"{6:032x}"), 4, now=4.0)
    assert 4 == buffer.oldest_position


def test_sizes_count_text_wherever_it_stands():
    """Names, attributes, nested values and events count by length, numbers by eight, a record by two hundred."""
    event = SpanEvent(name="ab", time_unix_nano=0, attributes={"k": ("cd", {"e": b"fgh"})})
    assert 200 + 1 + 3 + (2 + 8) + (2 + 1 + 2 + 1 + 3) == span_bytes(
        span(1, 1, status_message="bad", attributes={"no": 7}, events=(event,))
    )
    assert 200 + 4 + (1 + 1) == log_bytes(LogRecord(body="text", attributes={"a": "b"}))
