"""OpenLLMetry, LangSmith, Pydantic-AI, Logfire, Quotient, vector stores, and spans of no dialect."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.base import Context, Reading, SpanRef
from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolDefinition, Usage
from tests.unit.otel_receiver.dialects.factories import SPAN, TRACE, brief, make_span

INDEXED = {
    "llm.request.type": "chat",
    "gen_ai.system": "OpenAI",
    "gen_ai.request.model": "m",
    "gen_ai.response.model": "m-2025",
    "gen_ai.prompt.0.role": "user",
    "gen_ai.prompt.0.content": "Hi",
    "gen_ai.prompt.1.role": "assistant",
    "gen_ai.prompt.1.tool_calls.0.id": "a",
    "gen_ai.prompt.1.tool_calls.0.name": "f",
    "gen_ai.prompt.1.tool_calls.0.arguments": '{"city": "Paris"}',
    "gen_ai.prompt.2.role": "tool",
    "gen_ai.prompt.2.tool_call_id": "a",
    "gen_ai.prompt.2.content": "sunny",
    "gen_ai.completion.0.role": "assistant",
    "gen_ai.completion.0.content": "Sunny.",
    "gen_ai.completion.0.finish_reason": "stop",
    "gen_ai.usage.prompt_tokens": 9,
    "gen_ai.usage.completion_tokens": 2,
    "llm.request.functions.0.name": "f",
    "llm.request.functions.0.description": "weather",
    "llm.request.functions.0.parameters": '{"type": "object"}',
    "llm.headers": "None",
}


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_openllmetry_indexed():
    """Up to 0.54 messages, tools and counts are indexed attributes; an assistant without text has no content key."""
    call = read_call(INDEXED)
    assert [("user", "Hi"), ("assistant", ("a", "f", '{"city": "Paris"}')), ("tool", ("a", "sunny"))] == brief(
        call.messages
    )
    assert call.output is not None
    assert ("Sunny.", "stop", "m", "m-2025") == (call.output.text, call.finish_reason, call.model, call.response_model)
    assert (ToolDefinition(name="f", description="weather", parameters='{"type":"object"}'),) == call.tools
    assert (Usage(input_tokens=9, output_tokens=2), frozenset()) == (call.usage, call.flags)


def test_openllmetry_indexed_content_may_be_blocks_in_text():
    """List content is the JSON text of the provider's blocks."""
    blocks = json.dumps(
        [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "https://e.org/x"}}]
    )
    call = read_call({**INDEXED, "gen_ai.prompt.0.content": blocks})
    assert ("user", "Look:", {"media": "image", "sha256": None, "uri": "https://e.org/x"}) == brief(call.messages)[0]


@pytest.mark.parametrize(("kind", "is_agent"), [("workflow", False), ("task", False), ("agent", True)])
def test_traceloop_entities_are_runs(kind, is_agent):
    """Workflows and tasks are runs, an agent entity names the agent; the conversation is an association property."""
    reading = read_span(
        make_span(
            {
                "traceloop.span.kind": kind,
                "traceloop.entity.name": "planner",
                "traceloop.association.properties.session_id": "s",
                "traceloop.association.properties.user_id": "u",
            }
        )
    )
    assert reading.agent is not None
    assert (is_agent, "planner" if is_agent else None, "s", "u") == (
        reading.agent.is_agent,
        reading.context.agent_name,
        reading.context.conversation_id,
        reading.context.user_id,
    )


def test_a_traceloop_tool_unwraps_its_arguments():
    """A tool entity's input wraps the arguments in args and kwargs."""
    (execution,) = read_span(
        make_span(
            {
                "traceloop.span.kind": "tool",
                "traceloop.entity.name": "f",
                "traceloop.entity.input": '{"args": [], "kwargs": {"city": "Paris"}}',
                "traceloop.entity.output": '"sunny"',
            }
        )
    ).tool_executions
    assert ("f", '{"city":"Paris"}') == (execution.name, execution.arguments)


@pytest.mark.parametrize(
    ("kind", "operation"), [("retriever", "embeddings"), ("prompt", "chat"), ("embedding", "embeddings")]
)
def test_langsmith_kinds_win_over_its_wrong_operation_names(kind, operation):
    """Retrievers and prompts are no calls, though their operation name says so."""
    reading = read_span(make_span({"langsmith.span.kind": kind, "gen_ai.operation.name": operation}))
    assert ("langsmith", ()) == (reading.context.dialect, reading.model_calls)


def test_langsmith_project_is_no_conversation():
    """`session_name` is a project; the thread in the metadata is the conversation."""
    base = {
        "langsmith.span.kind": "chain",
        "langsmith.trace.session_name": "default",
        "langsmith.trace.session_id": "p",
    }
    assert read_span(make_span(base)).context.conversation_id is None
    assert "t" == read_span(make_span({**base, "langsmith.metadata.thread_id": "t"})).context.conversation_id


def test_langsmith_wrapped_openai():
    """A wrapped OpenAI client writes the raw request and response."""
    call = read_call(
        {
            "langsmith.span.kind": "llm",
            "gen_ai.prompt": json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": []}),
            "gen_ai.completion": json.dumps(
                {
                    "id": "r",
                    "model": "m-2025",
                    "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
                }
            ),
        }
    )
    assert call.output is not None
    assert ([("user", "Hi")], "Hello", "stop", "r", "m-2025", ()) == (
        brief(call.messages),
        call.output.text,
        call.finish_reason,
        call.response_id,
        call.response_model,
        call.tools,
    )


def test_pydantic_ai_first_version():
    """Version 1 writes prompt and answer as events into one attribute."""
    events = [
        {"event.name": "gen_ai.system.message", "content": "Be brief.", "role": "system", "gen_ai.message.index": 0},
        {"event.name": "gen_ai.user.message", "content": "Hi", "role": "user", "gen_ai.message.index": 0},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": "Hello"}},
    ]
    call = read_call({"gen_ai.operation.name": "chat", "events": json.dumps(events)}, scope_name="pydantic-ai")
    assert call.output is not None
    assert ([("system", "Be brief."), ("user", "Hi")], "Hello") == (brief(call.messages), call.output.text)


def test_pydantic_ai_tools_come_from_the_request_parameters():
    """Releases before the tool definitions carry the tools in the request's parameters."""
    parameters = {"function_tools": [{"name": "f", "description": "d", "parameters_json_schema": {"type": "object"}}]}
    call = read_call(
        {"gen_ai.operation.name": "chat", "model_request_parameters": json.dumps(parameters)}, scope_name="pydantic-ai"
    )
    assert (ToolDefinition(name="f", description="d", parameters='{"type":"object"}'),) == call.tools


@pytest.mark.parametrize("version", [2, 6])
def test_pydantic_ai_results_under_user_or_tool(version):
    """Up to version 5 results stand under the role user, from 6 under tool: both are tool messages."""
    part = {"type": "tool_call_response", "id": "a", "name": "f", "result": "sunny"}
    messages = [{"role": "user" if version < 6 else "tool", "parts": [part]}]
    call = read_call(
        {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(messages)}, scope_name="pydantic-ai"
    )
    assert [("tool", ("a", "sunny"))] == brief(call.messages)


def test_pending_spans_say_nothing():
    """Logfire announces spans before they end: the announcement is no call."""
    span = make_span({"gen_ai.operation.name": "chat", "logfire.span_type": "pending_span"}, scope_name="pydantic-ai")
    assert () == read_span(span).model_calls


REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}


def test_logfire_reports_a_streamed_answer_in_a_second_span():
    """The request's span alone is no call; the span with the answer is, with the whole request."""
    scope = {"scope_name": "logfire.openai"}
    assert () == read_span(make_span({"request_data": json.dumps(REQUEST)}, **scope)).model_calls
    answer = {"message": {"role": "assistant", "content": "Hello"}}
    call = read_call({"request_data": json.dumps(REQUEST), "response_data": json.dumps(answer)}, **scope)
    assert call.output is not None
    assert ([("user", "Hi")], "Hello", "m", True) == (brief(call.messages), call.output.text, call.model, call.streamed)


def test_logfire_tells_a_request_from_a_call_whose_content_is_off():
    """A span with messages and nothing of an answer only announces a stream; counts alone are an answer unseen."""
    request = {"request_data": '{"model":"m"}', "gen_ai.input.messages": '[{"role":"user","content":"Hi"}]'}
    scope = {"scope_name": "logfire.openai"}
    assert () == read_span(make_span(request, **scope)).model_calls
    call = read_call({**request, "gen_ai.usage.input_tokens": 5, "gen_ai.usage.output_tokens": 2}, **scope)
    assert (None, Usage(input_tokens=5, output_tokens=2)) == (call.output, call.usage)


def test_quotient_marks_the_end_of_a_trace():
    """The marker span says that its trace is complete; a plain traced function does not."""
    marker = make_span({"quotient.trace.complete": True, "quotient.trace.marker": True}, name="quotient.end_of_trace")
    plain = make_span({}, name="run", scope_name="quotient.sdk.python")
    assert (True, False) == (read_span(marker).end_of_trace, read_span(plain).end_of_trace)


def test_quotients_resource_names_the_application():
    """`unknown_service` yields to the application's name; the user None is no user."""
    resource = {"service.name": "unknown_service", "app.name": "mealworm", "quotient.user": "None"}
    context = read_span(make_span({}, scope_name="quotient.sdk.python", resource=resource)).context
    assert ("mealworm", None) == (context.service_name, context.user_id)


def test_a_vector_store_query_is_neither_call_nor_tool():
    """A retriever's database span only stands in the trace."""
    reading = read_span(make_span({"db.system.name": "chroma", "db.query.retrieved_documents": "[]"}))
    assert ("vector_store", (), ()) == (reading.context.dialect, reading.model_calls, reading.tool_executions)


def test_a_span_of_no_dialect_gives_only_its_place():
    """An unknown span reads as where it stands, and nothing else."""
    reference = SpanRef(
        trace_id=TRACE, span_id=SPAN, parent_span_id=None, name="GET /", started_at=10**9, ended_at=3 * 10**9
    )
    assert Reading(span=reference, context=Context()) == read_span(make_span({"http.method": "GET"}, name="GET /"))


def test_a_span_of_no_dialect_says_for_whom_it_is():
    """An application's own span may carry the session and the user of the calls below it."""
    held = {"session.id": "s", "user.id": "u", "agent.name": "x"}
    assert Context(conversation_id="s", user_id="u") == read_span(make_span(held, name="turn")).context


@pytest.mark.parametrize(
    ("attributes", "scope", "dialect"),
    [
        ({"openinference.span.kind": "LLM", "gen_ai.operation.name": "chat"}, "", "openinference"),
        ({"langsmith.span.kind": "llm", "gen_ai.operation.name": "chat"}, "", "langsmith"),
        ({"gen_ai.operation.name": "chat", "gen_ai.is_streaming": False}, "", "openllmetry"),
        ({"gen_ai.operation.name": "chat"}, "pydantic-ai", "pydantic_ai"),
        ({"gen_ai.operation.name": "chat"}, "", "otel_genai"),
        ({"gen_ai.tool.name": "f"}, "", "otel_genai"),
        ({"gen_ai.request.model": "m"}, "", "otel_genai"),
        ({"traceloop.span.kind": "task"}, "", "openllmetry"),
    ],
)
def test_identification_goes_from_the_most_telling_mark_to_the_least(attributes, scope, dialect):
    """A dialect that says its own kind wins over one that shares OTel's keys."""
    assert dialect == read_span(make_span(attributes, scope_name=scope)).context.dialect


def test_indexed_gaps_truncate_openllmetry_prompts_too():
    """A lost index is a lost message in every indexed dialect."""
    attributes = {key: value for key, value in INDEXED.items() if not key.startswith("gen_ai.prompt.0")}
    assert QualityFlag.PROMPT_TRUNCATED in read_call(attributes).flags
