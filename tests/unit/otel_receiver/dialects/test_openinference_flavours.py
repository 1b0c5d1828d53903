"""What single OpenInference flavours do to calls, results, tools and answers, each seen in a captured payload."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolStatus
from tests.unit.otel_receiver.dialects.factories import make_event, make_span

KIND = "openinference.span.kind"
ASKED = {
    KIND: "LLM",
    "llm.model_name": "m",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "Hi",
}
PARIS, ROME = '{"city": "Paris"}', '{"city": "Rome"}'
CALLED = "llm.output_messages.0.message.tool_calls.0.tool_call"


def read_call(attributes, **fields):
    """The model call of an LLM span that asks one question, with these attributes besides."""
    (call,) = read_span(make_span({**ASKED, **attributes}, **fields)).model_calls
    return call


def told(message):
    """A message as its text and its calls."""
    return message.text, [(call.id, call.name, call.arguments) for call in message.tool_calls]


def chunk(**delta):
    """A chunk of OpenAI's stream, as agno's flavour writes it."""
    choice = {"index": 0, "delta": delta, "finish_reason": delta.pop("reason", None)}
    return json.dumps({"id": "r", "model": "m-1", "object": "chat.completion.chunk", "choices": [choice]})


def test_an_answer_in_openais_chunks_is_put_together():
    """Agno's flavour up to 0.1.5 gives a streamed answer as a list of JSON texts, one a chunk."""
    chunks = [
        chunk(content="Let "),
        chunk(content="me."),
        chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"ci'}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": 'ty": "Paris"}'}}]),
        chunk(tool_calls=[{"index": 1, "id": "b", "function": {"name": "f", "arguments": ROME}}]),
        chunk(reason="tool_calls"),
    ]
    call = read_call({"output.value": json.dumps(chunks)})
    assert ("Let me.", [("a", "f", PARIS), ("b", "f", ROME)]) == told(call.output)
    assert ("tool_calls", "m-1", "r") == (call.finish_reason, call.response_model, call.response_id)


EVENTS = [
    {"type": "message_start", "message": {"id": "r", "model": "c", "usage": {"input_tokens": 5, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let"}},
    {"type": "text", "text": "Let", "snapshot": "Let"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " me."}},
    {"type": "content_block_stop", "index": 0, "content_block": {"type": "text", "text": "Let me."}},
    {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "a", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"city": '}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '"Paris"}'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
]


def test_an_answer_in_anthropics_events_is_put_together():
    """The SDK's own events, which repeat what was told, add nothing; counts come from the first and the last event."""
    call = read_call({"output.value": json.dumps([json.dumps(event) for event in EVENTS])})
    assert ("Let me.", [("a", "f", PARIS)]) == told(call.output)
    assert ("tool_calls", "c", "r") == (call.finish_reason, call.response_model, call.response_id)
    assert (5, 9) == (call.usage.input_tokens, call.usage.output_tokens)


def test_an_answer_in_geminis_chunks_is_put_together():
    """Texts side by side are one text; the last chunk says what the answer cost."""
    parts = [{"text": "Let"}, {"text": " me."}, {"function_call": {"name": "f", "args": {"city": "Paris"}}}]
    chunks = [{"candidates": [{"content": {"role": "model", "parts": [part]}}]} for part in parts]
    chunks[-1]["usage_metadata"] = {"prompt_token_count": 5}
    call = read_call({"output.value": json.dumps(chunks)})
    assert ("Let me.", [("f", '{"city":"Paris"}')]) == (
        call.output.text,
        [(made.name, made.arguments) for made in call.output.tool_calls],
    )
    assert call.usage.input_tokens == 5


def model_response(*calls):
    """A chunk of agno 2's own stream, as its repr."""
    return f"ModelResponse(role=None, content=None, tool_calls={list(calls)!r}, response_usage=None)"


def test_calls_without_an_index_stay_apart():
    """Agno gives each of Anthropic's parallel calls whole, in a chunk of its own, at the first position of its list."""
    made = [
        {"id": name, "type": "function", "function": {"name": "f", "arguments": text}}
        for name, text in (("a", PARIS), ("b", ROME))
    ]
    call = read_call({"output.value": json.dumps([model_response(made[0]), model_response(made[1]), model_response()])})
    assert ("", [("a", "f", PARIS), ("b", "f", ROME)]) == told(call.output)


def test_arguments_that_were_encoded_twice_are_read_once():
    """Agno's flavour writes the JSON of the JSON text at 0.1.25."""
    call = read_call(
        {f"{CALLED}.id": "a", f"{CALLED}.function.name": "f", f"{CALLED}.function.arguments": json.dumps(PARIS)}
    )
    assert ("", [("a", "f", PARIS)]) == told(call.output)


def test_calls_that_only_the_raw_answer_has_are_found():
    """Portkey's flavour spells out an answer's text and leaves its calls to the raw response."""
    made = {"id": "a", "type": "function", "function": {"name": "f", "arguments": PARIS}}
    raw = {"choices": [{"message": {"role": "assistant", "content": "Wait.", "tool_calls": [made]}}]}
    spelled = {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": "Wait."}
    call = read_call({**spelled, "output.value": json.dumps(raw, separators=(",", ":"))})
    assert ("Wait.", [("a", "f", PARIS)]) == told(call.output)


def test_tools_below_the_keyword_arguments_are_found():
    """Portkey's flavour has them in `kwargs`, in the parameters as in the raw request."""
    asked = {"model": "m", "messages": [], "kwargs": {"tools": [{"type": "function", "function": {"name": "f"}}]}}
    call = read_call({"input.value": json.dumps(asked), "llm.invocation_parameters": json.dumps(asked)})
    assert ["f"] == [tool.name for tool in call.tools or ()]


def test_an_answer_that_calls_a_tool_was_offered_one():
    """A request that names a model and messages but no tools is not the whole request then."""
    made = {"id": "a", "type": "function", "function": {"name": "f", "arguments": PARIS}}
    raw = json.dumps({"choices": [{"message": {"role": "assistant", "tool_calls": [made]}}]})
    asked = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    assert read_call({"input.value": asked, "output.value": raw}).tools is None


def test_results_that_only_the_raw_request_names_are_found():
    """Agno's flavour writes Anthropic's results as the user's words up to 0.1.x."""
    raw = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {"city": "Paris"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "sun"}]},
    ]
    spelled = {
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.message.content": "Let me check.",
        "llm.input_messages.2.message.role": "user",
        "llm.input_messages.2.message.content": '[{"type": "tool_result", "tool_use_id": "a", "content": "sun"}]',
    }
    call = read_call({**spelled, "input.value": json.dumps({"messages": raw})})
    result = call.messages[-1].tool_result
    assert result is not None
    assert ("a", "sun") == (result.call_id, result.content)


def test_results_without_ids_are_read_in_the_raw_request():
    """Bedrock's flavour makes one message of all of a turn's results in Anthropic's form, and leaves out their ids."""
    uses = [{"type": "tool_use", "id": name, "name": "f", "input": {"city": "Paris"}} for name in "ab"]
    results = [{"type": "tool_result", "tool_use_id": name, "content": "sun"} for name in "ab"]
    raw = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": uses},
        {"role": "user", "content": results},
    ]
    made = "llm.input_messages.1.message.tool_calls"
    spelled = {
        "llm.input_messages.1.message.role": "assistant",
        **{f"{made}.{index}.tool_call.id": name for index, name in enumerate("ab")},
        **{f"{made}.{index}.tool_call.function.name": "f" for index in range(2)},
        **{f"{made}.{index}.tool_call.function.arguments": PARIS for index in range(2)},
        "llm.input_messages.2.message.role": "tool",
        **{f"llm.input_messages.2.message.contents.{index}.message_content.text": "sun" for index in range(2)},
    }
    call = read_call({**spelled, "input.value": json.dumps({"messages": raw})})
    assert ["a", "b"] == [message.tool_result.call_id for message in call.messages if message.tool_result is not None]


def test_results_that_were_lost_are_found_in_the_raw_request():
    """The anthropic flavour keeps the last of a turn's results up to 0.1.x."""
    uses = [{"type": "tool_use", "id": name, "name": "f", "input": {}} for name in "ab"]
    results = [{"type": "tool_result", "tool_use_id": name, "content": name} for name in "ab"]
    asked = {"role": "user", "content": "Hi"}
    raw = [asked, {"role": "assistant", "content": uses}, {"role": "user", "content": results}]
    made = "llm.input_messages.1.message.tool_calls"
    spelled = {
        "llm.input_messages.1.message.role": "assistant",
        **{f"{made}.{index}.tool_call.id": name for index, name in enumerate("ab")},
        **{f"{made}.{index}.tool_call.function.name": "f" for index in range(2)},
        **{f"{made}.{index}.tool_call.function.arguments": "{}" for index in range(2)},
        "llm.input_messages.2.message.role": "user",
        "llm.input_messages.2.message.content": "b",
        "llm.input_messages.2.message.tool_call_id": "b",
    }
    call = read_call({**spelled, "input.value": json.dumps({"messages": raw})})
    assert ["a", "b"] == [message.tool_result.call_id for message in call.messages if message.tool_result is not None]


@pytest.mark.parametrize(
    "value", ["<groq.Stream object at 0x7f>", '{"messages": "<a._stream._Accumulator object at 0x7f>"}']
)
def test_the_repr_of_an_object_is_no_answer(value):
    """Groq's flavour cannot read a stream and writes the stream object's repr; anthropic's did up to 0.1.x."""
    assert read_call({"output.value": value}).output is None


def test_chunks_in_a_geminis_history_are_one_turn():
    """The client's chat keeps every chunk of a streamed turn as a content of its own."""
    spelled = {}
    for index, text in enumerate(("Let", " me."), 1):
        spelled[f"llm.input_messages.{index}.message.role"] = "model"
        spelled[f"llm.input_messages.{index}.message.content"] = text
    call = read_call(spelled)
    assert [("user", "Hi"), ("assistant", "Let me.")] == [(message.role, message.text) for message in call.messages]


def run_together(name, call_id, arguments=PARIS + ROME, tools=()):
    """The answer of a call that the JavaScript flavour ran together."""
    offered = {f"llm.tools.{index}.tool.json_schema": json.dumps({"name": tool}) for index, tool in enumerate(tools)}
    made = {f"{CALLED}.id": call_id, f"{CALLED}.function.name": name, f"{CALLED}.function.arguments": arguments}
    return read_call({**offered, **made})


def test_calls_that_were_run_together_come_apart():
    """The JavaScript flavour adds up the pieces of all calls of a stream as if they were one call's."""
    call = run_together("ff", "call_acall_b")
    assert ("", [("call_a", "f", PARIS), ("call_b", "f", ROME)]) == told(call.output)
    assert QualityFlag.IDS_SYNTHESISED not in call.flags


def test_names_come_apart_into_those_of_the_tools():
    """Calls of different tools have names of different lengths."""
    call = run_together("get_weatherget_time", "call_acall_b", tools=("get_time", "get_weather"))
    assert ["get_weather", "get_time"] == [made.name for made in call.output.tool_calls]


def test_ids_of_other_lengths_are_not_guessed():
    """Ids that do not come apart evenly are made and flagged."""
    assert QualityFlag.IDS_SYNTHESISED in run_together("ff", "call_acall_bb").flags


@pytest.mark.parametrize(("name", "arguments"), [("f", PARIS + ROME), ("ff", "{}{"), ("ff", PARIS)])
def test_what_does_not_come_apart_stays_as_it_is(name, arguments):
    """A name that no two tools spell, and arguments that are not several objects, are left alone."""
    call = run_together(name, "call_a", arguments)
    assert ("", [("call_a", name, arguments)]) == told(call.output)


def test_a_team_is_named_by_its_own_key():
    """Agno's flavour writes a member's name over the team's node at 0.1.25."""
    attributes = {KIND: "AGENT", "agno.team": "team", "graph.node.name": "member"}
    span = make_span(attributes, scope_name="openinference.instrumentation.agno")
    assert read_span(span).context.agent_name == "team"


def test_spans_that_a_processor_rewrote_keep_their_dialect():
    """The Vercel AI SDK's and OpenLLMetry's own keys, which stand beside OpenInference's, say more."""
    rewritten = (
        {"ai.operationId": "ai.generateText.doGenerate"},
        {"gen_ai.prompt.0.role": "user", "llm.request.type": "chat"},
    )
    dialects = [read_span(make_span({**ASKED, **attributes})).context.dialect for attributes in rewritten]
    assert ["vercel_ai", "openllmetry"] == dialects


@pytest.mark.parametrize(
    ("events", "status"), [((), ToolStatus.UNKNOWN), ((make_event("exception", {}),), ToolStatus.ERROR)]
)
def test_an_error_without_its_exception_is_another_spans(events, status):
    """OpenInference's processor for the Vercel AI SDK copies a trace's first error to the spans that end later."""
    attributes = {KIND: "TOOL", "ai.operationId": "ai.toolCall", "ai.toolCall.name": "f", "ai.toolCall.result": '"sun"'}
    span = make_span(attributes, status=SpanStatus.ERROR, status_message="no such city", events=events)
    (execution,) = read_span(span).tool_executions
    assert status == execution.status


def test_autogens_results_and_thoughts_are_read():
    """All results of a turn are JSON texts of one message; what is said beside calls is the message's thought."""
    results = [
        {"name": "f", "content": "sun", "call_id": "a"},
        {"name": "f", "content": "no", "call_id": "b", "is_error": True},
    ]
    made = "llm.input_messages.1.message.tool_calls"
    spelled = {
        "llm.input_messages.1.message.role": "assistant",
        "llm.input_messages.1.thought": "Wait.",
        **{f"{made}.{index}.tool_call.id": name for index, name in enumerate("ab")},
        **{f"{made}.{index}.tool_call.function.name": "f" for index in range(2)},
        **{f"{made}.{index}.tool_call.function.arguments": PARIS for index in range(2)},
        "llm.input_messages.2.message.role": "function",
        **{f"llm.input_messages.2.function.{index}": json.dumps(result) for index, result in enumerate(results)},
    }
    _, said, *given = read_call(spelled).messages
    assert ("Wait.", [("a", "f", PARIS), ("b", "f", PARIS)]) == told(said)
    found = [message.tool_result for message in given]
    assert [("a", "sun", ToolStatus.UNKNOWN), ("b", "no", ToolStatus.ERROR)] == [
        (result.call_id, result.content, result.status) for result in found if result is not None
    ]


def test_autogens_answer_has_its_thought_in_the_raw_response():
    """Only the flavour's own scope makes a thought what was said."""
    made = {f"{CALLED}.id": "a", f"{CALLED}.function.name": "f", f"{CALLED}.function.arguments": PARIS}
    raw = json.dumps({"finish_reason": "function_calls", "content": [], "thought": "Wait."})
    scopes = ("openinference.instrumentation.autogen_agentchat", "openinference.instrumentation.openai")
    calls = [read_call({**made, "output.value": raw}, scope_name=scope) for scope in scopes]
    assert ["Wait.", ""] == [call.output.text for call in calls]


def test_adks_own_span_is_read_from_its_raw_values():
    """The messages of all calls of a run lie one over another on it; without raw values they are all there is."""
    stale = {f"{CALLED}.id": "a", f"{CALLED}.function.name": "f", f"{CALLED}.function.arguments": PARIS}
    asked = json.dumps({"contents": [{"role": "user", "parts": [{"text": "Well?"}]}]})
    answered = json.dumps({"content": {"role": "model", "parts": [{"text": "Sun."}]}, "finish_reason": "STOP"})
    raw = read_call({**stale, "input.value": asked, "output.value": answered}, scope_name="gcp.vertex.agent")
    assert (["Well?"], ("Sun.", [])) == ([message.text for message in raw.messages], told(raw.output))
    bare = read_call(stale, scope_name="gcp.vertex.agent")
    assert (["Hi"], ("", [("a", "f", PARIS)])) == ([message.text for message in bare.messages], told(bare.output))


def test_instructions_that_only_the_raw_request_has_are_found():
    """Bedrock's flavour spells out the messages of Anthropic's body without its system prompt up to 0.1.26."""
    raw = {"system": "Be brief.", "messages": [{"role": "user", "content": "Hi"}]}
    call = read_call({"input.value": json.dumps(raw)})
    assert [("system", "Be brief."), ("user", "Hi")] == [(message.role, message.text) for message in call.messages]


def test_geminis_contents_are_read_from_their_reprs():
    """The google-genai flavour up to 0.1.x writes a turn's results as the user's words, and each content's repr."""
    call = "function_call=FunctionCall(\n    args={\n      'city': 'Paris'\n    },\n    name='f'\n  )"
    result = "function_response=FunctionResponse(\n    name='f',\n    response={\n      'result': 'sun'\n    }\n  )"
    told = (("text='Hi'", "user"), (call, "model"), (result, "user"))
    raw = [f"parts=[Part(\n  {part}\n)] role='{role}'" for part, role in told]
    spelled = {
        "llm.input_messages.1.message.role": "model",
        "llm.input_messages.1.message.function_call_name": "f",
        "llm.input_messages.2.message.role": "user",
        "llm.input_messages.2.message.content": '{"result": "sun"}',
    }
    said = read_call({**spelled, "input.value": json.dumps({"contents": raw})}).messages
    assert ["f"] == [made.name for made in said[1].tool_calls]
    assert said[2].tool_result is not None
    assert ("f", '{"result":"sun"}') == (said[2].tool_result.name, said[2].tool_result.content)


def test_a_definition_without_parameters_has_none():
    """The definition itself is no schema of its parameters."""
    call = read_call({"llm.tools.0.tool.json_schema": json.dumps({"name": "f", "description": "d"})})
    (tool,) = call.tools or ()
    assert ("f", "d", None) == (tool.name, tool.description, tool.parameters)
    assert QualityFlag.TOOLS_INCOMPLETE in call.flags


def test_a_tools_arguments_may_be_a_python_dictionary():
    """LangChain's tools get them so up to 0.3; calls and executions are matched by arguments."""
    attributes = {KIND: "TOOL", "tool.name": "f", "input.value": "{'city': 'Paris'}", "output.value": "sun"}
    (execution,) = read_span(make_span(attributes)).tool_executions
    assert execution.arguments == '{"city":"Paris"}'
