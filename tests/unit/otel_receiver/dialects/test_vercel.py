"""Vercel AI SDK: the legacy attributes of each version, and version 7's OTel form."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.base import AgentRun
from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

STEP = {
    "ai.operationId": "ai.generateText.doGenerate",
    "ai.model.id": "m",
    "ai.telemetry.functionId": "planner",
    "ai.telemetry.metadata.sessionId": "s1",
    "ai.telemetry.metadata.userId": "u1",
    "ai.prompt.messages": json.dumps(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "reasoning", "text": "Hm."},
                    {"type": "text", "text": "Wait."},
                    {"type": "tool-call", "toolCallId": "a", "toolName": "f", "input": {"city": "Paris"}},
                ],
            },
            {
                "role": "tool",
                "content": [
                    {
                        "type": "tool-result",
                        "toolCallId": "a",
                        "toolName": "f",
                        "output": {"type": "error-text", "value": "no"},
                    }
                ],
            },
        ]
    ),
    "ai.prompt.tools": ('{"type":"function","name":"f","description":"weather","inputSchema":{"type":"object"}}',),
    "ai.response.finishReason": "tool-calls",
    "ai.response.text": "Again.",
    "ai.response.reasoning": "Try again.",
    "ai.response.toolCalls": '[{"toolCallId":"b","toolName":"f","input":"{\\"city\\": \\"Rome\\"}"}]',
    "ai.response.id": "r1",
    "ai.response.model": "m-2025",
    "ai.usage.inputTokens": 9,
    "ai.usage.outputTokens": 2,
    "ai.usage.inputTokenDetails.cacheReadTokens": 4,
    "ai.usage.inputTokenDetails.cacheWriteTokens": 3,
    "ai.usage.outputTokenDetails.reasoningTokens": 1,
}


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_a_step_of_the_legacy_form_is_a_model_call():
    """Prompt, tools, answer, reasoning, counts and ids of a `doGenerate` span come out whole."""
    call = read_call(STEP)
    assert [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", {"reasoning": "Hm."}, "Wait.", ("a", "f", '{"city":"Paris"}')),
        ("tool", ("a", "no")),
    ] == brief(call.messages)
    assert call.messages[3].tool_result is not None
    assert ToolStatus.ERROR is call.messages[3].tool_result.status
    assert call.output is not None
    assert [("assistant", {"reasoning": "Try again."}, "Again.", ("b", "f", '{"city": "Rome"}'))] == brief(
        [call.output]
    )
    assert (ToolDefinition(name="f", description="weather", parameters='{"type":"object"}'),) == call.tools
    counts = Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4, cache_write_tokens=3, reasoning_tokens=1)
    assert (counts, frozenset(), False) == (call.usage, call.flags, call.streamed)
    assert ("tool_calls", "m", "m-2025", "r1") == (
        call.finish_reason,
        call.model,
        call.response_model,
        call.response_id,
    )


def test_the_metadata_names_conversation_user_and_agent():
    """The application's telemetry metadata says session and user, the function's id the agent."""
    context = read_span(make_span(STEP)).context
    assert ("vercel_ai", "s1", "u1", "planner") == (
        context.dialect,
        context.conversation_id,
        context.user_id,
        context.agent_name,
    )


@pytest.mark.parametrize("key", ["args", "input"])
@pytest.mark.parametrize("value", ['{"city":"Rome"}', {"city": "Rome"}])
def test_calls_hold_their_arguments_by_version(key, value):
    """Version 4 says `args`, later ones `input`; each is JSON text or an object."""
    calls = json.dumps([{"toolCallId": "b", "toolName": "f", key: value}])
    call = read_call({**STEP, "ai.response.toolCalls": calls})
    assert call.output is not None
    assert ['{"city":"Rome"}'] == [made.arguments for made in call.output.tool_calls]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        ({"result": "sunny"}, "sunny"),
        ({"result": {"sky": "blue"}}, '{"sky":"blue"}'),
        ({"output": {"type": "text", "value": "sunny"}}, "sunny"),
        ({"output": {"type": "json", "value": {"sky": "blue"}}}, '{"sky":"blue"}'),
        ({"output": {"type": "content", "value": [{"type": "text", "text": "sunny"}]}}, "sunny"),
    ],
)
def test_results_hold_their_content_by_version(held, text):
    """Version 4 carries the bare result, later ones a typed output."""
    part = {"type": "tool-result", "toolCallId": "a", "toolName": "f", **held}
    prompt = json.dumps([{"role": "tool", "content": [part]}])
    assert [("tool", ("a", text))] == brief(read_call({**STEP, "ai.prompt.messages": prompt}).messages)


@pytest.mark.parametrize(("told", "text"), [({"reason": "No."}, "No."), ({}, "Tool call execution denied.")])
def test_a_denied_call_is_a_failed_one(told, text):
    """From version 6 on a person may refuse a tool: the model is shown why, and the tool did not run."""
    part = {"type": "tool-result", "toolCallId": "a", "toolName": "f", "output": {"type": "execution-denied", **told}}
    prompt = json.dumps([{"role": "tool", "content": [part]}])
    (message,) = read_call({**STEP, "ai.prompt.messages": prompt}).messages
    assert message.tool_result is not None
    assert (text, ToolStatus.ERROR) == (message.tool_result.content, message.tool_result.status)


@pytest.mark.parametrize("keys", [("sessionId", "userId"), ("session_id", "user_id"), ("threadId", "userId")])
def test_metadata_is_spelled_as_the_application_likes(keys):
    """The SDK hands the application's own keys through."""
    attributes = {key: value for key, value in STEP.items() if not key.startswith("ai.telemetry.metadata.")}
    told = {f"ai.telemetry.metadata.{key}": value for key, value in zip(keys, ("s", "u"), strict=True)}
    context = read_span(make_span({**attributes, **told})).context
    assert ("s", "u") == (context.conversation_id, context.user_id)


def test_the_oldest_keys_of_an_answer():
    """Up to version 3 the answer stands under `ai.result` and the finish reason under `ai.finishReason`."""
    attributes = {key: value for key, value in STEP.items() if not key.startswith("ai.response")}
    call = read_call({**attributes, "ai.result.text": "Hello.", "ai.finishReason": "content-filter"})
    assert call.output is not None
    assert ("Hello.", "content_filter") == (call.output.text, call.finish_reason)


def test_a_structured_object_is_the_answers_text():
    """What `generateObject` made is the model's answer, as the JSON text that the span carries."""
    attributes = {key: value for key, value in STEP.items() if not key.startswith("ai.response")}
    operation = {"ai.operationId": "ai.streamObject.doStream", "ai.response.object": '{"city":"Rome"}'}
    call = read_call({**attributes, **operation})
    assert call.output is not None
    assert ('{"city":"Rome"}', True) == (call.output.text, call.streamed)


def test_a_failed_step_has_no_answer():
    """A step that failed reports its prompt and no output."""
    attributes = {key: value for key, value in STEP.items() if not key.startswith("ai.response")}
    call = read_call(attributes, status=SpanStatus.ERROR, events=(make_event("exception", {}),))
    assert (4, None, frozenset()) == (len(call.messages), call.output, call.flags)


def test_tool_calls_that_were_cut_are_flagged():
    """JSON that ends too early keeps its whole elements and says so."""
    calls = '[{"toolCallId":"b","toolName":"f","input":{}},{"toolCallId":"c","toolNa'
    call = read_call({**STEP, "ai.response.toolCalls": calls})
    assert call.output is not None
    assert (["b"], {QualityFlag.OUTPUT_TRUNCATED}) == ([made.id for made in call.output.tool_calls], call.flags)


@pytest.mark.parametrize("operation", ["ai.generateText", "ai.streamText", "ai.generateObject", "ai.streamObject"])
def test_the_span_around_a_generation_is_no_call(operation):
    """It repeats prompt and answer; counting it would double the last call."""
    reading = read_span(
        make_span({**STEP, "ai.operationId": operation, "ai.prompt": '{"prompt":"Hi"}'}, name=operation)
    )
    assert ((), AgentRun(is_agent=True)) == (reading.model_calls, reading.agent)


@pytest.mark.parametrize("operation", ["ai.embed", "ai.embed.doEmbed", "ai.rerank", "ai.rerank.doRerank"])
def test_embeddings_and_rankings_are_nothing(operation):
    """They are neither calls of the policy nor tools nor runs."""
    reading = read_span(make_span({"ai.operationId": operation, "ai.model.id": "e"}, name=operation))
    assert ((), (), None) == (reading.model_calls, reading.tool_executions, reading.agent)


@pytest.mark.parametrize(
    ("carried", "result"), [('"sunny"', "sunny"), ('{"sky":"blue"}', '{"sky":"blue"}'), ('"', '"'), ("3", "3")]
)
def test_a_tool_span_tells_its_result_as_the_model_saw_it(carried, result):
    """A string result is carried as a JSON literal; histories carry the string."""
    attributes = {
        "ai.operationId": "ai.toolCall",
        "ai.toolCall.name": "f",
        "ai.toolCall.id": "a",
        "ai.toolCall.args": '{"city":"Paris"}',
        "ai.toolCall.result": carried,
    }
    (execution,) = read_span(make_span(attributes, name="ai.toolCall")).tool_executions
    assert ("f", "a", '{"city":"Paris"}', result) == (
        execution.name,
        execution.call_id,
        execution.arguments,
        execution.result,
    )


def test_the_otel_form_of_version_seven():
    """Parts under the scope `gen_ai`: the first chunk tells of streaming, and tool results are unquoted."""
    shared = {"gen_ai.agent.name": "planner", "ai.settings.context.sessionId": "s1"}
    chat = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.system_instructions": '[{"type":"text","content":"Be brief."}]',
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Yo"}]}]',
        "gen_ai.client.operation.time_to_first_chunk": 0.1,
    }
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f", "gen_ai.tool.call.result": '"sunny"'}
    (call,) = read_span(make_span({**shared, **chat}, scope_name="gen_ai")).model_calls
    (execution,) = read_span(make_span({**shared, **tool}, scope_name="gen_ai")).tool_executions
    assert [("system", "Be brief."), ("user", "Hi")] == brief(call.messages)
    assert (True, "sunny") == (call.streamed, execution.result)


def test_version_sevens_agent_span_is_no_history():
    """It joins the parts of all its steps into one message, which no model said."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "ai.settings.context.sessionId": "s1",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"Yo"}]}]',
    }
    reading = read_span(make_span(attributes, name="invoke_agent m", scope_name="gen_ai"))
    assert AgentRun(is_agent=True) == reading.agent
    assert ("vercel_ai", "s1", "planner") == (
        reading.context.dialect,
        reading.context.conversation_id,
        reading.context.agent_name,
    )
