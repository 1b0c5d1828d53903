"""Readings for tests of assembly: a trace is a list of calls, tools and agents, with times in milliseconds."""

from __future__ import annotations

from collections.abc import Sequence

from otel_receiver.dialects.base import AgentRun, Context, ModelCall, Reading, SpanRef, ToolExecution
from otel_receiver.episodes.assemble import assemble
from spanloop.records import (
    EndReason,
    Episode,
    Message,
    QualityFlag,
    ReasoningPart,
    Role,
    Step,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolResult,
    ToolStatus,
)

MS = 1_000_000
START = 1_760_000_000_000 * MS
WEATHER = ToolDefinition(name="get_weather", parameters='{"type":"object"}')
SYSTEM = Message(role=Role.SYSTEM, parts=(TextPart(text="You are helpful."),))


def user(text: str) -> Message:
    """A user's message."""
    return Message(role=Role.USER, parts=(TextPart(text=text),))


def system(text: str) -> Message:
    """A system prompt."""
    return Message(role=Role.SYSTEM, parts=(TextPart(text=text),))


def says(text: str, *calls: ToolCall, thought: str | None = None) -> Message:
    """An assistant's message: text, then tool calls; an empty text is left out."""
    reasoning = () if thought is None else (ReasoningPart(text=thought),)
    words = (TextPart(text=text),) if text else ()
    return Message(role=Role.ASSISTANT, parts=(*reasoning, *words, *calls))


def asks(call_id: str, city: str, name: str = "get_weather") -> ToolCall:
    """A call of the weather tool."""
    return ToolCall(id=call_id, name=name, arguments=f'{{"city": "{city}"}}')


def result(call_id: str, content: str, *, name: str | None = None, status: ToolStatus = ToolStatus.UNKNOWN) -> Message:
    """A tool's message."""
    return Message(role=Role.TOOL, parts=(ToolResult(call_id=call_id, content=content, name=name, status=status),))


def hex_id(number: int | str, width: int) -> str:
    """An id of this many digits; texts are read as hex."""
    return str(number).rjust(width, "0") if isinstance(number, str) else f"{number:0{width}x}"


def ref(
    number: int | str, at: int | None, took: int | None, *, trace: int = 1, parent: int | str | None = 1, **fields
) -> SpanRef:
    """A span `number` that starts `at` milliseconds and takes `took`."""
    started = None if at is None else START + at * MS
    return SpanRef(
        trace_id=hex_id(trace, 32),
        span_id=hex_id(number, 16),
        parent_span_id=None if parent is None else hex_id(parent, 16),
        name=fields.pop("name", "span"),
        started_at=started,
        ended_at=None if started is None or took is None else started + took * MS,
        **fields,
    )


def call(
    number: int | str,
    at: int | None,
    messages: Sequence[Message],
    output: Message | None,
    *,
    took: int | None = 10,
    trace: int = 1,
    parent: int | str | None = 1,
    context: Context | None = None,
    span: dict | None = None,
    **fields,
) -> Reading:
    """A span of one model call; `fields` are those of `ModelCall`."""
    defaults = {"tools": (WEATHER,), "finish_reason": "tool_calls" if output and output.tool_calls else "stop"}
    defaults |= {"model": "gpt-4o-mini"}
    report = ModelCall(messages=tuple(messages), output=output, **{**defaults, **fields})
    return Reading(
        span=ref(number, at, took, trace=trace, parent=parent, **(span or {})),
        context=context or Context(dialect="openinference", dialect_version="i 1", service_name="svc"),
        model_calls=(report,),
    )


def tool(
    number: int | str,
    at: int | None,
    *,
    took: int | None = 1,
    trace: int = 1,
    parent: int | str | None = 1,
    span: dict | None = None,
    **fields,
) -> Reading:
    """A span of one executed tool; `fields` are those of `ToolExecution`."""
    defaults = {"name": "get_weather", "status": ToolStatus.OK}
    return Reading(
        span=ref(number, at, took, trace=trace, parent=parent, **(span or {})),
        context=Context(dialect="openinference", service_name="svc"),
        tool_executions=(ToolExecution(**{**defaults, **fields}),),
    )


def agent(
    number: int | str,
    at: int | None = 0,
    took: int | None = 1000,
    *,
    trace: int = 1,
    parent: int | str | None = None,
    context: Context | None = None,
    span: dict | None = None,
    **fields,
) -> Reading:
    """A span around model calls; `fields` are those of `AgentRun`."""
    return Reading(
        span=ref(number, at, took, trace=trace, parent=parent, **(span or {})),
        context=context or Context(dialect="openinference", service_name="svc"),
        agent=AgentRun(**{"is_agent": True, **fields}),
    )


def root(at: int | None = 0, took: int | None = 1000, *, number: int = 1, trace: int = 1, **fields) -> Reading:
    """A root span of no known dialect."""
    return Reading(span=ref(number, at, took, trace=trace, parent=None, **fields))


def weather_run(first: int = 2, at: int = 10, *, trace: int = 1, question: str = "Weather in Paris?", **fields):
    """The two model calls of one run: a tool call, then the answer. Spans `first` and `first + 1`."""
    asked = [SYSTEM, user(question)]
    action = says("Let me check.", asks(f"c{first}", "Paris"))
    told = [*asked, action, result(f"c{first}", "sunny")]
    return [
        call(first, at, asked, action, trace=trace, **fields),
        call(first + 1, at + 20, told, says("It is sunny."), trace=trace, **fields),
    ]


def episodes(readings: Sequence[Reading], end_reason: EndReason = EndReason.IMPORTED) -> tuple[Episode, ...]:
    """The episodes of the readings."""
    return assemble(readings, end_reason).episodes


def spans(episode: Episode) -> list[int]:
    """The span numbers of an episode's steps."""
    return [int(step.span_id, 16) for step in episode.steps]


def shape(found: Sequence[Episode]) -> list[list[int]]:
    """The span numbers of all episodes."""
    return [spans(episode) for episode in found]


def flags(step: Step | Episode) -> set[str]:
    """The quality flags, as text."""
    return {flag.value for flag in step.quality_flags}


def texts(messages: Sequence[Message]) -> list[str]:
    """Each message as `role: text [ids]`."""
    return [f"{message.role}: {message.text}{_ids(message)}" for message in messages]


def _ids(message: Message) -> str:
    calls = "".join(f" [{part.id}]" for part in message.tool_calls)
    part = message.tool_result
    return calls if part is None else f" [{part.call_id}]"


ALL_FLAGS = frozenset(QualityFlag)
