"""smolagents' roles `tool-call` and `tool-response`, whose content is text: read as calls and results.

The text of a call is `Calling tools:` and a Python repr with the call's id; that of a result is `Observation:` and what
the tool returned, without an id.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import as_items, as_mapping, as_text

Source = Mapping[str, object]

CALL_ROLE, RESULT_ROLE = "tool-call", "tool-response"
CALL_HEAD, RESULT_HEAD = "Calling tools:", "Observation:"


def in_chat_form(message: Source) -> Source:
    """The message in the chat form; one of any other role as it is."""
    role = message.get("role")
    if role not in (CALL_ROLE, RESULT_ROLE):
        return message
    text = _text(message)
    head, found, body = text.partition(CALL_HEAD if role == CALL_ROLE else RESULT_HEAD)
    if role == RESULT_ROLE:
        # An error report of the framework is no tool's result; the model is shown either as a user's message.
        return {"role": "tool", "content": body.strip("\n")} if found else {"role": "user", "content": text}
    calls = as_items(read_repr(body).value) if found else None
    if calls is None:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": head.strip() or None, "tool_calls": calls}


def _text(message: Source) -> str:
    """The message's text, wherever it stands."""
    places = (message.get("content"), message.get("contents"))
    items = [item for place in places for item in (as_items(place) or (place,))]
    texts = (as_text(item) or as_text((as_mapping(item) or {}).get("text")) for item in items)
    return "\n".join(text for text in texts if text)
