"""Bedrock under OTel's instrumentation of botocore: one event per message, some told twice and some in part."""

from __future__ import annotations

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolStatus
from tests.unit.otel_receiver.dialects.factories import brief, make_log, make_span

CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}


def read_call(span, *logs):
    """The model call of a span with its log records."""
    (call,) = read_span(span, logs).model_calls
    return call


def test_a_result_that_two_events_tell_is_one():
    """Bedrock's results stand in events of their own and in the user's, which alone knows that one failed."""
    use = {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}
    told = {"toolResult": {"toolUseId": "a", "content": ({"text": "no"},), "status": "error"}}
    records = [
        make_log("gen_ai.assistant.message", {"content": (use,)}, time=1),
        make_log("gen_ai.tool.message", {"id": "a", "content": ({"text": "no"},)}, time=2),
        make_log("gen_ai.user.message", {"content": (told,)}, time=3),
    ]
    call = read_call(make_span(CHAT), *records)
    assert [("assistant", ("a", "f", "{}")), ("tool", ("a", "no"))] == brief(call.messages)
    assert ToolStatus.ERROR is call.messages[1].tool_result.status


def test_bedrocks_choices_are_known_to_lack_text():
    """The choice event of botocore's instrumentation has calls or text, never both."""
    scope = "opentelemetry.instrumentation.botocore.bedrock-runtime"
    record = make_log("gen_ai.choice", {"index": 0, "finish_reason": "tool_use", "message": {"role": "assistant"}})
    assert read_call(make_span(CHAT, scope_name=scope), record).lossy_output
    assert not read_call(make_span(CHAT), record).lossy_output
