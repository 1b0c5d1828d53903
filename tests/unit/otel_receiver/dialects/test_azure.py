"""Azure's tracings: of the Responses API, whose conversations the provider keeps, and of LangChain before 1.0."""

from __future__ import annotations

import json

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import make_span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
TOOL_CALL = {"type": "tool_call", "id": "a", "name": "f", "arguments": {}}
LANGCHAIN = "langchain_azure_ai.callbacks.tracers.inference_tracing"


def read_call(span):
    """The model call of a span."""
    (call,) = read_span(span).model_calls
    return call


def test_azures_conversation_is_kept_at_the_provider():
    """Its calls go on from the one before, never tell instructions, and tell an item's status as a reason."""
    held = {"az.namespace": "Microsoft.CognitiveServices", "gen_ai.input.messages": json.dumps(INPUT)}
    answer = [{"role": "assistant", "parts": [TOOL_CALL], "finish_reason": "completed"}]
    span = {**CHAT, **held, "gen_ai.output.messages": json.dumps(answer)}
    alone, kept = read_call(make_span(span)), read_call(make_span({**span, "gen_ai.conversation.id": "c"}))
    assert (False, True) == (alone.continues_conversation, kept.continues_conversation)
    assert ("tool_calls", {QualityFlag.SYSTEM_MISSING}) == (kept.finish_reason, kept.flags)


def test_azures_old_langchain_tracer_loses_roles_arguments_and_ids():
    """A run's id is no conversation, and what is not told is flagged; the root has the conversation's own id."""
    scope = {"scope_name": "langchain_azure_ai.callbacks.tracers.inference_tracing"}
    answer = [{"role": "assistant", "parts": [{**TOOL_CALL, "arguments": None}]}]
    held = {"gen_ai.input.messages": json.dumps([INPUT]), "gen_ai.output.messages": json.dumps(answer)}
    about = {"gen_ai.conversation.id": "r", "metadata.parent_run_id": "r"}
    reading = read_span(make_span({**CHAT, **held, **about}, **scope))
    root = read_span(make_span({"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "c"}, **scope))
    assert (None, "c") == (reading.context.conversation_id, root.context.conversation_id)
    assert {QualityFlag.SYSTEM_MISSING, QualityFlag.CONTENT_MISSING} == reading.model_calls[0].flags


def test_a_tool_that_two_spans_tell_is_one():
    """The graph's node is no tool, and the tool's own result is the text of a message, which has the call's id."""
    text = json.dumps("content='sunny' name='f' tool_call_id='a'")
    about = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.result": text}
    (own,) = read_span(make_span({**about, "gen_ai.tool.name": "f"}, scope_name=LANGCHAIN)).tool_executions
    assert ("a", "sunny") == (own.call_id, own.result)
    assert () == read_span(make_span({**about, "gen_ai.tool.name": "tool"}, scope_name=LANGCHAIN)).tool_executions
