"""smolagents' roles `tool-call` and `tool-response`, whose content is text: read as calls and results.

The text of a call is `Calling tools:` and a Python repr with the call's id; that of a result is `Observation:` and what
the tool returned, without an id. A step that failed is reported with `Error:`, after the id of its call if it had one.
A code agent's step is a call of `python_interpreter` with the code that the answer's text holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.indexed import IndexedList
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import as_items, as_mapping, as_text

Source = Mapping[str, object]

CALL_ROLE, RESULT_ROLE = "tool-call", "tool-response"
CALL_HEAD, RESULT_HEAD = "Calling tools:", "Observation:"
_FAILED_CALL = re.compile(r"Call id: (\S+)\n(?=Error:)")
_ROLE = "message.role"


def in_chat_form(message: Source) -> Source:
    """The message in the chat form; one of any other role as it is."""
    role = message.get("role")
    if role not in (CALL_ROLE, RESULT_ROLE):
        return message
    text = _text(message)
    head, found, body = text.partition(CALL_HEAD if role == CALL_ROLE else RESULT_HEAD)
    if role == RESULT_ROLE:
        failed = _FAILED_CALL.match(text)
        if failed is not None:
            about = {"tool_call_id": failed.group(1), "status": "error"}
            return {"role": "tool", "content": text[failed.end() :].strip("\n"), **about}
        # An error report without a call is no tool's result; the model is shown either as a user's message.
        return {"role": "tool", "content": body.strip("\n")} if found else {"role": "user", "content": text}
    calls = as_items(read_repr(body).value) if found else None
    if calls is None:
        return {"role": "assistant", "content": text}
    return {"role": "assistant", "content": head.strip() or None, "tool_calls": calls}


def without_blanks(listed: IndexedList) -> IndexedList:
    """The list without the messages that stand for an answer's empty text before its calls: their role is all they say.

    A streamed answer's text is the empty string, of which no attribute is written.
    """
    roles = [entry.get(_ROLE) for entry in listed.entries]
    if CALL_ROLE not in roles:
        return listed
    kept = (
        entry
        for entry, following in zip(listed.entries, (*roles[1:], None), strict=True)
        if following != CALL_ROLE or set(entry) != {_ROLE}
    )
    return replace(listed, entries=tuple(kept))


def _text(message: Source) -> str:
    """The message's text, wherever it stands."""
    places = (message.get("content"), message.get("contents"))
    items = [item for place in places for item in (as_items(place) or (place,))]
    texts = (as_text(item) or as_text((as_mapping(item) or {}).get("text")) for item in items)
    return "\n".join(text for text in texts if text)
