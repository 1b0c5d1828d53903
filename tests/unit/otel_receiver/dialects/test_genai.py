"""OTel GenAI in its forms: parts on spans, in events and log records; one event per message; the oldest events."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_log, make_span

DETAILS = "gen_ai.client.inference.operation.details"
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
OUTPUT = [{"role": "assistant", "parts": [{"type": "text", "content": "Hello"}], "finish_reason": "tool_call"}]
SYSTEM = [{"type": "text", "content": "Be brief."}]
TURN = ([("system", "Be brief."), ("user", "Hi")], [("assistant", "Hello")])


def read_call(span, *logs):
    """The model call of a span with its log records."""
    (call,) = read_span(span, logs).model_calls
    return call


def turn(call):
    """Prompt and answer in short."""
    return brief(call.messages), brief([call.output] if call.output is not None else [])


def test_parts_on_a_span_are_json_text():
    """Instructions come first, the answer's finish reason is normalised, tools are flat."""
    span = make_span(
        {
            **CHAT,
            "gen_ai.system_instructions": json.dumps(SYSTEM),
            "gen_ai.input.messages": json.dumps(INPUT),
            "gen_ai.output.messages": json.dumps(OUTPUT),
            "gen_ai.tool.definitions": '[{"type":"function","name":"f","parameters":{"type":"object"}}]',
            "gen_ai.usage.input_tokens": 5,
            "gen_ai.usage.cache_write.input_tokens": 1,
        }
    )
    call = read_call(span)
    assert TURN == turn(call)
    assert ("tool_calls", frozenset()) == (call.finish_reason, call.flags)
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == call.tools
    assert Usage(input_tokens=5, cache_write_tokens=1) == call.usage


def test_parts_in_a_log_record_are_structures():
    """The same attributes as key-value lists in the operation-details record read alike."""
    record = make_log(
        DETAILS,
        attributes={
            "gen_ai.system_instructions": tuple(SYSTEM),
            "gen_ai.input.messages": ({"role": "user", "parts": ({"type": "text", "content": "Hi"},)},),
            "gen_ai.output.messages": ({"role": "assistant", "parts": ({"type": "text", "content": "Hello"},)},),
        },
    )
    call = read_call(make_span(CHAT), record)
    assert (TURN, frozenset()) == (turn(call), call.flags)


def test_details_split_over_several_events_are_merged():
    """System, input and output each in an event of the same name are one call."""
    events = (
        make_event(DETAILS, {"gen_ai.system_instructions": json.dumps(SYSTEM)}),
        make_event(DETAILS, {"gen_ai.input.messages": json.dumps(INPUT)}),
        make_event(DETAILS, {"gen_ai.output.messages": json.dumps(OUTPUT)}),
    )
    call = read_call(make_span(CHAT, events=events))
    assert (TURN, frozenset()) == (turn(call), call.flags)


def test_a_cut_span_attribute_yields_to_the_whole_log_record():
    """The span's JSON was cut, the log record is whole: the record is taken and nothing is flagged."""
    span = make_span({**CHAT, "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"te'})
    record = make_log(DETAILS, attributes={"gen_ai.input.messages": tuple(INPUT)})
    call = read_call(span, record)
    assert ([("user", "Hi")], frozenset()) == (brief(call.messages), call.flags)


def test_cut_json_keeps_the_messages_before_the_cut():
    """Messages before a cut are kept and the prompt is flagged; a cut answer is flagged as output."""
    span = make_span(
        {
            **CHAT,
            "gen_ai.input.messages": json.dumps(INPUT)[:-1] + ', {"role": "assis',
            "gen_ai.output.messages": json.dumps(OUTPUT)[:-1] + ', {"ro',
        }
    )
    call = read_call(span)
    assert [("user", "Hi")] == brief(call.messages)
    assert {QualityFlag.PROMPT_TRUNCATED, QualityFlag.OUTPUT_TRUNCATED} == call.flags


def test_openai_messages_under_the_parts_attributes_are_read_by_their_shape():
    """A sender that puts OpenAI chat messages under the parts attributes loses nothing."""
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]
    call = read_call(make_span({**CHAT, "gen_ai.input.messages": json.dumps(messages)}))
    assert [("user", "Hi"), ("assistant", ("a", "f", "{}")), ("tool", ("a", "1"))] == brief(call.messages)


def events_of_a_turn():
    """One log record per message, out of order in time."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        make_log("gen_ai.tool.message", {"id": "a", "content": "sunny"}, time=4),
        make_log(
            "gen_ai.choice",
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}},
            time=5,
        ),
        make_log("gen_ai.system.message", {"content": "Be brief."}, time=1),
        make_log("gen_ai.assistant.message", {"tool_calls": (call,)}, time=3),
        make_log("gen_ai.user.message", {"content": "Hi"}, time=2),
    ]


EVENT_TURN = (
    [("system", "Be brief."), ("user", "Hi"), ("assistant", ("a", "f", "{}")), ("tool", ("a", "sunny"))],
    [("assistant", "Hello")],
)


def test_message_events_come_in_the_order_of_time():
    """Log records of one message each make the prompt by time, whatever the order of arrival."""
    call = read_call(make_span(CHAT), *events_of_a_turn())
    assert (EVENT_TURN, "stop", False, frozenset()) == (turn(call), call.finish_reason, call.lossy_history, call.flags)


def test_arguments_of_the_openai_v2_events_are_altered():
    """That instrumentation removes newlines from arguments and loses the text beside calls."""
    call = read_call(make_span(CHAT, scope_name="opentelemetry.instrumentation.openai_v2"), *events_of_a_turn())
    assert (True, {QualityFlag.ARGUMENTS_ALTERED}) == (call.lossy_history, call.flags)


def test_an_index_orders_events_of_equal_time():
    """An index attribute wins over time; the choice stays last."""
    records = [
        make_log("gen_ai.user.message", {"content": "b"}, time=1, attributes={"gen_ai.message.index": 1}),
        make_log("gen_ai.choice", {"message": {"content": "c"}}, time=1),
        make_log("gen_ai.user.message", {"content": "a"}, time=1, attributes={"gen_ai.message.index": 0}),
    ]
    assert ([("user", "a"), ("user", "b")], [("assistant", "c")]) == turn(read_call(make_span(CHAT), *records))


def test_semantic_kernel_bodies_are_json_text():
    """The kind is in an attribute, the body is JSON text, and other records of the span are no messages."""
    records = [
        make_log("", "Something happened", time=1),
        make_log(
            "",
            '{"role": "user", "content": "Hi"}',
            attributes={"event.name": "gen_ai.user.message", "CHAT_MESSAGE_INDEX": 0},
        ),
        make_log(
            "",
            '{"index": 0, "finish_reason": "FinishReason.STOP", "message": {"role": "assistant", "content": "Hello"}}',
            attributes={"event.name": "gen_ai.choice"},
        ),
    ]
    call = read_call(make_span({**CHAT, "gen_ai.response.finish_reason": "FinishReason.STOP"}), *records)
    assert (([("user", "Hi")], [("assistant", "Hello")]), "stop") == (turn(call), call.finish_reason)


def test_message_events_on_the_span_hold_json_blocks():
    """The same events as span events, their content the JSON text of Bedrock blocks."""
    results = [
        {"toolResult": {"toolUseId": "a", "content": [{"text": "1"}]}},
        {"toolResult": {"toolUseId": "b", "content": [{"text": "2"}]}},
    ]
    use = [{"toolUse": {"toolUseId": name, "name": "f", "input": {}}} for name in "ab"]
    events = (
        make_event("gen_ai.user.message", {"content": '[{"text": "Hi"}]'}, time=1),
        make_event("gen_ai.assistant.message", {"content": json.dumps(use)}, time=2),
        make_event("gen_ai.tool.message", {"content": json.dumps(results)}, time=3),
        make_event("gen_ai.choice", {"message": '[{"text": "Hello"}]', "finish_reason": "end_turn"}, time=4),
    )
    call = read_call(make_span(CHAT, events=events))
    assert [
        ("user", "Hi"),
        ("assistant", ("a", "f", "{}"), ("b", "f", "{}")),
        ("tool", ("a", "1")),
        ("tool", ("b", "2")),
    ] == brief(call.messages)
    assert ([("assistant", "Hello")], "stop") == (turn(call)[1], call.finish_reason)


def test_a_users_own_json_stays_text():
    """A user who sends JSON said text: only blocks of a known shape are read as structure."""
    record = make_log("gen_ai.user.message", {"content": '[{"city": "Paris"}]'})
    assert [("user", '[{"city": "Paris"}]')] == brief(read_call(make_span(CHAT), record).messages)


@pytest.mark.parametrize(
    "body", [None, {}, {"role": "user"}, {"content": None}], ids=["null", "empty", "role only", "null content"]
)
def test_bodies_without_content_mean_that_capture_was_off(body):
    """Null bodies, empty bodies and roles alone are missing content."""
    assert QualityFlag.CONTENT_MISSING in read_call(make_span(CHAT), make_log("gen_ai.user.message", body)).flags


def test_the_oldest_events_hold_prompt_and_completion():
    """The oldest form has one event each for prompt and completion."""
    events = (
        make_event("gen_ai.content.prompt", {"gen_ai.prompt": '[{"role": "user", "content": "Hi"}]'}),
        make_event("gen_ai.content.completion", {"gen_ai.completion": '[{"role": "assistant", "content": "Hello"}]'}),
    )
    call = read_call(make_span(CHAT, events=events))
    assert ([("user", "Hi")], [("assistant", "Hello")]) == turn(call)


@pytest.mark.parametrize("key", ["input.messages", "output.messages", "system_instructions", "tool.definitions"])
def test_references_that_are_not_resolved_are_flagged(key):
    """An address in place of content is flagged, whichever content it stands for."""
    span = make_span({**CHAT, f"gen_ai.{key}_ref": "s3://bucket/x.json"})
    assert QualityFlag.CONTENT_REFERENCED in read_call(span).flags


def test_content_beside_its_reference_is_not_flagged():
    """A sender may upload content and keep it on the span as well."""
    span = make_span({**CHAT, "gen_ai.input.messages": json.dumps(INPUT), "gen_ai.input.messages_ref": "s3://b/x.json"})
    assert frozenset() == read_call(span).flags


def test_a_tool_execution_names_its_call():
    """Name, call id, arguments and result of an execute_tool span; an error status is a failed tool."""
    span = make_span(
        {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "f",
            "gen_ai.tool.call.id": "a",
            "gen_ai.tool.call.arguments": '{"city":"Paris"}',
            "gen_ai.tool.call.result": "boom",
        },
        status=SpanStatus.ERROR,
    )
    (execution,) = read_span(span).tool_executions
    assert ("f", "a", '{"city":"Paris"}', "boom", ToolStatus.ERROR) == (
        execution.name,
        execution.call_id,
        execution.arguments,
        execution.result,
        execution.status,
    )


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("invoke_agent", True),
        ("invoke_workflow", False),
        ("create_agent", False),
        ("embeddings", None),
        ("retrieval", None),
    ],
)
def test_operations_that_are_no_calls(operation, expected):
    """Agents, workflows and searches are told apart, and none is a model call."""
    reading = read_span(make_span({"gen_ai.operation.name": operation, "gen_ai.request.model": "m"}))
    assert ((), expected) == (reading.model_calls, reading.agent.is_agent if reading.agent is not None else None)


def test_an_agent_span_brings_tools_and_history():
    """Definitions and the whole message list on an agent's span serve the poorer calls below it."""
    span = make_span(
        {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": "planner",
            "gen_ai.agent.tools": '["f"]',
            "gen_ai.input.messages": json.dumps(INPUT),
            "gen_ai.output.messages": json.dumps(OUTPUT),
        }
    )
    reading = read_span(span)
    assert reading.agent is not None
    assert ("planner", (ToolDefinition(name="f"),)) == (reading.context.agent_name, reading.agent.tools)
    assert [("user", "Hi"), ("assistant", "Hello")] == brief(reading.agent.history)


REWRITTEN = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
    "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"tool_call","id":"a","name":"f","arguments":{}}'
    "]}]",
    "llm.invocation_parameters": "{}",
    "input.value": '{"model":"m","messages":[{"role":"user","content":"Hi"}]}',
    "output.value": '{"id":"r1","choices":[{"finish_reason":"tool_calls","message":{"role":"assistant",'
    '"content":"Let me check.","tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}',
    "llm.tools.0.tool.json_schema": '{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}',
}


def test_a_span_rewritten_half_way_reads_from_what_is_left_of_its_own():
    """The Collector's normaliser drops text beside calls and leaves tools and raw values: the richest carrier wins."""
    call = read_call(make_span(REWRITTEN))
    assert ([("user", "Hi")], [("assistant", "Let me check.", ("a", "f", "{}"))]) == turn(call)
    assert ("r1", "tool_calls", (ToolDefinition(name="f", parameters='{"type":"object"}'),)) == (
        call.response_id,
        call.finish_reason,
        call.tools,
    )


def test_two_dialects_on_one_span_are_read_once():
    """OpenInference's dual emission writes every message twice: it is one call, and nothing is doubled."""
    dual = {
        **REWRITTEN,
        "openinference.span.kind": "LLM",
        "llm.model_name": "m-2025",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "Hi",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Let me check.",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "a",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
    }
    reading = read_span(make_span(dual))
    (call,) = reading.model_calls
    assert ("openinference", "m", "m-2025") == (reading.context.dialect, call.model, call.response_model)
    assert ([("user", "Hi")], [("assistant", "Let me check.", ("a", "f", "{}"))]) == turn(call)


@pytest.mark.parametrize(
    ("operation", "auxiliary"), [("guardrail", True), ("evaluate", True), ("invoke_workflow", False)]
)
def test_calls_inside_a_guardrail_or_an_evaluation_are_auxiliary(operation, auxiliary):
    """The span's own operation says that what runs inside is not the policy."""
    run = read_span(make_span({"gen_ai.operation.name": operation})).agent
    assert run is not None
    assert (False, auxiliary) == (run.is_agent, run.auxiliary)


TOOL_CALL = {"type": "tool_call", "id": "a", "name": "f", "arguments": {}}
