"""Pydantic-AI's versions and Logfire's own instrumentations, form by form."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import brief, make_span

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
