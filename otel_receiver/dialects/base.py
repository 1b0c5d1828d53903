"""What a dialect is, and the records every dialect reads spans into.

In: one `Span` with the log records that carry its ids. Out: one `Reading`. A dialect is a pure function of the two; it
never sees a neighbouring span. Whatever needs neighbours (inherited conversation ids, tool results, retries, twins) is
the business of `episodes/`, which in turn never sees a raw attribute name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from otel_receiver.spans import LogRecord, Span
from spanloop.records import Feedback, Message, QualityFlag, ToolDefinition, ToolStatus, Usage

SYNTHETIC_ID_PREFIX = "call_synthetic_"
"""Starts every tool-call id that the receiver made: `<prefix><position of the message>_<call>`. A tool result whose
call is not known has the empty `call_id`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRef:
    """Where a reading comes from: the span's place in its trace."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    started_at: int | None
    """Nanoseconds since the epoch; `None` when the sender left it out."""
    ended_at: int | None
    failed: bool = False
    error: str | None = None
    """Exception type and message, or the status message, when the span failed."""
    succeeded: bool = False
    """The sender set the status OK; most leave it unset, which says neither."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who the span belongs to, as far as this one span says."""

    dialect: str | None = None
    """Name of the dialect that read the span; `None` for a span of no known dialect."""
    dialect_version: str | None = None
    """Instrumentation scope and version, such as `openinference.instrumentation.openai 0.1.66`."""
    service_name: str | None = None
    agent_name: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One inference as a span reports it."""

    messages: tuple[Message, ...] = ()
    """The prompt, system message first."""
    tools: tuple[ToolDefinition, ...] | None = None
    """`None`: this span does not say which tools were offered."""
    output: Message | None = None
    own_results: tuple[Message, ...] = ()
    """Results within the answer: of those of its calls that the provider ran itself, as web searches."""
    finish_reason: str | None = None
    """Normalised to stop, length, tool_calls, content_filter where it is one of these."""
    model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    streamed: bool | None = None
    is_whole: bool = False
    """The sender writes an answer only once it has ended, so a missing finish reason does not speak against it."""
    auxiliary: bool = False
    """Certainly not the agent's policy, by the span's own words (embedding, guardrail, evaluator)."""
    lossy_history: bool = False
    """The sender reports earlier messages with less than the model was shown (text beside tool calls lost), so assembly
    restores them from the calls that made them. `False`: the prompt is what was sent."""
    lossy_output: bool = False
    """The sender reports answers that call tools without the text beside the calls; later histories have it."""
    lossy_answer: bool = False
    """The sender may report less of an answer than a later history repeats, so that calls of one history in traces of
    their own are looked for by the prompt alone too."""
    tail_only: bool = False
    """The sender may report the end of an answer alone and does not say when it does; a later history may have more."""
    continues_response_id: str | None = None
    """The response this call goes on from by its id alone: the provider put that call's prompt and answer before
    `messages`, which hold only what is new."""
    continues_conversation: bool = False
    """The provider keeps the conversation of the call's context and put all of it before `messages`, which hold only
    what is new: the call goes on from the one before it in that conversation."""
    detached: bool = False
    """The span was written after the call, outside its running context: the span of the client's own instrumentation,
    if there is one, is the root of another trace."""
    records_apart: bool = False
    """Its log records may carry no ids of the span and name the response id instead."""
    flags: frozenset[QualityFlag] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolExecution:
    """One execution of a tool as a span reports it."""

    name: str
    call_id: str | None = None
    arguments: str | None = None
    """JSON text, or the raw text when the sender wrote no JSON."""
    result: str | None = None
    status: ToolStatus = ToolStatus.UNKNOWN
    definition: ToolDefinition | None = None
    """The tool's definition, when the tool span carries it."""
    flags: frozenset[QualityFlag] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRun:
    """A span around model calls: an agent, a workflow, a chain."""

    is_agent: bool
    """An agent in its own right, rather than a workflow or a chain step."""
    history: tuple[Message, ...] = ()
    """The whole message list, where the span carries one: it repairs poorer model-call spans."""
    tools: tuple[ToolDefinition, ...] | None = None
    auxiliary: bool = False
    """Model calls below this span are certainly not the agent's policy (evaluator, guardrail)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes of a media part, stored once under their hash."""

    sha256: str
    mime_type: str | None
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """All that one span and its log records say, in the words of the contract."""

    span: SpanRef
    context: Context = Context()
    model_calls: tuple[ModelCall, ...] = ()
    """Usually none or one; senders that report calls as log records of an agent span have several."""
    tool_executions: tuple[ToolExecution, ...] = ()
    agent: AgentRun | None = None
    feedback: tuple[Feedback, ...] = ()
    blobs: tuple[Blob, ...] = ()
    end_of_trace: bool = False
    """An explicit marker that its trace is complete."""


class Dialect(Protocol):
    """One convention for writing agent telemetry."""

    name: str
    """Stable identifier, as it appears in the `dialect` columns."""

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span is written in this dialect; cheap, looks at keys only."""

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """All the span says. Never raises on odd content: flags it and keeps the rest."""
