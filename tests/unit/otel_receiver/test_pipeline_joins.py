"""Records that belong together although they came apart: in shared requests, without ids, after a restart."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_receiver.ingest_log import Signal
from otel_receiver.store import Store
from tests.e2e.receiver_process import agent_trace
from tests.unit.otel_receiver.test_pipeline import SECOND, START, make_bench


@pytest.fixture
def bench(tmp_path):
    """Everything in a directory of its own, default configuration with small segments."""
    yield from make_bench(tmp_path, Store)


def test_an_entry_read_again_for_one_trace_loses_nothing_of_another(bench):
    """Two traces share a request; the first is derived before the second ends, and both are complete in the end."""
    shared = agent_trace(1)
    shared.MergeFrom(agent_trace(2, with_root=False))
    bench.append(shared, received_s=0)
    for entry in bench.parts.log.read((runner := bench.open()).state.position):
        runner.feed(entry)
    runner.release(now=START / SECOND + 10)
    assert (1, 1) == (runner.write(), runner.state.open_traces)
    late = agent_trace(1, with_root=False)
    late.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8)
    late.MergeFrom(_root_of(2))
    position = bench.append(late, received_s=20)
    runner.feed(bench.parts.log.entry(position))
    runner.release(now=START / SECOND + 100)
    runner.write()
    assert [(5,)] == bench.query("SELECT count(*) FROM store.spans")
    another = agent_trace(2, with_root=False)
    another.resource_spans[0].scope_spans[0].spans[0].span_id = (98).to_bytes(8)
    bench.append(another, received_s=500)
    bench.run()
    assert [("c1", 2), ("c2", 2)] == bench.query(
        "SELECT conversation_id, count(*) FROM decision_points GROUP BY ALL ORDER BY 1"
    )


def _root_of(number: int):
    """The root of a trace without its call."""
    request = agent_trace(number)
    del request.resource_spans[0].scope_spans[0].spans[1]
    return request


PAYLOAD = Path(__file__).parents[2] / "golden" / "payloads" / "double.traces.pb"


def repeated_run(number: int) -> ExportTraceServiceRequest:
    """One run of two calls, each told by two spans in a trace of its own, as its agent asks it again and again."""
    request = ExportTraceServiceRequest.FromString(PAYLOAD.read_bytes())
    for span in (span for rs in request.resource_spans for scope in rs.scope_spans for span in scope.spans):
        span.trace_id = span.trace_id[:-2] + number.to_bytes(2)
        span.span_id = span.span_id[:-2] + number.to_bytes(2)
        if span.parent_span_id:
            span.parent_span_id = span.parent_span_id[:-2] + number.to_bytes(2)
        span.start_time_unix_nano += number * 60 * SECOND
        span.end_time_unix_nano += number * 60 * SECOND
    return request


def test_more_linked_traces_than_are_joined_lose_no_step(bench):
    """Equal runs link to each other; where they are too many to be derived together, each keeps every step once."""
    config = bench.parts.config
    few = config.pipeline.model_copy(update={"component_traces_max": 1})
    bench = replace(bench, parts=replace(bench.parts, config=config.model_copy(update={"pipeline": few})))
    for number in range(1, 13):
        bench.append(repeated_run(number), received_s=number * 600)
        bench.run()
    assert [(12, 24)] == bench.query("SELECT count(*), sum(num_steps) FROM episodes")
    assert [(24,)] == bench.query("SELECT count(DISTINCT span_id) FROM decision_points")
    late = repeated_run(5)
    for scope in (scope for rs in late.resource_spans for scope in rs.scope_spans):
        del scope.spans[1:]
        for span in scope.spans:
            span.span_id, span.name = (99).to_bytes(8), "late"
            span.ClearField("attributes")
    bench.append(late, received_s=9000)
    bench.run()
    assert [(12, 24)] == bench.query("SELECT count(*), sum(num_steps) FROM episodes"), "a late span brings its episode"


def streamed_call() -> ExportTraceServiceRequest:
    """A streamed call of OpenLIT's in a trace of its own, answered as `r1`."""
    request = agent_trace(1, with_root=False)
    scope = request.resource_spans[0].scope_spans[0]
    scope.scope.name = "openlit.instrumentation.openai"
    (span,) = scope.spans
    span.ClearField("parent_span_id")
    span.attributes.add(key="gen_ai.response.id").value.string_value = "r1"
    span.attributes.add(key="gen_ai.request.stream").value.bool_value = True
    return request


def record_without_ids(service: str = "e2e") -> ExportLogsServiceRequest:
    """The log record of that call, which names the answer alone and has the tools."""
    request = ExportLogsServiceRequest()
    resource = request.resource_logs.add()
    resource.resource.attributes.add(key="service.name").value.string_value = service
    scope = resource.scope_logs.add()
    scope.scope.name = "openlit.instrumentation.openai"
    record = scope.log_records.add(event_name="gen_ai.client.inference.operation.details")
    record.attributes.add(key="gen_ai.response.id").value.string_value = "r1"
    tools = json.dumps([{"type": "function", "name": "look", "parameters": {"type": "object"}}])
    record.attributes.add(key="gen_ai.tool.definitions").value.string_value = tools
    return request


TOOL_NAMES = """
SELECT e.revision, d.tools->0->'function'->>'name' FROM episodes AS e JOIN decision_points AS d USING (episode_id)
"""


def test_a_record_without_ids_finds_its_call_whichever_comes_first(bench):
    """An hour apart and over restarts: the call has its tools, and a record of another service has no say."""
    bench.append(record_without_ids("other"), signal=Signal.LOGS)
    bench.append(streamed_call(), received_s=10)
    bench.run()
    assert [(1, None)] == bench.query(TOOL_NAMES)
    bench.append(record_without_ids(), received_s=3600, signal=Signal.LOGS)
    bench.run()
    assert [(2, "look")] == bench.query(TOOL_NAMES)
    bench.append(record_without_ids(), received_s=7200, signal=Signal.LOGS)
    bench.run()
    assert [(2, "look")] == bench.query(TOOL_NAMES)


def test_a_call_finds_the_record_that_waited_for_it(bench):
    """The record comes first, is written, and the call an hour later is derived with it at once."""
    bench.append(record_without_ids(), signal=Signal.LOGS)
    bench.run()
    assert [] == bench.query("SELECT episode_id FROM episodes")
    bench.append(streamed_call(), received_s=3600)
    bench.run()
    assert [(1, "look")] == bench.query(TOOL_NAMES)


def test_a_record_without_ids_that_never_finds_a_call_holds_nothing_up(bench):
    """It leaves the buffer after the quiet time, and the log behind it may be retired."""
    bench.append(record_without_ids(), signal=Signal.LOGS)
    runner = bench.open()
    for entry in bench.parts.log.read(0):
        runner.feed(entry)
    runner.release(now=START / SECOND + bench.parts.config.buffer.quiet_s)
    runner.write(progress_only=True)
    assert (bench.parts.log.end, 0) == (runner.state.committed, runner.state.open_traces)
