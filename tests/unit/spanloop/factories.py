"""Small records for tests of the contract and the store."""

from collections.abc import Sequence

from spanloop.records import (
    EndReason,
    Episode,
    EpisodeStatus,
    Message,
    Part,
    Role,
    Step,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolResult,
    ToolStatus,
    Usage,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
START = 1_700_000_000_000_000_000
WEATHER = ToolDefinition(name="weather", description="Weather of a city", parameters='{"type":"object"}')


def trace_id(number: int) -> str:
    """The trace id of a number."""
    return f"{number:032x}"


def span_id(number: int) -> str:
    """The span id of a number."""
    return f"{number:016x}"


def says(role: Role, *parts: Part | str, name: str | None = None) -> Message:
    """A message; plain strings are text parts."""
    return Message(role=role, parts=tuple(TextPart(text=p) if isinstance(p, str) else p for p in parts), name=name)


def system(text: str) -> Message:
    """A system message."""
    return says(Role.SYSTEM, text)


def user(text: str) -> Message:
    """A user message."""
    return says(Role.USER, text)


def assistant(*parts: Part | str) -> Message:
    """An assistant message."""
    return says(Role.ASSISTANT, *parts)


def call(number: int, arguments: str = "{}", name: str = "weather") -> ToolCall:
    """A tool call."""
    return ToolCall(id=f"call_{number}", name=name, arguments=arguments)


def result(number: int, content: str, status: ToolStatus = ToolStatus.OK) -> Message:
    """A tool message."""
    return says(Role.TOOL, ToolResult(call_id=f"call_{number}", content=content, status=status))


def make_step(index: int = 0, messages: Sequence[Message] = (), action: Message | None = None, **changes) -> Step:
    """A step of the first trace; `changes` are further fields."""
    fields = {
        "tools": (WEATHER,),
        "dialect": "openinference",
        "trace_id": TRACE,
        "span_id": span_id(index + 1),
        "started_at": START + index,
        "ended_at": START + index + 1,
        "usage": Usage(input_tokens=10, output_tokens=2),
    }
    return Step(step_index=index, messages=tuple(messages), action=action, **(fields | changes))


def make_episode(*steps: Step, **changes) -> Episode:
    """An episode of these steps, or of one question and its answer; `changes` are further fields."""
    fields = {
        "episode_id": "episode-1",
        "conversation_id": "conversation-1",
        "agent_name": "meteorologist",
        "service_name": "weather-service",
        "model": "small-model",
        "dialect": "openinference",
        "started_at": START,
        "ended_at": START + 10,
        "status": EpisodeStatus.OK,
        "end_reason": EndReason.ROOT_ENDED,
    }
    return Episode(steps=steps or (make_step(0, [user("Hello")], assistant("Hi")),), **(fields | changes))


def weather_episode(**changes) -> Episode:
    """Two steps: a tool call that works beside one that fails, then the answer."""
    state = (system("You forecast."), user("Will it rain in Bern and Basel?"))
    asks = assistant(call(1, '{"city":"Bern"}'), call(2, '{"city":"Basel"}'))
    answers = (result(1, "rain"), result(2, "no such city", ToolStatus.ERROR))
    return make_episode(
        make_step(0, state, asks, observations=answers, finish_reason="tool_calls"),
        make_step(1, (*state, asks, *answers), assistant("It rains in Bern."), finish_reason="stop"),
        **changes,
    )
