"""Google's Agent Development Kit: whole requests on spans, parts in log records, stand-in ids, streamed chunks."""

from __future__ import annotations

import json

from otel_receiver.dialects.base import ToolExecution
from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_log, make_span

SCOPE = "gcp.vertex.agent"
DETAILS = "gen_ai.client.inference.operation.details"
REQUEST = {
    "model": "gemini-2.5-flash",
    "config": {
        "system_instruction": "Be kind.",
        "tools": [
            {
                "function_declarations": [
                    {
                        "name": "f",
                        "description": "The weather.",
                        "parameters": {"type": "OBJECT", "properties": {"type": {"type": "STRING", "title": None}}},
                    }
                ]
            }
        ],
    },
    "contents": [
        {"role": "user", "parts": [{"text": "Hi"}]},
        {
            "role": "model",
            "parts": [{"text": "hm", "thought": True}, {"function_call": {"id": "a", "name": "f", "args": {"x": 1}}}],
        },
        {"role": "user", "parts": [{"function_response": {"id": "a", "name": "f", "response": {"result": "sunny"}}}]},
    ],
}
RESPONSE = {
    "content": {"role": "model", "parts": [{"text": "Sunny."}]},
    "finish_reason": "STOP",
    "usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 2},
}
CALL = {
    "gen_ai.system": "gcp.vertex.agent",
    "gen_ai.request.model": "gemini-2.5-flash",
    "gcp.vertex.agent.session_id": "s-1",
    "gcp.vertex.agent.llm_request": json.dumps(REQUEST),
    "gcp.vertex.agent.llm_response": json.dumps(RESPONSE),
}


def read(attributes, name="call_llm", logs=(), **fields):
    """What a span of the kit's tracer says."""
    return read_span(make_span(attributes, name=name, scope_name=SCOPE, **fields), logs)


def test_request_and_response_of_a_call():
    """The instruction lies in the config; results have the role user; a thought is reasoning."""
    reading = read(CALL)
    (call,) = reading.model_calls
    expected = [
        ("system", "Be kind."),
        ("user", "Hi"),
        ("assistant", {"reasoning": "hm"}, ("a", "f", '{"x":1}')),
        ("tool", ("a", '{"result":"sunny"}')),
    ]
    assert expected == brief(call.messages)
    assert call.output is not None
    assert ("Sunny.", "stop", "gemini-2.5-flash") == (call.output.text, call.finish_reason, call.model)
    assert Usage(input_tokens=9, output_tokens=2) == call.usage
    assert ("s-1", "google_adk", frozenset()) == (reading.context.conversation_id, reading.context.dialect, call.flags)


def test_gemini_schemas_become_json_schema():
    """Type words are lower case, unset fields are gone; a property that is called `type` stays."""
    (call,) = read(CALL).model_calls
    schema = '{"type":"object","properties":{"type":{"type":"string"}}}'
    assert (ToolDefinition(name="f", description="The weather.", parameters=schema),) == call.tools


def test_the_responses_counts_are_the_calls():
    """Releases before 1.9 put the total where the output's count belongs; cached and thought tokens are told apart."""
    counts = {"prompt_token_count": 9, "candidates_token_count": 2, "total_token_count": 11}
    held = {**RESPONSE, "usage_metadata": {**counts, "cached_content_token_count": 4, "thoughts_token_count": 1}}
    told = {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 11}
    (call,) = read({**CALL, **told, "gcp.vertex.agent.llm_response": json.dumps(held)}).model_calls
    assert Usage(input_tokens=9, output_tokens=2, cache_read_tokens=4, reasoning_tokens=1) == call.usage


def test_the_last_piece_of_a_broken_stream_is_no_whole_answer():
    """Each chunk takes the place of the one before; one that says it is partial came last when the stream broke off."""
    held = {"content": RESPONSE["content"], "partial": True}
    (call,) = read({**CALL, "gcp.vertex.agent.llm_response": json.dumps(held)}).model_calls
    assert call.output is not None
    assert ("Sunny.", True, {QualityFlag.OUTPUT_TRUNCATED}) == (call.output.text, call.streamed, call.flags)


def test_a_response_without_content_still_tells_why():
    """A blocked answer has a finish reason and counts, and nothing that was said."""
    held = {"error_code": "SAFETY", "finish_reason": "SAFETY", "usage_metadata": {"prompt_token_count": 9}}
    (call,) = read({**CALL, "gcp.vertex.agent.llm_response": json.dumps(held)}).model_calls
    assert (None, "content_filter", 9) == (call.output, call.finish_reason, call.usage.input_tokens)


def test_elided_message_events_tell_no_messages():
    """By default every message of the log records is a marker under the role user, which most of them never had."""
    names = ("gen_ai.system.message", "gen_ai.user.message", "gen_ai.user.message", "gen_ai.choice")
    logs = tuple(make_log(name, body={"content": "<elided>"}) for name in names)
    (call,) = read(NEWER, name="generate_content gemini-2.5-flash", logs=logs).model_calls
    flags = {QualityFlag.CONTENT_MISSING, QualityFlag.CONTENT_REDACTED}
    assert ((), None, flags) == (call.messages, call.output, call.flags)


def test_message_events_hold_geminis_contents():
    """With content in log records every message, the model's too, is an event of the user with Gemini's role inside."""
    bodies = [{"content": "Be kind."}, *({"content": content} for content in REQUEST["contents"])]
    names = ["gen_ai.system.message", *(["gen_ai.user.message"] * 3)]
    logs = tuple(make_log(name, body=body) for name, body in zip(names, bodies, strict=True))
    choice = make_log("gen_ai.choice", body={"content": RESPONSE["content"], "index": 0, "finish_reason": "STOP"})
    (call,) = read(NEWER, name="generate_content gemini-2.5-flash", logs=(*logs, choice)).model_calls
    (whole,) = read(CALL).model_calls
    assert (brief(whole.messages), whole.output, "stop") == (brief(call.messages), call.output, call.finish_reason)


def test_without_content_the_call_is_flagged():
    """With content capture off request and response are empty objects."""
    empty = {"gcp.vertex.agent.llm_request": "{}", "gcp.vertex.agent.llm_response": "{}"}
    (call,) = read({**CALL, **empty}).model_calls
    assert ((), None, {QualityFlag.CONTENT_MISSING}) == (call.messages, call.output, call.flags)


def parts_log(output, **attributes):
    """The log record of a call in the newer form."""
    asked = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    held = {"gen_ai.input.messages": asked, "gen_ai.output.messages": output, **attributes}
    return make_log(DETAILS, attributes=held)


NEWER = {"gen_ai.operation.name": "generate_content", "gen_ai.request.model": "gemini-2.5-flash"}


def test_content_and_user_stand_in_the_log_record():
    """Newer releases put them there only."""
    answer = {"role": "model", "parts": [{"type": "text", "content": "Hello."}], "finish_reason": "stop"}
    reading = read(NEWER, name="generate_content gemini-2.5-flash", logs=(parts_log([answer], **{"user.id": "u"}),))
    (call,) = reading.model_calls
    assert call.output is not None
    assert ([("user", "Hi")], "Hello.", "u") == (brief(call.messages), call.output.text, reading.context.user_id)


def chunk(text, reason=""):
    """One chunk of a streamed answer."""
    return {"role": "assistant", "parts": [{"type": "text", "content": text}], "finish_reason": reason}


def test_the_last_chunk_of_a_streamed_answer_is_whole():
    """Chunks before it are pieces; a last one without parts says nothing."""
    chunks = [chunk("Hel"), chunk("lo."), chunk("Hello.", "stop")]
    for said in (chunks, [*chunks, {"role": "", "parts": []}]):
        (call,) = read(NEWER, logs=(parts_log(said),)).model_calls
        assert call.output is not None
        assert ("Hello.", True, frozenset()) == (call.output.text, call.streamed, call.flags)


def test_a_stream_that_does_not_finish_is_a_truncated_answer():
    """Without a finish reason the last chunk is a piece as well."""
    (call,) = read(NEWER, logs=(parts_log([chunk("Hel"), chunk("lo")]),)).model_calls
    assert (True, {QualityFlag.OUTPUT_TRUNCATED}) == (call.streamed, call.flags)


def test_the_log_record_completes_the_spans_tools():
    """With content off on spans, the span's definitions come without their parameters."""
    tool = {"type": "function", "name": "f", "description": "The weather.", "parameters": None}
    schema = {"type": "object", "properties": {}}
    answer = [chunk("Hello.", "stop")]
    log = parts_log(answer, **{"gen_ai.tool.definitions": [{**tool, "parameters": schema}]})
    (call,) = read({**NEWER, "gen_ai.tool.definitions": json.dumps([tool])}, logs=(log,)).model_calls
    expected = ToolDefinition(name="f", description="The weather.", parameters='{"type":"object","properties":{}}')
    assert ((expected,), frozenset()) == (call.tools, call.flags)


def test_stand_in_ids_are_no_ids():
    """`<name>_<part>` differs between call and result, so both get the made id of the call's place."""
    contents = [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {
            "role": "model",
            "parts": [
                {"type": "text", "content": "Let me see."},
                {"type": "tool_call", "id": "f_1", "name": "f", "arguments": {"x": 1}},
            ],
        },
        {"role": "user", "parts": [{"type": "tool_call_response", "id": "f_0", "response": {"result": "sunny"}}]},
    ]
    output = [{"role": "model", "parts": [{"type": "tool_call", "id": "f_0", "name": "f", "arguments": {}}]}]
    held = {"gen_ai.input.messages": contents, "gen_ai.output.messages": output}
    (call,) = read(NEWER, logs=(make_log(DETAILS, attributes=held),)).model_calls
    made, next_made = "call_synthetic_1_0", "call_synthetic_3_0"
    expected = [
        ("user", "Hi"),
        ("assistant", "Let me see.", (made, "f", '{"x":1}')),
        ("tool", (made, '{"result":"sunny"}')),
    ]
    assert expected == brief(call.messages)
    assert call.output is not None
    assert [next_made] == [part.id for part in call.output.tool_calls]
    assert {QualityFlag.IDS_SYNTHESISED} == call.flags


def test_ids_not_specified():
    """The word for a missing id is none."""
    request = json.loads(json.dumps(REQUEST).replace('"id": "a"', '"id": "<not specified>"'))
    (call,) = read({**CALL, "gcp.vertex.agent.llm_request": json.dumps(request)}).model_calls
    (result,) = [message.tool_result for message in call.messages if message.tool_result is not None]
    assert ("call_synthetic_2_0", {QualityFlag.IDS_SYNTHESISED}) == (result.call_id, call.flags)


TOOL = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "f",
    "gen_ai.tool.call.id": "a",
    "gcp.vertex.agent.llm_request": "{}",
    "gcp.vertex.agent.tool_call_args": '{"x": 1}',
    "gcp.vertex.agent.tool_response": '{"result": "sunny"}',
}


def test_a_tool_span():
    """Its empty request is no model call."""
    reading = read(TOOL, name="execute_tool f")
    (execution,) = reading.tool_executions
    told = (execution.name, execution.call_id, execution.arguments, execution.result, execution.status)
    assert ("f", "a", '{"x": 1}', '{"result": "sunny"}', ToolStatus.UNKNOWN) == told
    assert () == reading.model_calls


def test_a_tool_span_of_older_releases_holds_the_whole_event():
    """The response lies in the event's content."""
    event = {"content": {"parts": [{"function_response": {"name": "f", "response": {"result": "sunny"}}}]}}
    attributes = {**TOOL, "gcp.vertex.agent.tool_response": json.dumps(event)}
    (execution,) = read(attributes, name="execute_tool f").tool_executions
    assert '{"result":"sunny"}' == execution.result


def test_a_tool_that_failed_has_no_response():
    """A stand-in takes the response's place: what the tool raised is told by the span's status alone."""
    attributes = {
        **TOOL,
        "gen_ai.tool.call.id": "<not specified>",
        "gcp.vertex.agent.tool_response": '{"result": "<not specified>"}',
    }
    (execution,) = read(attributes, name="execute_tool f", status=SpanStatus.ERROR).tool_executions
    assert ToolExecution(name="f", arguments='{"x": 1}', status=ToolStatus.ERROR) == execution


def test_without_content_a_tool_span_tells_no_arguments():
    """Both objects are empty then; empty arguments beside a response are the tool's own."""
    off = {"gcp.vertex.agent.tool_call_args": "{}", "gcp.vertex.agent.tool_response": "{}"}
    (silent,) = read({**TOOL, **off}, name="execute_tool f").tool_executions
    (bare,) = read({**TOOL, "gcp.vertex.agent.tool_call_args": "{}"}, name="execute_tool f").tool_executions
    assert ((None, None), "{}") == ((silent.arguments, silent.result), bare.arguments)


def test_the_oldest_releases_tell_a_result_on_a_span_of_its_own():
    """The call's span has no id: it counts only when the tool failed, for then there is no other."""
    event = {"content": {"parts": [{"function_response": {"id": "a", "name": "f", "response": {"result": "sunny"}}}]}}
    empty = {"gcp.vertex.agent.llm_request": "{}", "gcp.vertex.agent.llm_response": "{}"}
    told = {**empty, "gcp.vertex.agent.tool_response": json.dumps(event)}
    (execution,) = read(told, name="tool_response [f]").tool_executions
    assert ToolExecution(name="f", call_id="a", result='{"result":"sunny"}') == execution
    asked = {"gcp.vertex.agent.tool_call_args": '{"x": 1}'}
    assert () == read(asked, name="tool_call [f]").tool_executions
    (failed,) = read(asked, name="tool_call [f]", status=SpanStatus.ERROR).tool_executions
    assert ToolExecution(name="f", arguments='{"x": 1}', status=ToolStatus.ERROR) == failed
    assert () == read(told, name="tool_response").tool_executions  # all results of a turn once more


def test_bookkeeping_says_nothing():
    """The span of merged tools, and spans that send data, are neither calls nor tools."""
    for name in ("execute_tool (merged tools)", "execute_tool (merged)"):
        reading = read({**TOOL, "gen_ai.tool.name": "(merged tools)"}, name=name)
        assert ((), (), None) == (reading.model_calls, reading.tool_executions, reading.agent)
    data = read({"gcp.vertex.agent.data": "[]", "gcp.vertex.agent.session_id": "s"}, name="send_data")
    assert ((), None) == (data.model_calls, data.agent)


def test_runs_of_older_releases_are_known_by_name():
    """The agent's name stands in the span's name; the invocation is no agent."""
    agent, invocation = read({}, name="agent_run [weather]"), read({}, name="invocation")
    assert agent.agent is not None
    assert invocation.agent is not None
    assert (True, "weather", False) == (agent.agent.is_agent, agent.context.agent_name, invocation.agent.is_agent)
