"""Pydantic-AI's versions and Logfire's own instrumentations, form by form."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import SPAN, brief, make_span

SCRUBBED = "[Scrubbed due to 'session']"


def read_call(attributes, scope_name="pydantic-ai", **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, scope_name=scope_name, **fields)).model_calls
    return call


def first_version(*events):
    """A call of version 1 with these events."""
    return read_call({"gen_ai.operation.name": "chat", "events": json.dumps(events)})


def test_parts_of_the_first_version_say_their_kind():
    """Reasoning stays reasoning and media stay media, though a part names its type `kind`."""
    asked = ["Look", {"kind": "image-url", "url": "https://x.test/a.png"}]
    asked.append({"kind": "binary", "media_type": "image/png", "binary_content": "aGk="})
    said = [{"kind": "thinking", "text": "Hm"}, {"kind": "text", "text": "Yes"}]
    call = first_version(
        {"event.name": "gen_ai.user.message", "content": asked, "role": "user"},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": said}},
    )
    ((_, text, link, image),) = brief(call.messages)
    assert ("Look", "https://x.test/a.png", True) == (text, link["uri"], image["sha256"] is not None)
    assert [("assistant", {"reasoning": "Hm"}, "Yes")] == brief([call.output])
    assert frozenset() == call.flags


def test_hidden_content_of_the_first_version_is_missing():
    """With include_content off a part has its kind only."""
    call = first_version(
        {"event.name": "gen_ai.user.message", "content": {"kind": "text"}, "role": "user"},
        {"event.name": "gen_ai.choice", "index": 0, "message": {"role": "assistant", "content": [{"kind": "text"}]}},
    )
    assert {QualityFlag.CONTENT_MISSING} == call.flags


@pytest.mark.parametrize("key", ["session.id", "user.id", "gen_ai.agent.name"])
def test_a_scrubbed_id_is_none(key):
    """Logfire takes session ids for secrets: its mark would make one conversation of all."""
    context = read_span(make_span({key: SCRUBBED}, scope_name="pydantic-ai")).context
    assert (None, None, None) == (context.conversation_id, context.user_id, context.agent_name)


@pytest.mark.parametrize("arguments", [SCRUBBED, json.dumps({"id": SCRUBBED})])
def test_scrubbed_content_is_redacted(arguments):
    """Logfire scrubs whole values and values inside JSON text, and says so on the span."""
    call = {"type": "tool_call", "id": "a", "name": "f", "arguments": arguments}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [call]}]),
        "logfire.scrubbed": "[]",
    }
    assert {QualityFlag.CONTENT_REDACTED} == read_call(attributes).flags


def test_a_providers_own_tool_is_called_before_it_answers():
    """Call and result of a tool that the provider ran stand in one assistant message."""
    ran = [
        {"type": "tool_call", "id": "b", "name": "web_search", "arguments": "{}", "builtin": True},
        {"type": "tool_call_response", "id": "b", "name": "web_search", "result": "found", "builtin": True},
        {"type": "tool_call", "id": "c", "name": "f", "arguments": "{}"},
    ]
    told = {"type": "tool_call_response", "id": "c", "name": "f", "result": "sunny"}
    messages = [{"role": "assistant", "parts": ran}, {"role": "tool", "parts": [told]}]
    call = read_call({"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(messages)})
    calls = (("b", "web_search", "{}"), ("c", "f", "{}"))
    assert [("assistant", *calls), ("tool", ("b", "found")), ("tool", ("c", "sunny"))] == brief(call.messages)
    output = json.dumps([{"role": "assistant", "parts": ran}])
    call = read_call({"gen_ai.operation.name": "chat", "gen_ai.output.messages": output})
    assert [("assistant", *calls), ("tool", ("b", "found"))] == brief([call.output, *call.own_results])


def test_usage_of_old_releases_is_in_the_details():
    """Up to 1.0 cached tokens stand among the details, under the provider's own word."""
    call = read_call({"gen_ai.operation.name": "chat", "gen_ai.usage.details.cached_tokens": 8})
    assert Usage(cache_read_tokens=8) == call.usage


def test_any_pending_span_says_nothing():
    """Logfire announces spans of every instrumentation: the announcement is no call."""
    attributes = {"openinference.span.kind": "LLM", "logfire.span_type": "pending_span"}
    assert () == read_span(make_span(attributes, scope_name="openinference.instrumentation.litellm")).model_calls


def test_logfire_writes_baggage_under_its_own_names():
    """An application's session and user stand there without any prefix; a conventional key goes before them."""
    told = {"session_id": "s", "user_id": "u"}
    plain = read_span(make_span({"request_data": "{}", **told}, scope_name="logfire.openai")).context
    named = read_span(make_span({**told, "session.id": "t"}, scope_name="pydantic-ai")).context
    assert (("s", "u"), ("t", "u")) == (
        (plain.conversation_id, plain.user_id),
        (named.conversation_id, named.user_id),
    )


def part(kind, **fields):
    """A part of an answer."""
    return {"type": kind, **fields}


def test_items_of_a_responses_answer_are_one_message():
    """Logfire writes a message for each item and no finish reason in them."""
    call = part("tool_call", id="a", name="f", arguments={"x": 1})
    answer = [{"role": "assistant", "parts": [part("text", content="Hm")]}, {"role": "assistant", "parts": [call]}]
    attributes = {"request_data": '{"model":"m"}', "gen_ai.output.messages": json.dumps(answer)}
    assert [("assistant", "Hm", ("a", "f", '{"x":1}'))] == brief([read_call(attributes, "logfire.openai").output])


def test_choices_with_finish_reasons_stay_apart():
    """Several choices are alternatives: the first is the answer."""
    choices = [
        {"role": "assistant", "parts": [part("text", content=text)], "finish_reason": "stop"} for text in ("One", "Two")
    ]
    attributes = {"request_data": '{"model":"m"}', "gen_ai.output.messages": json.dumps(choices)}
    assert [("assistant", "One")] == brief([read_call(attributes, "logfire.openai").output])


RESPONSES_EVENTS = [
    {"event.name": "gen_ai.system.message", "content": "Be brief.", "role": "system"},
    {"event.name": "gen_ai.user.message", "content": "Hi", "role": "user"},
    {"event.name": "gen_ai.unknown", "data": {"type": "reasoning", "summary": [{"text": "Hm"}]}, "role": "unknown"},
    {
        "event.name": "gen_ai.assistant.message",
        "role": "assistant",
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"event.name": "gen_ai.tool.message", "role": "tool", "id": "a", "content": "sunny", "name": "f"},
]
TOLD = [("system", "Be brief."), ("user", "Hi"), ("assistant", {"reasoning": "Hm"}, ("a", "f", "{}"))]


def test_old_logfire_writes_responses_as_one_list_of_events():
    """The answer is what the model says at the list's end; an item of no kind it knows is read as it is."""
    answer = {"event.name": "gen_ai.assistant.message", "content": "Sunny.", "role": "assistant"}
    attributes = {"gen_ai.request.model": "m", "events": json.dumps([*RESPONSES_EVENTS, answer])}
    call = read_call(attributes, "logfire.openai")
    assert [*TOLD, ("tool", ("a", "sunny"))] == brief(call.messages)
    assert ([("assistant", "Sunny.")], frozenset()) == (brief([call.output]), call.flags)
    unanswered = read_call({**attributes, "events": json.dumps(RESPONSES_EVENTS)}, "logfire.openai")
    assert (brief(call.messages), None) == (brief(unanswered.messages), unanswered.output)


def test_an_event_list_beside_a_raw_request():
    """From 4.2x on the raw request names the model and streaming: a streamed request has its answer in another span."""
    answer = {"event.name": "gen_ai.assistant.message", "content": "Sunny.", "role": "assistant"}
    request = {"request_data": '{"model":"m","stream":true}', "events": json.dumps(RESPONSES_EVENTS)}
    assert () == read_span(make_span(request, scope_name="logfire.openai")).model_calls
    call = read_call({**request, "events": json.dumps([*RESPONSES_EVENTS, answer])}, "logfire.openai")
    assert ("Sunny.", "m", True) == (call.output.text, call.model, call.streamed)


def test_anthropics_raw_counts_are_whole():
    """In 4.22 the attribute leaves out what the cache gave; the response's own counts do not."""
    answer = {"message": {"role": "assistant", "content": "Hi"}}
    answer["usage"] = {"input_tokens": 50, "cache_read_input_tokens": 3, "output_tokens": 9}
    attributes = {"request_data": "{}", "response_data": json.dumps(answer), "gen_ai.usage.input_tokens": 50}
    usage = read_call(attributes, "logfire.anthropic").usage
    assert Usage(input_tokens=53, output_tokens=9, cache_read_tokens=3) == usage


def test_logfire_makes_one_list_of_geminis_events():
    """Gemini's contents stand in messages without names, a streamed answer as a choice for each chunk."""
    asked = [
        {"content": "Be brief.", "role": "system"},
        {"content": {"parts": [{"text": "Hi", "function_call": None}], "role": "user"}, "role": "user"},
    ]
    pieces: list[object] = ["Let ", "me.", {"function_call": {"id": None, "args": {"x": 1}, "name": "f"}}]
    chunks = [{"index": i, "message": {"role": "assistant", "content": [said]}} for i, said in enumerate(pieces)]
    chunks[-1]["finish_reason"] = "STOP"
    other = {"index": 3, "finish_reason": "STOP", "message": {"role": "assistant", "content": ["Another choice"]}}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "logfire.span_type": "span",
        "events": json.dumps([*asked, *chunks, other]),
    }
    call = read_call(attributes, "opentelemetry.instrumentation.google_genai")
    ((_, text, (_, name, arguments)),) = brief([call.output])
    assert [("system", "Be brief."), ("user", "Hi")] == brief(call.messages)
    assert ("Let me.", "f", '{"x":1}', "stop") == (text, name, arguments, call.finish_reason)


def test_old_logfire_wraps_anthropics_arguments():
    """Up to 4.x a call's arguments are the block's field `input`, and it has no id."""
    function = {"name": "f", "arguments": '{"input":{"city":"Rome"}}'}
    answer = {"message": {"role": "assistant", "tool_calls": [{"function": function}]}}
    attributes = {"request_data": '{"messages":[{"role":"user","content":"Hi"}]}', "response_data": json.dumps(answer)}
    (call,) = read_call(attributes, "logfire.anthropic").output.tool_calls
    (kept,) = read_call(attributes, "logfire.openai").output.tool_calls
    assert ('{"city":"Rome"}', '{"input":{"city":"Rome"}}') == (call.arguments, kept.arguments)


def test_an_answer_without_text_is_an_answer():
    """Of Anthropic's stream old Logfire tells the text only: an answer of tool calls is empty, not absent."""
    request = {"request_data": '{"model":"m","messages":[{"role":"user","content":"Hi"}],"stream":true}'}
    answer = {"response_data": '{"combined_chunk_content":"","chunk_count":0}', "logfire.span_type": "log"}
    assert () == read_span(make_span(request, scope_name="logfire.anthropic")).model_calls
    call = read_call({**request, **answer}, "logfire.anthropic")
    assert (None, True) == (call.output, call.streamed)


def test_embeddings_are_no_calls():
    """Logfire's embedding spans carry a request and counts, and no answer of a model."""
    attributes = {"request_data": '{"input":"Hi","model":"m"}', "response_data": '{"usage":{"prompt_tokens":2}}'}
    span = make_span(attributes, name="Embedding Creation with {request_data[model]!r}", scope_name="logfire.openai")
    assert () == read_span(span).model_calls


AGENTS = {"scope_name": "logfire.openai_agents"}


def test_logfires_agents_on_the_responses_api():
    """The span holds the items sent and the response, which repeats instructions and tools."""
    tool = {"type": "function", "name": "f", "parameters": {"type": "object"}}
    said = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}
    response = {"id": "r", "instructions": "Be brief.", "tools": [tool], "output": [said], "previous_response_id": "q"}
    attributes = {"raw_input": '[{"role":"user","content":"Hi"}]', "response": json.dumps(response)}
    call = read_call(attributes, name="Responses API with {gen_ai.request.model!r}", **AGENTS)
    assert [("system", "Be brief."), ("user", "Hi")] == brief(call.messages)
    assert [("assistant", ("a", "f", "{}"))] == brief([call.output])
    assert (["f"], "tool_calls", "q") == (
        [tool.name for tool in call.tools],
        call.finish_reason,
        call.continues_response_id,
    )


def test_logfires_agents_on_the_chat_api():
    """The request that Logfire writes there has the answer at its end: prompt and answer stand apart beside it."""
    asked, said = [{"role": "user", "content": "Hi"}], [{"role": "assistant", "content": "Hello"}]
    request = {"messages": [*asked, *said], "model": "m"}
    attributes = {"input": json.dumps(asked), "output": json.dumps(said), "request_data": json.dumps(request)}
    call = read_call(attributes, name="Chat completion with {gen_ai.request.model!r}", **AGENTS)
    assert ([("user", "Hi")], "Hello", None) == (brief(call.messages), call.output.text, call.tools)


def test_logfires_agents_tools_agents_and_traces():
    """A function is a tool, an agent has its name and its tools' names, and a trace the group as conversation."""
    executed = {"name": "f", "input": "{}", "output": "no such city"}
    span = make_span(executed, name="Function: {name}", status=SpanStatus.ERROR, **AGENTS)
    (tool,) = read_span(span).tool_executions
    assert ("f", "{}", "no such city", ToolStatus.ERROR) == (tool.name, tool.arguments, tool.result, tool.status)
    run = read_span(make_span({"name": "planner", "tools": '["f"]'}, name="Agent run: {name!r}", **AGENTS))
    assert ("planner", True, ["f"]) == (run.context.agent_name, run.agent.is_agent, [t.name for t in run.agent.tools])
    trace = read_span(make_span({"group_id": "g", "name": "w"}, name="OpenAI Agents trace: {name}", **AGENTS))
    assert ("g", None, False) == (trace.context.conversation_id, trace.context.agent_name, trace.agent.is_agent)
    guard = read_span(make_span({"name": "g"}, name="Guardrail {name!r} {triggered=}", **AGENTS))
    assert guard.agent.auxiliary


EVALS = {"scope_name": "pydantic-evals"}


def test_pydantic_evals_findings_are_feedback_on_the_case():
    """An assertion scores 1 or 0; a finding names its evaluator and may say why."""

    def found(value, reason=None):
        return {"value": value, "reason": reason, "source": {"name": "Judge", "arguments": None}}

    attributes = {
        "assertions": json.dumps({"sunny": found(value=False, reason="No sun.")}),
        "scores": json.dumps({"length": found(0.5)}),
        "labels": json.dumps({"mood": found("good")}),
    }
    told = read_span(make_span(attributes, name="case: {case_name}", **EVALS)).feedback
    shown = [(item.name, item.score, item.label, item.comment, item.source, item.span_id) for item in told]
    assert [
        ("sunny", 0.0, None, "No sun.", "judge", SPAN),
        ("length", 0.5, None, None, "judge", SPAN),
        ("mood", None, "good", None, "judge", SPAN),
    ] == shown


def test_calls_below_an_evaluator_are_not_the_policys():
    """A judge's calls run inside its evaluator's span; the task's do not."""
    judge = read_span(make_span({}, name="evaluator: {evaluator_name}", **EVALS))
    task = read_span(make_span({}, name="execute {task}", **EVALS))
    assert (True, False) == (judge.agent.auxiliary, task.agent.auxiliary)
