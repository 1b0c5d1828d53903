"""The records both programs pass about: frozen, checked when built, standard library only.

The contract of record is `v1/episode.proto`; `schema.sql` is its DuckDB form. A contract test holds the
three together field by field. `None` means "not known"; `0`, `""` and `()` mean "known to be zero or empty".
Times are nanoseconds since the Unix epoch, UTC, as OTLP has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SCHEMA_VERSION = 1
"""Raised when a reader of the previous version would misread the data."""


class Role(StrEnum):
    """Who speaks in a message: the roles of the OpenAI chat form."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class MediaKind(StrEnum):
    """What a media part holds."""

    IMAGE = "image"
    AUDIO = "audio"
    VIDEO = "video"
    DOCUMENT = "document"
    FILE = "file"


class ToolStatus(StrEnum):
    """How an executed tool call ended."""

    OK = "ok"
    ERROR = "error"
    UNKNOWN = "unknown"
    """A result was carried but nothing says whether it is an error."""
    MISSING = "missing"
    """The call was made; no result was carried."""


class EpisodeStatus(StrEnum):
    """How an episode ended, as far as its spans tell."""

    OK = "ok"
    """The last step answered the user."""
    ERROR = "error"
    """The agent, or its last model call, failed."""
    INCOMPLETE = "incomplete"
    """The last step asked for tools, or its answer was cut off, and nothing follows."""


class EndReason(StrEnum):
    """Why the receiver considered an episode finished."""

    ROOT_ENDED = "root_ended"
    """The trace's root span arrived and a quiet time passed."""
    END_MARKER = "end_marker"
    """An explicit end-of-trace marker span arrived."""
    IDLE_TIMEOUT = "idle_timeout"
    """No root arrived; nothing new came for the idle time."""
    IMPORTED = "imported"
    """The files of an import were read to their end."""
    LIMIT = "limit"
    """A limit on open traces, spans, bytes or age closed it early."""


class QualityFlag(StrEnum):
    """Why a step or an episode is not fully trustworthy. `BLOCKING_FLAGS` make a step untrainable."""

    PROMPT_TRUNCATED = "prompt_truncated"
    """Part of the prompt was lost at the sender: attribute limits, index gaps, cut JSON."""
    CONTENT_MISSING = "content_missing"
    """Content capture was off: roles or counts without the text."""
    CONTENT_REDACTED = "content_redacted"
    """A redaction marker stands where content was."""
    CONTENT_REFERENCED = "content_referenced"
    """Content is a reference to a file that could not be resolved."""
    MEDIA_MISSING = "media_missing"
    """A media part without its bytes, hash or address."""
    MESSAGE_UNPARSED = "message_unparsed"
    """A message or part had a shape the dialect does not know; its neighbours were kept."""
    TOOLS_MISSING = "tools_missing"
    """The model could call tools, but their definitions are not carried."""
    TOOLS_INFERRED = "tools_inferred"
    """Tool definitions were inferred from tool spans or calls, not carried."""
    TOOLS_INCOMPLETE = "tools_incomplete"
    """Tool definitions are carried without their parameter schemas."""
    IDS_SYNTHESISED = "ids_synthesised"
    """Tool-call ids are not carried; the receiver made them."""
    TOOL_RESULT_MISSING = "tool_result_missing"
    """A tool call of this step has no result."""
    AMBIGUOUS_MATCH = "ambiguous_match"
    """A tool result or a predecessor could belong to more than one place."""
    ARGUMENTS_ALTERED = "arguments_altered"
    """The sender rewrote tool-call arguments, so they are not byte-faithful."""
    OUTPUT_MISSING = "output_missing"
    """The model's answer is not carried."""
    OUTPUT_TRUNCATED = "output_truncated"
    """The answer was cut: an aborted stream, or a length limit at the sender."""
    MODEL_CALL_FAILED = "model_call_failed"
    """The model call ended in an error."""
    RETRIED = "retried"
    """An earlier identical call failed or was repeated; this is the last of them."""
    HISTORY_REPAIRED = "history_repaired"
    """Messages the sender dropped from its history were restored from earlier outputs."""
    HISTORY_INCONSISTENT = "history_inconsistent"
    """The history contradicts what earlier spans reported."""
    ROOT_MISSING = "root_missing"
    """The trace's root span never arrived."""
    CONVERSATION_INFERRED = "conversation_inferred"
    """The conversation id was derived from message history, not carried."""
    CLOCK_SKEW = "clock_skew"
    """Times contradict the order of messages."""
    TIME_MISSING = "time_missing"
    """A start or end time is absent."""
    DUPLICATE_MERGED = "duplicate_merged"
    """Several spans reported this call; they were merged."""
    NOT_POLICY = "not_policy"
    """An auxiliary call (judge, title, guardrail, embedding), not the agent's policy."""
    TRACE_TRUNCATED = "trace_truncated"
    """A receiver limit cut this trace."""
    SYSTEM_MISSING = "system_missing"
    """The sender never tells the system prompt."""
    TEXT_DROPPED = "text_dropped"
    """The sender drops the text beside tool calls: a message with calls and no text may have had one."""


BLOCKING_FLAGS = frozenset(
    {
        QualityFlag.PROMPT_TRUNCATED,
        QualityFlag.CONTENT_MISSING,
        QualityFlag.CONTENT_REDACTED,
        QualityFlag.CONTENT_REFERENCED,
        QualityFlag.MEDIA_MISSING,
        QualityFlag.MESSAGE_UNPARSED,
        QualityFlag.TOOLS_MISSING,
        QualityFlag.TOOLS_INFERRED,
        QualityFlag.TOOLS_INCOMPLETE,
        QualityFlag.AMBIGUOUS_MATCH,
        QualityFlag.HISTORY_INCONSISTENT,
        QualityFlag.NOT_POLICY,
        QualityFlag.TRACE_TRUNCATED,
        QualityFlag.SYSTEM_MISSING,
    }
)
"""A step with one of these has a state that is incomplete or ambiguous: no policy may be asked there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPart:
    """Plain text of a message."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningPart:
    """Reasoning the model wrote before its answer."""

    text: str
    signature: str | None = None
    """The provider's proof of origin, opaque."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaPart:
    """An image, sound or file; the bytes are stored out of row under their hash."""

    kind: MediaKind
    mime_type: str | None = None
    sha256: str | None = None
    """Hex digest of the bytes, when they were carried."""
    uri: str | None = None
    """Where the sender says the bytes are, when they were not carried."""

    def __post_init__(self) -> None:
        """Refuse a digest that is no SHA-256."""
        if self.sha256 is not None and len(self.sha256) != 64:
            raise ValueError(f"media part: sha256 {self.sha256!r} is not 64 hex digits; hash the raw bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A tool call the model made, in one assistant message."""

    id: str
    """Unique within its message; made by the receiver where the sender carries none (flag `ids_synthesised`)."""
    name: str
    arguments: str
    """JSON text as carried, or the compact JSON of the carried object; not checked, models err here."""

    def __post_init__(self) -> None:
        """Refuse a call that no result could be matched to."""
        if not self.id:
            raise ValueError(f"tool call {self.name!r}: empty id; synthesise one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What one tool call returned; the only part of a tool message."""

    call_id: str
    content: str
    name: str | None = None
    status: ToolStatus = ToolStatus.UNKNOWN


Part = TextPart | ReasoningPart | MediaPart | ToolCall | ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a chat history: a role and its parts in canonical order.

    Assistant parts are ordered reasoning, text and media, tool calls. A tool message holds exactly one result.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None

    def __post_init__(self) -> None:
        """Check that each part may stand in a message of this role."""
        results = len([part for part in self.parts if isinstance(part, ToolResult)])
        if self.role is Role.TOOL and (results != 1 or len(self.parts) != 1):
            raise ValueError(f"tool message: {len(self.parts)} parts, {results} results; split into one result each")
        if self.role is not Role.TOOL and results:
            raise ValueError(f"{self.role} message: holds a tool result; move it to a tool message")
        if self.role is not Role.ASSISTANT and self.tool_calls:
            raise ValueError(f"{self.role} message: holds tool calls; only the assistant calls tools")

    @property
    def text(self) -> str:
        """The text parts, joined by newlines; a tool message's text is its result."""
        return "\n".join(
            part.text if isinstance(part, TextPart) else part.content
            for part in self.parts
            if isinstance(part, TextPart | ToolResult)
        )

    @property
    def reasoning(self) -> str:
        """The reasoning parts, joined by newlines."""
        return "\n".join(part.text for part in self.parts if isinstance(part, ReasoningPart))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tool calls, in the model's order."""
        return tuple([part for part in self.parts if isinstance(part, ToolCall)])

    @property
    def tool_result(self) -> ToolResult | None:
        """The result a tool message carries."""
        return next((part for part in self.parts if isinstance(part, ToolResult)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolDefinition:
    """A tool the model may call."""

    name: str
    description: str | None = None
    parameters: str | None = None
    """JSON Schema of the arguments, as compact JSON text; `None` when it is not carried."""

    def __post_init__(self) -> None:
        """Refuse a tool nobody could call."""
        if not self.name:
            raise ValueError("tool definition: empty name; drop the definition and flag the step")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of one model call; cached tokens are included in `input_tokens`, reasoning in `output_tokens`."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One model call in an episode: state before it, action, observation after it."""

    step_index: int
    """0-based position in the episode."""
    messages: tuple[Message, ...]
    """The state: everything the model was shown, system prompt first."""
    tools: tuple[ToolDefinition, ...] | None
    """The tools the model could call; `None` when the payload does not say."""
    action: Message | None
    """The assistant message; `None` when it is not carried."""
    observations: tuple[Message, ...] = ()
    """Tool messages that answer the action's calls, in the order of the calls."""
    finish_reason: str | None = None
    """OpenAI's words: stop, length, tool_calls, content_filter; any other as carried."""
    model: str | None = None
    """The model asked for."""
    response_model: str | None = None
    """The model that answered."""
    response_id: str | None = None
    usage: Usage = Usage()
    dialect: str
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits: the span that reported the call (the richest, where several did)."""
    merged_span_ids: tuple[str, ...] = ()
    """The other spans that reported the same call."""
    started_at: int | None = None
    ended_at: int | None = None
    error: str | None = None
    """What failed, in the sender's words, when the call failed."""
    quality_flags: frozenset[QualityFlag] = frozenset()

    def __post_init__(self) -> None:
        """Check the roles around the action and the form of the ids."""
        if self.step_index < 0:
            raise ValueError(f"step {self.step_index}: the index is negative; steps are numbered from 0")
        if self.action is not None and self.action.role is not Role.ASSISTANT:
            raise ValueError(f"step {self.step_index}: the action's role is {self.action.role}; it must be assistant")
        if any(message.role is not Role.TOOL for message in self.observations):
            raise ValueError(f"step {self.step_index}: an observation is no tool message; only results may follow")
        if len(self.trace_id) != 32 or len(self.span_id) != 16:
            raise ValueError(f"step {self.step_index}: ids {self.trace_id!r}, {self.span_id!r} are not 32 and 16 hex")

    @property
    def trainable(self) -> bool:
        """Whether a policy may be asked again here: the state is there, complete and unambiguous."""
        return bool(self.messages) and not self.quality_flags & BLOCKING_FLAGS


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One agent working on one request, from the user's message to the final answer or the failure."""

    episode_id: str
    """Derived from the first call's trace and span id, so it does not depend on the order of arrival."""
    conversation_id: str | None
    user_id: str | None = None
    agent_name: str | None = None
    service_name: str | None = None
    model: str | None = None
    """The model asked for in most steps."""
    dialect: str
    """The dialect of most steps."""
    started_at: int | None = None
    ended_at: int | None = None
    status: EpisodeStatus
    end_reason: EndReason
    parent_episode_id: str | None = None
    """The episode whose tool call started this sub-agent."""
    parent_call_id: str | None = None
    """That tool call."""
    steps: tuple[Step, ...]
    quality_flags: frozenset[QualityFlag] = frozenset()
    """Flags of the episode as a whole; a step's own flags are on the step."""

    def __post_init__(self) -> None:
        """Check that steps are numbered in order and that an episode has one."""
        if not self.steps:
            raise ValueError(f"episode {self.episode_id}: no steps; an episode has at least one model call")
        if [step.step_index for step in self.steps] != list(range(len(self.steps))):
            raise ValueError(f"episode {self.episode_id}: steps are not numbered 0..{len(self.steps) - 1} in order")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """A judgement of an episode, a step or a conversation that came over OTLP; targets are resolved when read."""

    feedback_id: str
    """Derived from the carrier span or log record, so a resend is the same feedback."""
    name: str
    score: float | None = None
    label: str | None = None
    comment: str | None = None
    source: str | None = None
    """Who judged: human, llm, code, or as carried."""
    trace_id: str | None = None
    span_id: str | None = None
    response_id: str | None = None
    conversation_id: str | None = None
    received_at: int | None = None

    def __post_init__(self) -> None:
        """Refuse feedback that says nothing or points nowhere."""
        if self.score is None and self.label is None and self.comment is None:
            raise ValueError(f"feedback {self.name!r}: neither score, label nor comment; there is nothing to store")
        if not (self.trace_id or self.response_id or self.conversation_id):
            raise ValueError(f"feedback {self.name!r}: no trace, response or conversation; it has no target")
