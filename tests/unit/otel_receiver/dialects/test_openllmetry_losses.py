"""What OpenLLMetry's instrumentations are known to lose, and what only their own words tell."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag, ToolStatus
from tests.unit.otel_receiver.dialects.factories import brief, make_log, make_span
from tests.unit.otel_receiver.dialects.test_openllmetry_habits import ASKED, CHAT, read_call, said


def test_an_answer_in_which_nothing_stands_was_lost():
    """A role alone is what is left of calls that an instrumentation does not write; the finish reason stays."""
    indexed = {"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.finish_reason": "tool_calls"}
    parts = {"gen_ai.output.messages": json.dumps([said([], "tool_call")])}
    calls = (
        read_call({**ASKED, **indexed}, "mistralai", "mistralai.chat"),
        read_call({**CHAT, **parts}, "groq", "chat m"),
    )
    assert [(None, "tool_calls", False)] * 2 == [
        (call.output, call.finish_reason, QualityFlag.CONTENT_MISSING in call.flags) for call in calls
    ]


def test_calls_that_the_finish_reason_tells_of_and_nothing_else_are_flagged():
    """An instrumentation without tool calls writes the text beside them."""
    answer = {
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "I look.",
        "gen_ai.completion.0.finish_reason": "tool_calls",
    }
    assert QualityFlag.OUTPUT_TRUNCATED in read_call({**ASKED, **answer}, "mistralai", "mistralai.chat").flags


def test_arguments_that_bedrocks_older_api_streams_are_lost():
    """A streamed call is written with no arguments, as one that has none would be."""
    part = {"type": "tool_call", "id": "a", "name": "f", "arguments": {}}
    answer = {**CHAT, "gen_ai.output.messages": json.dumps([said([part], "tool_call")])}
    flagged = [
        QualityFlag.OUTPUT_TRUNCATED in read_call(answer, scope, "chat m").flags for scope in ("bedrock", "groq")
    ]
    assert [True, False] == flagged


def test_a_stream_without_a_finish_reason_is_whole_where_none_is_ever_told():
    """Ollama's instrumentation tells no finish reason, and ends the span when the stream was read to its end."""
    answer = {"llm.is_streaming": True, "gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "Yes."}
    streamed = [read_call({**ASKED, **answer}, scope, f"{scope}.chat").streamed for scope in ("ollama", "cohere")]
    assert [None, True] == streamed


@pytest.mark.parametrize(
    ("answer", "result", "status"),
    [
        ("status='success' result='sunny' error=None images=None", "sunny", ToolStatus.OK),
        ("status='failure' result=None error='no such city' images=None", "no such city", ToolStatus.ERROR),
        ("status='fine' is all it says", "status='fine' is all it says", ToolStatus.UNKNOWN),
    ],
)
def test_agnos_result_is_a_repr(answer, result, status):
    """Agno's tool returns an object that holds the result, or the error, and more."""
    attributes = {"traceloop.span.kind": "tool", "gen_ai.tool.name": "f", "traceloop.entity.output": answer}
    (execution,) = read_span(make_span(attributes, "f.tool")).tool_executions
    assert (result, status) == (execution.result, execution.status)


def test_a_tool_of_a_llama_index_agent():
    """The step of the workflow that runs a tool names it, its arguments, its call, its result and its state."""
    told = {"blocks": [{"block_type": "text", "text": "no such city"}], "raw_output": "x", "is_error": True}
    attributes = {
        "traceloop.span.kind": "task",
        "tool.name": "f",
        "tool.arguments": '{"city": "Atlantis"}',
        "traceloop.entity.output": json.dumps({"tool_name": "f", "tool_id": "call_1", "tool_output": told}),
    }
    (execution,) = read_span(make_span(attributes, "BaseWorkflowAgent.task")).tool_executions
    assert ("f", "call_1", '{"city": "Atlantis"}', "no such city", ToolStatus.ERROR) == (
        execution.name,
        execution.call_id,
        execution.arguments,
        execution.result,
        execution.status,
    )


def test_a_step_that_names_a_tool_ran_none():
    """LlamaIndex's older agents name the tool that they chose on the step around the model call."""
    attributes = {"traceloop.span.kind": "task", "tool.name": "f", "tool.arguments": "{}"}
    assert () == read_span(make_span(attributes, "OpenAIAgentWorker.task")).tool_executions


def test_a_call_of_llama_index_is_read_from_its_own_words():
    """The instrumentation leaves tool calls out; LlamaIndex's own request and response have them."""
    calls = [{"id": "a", "function": {"name": "f", "arguments": "{}"}, "type": "function"}]
    message = {"role": "assistant", "additional_kwargs": {"tool_calls": calls}, "blocks": []}
    answered = {
        "role": "tool",
        "additional_kwargs": {"tool_call_id": "a"},
        "blocks": [{"block_type": "text", "text": "1"}],
    }
    user = {"role": "user", "additional_kwargs": {}, "blocks": [{"block_type": "text", "text": "Hi"}]}
    request = {
        "messages": [user, message, answered],
        "kwargs": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    }
    call = read_call(
        {
            **CHAT,
            "gen_ai.output.messages": json.dumps([said([], "tool_call")]),
            "traceloop.entity.input": json.dumps(request),
            "traceloop.entity.output": json.dumps({"message": message, "raw": {}}),
        },
        "llamaindex",
        "OpenAILike.task",
    )
    told = ("assistant", ("a", "f", "{}"))
    assert [("user", "Hi"), told, ("tool", ("a", "1"))] == brief(call.messages)
    assert ([told], ["f"]) == (brief([call.output]), [tool.name for tool in call.tools])


def test_a_choice_whose_calls_stand_beside_an_empty_message():
    """The log record of an answer without text has its calls next to the message, and nothing is missing."""
    body = {
        "index": 0,
        "message": {"content": None},
        "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}],
    }
    logs = (make_log("gen_ai.user.message", {"content": "Hi"}), make_log("gen_ai.choice", body))
    (call,) = read_span(make_span({"gen_ai.operation.name": "chat", "gen_ai.is_streaming": False}), logs).model_calls
    assert [("assistant", ("a", "f", "{}"))] == brief([call.output])
    assert QualityFlag.CONTENT_MISSING not in call.flags
