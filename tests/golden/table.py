"""The table in `docs/dialects.md`: what each captured payload carries, what the receiver derives, what is absent.

It is made from the payloads by the receiver itself, and a test fails when the document drifts. To write it anew:
`python -m tests.golden.table`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from otel_receiver.dialects.base import ModelCall, Reading
from spanloop.records import Episode, Feedback, QualityFlag, Role, Step
from tests.golden.harness import derive, expected, load, read, tags

DOCUMENT = Path(__file__).parents[2] / "docs" / "dialects.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


class Source(StrEnum):
    """Where a field of an episode comes from."""

    CARRIED = "carried"
    DERIVED = "derived"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A payload at three stages."""

    readings: tuple[Reading, ...]
    episodes: tuple[Episode, ...]
    feedback: tuple[Feedback, ...]

    @property
    def calls(self) -> tuple[ModelCall, ...]:
        """The model calls as the dialects read them."""
        return tuple(call for reading in self.readings for call in reading.model_calls)

    @property
    def callers(self) -> tuple[Reading, ...]:
        """The readings of the spans that report calls."""
        return tuple(reading for reading in self.readings if reading.model_calls)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of all episodes."""
        return tuple(step for episode in self.episodes for step in episode.steps)


def _source(carried: Iterable[bool], derived: Iterable[bool]) -> Source:
    """Carried when every call carries it; derived when some episode or step has it nevertheless."""
    told = tuple(carried)
    if told and all(told):
        return Source.CARRIED
    return Source.DERIVED if any(derived) else Source.ABSENT


def _system(payload: Payload) -> Source:
    told = [any(message.role in (Role.SYSTEM, Role.DEVELOPER) for message in call.messages) for call in payload.calls]
    shown = (message.role is Role.SYSTEM for step in payload.steps for message in step.messages)
    return _source(told, shown)


def _messages(payload: Payload) -> Source:
    repaired = any(QualityFlag.HISTORY_REPAIRED in step.quality_flags for step in payload.steps)
    return _source(
        (bool(call.messages) and not repaired for call in payload.calls),
        (bool(step.messages) for step in payload.steps),
    )


def _tools(payload: Payload) -> Source:
    return _source((call.tools is not None for call in payload.calls), (bool(step.tools) for step in payload.steps))


def _tool_ids(payload: Payload) -> Source:
    acted = [step for step in payload.steps if step.action is not None and step.action.tool_calls]
    made = (QualityFlag.IDS_SYNTHESISED not in step.quality_flags for step in payload.steps)
    return _source(made, (bool(step) for step in acted)) if acted else Source.ABSENT


def _reasoning(payload: Payload) -> Source:
    said = any(call.output is not None and call.output.reasoning for call in payload.calls)
    return Source.CARRIED if said else Source.ABSENT


def _usage(payload: Payload) -> Source:
    told = (call.usage.input_tokens is not None for call in payload.calls)
    return _source(told, (step.usage.input_tokens is not None for step in payload.steps))


def _finish(payload: Payload) -> Source:
    told = (call.finish_reason is not None for call in payload.calls)
    return _source(told, (step.finish_reason is not None for step in payload.steps))


def _conversation(payload: Payload) -> Source:
    told = (reading.context.conversation_id is not None for reading in payload.callers)
    return _source(told, (episode.conversation_id is not None for episode in payload.episodes))


def _user(payload: Payload) -> Source:
    told = (reading.context.user_id is not None for reading in payload.callers)
    return _source(told, (episode.user_id is not None for episode in payload.episodes))


def _feedback(payload: Payload) -> Source:
    return Source.CARRIED if payload.feedback else Source.ABSENT


COLUMNS: tuple[tuple[str, Callable[[Payload], Source]], ...] = (
    ("system", _system),
    ("messages", _messages),
    ("tools", _tools),
    ("tool ids", _tool_ids),
    ("reasoning", _reasoning),
    ("usage", _usage),
    ("finish reason", _finish),
    ("conversation", _conversation),
    ("user", _user),
    ("feedback", _feedback),
)


def table() -> str:
    """The table in Markdown: one row a payload."""
    head = "| dialect | seen in | payload | " + " | ".join(name for name, _ in COLUMNS) + " |"
    rule = "|" + "---|" * (len(COLUMNS) + 3)
    return "\n".join((head, rule, *(_row(tag) for tag in sorted(tags(), key=_order))))


def _order(tag: str) -> tuple[str, str]:
    return _payload(tag).episodes[0].dialect if _payload(tag).episodes else "", tag


def _payload(tag: str) -> Payload:
    episodes, feedback = derive(tag)
    return Payload(readings=tuple(read(*load(tag))), episodes=tuple(episodes), feedback=tuple(feedback))


def _row(tag: str) -> str:
    payload = _payload(tag)
    dialect = payload.episodes[0].dialect if payload.episodes else "none"
    cells = (str(source(payload)) for _, source in COLUMNS)
    return f"| {dialect} | {expected(tag)['instrumentation']} | `{tag}` | " + " | ".join(cells) + " |"


def document(text: str) -> str:
    """The document with the table of today between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text()))
