"""What single instrumentations of OpenLLMetry write otherwise than the others."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolStatus
from tests.unit.otel_receiver.dialects.factories import brief, make_span

SCOPE = "opentelemetry.instrumentation."
ASKED = {"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Hi", "llm.request.type": "chat"}
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
}


def read_call(attributes, scope="openai.v1", name="openai.chat"):
    """The one call of a span that this instrumentation wrote."""
    (call,) = read_span(make_span(attributes, name, scope_name=f"{SCOPE}{scope}")).model_calls
    return call


def said(parts, reason):
    """An output message with these parts."""
    return {"role": "assistant", "parts": parts, "finish_reason": reason}


def tool_call(number):
    """A part that calls a tool."""
    return {"type": "tool_call", "id": f"call_{number}", "name": "f", "arguments": {"n": number}}


@pytest.mark.parametrize("kind", ["embedding", "rerank"])
def test_texts_to_embed_or_to_rank_are_no_model_call(kind):
    """Cohere's instrumentation writes them under the keys of prompts."""
    assert () == read_span(make_span({**ASKED, "llm.request.type": kind})).model_calls


@pytest.mark.parametrize(
    ("scope", "name", "dialect"),
    [
        ("groq", "chat m", "openllmetry"),
        ("openai_agents", "openai.response", "openllmetry"),
        ("openai_agents", "chat m", "otel_genai"),
        ("openai_v2", "chat m", "otel_genai"),
    ],
)
def test_the_family_is_known_by_scope_and_name(scope, name, dialect):
    """OpenTelemetry's own instrumentations share the first part of the scope, and some all of it."""
    assert dialect == read_span(make_span(CHAT, name, scope_name=f"{SCOPE}{scope}")).context.dialect


def test_the_items_of_an_agents_answer_are_one_answer():
    """The Agents SDK's text and calls stand as a message each, and the first finish reason is the text's."""
    told = [
        said([{"type": "text", "content": "I look."}], "stop"),
        *(said([tool_call(n)], "tool_call") for n in (1, 2)),
    ]
    answer = {"gen_ai.output.messages": json.dumps(told), "gen_ai.response.finish_reasons": ("stop", "tool_call")}
    call = read_call({**CHAT, **answer}, "openai_agents", "openai.response")
    assert [("assistant", "I look.", ("call_1", "f", '{"n":1}'), ("call_2", "f", '{"n":2}'))] == brief([call.output])
    assert "tool_calls" == call.finish_reason


def test_the_items_of_an_agents_answer_are_one_answer_in_the_indexed_form():
    """Up to 0.54 each item is a completion with an index of its own."""
    answer = {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "I look.",
        "gen_ai.completion.1.role": "assistant",
        "gen_ai.completion.1.finish_reason": "tool_calls",
        "gen_ai.completion.1.tool_calls.0.id": "call_1",
        "gen_ai.completion.1.tool_calls.0.name": "f",
        "gen_ai.completion.1.tool_calls.0.arguments": "{}",
        "gen_ai.completion.2.role": "assistant",
        "gen_ai.completion.2.finish_reason": "tool_calls",
        "gen_ai.completion.2.tool_calls.0.id": "call_2",
        "gen_ai.completion.2.tool_calls.0.name": "f",
        "gen_ai.completion.2.tool_calls.0.arguments": "{}",
    }
    call = read_call({**ASKED, **answer}, "openai_agents", "openai.response")
    assert [("assistant", "I look.", ("call_1", "f", "{}"), ("call_2", "f", "{}"))] == brief([call.output])
    assert "tool_calls" == call.finish_reason


def test_several_answers_to_choose_from_stay_several():
    """The first of a client's choices is the answer."""
    answer = {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "One.",
        "gen_ai.completion.1.role": "assistant",
        "gen_ai.completion.1.content": "Two.",
    }
    assert [("assistant", "One.")] == brief([read_call({**ASKED, **answer}).output])


def test_thinking_is_reasoning_of_the_answer_after_it():
    """Anthropic's thinking stands as a completion of its own, under the role `thinking`, with the finish reason."""
    answer = {
        "gen_ai.completion.0.finish_reason": "tool_use",
        "gen_ai.completion.0.role": "thinking",
        "gen_ai.completion.0.content": "Hm.",
        "gen_ai.completion.1.role": "assistant",
        "gen_ai.completion.1.content": "I look.",
        "gen_ai.completion.1.tool_calls.0.id": "a",
        "gen_ai.completion.1.tool_calls.0.name": "f",
        "gen_ai.completion.1.tool_calls.0.arguments": "{}",
    }
    call = read_call({**ASKED, **answer}, "anthropic", "anthropic.chat")
    assert [("assistant", {"reasoning": "Hm."}, "I look.", ("a", "f", "{}"))] == brief([call.output])
    assert "tool_calls" == call.finish_reason


def test_a_reasoning_summary_is_its_text():
    """The Responses API tells a summary in parts, which the indexed form writes as JSON."""
    summary = json.dumps([{"text": "First.", "type": "summary_text"}, {"text": "Then.", "type": "summary_text"}])
    answer = {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Yes.",
        "gen_ai.completion.0.reasoning": summary,
    }
    call = read_call({**ASKED, **answer}, name="openai.response")
    assert [("assistant", {"reasoning": "First.\nThen."}, "Yes.")] == brief([call.output])


def test_converses_blocks_are_read_from_json():
    """Up to 0.54 the Converse API's blocks, which name no type, stand as JSON text."""
    use = [{"text": "I look."}, {"toolUse": {"toolUseId": "a", "name": "f", "input": {"n": 1}}}]
    result = [{"toolResult": {"toolUseId": "a", "content": [{"text": "no"}], "status": "error"}}]
    call = read_call(
        {
            "llm.request.type": "chat",
            "gen_ai.prompt.0.role": "user",
            "gen_ai.prompt.0.content": json.dumps([{"text": "Hi"}]),
            "gen_ai.prompt.1.role": "assistant",
            "gen_ai.prompt.1.content": json.dumps(use),
            "gen_ai.prompt.2.role": "user",
            "gen_ai.prompt.2.content": json.dumps(result),
        },
        "bedrock",
        "bedrock.converse",
    )
    assert [("user", "Hi"), ("assistant", "I look.", ("a", "f", '{"n":1}')), ("tool", ("a", "no"))] == brief(
        call.messages
    )
    assert ToolStatus.ERROR is call.messages[-1].tool_result.status


def test_haystacks_completions_are_no_answer():
    """The instrumentation writes the names of the generator's outputs in place of what they hold."""
    answer = {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "replies"}
    call = read_call({"llm.request.type": "chat", **answer}, "haystack", "haystack.openai.chat")
    assert call.output is None
    assert QualityFlag.CONTENT_MISSING in call.flags


@pytest.mark.parametrize(("scope", "name", "model"), [("google_generativeai", "chat m", None), ("groq", "chat m", "m")])
def test_a_copy_of_the_requests_model_is_not_the_responses(scope, name, model):
    """Google's instrumentation writes the request's model as the response's, beside the response's own id."""
    told = {"gen_ai.response.model": "m", "gen_ai.response.id": "r"}
    assert model == read_call({**CHAT, **told}, scope, name).response_model


@pytest.mark.parametrize(
    ("output", "result", "status"),
    [
        (json.dumps({"result": "sunny"}), "sunny", ToolStatus.UNKNOWN),
        (json.dumps({"result": "no such city", "is_error": True}), "no such city", ToolStatus.ERROR),
        (None, None, ToolStatus.UNKNOWN),
    ],
)
def test_a_tool_called_over_mcp(output, result, status):
    """The MCP client's span wraps the arguments with the tool's name, and the result's text."""
    attributes = {
        "traceloop.span.kind": "tool",
        "traceloop.entity.name": "f",
        "traceloop.entity.input": json.dumps({"tool_name": "f", "arguments": {"city": "Paris"}}),
    }
    if output is not None:
        attributes["traceloop.entity.output"] = output
    (execution,) = read_span(make_span(attributes, "f.tool")).tool_executions
    assert ("f", '{"city":"Paris"}', result, status) == (
        execution.name,
        execution.arguments,
        execution.result,
        execution.status,
    )


RESPONSES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.input.messages": json.dumps(
        [
            {"role": "assistant", "parts": [{"type": "tool_call", "id": f"fc_{n}", "name": "f", "arguments": {}}]}
            for n in (1, 2)
        ]
        + [
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": f"call_{n}", "response": str(n)}]}
            for n in (1, 2)
        ]
    ),
}


@pytest.mark.parametrize(
    ("name", "ids"), [("openai.response", ["fc_1", "fc_2"]), ("openai.chat", ["call_1", "call_2"])]
)
def test_results_bear_the_ids_of_their_calls_items(name, ids):
    """On the Responses API a call is written with its item's id, and its result with the call's."""
    call = read_call(RESPONSES, name=name)
    assert ids == [message.tool_result.call_id for message in call.messages if message.tool_result]


def test_the_indexed_responses_form_drops_calls_and_results():
    """Up to 0.54 neither is written, so a prompt of a call that was offered tools may lack any number of turns."""
    offered = {"llm.request.functions.0.name": "f", "llm.request.functions.0.parameters": "{}"}
    flags = {
        told: QualityFlag.PROMPT_TRUNCATED in read_call({**ASKED, **extra}, name=name).flags
        for told, extra, name in (
            ("tools", offered, "openai.response"),
            ("no tools", {}, "openai.response"),
            ("chat", offered, "openai.chat"),
        )
    }
    assert {"tools": True, "no tools": False, "chat": False} == flags


@pytest.mark.parametrize(
    ("scope", "name", "version", "missing"),
    [
        ("openai_agents", "openai.response", "0.60.0", True),
        ("openai_agents", "openai.response", "0.61.0", False),
        ("google_generativeai", "gemini.generate_content", "0.53.3", True),
        ("openai.v1", "openai.chat", "0.53.3", False),
    ],
)
def test_a_system_prompt_that_is_never_told_is_flagged(scope, name, version, missing):
    """Gemini's indexed form and the Agents SDK's instrumentation up to 0.60 leave it out."""
    span = make_span(ASKED, name, scope_name=f"{SCOPE}{scope}", scope_version=version)
    (call,) = read_span(span).model_calls
    assert missing is (QualityFlag.SYSTEM_MISSING in call.flags)


PART = "video_metadata=None text=None function_call={} function_response={} thought=None"
CALLED = PART.format("FunctionCall(\n  args={\n    'city': 'Paris'\n  },\n  name='f'\n)", "None")
RETURNED = PART.format("None", "FunctionResponse(\n  name='f',\n  response={\n    'result': 'sunny'\n  }\n)")


def test_geminis_parts_are_read_from_reprs():
    """Up to 0.54 a function's call and its response stand as the SDK prints them, in a block of text."""
    call = read_call(
        {
            **ASKED,
            "gen_ai.prompt.0.content": json.dumps([{"type": "text", "text": "Hi"}]),
            "gen_ai.prompt.1.role": "model",
            "gen_ai.prompt.1.content": json.dumps([{"type": "text", "text": text} for text in ("I look.", CALLED)]),
            "gen_ai.prompt.2.role": "user",
            "gen_ai.prompt.2.content": json.dumps([{"type": "text", "text": RETURNED}]),
        },
        "google_generativeai",
        "gemini.generate_content",
    )
    made = call.messages[1].tool_calls[0].id
    assert [
        ("user", "Hi"),
        ("assistant", "I look.", (made, "f", '{"city":"Paris"}')),
        ("tool", (made, '{"result":"sunny"}')),
    ] == brief(call.messages)
    assert call.tail_only


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[ChatCompletionMessageToolCall(function=Function(arguments='{}', name='f'), id='a', type='function')]",
            ("assistant", ("a", "f", "{}")),
        ),
        ("[ToolCall(s) are fun]", ("assistant", "[ToolCall(s) are fun]")),
    ],
)
def test_an_answer_of_crewai_that_calls_tools_is_a_repr(text, said):
    """The instrumentation writes what CrewAI's model class returns, which for tool calls is a list of objects."""
    answer = {"gen_ai.output.messages": json.dumps([said_by({"type": "text", "content": text})])}
    assert [said] == brief([read_call({**CHAT, **answer}, "crewai.instrumentation", "m.llm").output])


def said_by(*parts):
    """An output message without a finish reason."""
    return {"role": "assistant", "parts": list(parts)}
