"""Episodes to table rows: pure, knows the columns of `schema.sql` and nothing of files or transactions.

Messages stay hashes here; the writer turns hashes into the file's message numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields

from spanloop.convert import compact_json, message_from_chat, message_to_chat, tools_from_chat, tools_to_chat
from spanloop.hashing import canonical_json, content_hash, exact_hash
from spanloop.records import Episode, MediaPart, Message, Role, Step, ToolDefinition, ToolStatus
from spanloop.wire import message_to_bytes, tools_to_bytes, utf8_text

HISTORIES_COMPARED_MAX = 16
"""Latest histories of an episode that a step is compared with; beyond it a step begins a history of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPrefix:
    """A step's state: the first messages of one of its episode's histories."""

    history_index: int
    num_messages: int
    new_messages: tuple[Message, ...]
    """Messages of the state that appear in the episode for the first time, in order."""


class Hashes:
    """Exact hashes of the messages and tool lists of a batch, each computed once."""

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}
        self.tools: dict[str, tuple[ToolDefinition, ...]] = {}
        self._message_hashes: dict[Message, str] = {}
        self._tools_hashes: dict[tuple[ToolDefinition, ...], str] = {}

    def message(self, message: Message) -> str:
        """The message's hash; remembers the message under it."""
        known = self._message_hashes.get(message)
        if known is None:
            known = self._message_hashes[message] = exact_hash(message)
            self.messages[known] = message
        return known

    def tool_list(self, tools: tuple[ToolDefinition, ...]) -> str:
        """The list's hash; remembers the list under it."""
        known = self._tools_hashes.get(tools)
        if known is None:
            known = self._tools_hashes[tools] = content_hash(
                [[tool.name, tool.description, tool.parameters] for tool in tools]
            )
            self.tools[known] = tools
        return known


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One row of `store.steps`, with hashes in place of message numbers."""

    step: Step
    history_index: int
    num_messages: int
    tools: str | None
    action: str | None
    observations: tuple[str, ...]
    shown_from: int
    shown: tuple[str, ...]
    results: tuple[tuple[str | None, ToolStatus], ...]
    """Per call of the action: the tool message that answers it, and how it ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRows:
    """All rows of one episode."""

    episode: Episode
    histories: tuple[tuple[str, ...], ...]
    steps: tuple[StepRow, ...]
    content_hash: str


def episode_rows(episode: Episode, hashes: Hashes) -> EpisodeRows:
    """The rows of an episode; the same episode gives the same rows and the same content hash."""
    histories = Histories()
    steps: list[StepRow] = []
    num_shown = 0
    for step in episode.steps:
        prefix = histories.place(step)
        shown = (*prefix.new_messages, *((step.action,) if step.action else ()), *step.observations)
        histories.show((step.action,) if step.action else (), step.observations)
        steps.append(_step_row(step, prefix, shown, num_shown, hashes))
        num_shown += len(shown)
    lists = tuple(tuple(map(hashes.message, messages)) for messages in histories.lists)
    return EpisodeRows(
        episode=episode, histories=lists, steps=tuple(steps), content_hash=_content_hash(episode, lists, steps)
    )


def _step_row(step: Step, prefix: HistoryPrefix, shown: Sequence[Message], shown_from: int, hashes: Hashes) -> StepRow:
    return StepRow(
        step=step,
        history_index=prefix.history_index,
        num_messages=prefix.num_messages,
        tools=None if step.tools is None else hashes.tool_list(step.tools),
        action=None if step.action is None else hashes.message(step.action),
        observations=tuple(map(hashes.message, step.observations)),
        shown_from=shown_from,
        shown=tuple(map(hashes.message, shown)),
        results=tuple((None if m is None else hashes.message(m), status) for m, status in call_results(step)),
    )


class Histories:
    """The distinct message lists of one episode, and which messages a reader of it has already seen.

    A state that continues a list extends it, so the lists of an append-only episode are one. Messages are counted, so a
    "yes" that is said twice is shown twice, and one that is repeated by every later state is shown once.
    """

    def __init__(self) -> None:
        self.lists: list[tuple[Message, ...]] = []
        self._counts: list[Counter[Hashable]] = []
        self._seen: Counter[Hashable] = Counter()

    def place(self, step: Step) -> HistoryPrefix:
        """Where the step's state lies, after extending or adding a list."""
        state = step.messages
        first = max(0, len(self.lists) - HISTORIES_COMPARED_MAX)
        for index in range(len(self.lists) - 1, first - 1, -1):
            known = self.lists[index]
            if state[: len(known)] == known:
                self.lists[index] = state
                return self._prefix(index, state, state[len(known) :])
            if known[: len(state)] == state:
                return self._prefix(index, state, ())
        self.lists.append(state)
        self._counts.append(Counter())
        return self._prefix(len(self.lists) - 1, state, state)

    def show(self, *groups: Iterable[Message]) -> None:
        """Count messages that are shown whatever the states repeat."""
        for group in groups:
            self._seen.update(map(_looks, group))

    def _prefix(self, index: int, state: tuple[Message, ...], added: Sequence[Message]) -> HistoryPrefix:
        counts, new = self._counts[index], []
        for message in added:
            look = _looks(message)
            counts[look] += 1
            if counts[look] > self._seen[look]:
                self._seen[look] += 1
                new.append(message)
        return HistoryPrefix(history_index=index, num_messages=len(state), new_messages=tuple(new))


def _looks(message: Message) -> Hashable:
    """What a reader sees of a message: senders vary ids, reasoning and outer spaces when they repeat it."""
    calls = tuple((call.name, canonical_json(call.arguments)) for call in message.tool_calls)
    media = tuple((part.kind, part.sha256, part.uri) for part in message.parts if isinstance(part, MediaPart))
    return message.role, message.text.strip(), calls, media


def call_results(step: Step) -> tuple[tuple[Message | None, ToolStatus], ...]:
    """Per call of the action: the tool message that answers it, and how the call ended."""
    left = list(step.observations)
    found: list[tuple[Message | None, ToolStatus]] = []
    for call in step.action.tool_calls if step.action else ():
        answer = next((m for m in left if m.tool_result and m.tool_result.call_id == call.id), None)
        if answer is not None:
            left.remove(answer)
        result = answer.tool_result if answer is not None else None
        found.append((answer, ToolStatus.MISSING if result is None else result.status))
    return tuple(found)


def _content_hash(episode: Episode, histories: Sequence[Sequence[str]], steps: Sequence[StepRow]) -> str:
    """Hash of everything but `end_reason`: how the receiver closed it is not the agent's doing."""
    return content_hash(
        [
            [_plain(getattr(episode, f.name)) for f in fields(Episode) if f.name not in ("steps", "end_reason")],
            histories,
            [_step_content(row) for row in steps],
        ]
    )


def _step_content(row: StepRow) -> list[object]:
    held = ("messages", "tools", "action", "observations", "usage")
    plain = [_plain(getattr(row.step, f.name)) for f in fields(Step) if f.name not in held]
    usage = [getattr(row.step.usage, f.name) for f in fields(row.step.usage)]
    return [plain, usage, row.history_index, row.num_messages, row.tools, row.action, row.observations]


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else value


def message_row(message: Message) -> tuple[str, str, str | None, bytes | None]:
    """Role, chat text, tool status and record of a row of `store.messages`."""
    chat = message_to_chat(message)
    result = message.tool_result
    status = result.status if result else ToolStatus.UNKNOWN
    told = message_from_chat(chat, tool_status=status) == message
    return (
        str(message.role),
        utf8_text(compact_json(chat)),
        str(status) if message.role is Role.TOOL else None,
        None if told else message_to_bytes(message),
    )


def tools_row(tools: tuple[ToolDefinition, ...]) -> tuple[str, bytes | None]:
    """Chat text and record of a row of `store.tool_sets`."""
    chat = tools_to_chat(tools)
    return utf8_text(compact_json(chat)), None if tools_from_chat(chat) == tools else tools_to_bytes(tools)
