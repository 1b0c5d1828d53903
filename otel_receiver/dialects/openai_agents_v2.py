"""OTel's first instrumentation of the OpenAI Agents SDK, opentelemetry-instrumentation-openai-agents-v2 0.1.0.

Source: opentelemetry-python-contrib. Of an answer it tells the text, or where there is none the Python reprs of its
items; of the Responses API's input only what was said, neither calls nor results, and never the instructions.
"""

from __future__ import annotations

from dataclasses import replace

from otel_receiver.dialects.base import Context, ModelCall, Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.genai import OPERATION, kind_of, read_as
from otel_receiver.dialects.messages import build, join, read_message
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.pyrepr import read_repr
from otel_receiver.dialects.values import as_mapping
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message, Part, QualityFlag, Role, TextPart

SCOPE = "opentelemetry.instrumentation.openai_agents"
DEFAULT_AGENT = "OpenAI Agent"
"""Stands for the name of an agent on the spans that are not the agent's own."""
_REPRS = ("{'", "Response")


class OpenAIAgentsV2:
    """Spans of the instrumentation, which names no version; OpenLLMetry's has the same scope and names one."""

    name = "otel_genai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the instrumentation wrote the span."""
        del logs
        return span.scope_name == SCOPE and not span.scope_version and OPERATION in span.attributes

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """What OTel GenAI says, with what the reprs spell."""
        reading = read_as(span, logs, kind_of(span), _context(span, self.name))
        return replace(reading, model_calls=tuple(_spelled(call) for call in reading.model_calls))


def _context(span: Span, dialect: str) -> Context:
    context = context_of(span, dialect)
    return replace(context, agent_name=None) if context.agent_name == DEFAULT_AGENT else context


def _spelled(call: ModelCall) -> ModelCall:
    """The call with reprs as what they spell; flagged where the instructions are not told."""
    notes = Notes()
    messages = tuple(_unfolded(message, notes) for message in call.messages)
    output = _unfolded(call.output, notes) if call.output is not None else None
    if not any(message.role in (Role.SYSTEM, Role.DEVELOPER) for message in messages):
        notes.flag(QualityFlag.SYSTEM_MISSING)
    return replace(call, messages=messages, output=output, flags=call.flags | notes.flags)


def _unfolded(message: Message, notes: Notes) -> Message:
    """An assistant's message with the parts that its texts spell as reprs."""
    if message.role is not Role.ASSISTANT or not any(_is_repr(part) for part in message.parts):
        return message
    pieces = [piece for part in message.parts for piece in _pieces(part, notes)]
    return join(*pieces) if pieces else replace(message, parts=())


def _pieces(part: Part, notes: Notes) -> tuple[Message, ...]:
    held = as_mapping(read_repr(part.text).value) if isinstance(part, TextPart) and _is_repr(part) else None
    if held is None:
        return build(Role.ASSISTANT, (part,))
    body = held if "type" not in held or held.get("type") == "function_call" else {"content": (held,)}
    return read_message(body, notes, default=Role.ASSISTANT)


def _is_repr(part: Part) -> bool:
    return isinstance(part, TextPart) and part.text.startswith(_REPRS)
