"""MLflow: JSON-encoded values, streamed answers out of their chunks, and the kinds of spans."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.base import AgentRun
from otel_receiver.dialects.chunks import join_chunks
from otel_receiver.dialects.limits import STREAMED_CALLS_MAX
from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolDefinition, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

FUNCTION = {"name": "f", "description": "weather", "parameters": {"type": "object"}}
REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
RESPONSE = {
    "id": "r1",
    "model": "m-2025",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Wait. "}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2},
}
CALL = {
    "mlflow.spanType": '"CHAT_MODEL"',
    "mlflow.spanInputs": json.dumps(REQUEST),
    "mlflow.spanOutputs": json.dumps(RESPONSE),
    "mlflow.chat.tools": json.dumps([{"type": "function", "function": FUNCTION}]),
    "mlflow.llm.model": '"m-2025"',
    "mlflow.chat.tokenUsage": '{"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": 4}',
    "mlflow.trace.session": '"s1"',
    "model": '"m"',
}


def piece(index, arguments, call_id=None, name=None):
    """A delta that tells one piece of a tool call."""
    return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}


def chunk(delta, reason=None):
    """A chunk of a streamed chat completion."""
    return {"id": "r1", "model": "m-2025", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


CHUNKS = (
    chunk({"role": "assistant", "content": "Wait. "}),
    chunk(piece(0, "", "a", "f")),
    chunk(piece(0, '{"city": ')),
    chunk(piece(0, '"Paris"}')),
    chunk(piece(1, "{}", "b", "f")),
    chunk({}, "tool_calls"),
)


def events_of(chunks, first=0):
    """The span events of these chunks."""
    return tuple(
        make_event(f"mlflow.chunk.item.{number}", {"mlflow.chunk.value": json.dumps(held)})
        for number, held in enumerate(chunks, first)
    )


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_a_call_is_read_from_its_request_and_response():
    """Prompt, answer, model, counts and ids come from the provider's own words; tools from MLflow's list."""
    call = read_call(CALL)
    assert call.output is not None
    assert ([("user", "Hi")], "Wait. ") == (brief(call.messages), call.output.text)
    assert ("m", "m-2025", "r1", "stop") == (call.model, call.response_model, call.response_id, call.finish_reason)
    assert (ToolDefinition(name="f", description="weather", parameters='{"type":"object"}'),) == call.tools
    assert (Usage(input_tokens=9, output_tokens=2), True, frozenset()) == (call.usage, call.streamed, call.flags)


def test_values_are_decoded_before_they_are_used():
    """A conversation id that MLflow encodes as JSON is the plain id."""
    context = read_span(make_span(CALL)).context
    assert ("mlflow", "s1") == (context.dialect, context.conversation_id)


def test_a_streamed_answer_has_the_calls_of_its_chunks():
    """The outputs drop the tool calls and say `stop`; the chunks, in any order of arrival, tell both."""
    call = read_call(CALL, events=tuple(reversed(events_of(CHUNKS))))
    assert call.output is not None
    assert [("assistant", "Wait. ", ("a", "f", '{"city": "Paris"}'), ("b", "f", "{}"))] == brief([call.output])
    assert ("tool_calls", frozenset()) == (call.finish_reason, call.flags)


def test_a_stream_that_lost_its_first_chunks_keeps_its_text():
    """The event limit drops the oldest chunks: text comes from the outputs, and whole calls leave nothing to flag."""
    call = read_call(CALL, events=events_of(CHUNKS[1:], first=1), dropped_events_count=1)
    assert call.output is not None
    assert ("Wait. ", 2, frozenset()) == (call.output.text, len(call.output.tool_calls), call.flags)


@pytest.mark.parametrize("kept", [2, 4, 5])
def test_a_stream_that_lost_part_of_its_calls_is_flagged(kept):
    """A call without its beginning, a call before it that is gone, or all of them gone: the answer is cut."""
    call = read_call(CALL, events=events_of(CHUNKS[kept:], first=kept), dropped_events_count=kept)
    assert QualityFlag.OUTPUT_TRUNCATED in call.flags


def test_a_stream_without_outputs_is_its_chunks():
    """An aborted stream has no outputs; what was said stands in the chunks, without a finish reason."""
    attributes = {key: value for key, value in CALL.items() if key != "mlflow.spanOutputs"}
    call = read_call(attributes, events=events_of(CHUNKS[:1]))
    assert call.output is not None
    assert ("Wait. ", None) == (call.output.text, call.finish_reason)


def test_a_plain_text_answer():
    """A custom model's string output is a JSON literal; JSON inside it is what the model said."""
    call = read_call({**CALL, "mlflow.spanOutputs": json.dumps('{"city": "Rome"}')})
    assert call.output is not None
    assert '{"city": "Rome"}' == call.output.text


def test_counts_of_mlflow_fill_in():
    """Where the response counts nothing, MLflow's counts stand; cached tokens are inside the input."""
    call = read_call({**CALL, "mlflow.spanOutputs": '"Yo"'})
    assert Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4) == call.usage


def test_an_object_in_place_of_an_answer_is_no_answer():
    """A stream that the application read itself is carried as its name only."""
    call = read_call({**CALL, "mlflow.spanOutputs": '"<anthropic.Stream object at 0x7f1c2a>"'})
    assert (None, None) == (call.output, call.response_model)
    told = read_call({**CALL, "mlflow.spanOutputs": '"<b>Stream</b>"'})
    assert told.output is not None


def test_the_model_asked_for_is_not_the_one_that_answered():
    """Frameworks' spans name one model, the request's; a bare attribute names it where nothing else does."""
    told = {**CALL, "mlflow.spanInputs": '{"messages": []}', "mlflow.spanOutputs": '{"choices": []}'}
    assert ("m-2025", None) == (read_call(told).model, read_call(told).response_model)
    del told["mlflow.llm.model"]
    assert "m" == read_call(told).model


def test_tools_without_their_schemas_are_asked_of_the_parameters():
    """MLflow's list of LangChain's tools drops Anthropic's schemas; the invocation's parameters have them."""
    tool = {"name": "f", "description": "weather", "input_schema": {"type": "object"}}
    told = {**CALL, "mlflow.chat.tools": '[{"type": "function", "function": {"name": "f", "parameters": null}}]'}
    assert (ToolDefinition(name="f"),) == read_call(told).tools
    told["invocation_params"] = json.dumps({"tools": [tool]})
    expected = ToolDefinition(name="f", description="weather", parameters='{"type":"object"}')
    assert (expected,) == read_call(told).tools


def test_an_answers_calls_in_the_list_of_all_messages():
    """MLflow 3.1 writes LangChain's answer without its tool calls, and whole behind the prompt's messages."""
    asked = {"role": "user", "content": "Hi"}
    function = {"name": "f", "arguments": "{}"}
    said = {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "type": "function", "function": function}]}
    told = {**CALL, "mlflow.chat.messages": json.dumps([asked, said])}
    output = read_call(told).output
    assert output is not None
    assert [("assistant", ("a", "f", "{}"))] == brief([output])
    output = read_call({**CALL, "mlflow.chat.messages": json.dumps([asked])}).output
    assert output is not None
    assert [("assistant", "Wait. ")] == brief([output])


def test_langchains_agent_stands_in_the_metadata():
    """The names of its spans are those of chains and nodes."""
    reading = read_span(make_span({**CALL, "metadata": '{"lc_agent_name": "weather", "thread_id": "t"}'}))
    assert "weather" == reading.context.agent_name


def test_a_tool_span():
    """Arguments are the inputs, the result is the decoded output."""
    attributes = {
        "mlflow.spanType": '"TOOL"',
        "mlflow.spanInputs": '{"city": "Paris"}',
        "mlflow.spanOutputs": '"sunny"',
    }
    (execution,) = read_span(make_span(attributes, name="f")).tool_executions
    assert ("f", '{"city": "Paris"}', "sunny") == (execution.name, execution.arguments, execution.result)


@pytest.mark.parametrize(
    ("kind", "agent", "name"),
    [
        ("AGENT", AgentRun(is_agent=True), "planner"),
        ("CHAIN", AgentRun(is_agent=False), None),
        ("EVALUATOR", AgentRun(is_agent=False, auxiliary=True), None),
        ("RETRIEVER", None, None),
        ("EMBEDDING", None, None),
    ],
)
def test_runs_by_type(kind, agent, name):
    """Agents, chains and evaluators are runs; retrievers and embeddings are nothing."""
    reading = read_span(make_span({"mlflow.spanType": json.dumps(kind)}, name="planner"))
    assert (agent, name, ()) == (reading.agent, reading.context.agent_name, reading.model_calls)


def test_what_is_no_chunk_is_no_stream():
    """Values of another shape than a chat chunk give nothing."""
    assert join_chunks(["text", None, {"type": "response.created"}]) is None


def test_the_calls_of_a_stream_are_bounded():
    """A stream that names ever more calls costs bounded memory."""
    chunks = [chunk(piece(index, "{}", str(index), "f")) for index in range(STREAMED_CALLS_MAX + 10)]
    stream = join_chunks(chunks)
    assert stream is not None
    message = stream.response["choices"][0]["message"]
    assert STREAMED_CALLS_MAX == len(message["tool_calls"])


SCOPE = "mlflow.tracing.provider"
SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "Wait. "}], "finish_reason": "stop"}]
TRANSLATED = {
    "model": '"m"',
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m-2025",
    "gen_ai.response.model": "m-2025",
    "gen_ai.input.messages": json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]),
    "gen_ai.output.messages": json.dumps(SAID),
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 9,
    "gen_ai.usage.output_tokens": 2,
}


def test_a_translated_call():
    """As OTel's conventions say, but the model asked for is left over in a bare attribute."""
    reading = read_span(make_span(TRANSLATED, name="chat m-2025", scope_name=SCOPE))
    (call,) = reading.model_calls
    assert call.output is not None
    assert ("mlflow", "m", "m-2025", False) == (
        reading.context.dialect,
        call.model,
        call.response_model,
        call.streamed,
    )
    told = ([("user", "Hi")], "Wait. ", "stop", Usage(input_tokens=9, output_tokens=2))
    assert told == (brief(call.messages), call.output.text, call.finish_reason, call.usage)


def test_a_translated_streamed_answer_is_that_of_its_chunks():
    """The translation says that the answer stopped after its text, with an empty text if it was calls only."""
    for content in ("Wait. ", ""):
        said = [{**SAID[0], "parts": [{"type": "text", "content": content}]}]
        chunks = CHUNKS if content else CHUNKS[1:]
        attributes = {**TRANSLATED, "stream": "true", "gen_ai.output.messages": json.dumps(said)}
        call = read_call(attributes, scope_name=SCOPE, events=events_of(chunks))
        assert call.output is not None
        assert (content, ["a", "b"]) == (call.output.text, [made.id for made in call.output.tool_calls])
        assert ("tool_calls", True, frozenset()) == (call.finish_reason, call.streamed, call.flags)


def test_a_translated_stream_that_lost_its_calls_is_flagged():
    """The text is the translation's; the last chunk says that there were calls, and none is left."""
    call = read_call({**TRANSLATED, "stream": "true"}, scope_name=SCOPE, events=events_of(CHUNKS[-1:], first=200))
    assert call.output is not None
    assert ("Wait. ", {QualityFlag.OUTPUT_TRUNCATED}) == (call.output.text, call.flags)


@pytest.mark.parametrize(
    ("operation", "agent"), [("invoke_agent", AgentRun(is_agent=True)), ("CHAIN", AgentRun(is_agent=False))]
)
def test_translated_runs(operation, agent):
    """Types that OTel has no operation for are handed through."""
    reading = read_span(make_span({"gen_ai.operation.name": operation}, scope_name=SCOPE))
    assert ("mlflow", agent) == (reading.context.dialect, reading.agent)


def test_a_translated_tool_span():
    """A string result is carried as a JSON literal."""
    attributes = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "f",
        "gen_ai.tool.call.arguments": '{"city": "Paris"}',
        "gen_ai.tool.call.result": '"sunny"',
    }
    (execution,) = read_span(make_span(attributes, scope_name=SCOPE)).tool_executions
    assert ("f", '{"city": "Paris"}', "sunny") == (execution.name, execution.arguments, execution.result)
