"""Microsoft's frameworks: Agent Framework, Semantic Kernel, AutoGen; and AG2, which grew out of the last."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_log, make_span

CITY = {"name": "f", "arguments": '{"city":"Paris"}'}
KERNEL = "semantic_kernel.utils.telemetry.model_diagnostics.decorators"
CHAT = {"gen_ai.operation.name": "chat.completions", "gen_ai.system": "openai", "gen_ai.request.model": "m"}
TOOL = {"type": "function", "function": {"name": "f", "description": "The weather.", "parameters": {"type": "object"}}}


def kernel_log(kind, body, index=None, time=0):
    """A record of the kernel: JSON text, its kind an attribute."""
    attributes = {"event.name": kind, "gen_ai.system": "openai"}
    if index is not None:
        attributes["CHAT_MESSAGE_INDEX"] = index
    return make_log("", json.dumps(body), time=time, attributes=attributes)


KERNEL_LOGS = (
    kernel_log("gen_ai.tool.message", {"role": "tool", "tool_call_id": "a", "content": "sunny"}, index=3),
    make_log("", "Function weather-get invoking.", time=1),
    kernel_log("gen_ai.user.message", {"role": "user", "content": "Hi"}, index=1),
    kernel_log(
        "gen_ai.assistant.message",
        {"role": "assistant", "tool_calls": [{"id": "a", "type": "function", "function": {**CITY, "name": "w-f"}}]},
        index=2,
    ),
    kernel_log("gen_ai.system.message", {"role": "system", "content": "Be kind."}, index=0),
    kernel_log(
        "gen_ai.choice",
        {"message": {"role": "assistant", "content": "Sunny."}, "finish_reason": "FinishReason.STOP", "index": 0},
    ),
)


def test_semantic_kernel_messages_are_json_text_in_log_records():
    """They stand in the order of their index; a plain log line of the same span is no message."""
    attributes = {**CHAT, "gen_ai.response.finish_reason": "FinishReason.STOP"}
    reading = read_span(make_span(attributes, scope_name=KERNEL), KERNEL_LOGS)
    (call,) = reading.model_calls
    expected = [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", ("a", "w-f", '{"city":"Paris"}')),
        ("tool", ("a", "sunny")),
    ]
    assert expected == brief(call.messages)
    assert call.output is not None
    assert ("Sunny.", "stop", False) == (call.output.text, call.finish_reason, call.streamed)
    assert ("semantic_kernel", frozenset()) == (reading.context.dialect, call.flags)


@pytest.mark.parametrize(
    ("provider", "is_lossy", "flags"),
    [
        ("openai", False, set()),
        ("anthropic", True, {QualityFlag.TEXT_DROPPED}),
        (None, True, {QualityFlag.TEXT_DROPPED}),
    ],
)
def test_a_semantic_kernel_history_without_text_is_what_openai_was_sent(provider, is_lossy, flags):
    """Its connector to OpenAI sends calls without their text; the others send it, and the telemetry loses it."""
    attributes = {**CHAT, "gen_ai.system": provider}
    (call,) = read_span(make_span(attributes, scope_name=KERNEL), KERNEL_LOGS).model_calls
    assert (is_lossy, flags) == (call.lossy_history, call.flags)


def test_a_semantic_kernel_answer_with_calls_may_lack_its_text():
    """Whoever the provider is; an answer with text lacks nothing."""
    asking = json.dumps({"message": {"role": "assistant", **ASKING}, "index": 0, "finish_reason": "tool_calls"})
    choice = make_log("", asking, attributes={"event.name": "gen_ai.choice"})
    attributes = {**CHAT, "gen_ai.system": "openai"}
    (call,) = read_span(make_span(attributes, scope_name=KERNEL), (*KERNEL_LOGS[:2], choice)).model_calls
    assert {QualityFlag.TEXT_DROPPED} == call.flags
    (elsewhere,) = read_span(make_span(attributes, scope_name="Microsoft.SemanticKernel.X"), (choice,)).model_calls
    assert QualityFlag.TEXT_DROPPED not in elsewhere.flags


def test_semantic_kernel_says_streaming_in_its_operation():
    """The operation's name is another one for a streamed answer."""
    attributes = {**CHAT, "gen_ai.operation.name": "chat.streaming_completions"}
    (call,) = read_span(make_span(attributes, scope_name=KERNEL), KERNEL_LOGS).model_calls
    assert call.streamed is True


def test_semantic_kernel_names_the_functions_offered():
    """They stand on the span around the calls of a turn, without schemas."""
    loop = make_span({"sk.available_functions": "w-f,w-g"}, name="AutoFunctionInvocationLoop", scope_name=KERNEL)
    run = read_span(loop).agent
    assert run is not None
    assert (False, (ToolDefinition(name="w-f"), ToolDefinition(name="w-g"))) == (run.is_agent, run.tools)


def test_the_dotnet_kernel_writes_span_events():
    """Each event's message is JSON text in one attribute."""
    said = {"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "Stop"}
    events = (
        make_event("gen_ai.user.message", {"gen_ai.event.content": json.dumps({"role": "user", "content": "Hi"})}, 1),
        make_event("gen_ai.choice", {"gen_ai.event.content": json.dumps(said)}, 2),
    )
    (call,) = read_span(make_span(CHAT, scope_name="Microsoft.SemanticKernel.Diagnostics", events=events)).model_calls
    assert call.output is not None
    assert ([("user", "Hi")], "Hello", "stop") == (brief(call.messages), call.output.text, call.finish_reason)


AGENT = {"gen_ai.operation.name": "invoke_agent", "gen_ai.system": "autogen", "gen_ai.agent.name": "weather"}


def autogen_log(event, time):
    """A record of AutoGen's event logger."""
    return make_log("", json.dumps(event), time=time, scope_name="autogen_core.events")


def completion(message, number, reason):
    """A provider's response."""
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    return {"id": f"r-{number}", "model": "m-2025", "choices": [choice], "usage": usage}


USER = {"role": "user", "name": "user", "content": "Hi"}
ASKING = {"content": None, "tool_calls": [{"id": "a", "type": "function", "function": CITY}]}
FIRST = {"type": "LLMCall", "messages": [USER], "tools": [TOOL], "response": completion(ASKING, 1, "tool_calls")}
RAN = {"type": "ToolCall", "tool_name": "f", "arguments": {"city": "Paris"}, "result": "sunny"}
SECOND = {
    "type": "LLMCall",
    "messages": [USER, {"role": "assistant", **ASKING}, {"role": "tool", "tool_call_id": "a", "content": "sunny"}],
    "tools": [],
    "response": completion({"content": "Sunny."}, 2, "stop"),
    "prompt_tokens": 19,
    "completion_tokens": 3,
}


def test_autogen_calls_are_log_records_of_the_agents_span():
    """One span reports two calls and a tool's execution, in order of time."""
    logs = (autogen_log(SECOND, 3), autogen_log(FIRST, 1), autogen_log(RAN, 2), make_log("", "started", time=0))
    reading = read_span(make_span(AGENT, name="invoke_agent weather", scope_name="autogen-core"), logs)
    first, second = reading.model_calls
    assert first.output is not None
    assert second.output is not None
    assert [("user", "Hi")] == brief(first.messages)
    assert [("assistant", ("a", "f", '{"city":"Paris"}'))] == brief([first.output])
    assert ("tool_calls", "r-1", "m-2025") == (first.finish_reason, first.response_id, first.response_model)
    assert (ToolDefinition(name="f", description="The weather.", parameters='{"type":"object"}'),) == first.tools
    assert [("user", "Hi"), ("assistant", ("a", "f", '{"city":"Paris"}')), ("tool", ("a", "sunny"))] == brief(
        second.messages
    )
    assert ("Sunny.", "stop", ()) == (second.output.text, second.finish_reason, second.tools)
    assert [Usage(input_tokens=9, output_tokens=2), Usage(input_tokens=19, output_tokens=3)] == [
        call.usage for call in reading.model_calls
    ]
    (execution,) = reading.tool_executions
    told = (execution.name, execution.call_id, execution.arguments, execution.result, execution.status)
    assert ("f", None, '{"city":"Paris"}', "sunny", ToolStatus.UNKNOWN) == told
    assert reading.agent is not None
    assert ("weather", "autogen", True) == (
        reading.context.agent_name,
        reading.context.dialect,
        reading.agent.is_agent,
    )


def test_autogen_streams_are_a_start_and_an_end():
    """The start holds the messages, the end AutoGen's own result."""
    result = {"finish_reason": "function_calls", "content": [{"id": "a", **CITY}], "thought": "Let me see."}
    end = {"type": "LLMStreamEnd", "response": {**result, "usage": {"prompt_tokens": 9, "completion_tokens": 2}}}
    logs = (autogen_log({"type": "LLMStreamStart", "messages": [USER]}, 1), autogen_log(end, 2))
    (call,) = read_span(make_span(AGENT, scope_name="autogen-core"), logs).model_calls
    assert call.output is not None
    assert [("user", "Hi")] == brief(call.messages)
    assert [("assistant", "Let me see.", ("a", "f", '{"city":"Paris"}'))] == brief([call.output])
    assert (True, "tool_calls", None) == (call.streamed, call.finish_reason, call.tools)


@pytest.mark.parametrize("body", ["{", "[1]", "null", json.dumps({"type": "LLMCall"}), json.dumps({"type": ["x"]})])
def test_autogen_records_that_cannot_be_read_lose_no_neighbour(body):
    """A cut or odd body is left out, or flagged where it says that it is a call."""
    odd = make_log("", body, time=1, scope_name="autogen_core.events")
    calls = read_span(make_span(AGENT), (odd, autogen_log(SECOND, 2))).model_calls
    assert calls[-1].output is not None
    assert "Sunny." == calls[-1].output.text
    assert all(QualityFlag.CONTENT_MISSING in call.flags for call in calls[:-1])


def test_agent_framework_carries_content_twice():
    """Span and log records hold one prompt; arguments are JSON text within JSON; tools stand on the agent's span."""
    asked = [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "a", **CITY}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "a", "response": "sunny"}]},
    ]
    told = {"role": "assistant", "parts": [{"type": "text", "content": "Sunny."}], "finish_reason": "stop"}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.input.messages": json.dumps(asked),
        "gen_ai.output.messages": json.dumps([told]),
    }
    kinds = ("gen_ai.user.message", "gen_ai.assistant.message", "gen_ai.tool.message")
    logs = [
        make_log("", body, attributes={"event.name": kind, "chat_message_index": index})
        for index, (kind, body) in enumerate(zip(kinds, asked, strict=True))
    ]
    logs.append(make_log("", told, attributes={"event.name": "gen_ai.choice", "chat_message_index": 0}))
    expected = [("user", "Hi"), ("assistant", ("a", "f", '{"city":"Paris"}')), ("tool", ("a", "sunny"))]
    bare = {key: attributes[key] for key in ("gen_ai.operation.name", "gen_ai.request.model")}
    for held, records in ((attributes, logs), (attributes, []), (bare, logs)):
        (call,) = read_span(make_span(held, scope_name="agent_framework"), records).model_calls
        assert call.output is not None
        assert (expected, "Sunny.", "stop") == (brief(call.messages), call.output.text, call.finish_reason)
        assert frozenset() == call.flags
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.tool.definitions": json.dumps([TOOL])}
    run = read_span(make_span(agent, scope_name="agent_framework")).agent
    assert run is not None
    assert (ToolDefinition(name="f", description="The weather.", parameters='{"type":"object"}'),) == run.tools


AG2_CHAT = {
    "ag2.span.type": "llm",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": json.dumps(
        [USER, {"role": "assistant", **ASKING}, {"role": "tool", "tool_call_id": "a", "content": "sunny"}]
    ),
    "gen_ai.output.messages": json.dumps([{"role": "assistant", "content": "Sunny."}]),
    "gen_ai.usage.thinking_tokens": 4,
}


def test_ag2_writes_chat_messages_under_the_parts_key():
    """OpenAI's chat form stands where parts should; the system prompt is known to be missing."""
    reading = read_span(make_span(AG2_CHAT))
    (call,) = reading.model_calls
    expected = [("user", "Hi"), ("assistant", ("a", "f", '{"city":"Paris"}')), ("tool", ("a", "sunny"))]
    assert call.output is not None
    assert (expected, "Sunny.", 4) == (brief(call.messages), call.output.text, call.usage.reasoning_tokens)
    assert ("ag2", {QualityFlag.SYSTEM_MISSING}) == (reading.context.dialect, call.flags)


@pytest.mark.parametrize(
    ("content", "flags"), [("sunny", set()), ("sun...[truncated]", {QualityFlag.PROMPT_TRUNCATED})]
)
def test_ag2_cuts_long_results(content, flags):
    """A cut result is a cut prompt; a whole one, with a system message before it, is not."""
    told = [{"role": "system", "content": "Be kind."}, {"role": "tool", "tool_call_id": "a", "content": content}]
    (call,) = read_span(make_span({**AG2_CHAT, "gen_ai.input.messages": json.dumps(told)})).model_calls
    assert flags == call.flags


def test_ag2_usage_spans_are_no_calls():
    """They name a model and repeat its counts."""
    attributes = {"ag2.span.type": "usage", "gen_ai.response.model": "m", "gen_ai.usage.input_tokens": 9}
    reading = read_span(make_span(attributes, name="record_usage llm", scope_name="opentelemetry.instrumentation.ag2"))
    assert ("ag2", ()) == (reading.context.dialect, reading.model_calls)
