"""Content that OpenLLMetry's LangChain instrumentation writes as JSON text, because its form has no part for it.

LangChain keeps a provider's own blocks in a message's content: Anthropic's tool uses and thinking, OpenAI's function
calls and reasoning, files. The instrumentation writes each as a text part that holds the block's JSON; the tool calls
stand beside them a second time, as calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from otel_receiver.dialects.base import ModelCall
from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.messages import build
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.parts import read_part, result_text
from otel_receiver.dialects.values import as_items, as_mapping, as_word
from spanloop.records import Message, Part, Role, TextPart, ToolCall, ToolResult

_ANSWER_BLOCKS = frozenset(
    {"tool_use", "server_tool_use", "thinking", "redacted_thinking", "reasoning", "function_call", "tool_call"}
)
_PROMPT_BLOCKS = frozenset({"file", "audio", "input_audio", "video", "document", "media", "input_image", "input_file"})
_LIST_START = '[{"type": "text"'


def unfold_blocks(call: ModelCall, notes: Notes) -> ModelCall:
    """The call with its messages' blocks as parts; the same object when it holds none."""
    messages = tuple(_unfolded(message, notes) for message in call.messages)
    output = _unfolded(call.output, notes) if call.output is not None else None
    if output is call.output and all(one is other for one, other in zip(messages, call.messages, strict=True)):
        return call
    return replace(call, messages=messages, output=output)


def _unfolded(message: Message, notes: Notes) -> Message:
    """The message with its blocks as parts, in canonical order."""
    parts = tuple(part for held in message.parts for part in _parts_of(held, message, notes))
    if parts == message.parts:
        return message
    if message.role is not Role.ASSISTANT:
        return replace(message, parts=parts)
    return replace(build(Role.ASSISTANT, parts)[0], name=message.name)


def _parts_of(held: Part, message: Message, notes: Notes) -> Iterator[Part]:
    """What a part stands for; a call that the message holds as a call already stands for nothing."""
    if isinstance(held, ToolResult):
        yield _joined(held, notes)
        return
    block = _block(held, _ANSWER_BLOCKS if message.role is Role.ASSISTANT else _PROMPT_BLOCKS)
    if block is None:
        yield held
        return
    known = {call.id for call in message.tool_calls}
    yield from (part for part in read_part(block, notes) if not (isinstance(part, ToolCall) and part.id in known))


def _block(part: Part, kinds: frozenset[str]) -> Mapping[str, object] | None:
    """The provider's block that a text spells, if it is one of these kinds."""
    if not isinstance(part, TextPart) or not part.text.startswith("{") or '"type"' not in part.text:
        return None
    block = as_mapping(read_json(part.text).value)
    return block if block is not None and as_word(block.get("type")) in kinds else None


def _joined(result: ToolResult, notes: Notes) -> ToolResult:
    """The result as text, where it is the JSON of a list of text blocks: the form in which MCP tools answer."""
    if not result.content.startswith(_LIST_START):
        return result
    items = as_items(read_json(result.content).value)
    return result if items is None else replace(result, content=result_text(items, notes))
