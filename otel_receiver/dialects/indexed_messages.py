"""Carriers that spell messages out in attribute keys: OpenInference and OpenLLMetry up to 0.54."""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.autogen_chat import results_in, thought_in
from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.indexed import Entry, IndexedList, read_indexed
from otel_receiver.dialects.json_text import looks_like_json, read_json, unquoted
from otel_receiver.dialects.messages import join_adjacent, read_in_order
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import one_answer
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.values import as_items, as_mapping, as_text
from spanloop.records import QualityFlag

_CONTENT_PREFIX = "message_content."
_MESSAGE_KEYS = ("role", "content", "name", "tool_call_id", "reasoning_content")


def indexed_prompt(listed: IndexedList, *, flattened: bool) -> Carried | None:
    """The prompt of a list under `llm.input_messages` (`flattened`: OpenInference) or `gen_ai.prompt`."""
    if not listed.entries:
        return None
    notes = Notes()
    if listed.has_gaps:
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
    chat = openinference_message if flattened else openllmetry_message
    messages = read_in_order((chat(entry) for entry in listed.entries), notes)
    return Carried(messages=complete_ids(join_adjacent(messages), notes), notes=notes)


def indexed_answer(listed: IndexedList, *, flattened: bool, is_one_turn: bool = False) -> Carried | None:
    """The first choice of a list of outputs; `is_one_turn` when the entries are items of one answer, not choices."""
    if not listed.entries:
        return None
    notes = Notes()
    if listed.has_gaps:
        notes.flag(QualityFlag.OUTPUT_TRUNCATED)
    chat = openinference_message if flattened else openllmetry_message
    entries = listed.entries if is_one_turn else listed.entries[:1]
    message = one_answer([chat(entry) for entry in entries], notes)
    return Carried(
        messages=(message,) if message is not None else (),
        notes=notes,
        finish_reason=finish_reason(listed.entries[0].get("finish_reason")),
    )


def openinference_message(entry: Entry) -> Mapping[str, object]:
    """One flattened OpenInference message in the chat form."""
    held = {key.removeprefix("message."): value for key, value in entry.items()}
    message: dict[str, object] = {key: held[key] for key in _MESSAGE_KEYS if key in held}
    calls = [_openinference_call(call) for call in read_indexed(held, "tool_calls").entries]
    if calls:
        message["tool_calls"] = calls
    elif held.get("function_call_name") is not None:
        arguments = held.get("function_call_arguments_json")
        message["function_call"] = {"name": held["function_call_name"], "arguments": arguments}
    thought = thought_in(entry)
    if thought is not None:
        message.setdefault("content", thought)
    contents = [_openinference_content(content) for content in read_indexed(held, "contents").entries]
    contents = contents or results_in(entry)
    if contents:
        message["contents"] = contents
    return message


def openllmetry_message(entry: Entry) -> Mapping[str, object]:
    """One indexed OpenLLMetry message in the chat form; content may be the JSON text of a provider's blocks."""
    message: dict[str, object] = {key: entry[key] for key in (*_MESSAGE_KEYS, "refusal") if key in entry}
    if "content" in message:
        message["content"] = _blocks(message["content"])
    calls = [_openllmetry_call(call) for call in read_indexed(entry, "tool_calls").entries]
    if calls:
        message["tool_calls"] = calls
    elif entry.get("function_call.name") is not None:
        call = {"name": entry["function_call.name"], "arguments": entry.get("function_call.arguments")}
        message["function_call"] = call
    return message


def _openinference_call(entry: Entry) -> Mapping[str, object]:
    """One flattened call; agno's flavour encodes the arguments' JSON text once more up to 0.1.x."""
    held = {key.removeprefix("tool_call.").removeprefix("function."): value for key, value in entry.items()}
    call: dict[str, object] = {key: held[key] for key in ("id", "name", "arguments") if key in held}
    spelled = unquoted(call.get("arguments"))
    return {**call, "arguments": spelled} if isinstance(spelled, str) and looks_like_json(spelled) else call


def _openllmetry_call(entry: Entry) -> Mapping[str, object]:
    held = {key.removeprefix("function."): value for key, value in entry.items()}
    return {"arguments": None, **{key: held[key] for key in ("id", "name", "arguments") if key in held}}


def _openinference_content(entry: Entry) -> Mapping[str, object]:
    """One flattened content part in the provider's form."""
    part = {key.removeprefix(_CONTENT_PREFIX): value for key, value in entry.items()}
    nested = {"image": "image.image.", "audio": "audio.audio.", "tool_call": "tool_call."}
    for name, prefix in nested.items():
        inner = {key[len(prefix) :]: part.pop(key) for key in tuple(part) if key.startswith(prefix)}
        if inner:
            part[name] = {key.removeprefix("function."): value for key, value in inner.items()}
    return part


def _blocks(content: object) -> object:
    """Blocks in JSON text, else the content as it is."""
    text = as_text(content)
    if text is None or not looks_like_json(text):
        return content
    items = as_items(read_json(text).value)
    is_blocks = bool(items) and all("type" in (as_mapping(item) or ()) for item in items or ())
    return items if is_blocks else content
