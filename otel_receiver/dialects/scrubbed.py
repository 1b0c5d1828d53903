"""What Logfire scrubs: values that look like secrets, a session's id among them, in every span its provider exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_receiver.dialects.notes import SCRUBBED_MARK
from otel_receiver.spans import Span
from spanloop.records import Message, ReasoningPart, TextPart, ToolCall, ToolResult

SCRUBBED_KEY = "logfire.scrubbed"
"""Says that something on the span, and what, was scrubbed."""


def holds_scrubbed(span: Span, messages: Iterable[Message]) -> bool:
    """Whether a mark of scrubbing stands in the messages, be it deep inside arguments or a result."""
    if SCRUBBED_KEY not in span.attributes:
        return False
    return any(SCRUBBED_MARK in text for message in messages for text in _texts(message))


def _texts(message: Message) -> Iterator[str]:
    for part in message.parts:
        if isinstance(part, TextPart | ReasoningPart):
            yield part.text
        elif isinstance(part, ToolCall):
            yield part.arguments
        elif isinstance(part, ToolResult):
            yield part.content
