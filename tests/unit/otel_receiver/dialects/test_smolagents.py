"""smolagents' texts for calls and results, and the blanks before them."""

from __future__ import annotations

from otel_receiver.dialects.registry import read_span
from spanloop.records import ToolStatus
from tests.unit.otel_receiver.dialects.factories import brief, make_span

CALLING = (
    "Calling tools:\n[{'id': 'c1', 'type': 'function', 'function': {'name': 'python_interpreter', 'arguments': 'f()'}}]"
)


def read_call(*messages):
    """The call of a span with these roles and texts; without a text the role is all that is told."""
    attributes = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
    for index, (role, text) in enumerate(messages):
        head = f"llm.input_messages.{index}.message"
        attributes[f"{head}.role"] = role
        if text is not None:
            attributes[f"{head}.contents.0.message_content.type"] = "text"
            attributes[f"{head}.contents.0.message_content.text"] = text
    (call,) = read_span(make_span(attributes)).model_calls
    return call


def test_a_failed_step_is_the_result_of_the_call_it_names():
    """The report begins with the call's id; without one it is told to the model as a user's message."""
    call = read_call(("user", "Q"), ("tool-call", CALLING), ("tool-response", "Call id: c1\nError:\nno such city"))
    told = call.messages[-1].tool_result
    assert told is not None
    assert ("c1", "Error:\nno such city", ToolStatus.ERROR) == (told.call_id, told.content, told.status)
    call = read_call(("user", "Q"), ("tool-response", "Error:\nno such city"))
    assert [("user", "Q"), ("user", "Error:\nno such city")] == brief(call.messages)


def test_a_blank_before_calls_is_no_missing_content():
    """A streamed answer's empty text leaves the role alone; anywhere else a role alone is content that is missing."""
    call = read_call(("user", "Q"), ("assistant", None), ("tool-call", CALLING))
    assert [("user", "Q"), ("assistant", ("c1", "python_interpreter", "f()"))] == brief(call.messages)
    assert "content_missing" not in call.flags
    assert "content_missing" in read_call(("user", "Q"), ("assistant", None), ("user", "R")).flags
