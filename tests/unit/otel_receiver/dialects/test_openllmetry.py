"""OpenLLMetry's LangChain instrumentation, and the tools of the Traceloop SDK."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import ToolStatus
from tests.unit.otel_receiver.dialects.factories import brief, make_span

PROPERTIES = "traceloop.association.properties."
CHAT = {
    "traceloop.workflow.name": "weather",
    "traceloop.entity.path": "model",
    f"{PROPERTIES}thread_id": "thread",
    f"{PROPERTIES}user_id": "user",
    f"{PROPERTIES}ls_model_name": "m",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.response.model": "m-2025",
    "gen_ai.response.id": "r",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
    "gen_ai.output.messages": json.dumps(
        [{"role": "assistant", "parts": [{"type": "text", "content": "Hello."}], "finish_reason": "stop"}]
    ),
}
TOOL_USE = {"type": "tool_use", "id": "a", "name": "f", "input": {"city": "Paris"}}
CALL = {"type": "tool_call", "id": "a", "name": "f", "arguments": {"city": "Paris"}}


def read_chat(changes):
    """The reading of a chat span with these changes, and its call."""
    reading = read_span(make_span({**CHAT, **changes}, "ChatAnthropic.chat"))
    (call,) = reading.model_calls
    return reading, call


def read_tool(attributes, **fields):
    """The tool execution of a span with these attributes."""
    (execution,) = read_span(make_span(attributes, "execute_tool f", **fields)).tool_executions
    return execution


def text(block):
    """A block as the instrumentation writes it for want of a part: a text that holds its JSON."""
    return {"type": "text", "content": json.dumps(block)}


def test_a_chat_span_is_known_by_the_path_of_its_entity():
    """The LangChain instrumentation's chat spans name neither a request type nor an entity's kind."""
    reading, call = read_chat({})
    context = reading.context
    assert ("openllmetry", "thread", "user") == (context.dialect, context.conversation_id, context.user_id)
    assert ("m", "m-2025", "r", "stop") == (call.model, call.response_model, call.response_id, call.finish_reason)


def test_a_workflow_name_alone_claims_no_span_that_says_no_operation():
    """The Traceloop SDK puts its workflow's name on spans of all instrumentations."""
    assert read_span(make_span({"traceloop.workflow.name": "w", "http.method": "GET"})).context.dialect is None


@pytest.mark.parametrize(
    ("properties", "agent"),
    [
        ({"lc_agent_name": "sub", "langgraph_node": "model"}, "sub"),
        ({"langgraph_node": "agent", "langgraph_checkpoint_ns": "sub:1|agent:2"}, "sub"),
        ({"langgraph_node": "chatbot", "langgraph_checkpoint_ns": "chatbot:2"}, None),
    ],
)
def test_the_metadata_of_langgraph_tell_a_sub_agent(properties, agent):
    """Spans of a sub-agent hang below the tool that runs it, so only its metadata name it; a node names no agent."""
    reading, _ = read_chat({f"{PROPERTIES}{key}": value for key, value in properties.items()})
    assert agent == reading.context.agent_name


def test_a_model_that_is_unknown_is_read_from_the_metadata():
    """A chat model whose parameters do not name the model is written as `unknown`."""
    _, call = read_chat({"gen_ai.request.model": "unknown", "gen_ai.response.model": "unknown"})
    assert "m" == call.model


def test_the_requests_model_is_not_taken_for_the_responses():
    """Streamed answers have no response id, and the model they name is a copy of the request's."""
    streamed = {"gen_ai.response.id": "", "gen_ai.response.model": "m"}
    assert (None, "other") == (
        read_chat(streamed)[1].response_model,
        read_chat({**streamed, "gen_ai.response.model": "other"})[1].response_model,
    )


def test_blocks_in_an_answer_come_out_as_parts():
    """Anthropic's blocks stand as JSON text beside the call they repeat: thinking is reasoning, a call counts once."""
    thinking = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    parts = [text(thinking), {"type": "text", "content": "Let me see."}, text(TOOL_USE), CALL]
    history = json.dumps([{"role": "assistant", "parts": parts}])
    answer = json.dumps([{"role": "assistant", "parts": [text(TOOL_USE), CALL], "finish_reason": "tool_call"}])
    _, call = read_chat({"gen_ai.input.messages": history, "gen_ai.output.messages": answer})
    told = ("a", "f", '{"city":"Paris"}')
    assert [("assistant", {"reasoning": "Hm."}, "Let me see.", told)] == brief(call.messages)
    assert call.output is not None
    assert [("assistant", told)] == brief([call.output])


def test_a_block_that_no_call_repeats_is_the_call():
    """A provider's call that LangChain left among the content only is still a call."""
    answer = json.dumps([{"role": "assistant", "parts": [text(TOOL_USE)], "finish_reason": ""}])
    _, call = read_chat({"gen_ai.output.messages": answer})
    assert call.output is not None
    assert [("assistant", ("a", "f", '{"city":"Paris"}'))] == brief([call.output])


def test_what_a_user_writes_stays_text():
    """JSON in a user's words is theirs; a file there is media."""
    file = {"type": "file", "file": {"file_id": "x"}}
    parts = [text(TOOL_USE), text(file)]
    _, call = read_chat({"gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}])})
    ((role, words, media),) = brief(call.messages)
    assert ("user", json.dumps(TOOL_USE)) == (role, words)
    assert "media" in media


def test_a_result_in_text_blocks_is_their_text():
    """Tools of MCP servers answer in a list of blocks, which the instrumentation writes as JSON."""
    blocks = json.dumps([{"type": "text", "text": "sunny"}, {"type": "text", "text": "21 degrees"}])
    result = [{"role": "tool", "parts": [{"type": "tool_call_response", "id": "a", "response": blocks}]}]
    _, call = read_chat({"gen_ai.input.messages": json.dumps(result)})
    assert [("tool", ("a", "sunny\n21 degrees"))] == brief(call.messages)


def test_a_call_under_the_older_operation_name():
    """Up to 0.54 the operation of a model call is `llm_request`, and the request type says what it is."""
    call = read_span(
        make_span(
            {
                "gen_ai.operation.name": "llm_request",
                "llm.request.type": "chat",
                "gen_ai.request.model": "m",
                "gen_ai.prompt.0.role": "user",
                "gen_ai.prompt.0.content": "Hi",
                "gen_ai.completion.0.role": "assistant",
                "gen_ai.completion.0.content": "Hello.",
            }
        )
    ).model_calls[0]
    assert call.output is not None
    assert ([("user", "Hi")], "Hello.") == (brief(call.messages), call.output.text)


def langchain_tool(**changes):
    """The attributes of a LangChain tool's span."""
    asked = {"input_str": "{'city': 'Paris'}", "tags": [], "metadata": {}, "inputs": {"city": "Paris"}, "kwargs": {}}
    return {
        "traceloop.span.kind": "tool",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "f",
        "gen_ai.tool.call.arguments": json.dumps({**asked, **changes}),
    }


def test_a_failed_tool_is_told_by_its_call():
    """The call's id stands among the callback's arguments: a failed tool has no message that could tell it."""
    execution = read_tool(langchain_tool(kwargs={"tool_call_id": "call_1"}), status=SpanStatus.ERROR)
    assert ("call_1", '{"city":"Paris"}', None, ToolStatus.ERROR) == (
        execution.call_id,
        execution.arguments,
        execution.result,
        execution.status,
    )


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({"inputs": None}, '{"city":"Paris"}'),
        ({"inputs": None, "input_str": '{"city": "Rome"}'}, '{"city":"Rome"}'),
        ({"inputs": None, "input_str": "Paris"}, "Paris"),
    ],
)
def test_arguments_in_the_text_of_a_tools_input(asked, arguments):
    """Older versions of LangChain pass the arguments as text only."""
    assert arguments == read_tool(langchain_tool(**asked)).arguments


@pytest.mark.parametrize(
    ("output", "result", "status"),
    [
        ("sunny", "sunny", ToolStatus.OK),
        (None, None, ToolStatus.OK),
        ({"lc": 1, "kwargs": {"content": "no", "tool_call_id": "b", "status": "error"}}, "no", ToolStatus.ERROR),
    ],
)
def test_a_langchain_tools_result(output, result, status):
    """The output's text, or the message's, whose status says more than the task's."""
    told = json.dumps({"output": output, "kwargs": {"color": "green"}})
    execution = read_tool({**langchain_tool(), "gen_ai.tool.call.result": told, "gen_ai.task.status": "success"})
    assert (result, status) == (execution.result, execution.status)


@pytest.mark.parametrize(
    ("asked", "arguments"),
    [
        ({"args": ["Paris"], "kwargs": {}}, "Paris"),
        ({"args": ["Paris", 3], "kwargs": {}}, '["Paris",3]'),
        ({"args": [], "kwargs": {}}, "{}"),
        ({"args": [], "kwargs": {"city": "Paris"}}, '{"city":"Paris"}'),
    ],
)
def test_a_decorated_tools_arguments(asked, arguments):
    """The Traceloop SDK's decorator tells positional and named arguments apart, and writes the result as JSON."""
    execution = read_tool(
        {
            "traceloop.span.kind": "tool",
            "traceloop.entity.name": "f",
            "traceloop.entity.input": json.dumps(asked),
            "traceloop.entity.output": '"sunny"',
        }
    )
    assert ("f", arguments, "sunny") == (execution.name, execution.arguments, execution.result)


LANGCHAIN = "opentelemetry.instrumentation.langchain"


def test_the_metadata_of_a_run_tell_thread_and_user():
    """Up to 0.54 the configuration of a run stands in its workflow's input alone."""
    run = {"inputs": {}, "tags": [], "metadata": {"user_id": "user", "thread_id": "thread"}, "kwargs": {}}
    attributes = {"traceloop.span.kind": "workflow", "traceloop.entity.input": json.dumps(run)}
    contexts = [
        read_span(make_span({**attributes, **more}, "graph.workflow", scope_name=scope)).context
        for scope, more in ((LANGCHAIN, {}), ("traceloop.tracer", {}), (LANGCHAIN, {f"{PROPERTIES}thread_id": "own"}))
    ]
    assert [("thread", "user"), (None, None), ("own", "user")] == [
        (context.conversation_id, context.user_id) for context in contexts
    ]


def test_the_indexed_form_of_langchain_drops_text_and_quotes_nothing():
    """A history lacks the text beside tool calls, and an answer without text is the JSON of the empty text."""
    attributes = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Hi",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": '""',
        "gen_ai.completion.0.tool_calls.0.id": "a",
        "gen_ai.completion.0.tool_calls.0.name": "f",
        "gen_ai.completion.0.tool_calls.0.arguments": "{}",
    }
    (call,) = read_span(make_span(attributes, "ChatOpenAI.chat", scope_name=LANGCHAIN)).model_calls
    assert [("assistant", ("a", "f", "{}"))] == brief([call.output])
    assert call.lossy_history
