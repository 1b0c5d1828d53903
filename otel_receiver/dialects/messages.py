"""Read messages of any shape: OpenAI chat, OTel GenAI parts, Anthropic, Bedrock, Gemini, LangChain, Responses items.

One malformed message never drops its neighbours: what cannot be read is left out and flagged. Whatever the sender's
order, an assistant's parts come out as reasoning, text and media, tool calls; every tool result is a message alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from otel_receiver.dialects.limits import UNWRAP_DEPTH_MAX
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import call_part, read_part, read_parts, result_part
from otel_receiver.dialects.smolagents import CALL_ROLE, RESULT_ROLE, in_chat_form
from otel_receiver.dialects.values import as_items, as_mapping, as_text, as_word, first_present, first_word
from spanloop.records import Message, Part, QualityFlag, ReasoningPart, Role, TextPart, ToolCall, ToolResult

ROLES: Mapping[str, Role] = {
    "system": Role.SYSTEM,
    "developer": Role.DEVELOPER,
    "user": Role.USER,
    "human": Role.USER,
    "assistant": Role.ASSISTANT,
    "ai": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "chatbot": Role.ASSISTANT,
    "tool-call": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
    "ipython": Role.TOOL,
    "tool-response": Role.TOOL,
    "systemmessage": Role.SYSTEM,
    "humanmessage": Role.USER,
    "aimessage": Role.ASSISTANT,
    "aimessagechunk": Role.ASSISTANT,
    "chatmessage": Role.USER,
    "toolmessage": Role.TOOL,
    "functionmessage": Role.TOOL,
}
"""Roles as senders write them, in lower case."""

_ITEM_TYPES = frozenset(
    {"function_call", "function_call_output", "reasoning", "tool_call", "tool_result", "tool_call_response", "tool_use"}
)
_CONTENT_KEYS = frozenset(
    {"parts", "content", "contents", "tool_calls", "function_call", "reasoning_content", "refusal"}
)


def read_messages(value: object, notes: Notes, *, default: Role = Role.USER) -> tuple[Message, ...]:
    """The messages of a list, of one message, or of an object holding a list under `messages`."""
    holder = as_mapping(value)
    if holder is not None and "messages" in holder:
        value = holder["messages"]
    items = as_items(value)
    while items is not None and len(items) == 1 and as_items(items[0]) is not None:
        items = as_items(items[0])
    if items is None:
        items = () if value is None else (value,)
    return join_adjacent(read_in_order(items, notes, default=default))


def read_in_order(items: Iterable[object], notes: Notes, *, default: Role = Role.USER) -> list[Message]:
    """The messages of the items.

    Gemini's contents of role `model` that stand side by side are the chunks of one turn, as its client's chat keeps
    them, so their texts are one text.
    """
    messages: list[Message] = []
    was_chunk = False
    for item in items:
        read = read_message(item, notes, default=default)
        is_chunk = len(read) == 1 and (as_mapping(item) or {}).get("role") == "model"
        if is_chunk and was_chunk:
            messages[-1] = _with_next_chunk(messages[-1], read[0])
        else:
            messages.extend(read)
        was_chunk = is_chunk
    return messages


def _with_next_chunk(message: Message, chunk: Message) -> Message:
    """The message with what a chunk adds to it."""
    parts = list(message.parts)
    for part in chunk.parts:
        last = parts[-1] if parts else None
        if isinstance(part, TextPart) and isinstance(last, TextPart):
            parts[-1] = TextPart(text=last.text + part.text)
        else:
            parts.append(part)
    return build(Role.ASSISTANT, parts, name=message.name)[0]


def read_message(value: object, notes: Notes, *, default: Role = Role.USER) -> tuple[Message, ...]:
    """The messages one value stands for: none if it is unreadable (flagged), several if it holds several results."""
    text = as_text(value)
    if text is not None:
        notes.check_text(text)
        return build(default, (TextPart(text=text),) if text else ())
    source, role = _unwrap(value, default)
    if source is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
        return ()
    if "role" not in source and (source.get("type") in _ITEM_TYPES or _is_bare_call(source)):
        parts = read_part(source, notes)
        return build(_item_role(source), parts) if parts else ()  # reasoning that is kept from us is no message
    if role is not Role.ASSISTANT and first_word(source, "tool_call_id", "toolCallId") is not None:
        role = Role.TOOL
    parts = _result_parts(source, notes) if role is Role.TOOL else _parts(source, notes)
    return build(role, parts, name=first_word(source, "name"))


def build(role: Role, parts: Iterable[Part], *, name: str | None = None) -> tuple[Message, ...]:
    """Messages of these parts in canonical order: results apart, each a tool message; calls only the assistant's.

    A result stands before what is said beside it, but after a call that it answers: providers run tools within a turn.
    """
    parts = tuple(parts)
    rest = tuple(part for part in parts if not isinstance(part, ToolResult))
    calls = {part.id for part in rest if isinstance(part, ToolCall)}
    results = [Message(role=Role.TOOL, parts=(part,), name=part.name) for part in parts if isinstance(part, ToolResult)]
    messages = [message for message in results if not _answers(message, calls)]
    if role is Role.TOOL:
        role = Role.USER  # what stands beside a result is said to the model, and a tool message holds a result alone
    if any(isinstance(part, ToolCall) for part in rest):
        role = Role.ASSISTANT
    if rest or not results:
        ordered = tuple(sorted(rest, key=_rank)) if role is Role.ASSISTANT and len(rest) > 1 else rest
        messages.append(Message(role=role, parts=ordered, name=name))
    return (*messages, *(message for message in results if _answers(message, calls)))


def _answers(message: Message, calls: set[str]) -> bool:
    result = message.tool_result
    return result is not None and result.call_id in calls


def join_adjacent(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Assistant messages that stand side by side as one, where a call or reasoning shows that they are one turn."""
    turns: list[list[Message]] = []
    marked = False
    for message in messages:
        is_marked = any(isinstance(part, ToolCall | ReasoningPart) for part in message.parts)
        is_beside = bool(turns) and message.role is Role.ASSISTANT and turns[-1][-1].role is Role.ASSISTANT
        if is_beside and (marked or is_marked):
            turns[-1].append(message)
        else:
            turns.append([message])
            marked = False
        marked = marked or is_marked
    return tuple(join(*turn) for turn in turns)


def join(first: Message, *others: Message) -> Message:
    """Assistant messages as one, in canonical order; a single message as it is."""
    if not others:
        return first
    parts = tuple(sorted((part for message in (first, *others) for part in message.parts), key=_rank))
    name = next((message.name for message in (first, *others) if message.name), None)
    return Message(role=Role.ASSISTANT, parts=parts, name=name)


def with_system(instructions: Sequence[Message], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages with the instructions before them, unless they begin with these already."""
    known = {message.text for message in messages if message.role in (Role.SYSTEM, Role.DEVELOPER)}
    return (*(message for message in instructions if message.text not in known), *messages)


def _rank(part: Part) -> int:
    """The canonical place of an assistant's part."""
    return 0 if isinstance(part, ReasoningPart) else 2 if isinstance(part, ToolCall) else 1


def _unwrap(value: object, default: Role) -> tuple[Mapping[str, object] | None, Role]:
    """The mapping that holds the content, out of LangChain's and OpenInference's wrappers, with the role it says."""
    source = as_mapping(value)
    role: Role | None = None
    for _ in range(UNWRAP_DEPTH_MAX):
        if source is None:
            return None, default
        role = role_of(source) or role
        if not _CONTENT_KEYS.isdisjoint(source):
            break
        inner = next((held for key in ("message", "kwargs", "data") if (held := as_mapping(source.get(key)))), None)
        if inner is None:
            break
        source = inner
    if source is not None and source.get("role") in (CALL_ROLE, RESULT_ROLE):
        source = in_chat_form(source)
        role = role_of(source)
    return source, role or default


def role_of(source: Mapping[str, object]) -> Role | None:
    """The role a message says, by its role, its LangChain type or its class name."""
    path = as_items(source.get("id"))
    for value in (source.get("role"), source.get("type"), path[-1] if path else None):
        word = as_word(value)
        if word is not None:
            role = ROLES.get(word.lower().removeprefix("messagerole.").replace("_", "-"))
            if role is not None:
                return role
    return None


def _is_bare_call(source: Mapping[str, object]) -> bool:
    """Whether an element of OpenAI's `tool_calls` stands where a message should."""
    return source.get("type") == "function" and as_mapping(source.get("function")) is not None


def _item_role(source: Mapping[str, object]) -> Role:
    return Role.TOOL if str(source["type"]).endswith(("output", "result", "response")) else Role.ASSISTANT


def _parts(source: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    """The parts of a message, from every place a shape keeps them, each once."""
    reasoning = as_text(first_present(source, "reasoning_content", "reasoning"))
    spoken = _spoken(source, notes)
    calls = _calls(source, notes)
    if not any(source.get(key) is not None for key in _CONTENT_KEYS) and not _is_known_empty(source):
        notes.flag(QualityFlag.CONTENT_MISSING)
    parts: list[Part] = [ReasoningPart(text=reasoning)] if reasoning and not _has_reasoning(spoken) else []
    known = {(part.id, part.name) for part in calls if isinstance(part, ToolCall)}
    parts += [part for part in spoken if not isinstance(part, ToolCall) or (part.id, part.name) not in known]
    return (*parts, *calls)


def _is_known_empty(source: Mapping[str, object]) -> bool:
    """Whether an assistant message says that it has no content, rather than leaving it out."""
    return "content" in source and role_of(source) is Role.ASSISTANT


def _spoken(source: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    """Parts in `parts`, `content` and `contents`; a text that stands in two of them counts once."""
    parts = read_parts(source.get("parts"), notes)
    content = read_parts(source.get("content"), notes)
    contents = read_parts(source.get("contents"), notes)
    refusal = read_parts(source.get("refusal"), notes)
    for more in (content, contents, refusal):
        parts = (*parts, *_untold(more, parts))
    return parts


def _untold(more: tuple[Part, ...], parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """What the parts do not hold yet; they hold a text also when they spell it over several parts."""
    if not more or not parts:
        return more
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    spelled = {*texts, *(mark.join(texts) for mark in ("", "\n", "\n\n") if texts)}
    others = {part for part in parts if not isinstance(part, TextPart)}
    return tuple(
        part for part in more if (part.text not in spelled if isinstance(part, TextPart) else part not in others)
    )


def _has_reasoning(parts: Iterable[Part]) -> bool:
    return any(isinstance(part, ReasoningPart) for part in parts)


def _calls(source: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    """The tool calls in `tool_calls`, or the one in the older `function_call`."""
    items = as_items(source.get("tool_calls")) or ()
    calls = [part for item in items for part in _call(item, notes)]
    legacy = as_mapping(source.get("function_call"))
    if legacy is not None and not calls:
        calls += call_part(None, legacy.get("name"), legacy.get("arguments"), notes)
    extra = as_mapping(source.get("additional_kwargs"))
    if extra is not None and not calls:
        calls += [part for item in as_items(extra.get("tool_calls")) or () for part in _call(item, notes)]
    return tuple(calls)


def _call(item: object, notes: Notes) -> tuple[Part, ...]:
    """One element of `tool_calls`, which may name the tool itself or hold a `function`."""
    call = as_mapping(item)
    if call is None:
        notes.flag(QualityFlag.MESSAGE_UNPARSED)
        return ()
    return read_part({**call, "type": "tool_call"}, notes)


def _result_parts(source: Mapping[str, object], notes: Notes) -> tuple[Part, ...]:
    """The results of a tool message: typed result parts where there are any, else its content as one result."""
    items = as_items(source.get("parts")) or as_items(source.get("content")) or as_items(source.get("contents")) or ()
    typed = [item for item in items if _is_result(item)]
    if typed:
        return _told_once([part for item in items for part in read_part(item, notes)])
    if source.get("content") is None and not items and "result" not in source:
        notes.flag(QualityFlag.CONTENT_MISSING)
    call_id = first_present(source, "tool_call_id", "toolCallId", "tool_use_id", "call_id")
    content = first_present(source, "content", "result", "output", "contents", "parts")
    failed = first_present(source, "tool_call_error", "is_error", "status")
    return (result_part(call_id, content, notes, name=first_word(source, "name", "tool_name"), failed=failed),)


def _told_once(parts: Sequence[Part]) -> tuple[Part, ...]:
    """The parts of a tool message without a text that only repeats one of its results."""
    told = {part.content for part in parts if isinstance(part, ToolResult)}
    return tuple(part for part in parts if not (isinstance(part, TextPart) and part.text in told))


def _is_result(item: object) -> bool:
    part = as_mapping(item)
    if part is None:
        return False
    word = (as_word(part.get("type")) or "").replace("-", "_")
    keys = ("toolResult", "functionResponse", "function_response")
    return word.startswith(("tool_result", "tool_call_response", "function_response")) or any(
        key in part for key in keys
    )
