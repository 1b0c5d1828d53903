"""Make the states of one history tell one story: the same ids everywhere, and what senders drop put back.

In: segments, whose links say how each call continues another. Out: a `Turn` per call. What an earlier call answered is
known, so where a later history lacks its tool calls, its ids or the whole message, they are restored from it and the
step is flagged; a prompt that needs nothing is passed on as it came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from otel_receiver.dialects.base import SYNTHETIC_ID_PREFIX
from otel_receiver.episodes.calls import SYSTEM_ROLES, Call, is_made_id
from otel_receiver.episodes.keys import canonical_arguments, squeezed
from otel_receiver.episodes.links import Gap, Link, is_tail
from otel_receiver.episodes.matching import match_results, results_after, translated, with_ids
from otel_receiver.episodes.segments import Segment
from spanloop.records import Message, QualityFlag, ReasoningPart, Role, TextPart, ToolCall

UNRELATED_GAPS = frozenset({Gap.PROMPT_CUT, Gap.PROMPT_REGROWN, Gap.NO_CONTENT})
"""Links that do not place the earlier prompt in the later one, so no position is known to be the same message."""

NO_ARGUMENTS = "{}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """A call with its state, its action and the results that a later history has for it."""

    call: Call
    messages: tuple[Message, ...]
    action: Message | None
    results: tuple[Message, ...] = ()
    """Tool messages, with the ids of the action's calls."""
    repeated: bool = False
    """A later history has the answer."""
    completed: bool = False
    """It has more of the answer than the call's own span."""
    flags: frozenset[QualityFlag] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patch:
    """What stands in place of one message of a body."""

    messages: tuple[Message, ...]
    repaired: bool
    """Something was put back, rather than an id made equal."""


@dataclass(slots=True, kw_only=True)
class _Story:
    """What is known while the calls of one history are walked."""

    patches: dict[int, _Patch] = field(default_factory=dict)
    known_ids: set[str] = field(default_factory=set)
    lasting: set[QualityFlag] = field(default_factory=set)
    """Flags of a state that every later state of the history shares."""

    def copy(self) -> _Story:
        """A story that goes on differently."""
        return _Story(patches=dict(self.patches), known_ids=set(self.known_ids), lasting=set(self.lasting))


class Histories:
    """The turns of all segments: a segment that continues another's history inherits what is known there."""

    def __init__(self, segments: Sequence[Segment], inconsistent: frozenset[Call]) -> None:
        self._inconsistent = inconsistent
        self._stories: dict[Call, _Story] = {}
        self._dependents: dict[Call, list[Segment]] = defaultdict(list)
        self.turns: dict[Call, Turn] = {}
        ready: list[Segment] = []
        for segment in segments:
            link = segment.links[0]
            (ready if link is None else self._dependents[link.earlier]).append(segment)
        for segment in ready:  # grows while it is walked
            self._walk(segment)
            ready.extend(dependent for call in segment.calls for dependent in self._dependents.get(call, ()))

    def _walk(self, segment: Segment) -> None:
        story = self._opening(segment.links[0])
        for index, call in enumerate(segment.calls):
            link = segment.links[index]
            if call in self._inconsistent:
                story.lasting.add(QualityFlag.HISTORY_INCONSISTENT)
            if link is not None and link.gap in UNRELATED_GAPS:
                story.patches.clear()
            _note_orphans(call, link, story)
            self._take_turn(call, self._following(segment, index), story)

    def _opening(self, link: Link | None) -> _Story:
        if link is None:
            return _Story()
        story = self._stories[link.earlier].copy()
        action = self.turns[link.earlier].action
        if action is not None:
            _tell(story, action, link)
        return story

    def _following(self, segment: Segment, index: int) -> Link | None:
        """The link that tells what became of a call: the one within the segment, else the first that leaves it."""
        if index + 1 < len(segment.calls):
            return segment.links[index + 1]
        dependents = self._dependents.get(segment.calls[index])
        return dependents[0].links[0] if dependents else None

    def _take_turn(self, call: Call, following: Link | None, story: _Story) -> None:
        messages, flags = _state(call, story)
        action, action_flags = _action(call, following)
        if call in self._dependents:
            self._stories[call] = story.copy()
        results: tuple[Message, ...] = ()
        result_flags: frozenset[QualityFlag] = frozenset()
        if following is not None and action is not None:
            results, result_flags = _tell(story, action, following)
        flags |= action_flags | result_flags
        self.turns[call] = Turn(
            call=call,
            messages=messages,
            action=action,
            results=results,
            repeated=_told_answer(following) is not None,
            completed=QualityFlag.HISTORY_REPAIRED in action_flags,
            flags=frozenset(flags),
        )


def _note_orphans(call: Call, link: Link | None, story: _Story) -> None:
    """Flag, from here on, a tool result that answers no call of its history."""
    for position in range(link.tail if link is not None else 0, len(call.body)):
        message = call.body[position]
        story.known_ids.update(part.id for part in message.tool_calls)
        result = message.tool_result
        if result is not None and result.call_id and result.call_id not in story.known_ids:
            story.lasting.add(QualityFlag.HISTORY_INCONSISTENT)


def _state(call: Call, story: _Story) -> tuple[tuple[Message, ...], set[QualityFlag]]:
    messages = _patched(call, story.patches) if story.patches else call.report.messages
    flags = set(story.lasting)
    carried = call.report.flags
    if any(patch.repaired for patch in story.patches.values()):
        flags.add(QualityFlag.HISTORY_REPAIRED)
    if QualityFlag.AMBIGUOUS_MATCH in carried and _has_unmatched_result(messages):
        flags.add(QualityFlag.AMBIGUOUS_MATCH)
    if (QualityFlag.IDS_SYNTHESISED in carried or story.patches) and _has_made_id(messages):
        flags.add(QualityFlag.IDS_SYNTHESISED)
    return messages, flags


def _has_unmatched_result(messages: Sequence[Message]) -> bool:
    return any(message.tool_result is not None and not message.tool_result.call_id for message in messages)


def _has_made_id(messages: Sequence[Message]) -> bool:
    return any(is_made_id(part.id) for message in messages for part in message.tool_calls)


def _patched(call: Call, patches: Mapping[int, _Patch]) -> tuple[Message, ...]:
    """The prompt with the patches laid over its body; system messages stay where they are."""
    messages: list[Message] = []
    position = 0
    for message in call.report.messages:
        if message.role in SYSTEM_ROLES:
            messages.append(message)
            continue
        patch = patches.get(position)
        messages.extend(patch.messages if patch is not None else (message,))
        position += 1
    return tuple(messages)


def _action(call: Call, following: Link | None) -> tuple[Message | None, set[QualityFlag]]:
    """The answer, with ids; what its own span lost of it comes from the successor's history."""
    action = _restored(call, following)
    flags: set[QualityFlag] = set() if action is call.output else {QualityFlag.HISTORY_REPAIRED}
    if action is None or not action.tool_calls:
        return action, flags
    if call.report.lossy_output and not action.text.strip():
        action, doubts = _with_words_told_later(action, _told_answer(following))
        flags |= doubts
    if following is not None and following.gap is Gap.ARGUMENTS_DIFFER:
        told = following.later.body[following.tail - 1]
        restored = _with_lost_arguments(action, told)
        flags |= {QualityFlag.HISTORY_REPAIRED} if restored is not action else set()
        action = restored
    ids = [
        part.id if not is_made_id(part.id) else told_id or f"{SYNTHETIC_ID_PREFIX}{call.ref.span_id}_{index}"
        for index, (part, told_id) in enumerate(zip(action.tool_calls, _told_ids(action, following), strict=True))
    ]
    if any(is_made_id(call_id) for call_id in ids):
        flags.add(QualityFlag.IDS_SYNTHESISED)
    return with_ids(action, ids), flags


def _with_words_told_later(action: Message, told: Message | None) -> tuple[Message, set[QualityFlag]]:
    """The answer with the text beside its calls as the successor's history has it, and the flags for that."""
    if told is None or not told.tool_calls:
        return action, {QualityFlag.TEXT_DROPPED}
    whole = _with_lost_words(action, told)
    return whole, set() if whole is action else {QualityFlag.HISTORY_REPAIRED}


def _with_lost_arguments(action: Message, told: Message) -> Message:
    """The answer with the arguments that its own span leaves blank, as the history that repeats its calls has them."""
    if all(call.arguments.strip() for call in action.tool_calls):
        return action
    known = {call.id: call.arguments for call in told.tool_calls}
    parts = (
        replace(part, arguments=known.get(part.id, ""))
        if isinstance(part, ToolCall) and not part.arguments.strip()
        else part
        for part in action.parts
    )
    return replace(action, parts=tuple(parts))


def _differ(one: Message, other: Message) -> bool:
    """Whether the calls of two messages have different arguments."""
    mine, theirs = ([canonical_arguments(call.arguments) for call in message.tool_calls] for message in (one, other))
    return mine != theirs


def _restored(call: Call, following: Link | None) -> Message | None:
    """The answer with what its own span lost and the successor's history has; the same object where that is nothing."""
    action, told = call.output, _told_answer(following)
    if following is None or told is None or not told.parts:
        return action
    if following.gap is Gap.OUTPUT_LOST:
        is_part = action is None or squeezed(told.text).startswith(squeezed(action.text)) or is_tail(call, told)
        if action is None or is_part:
            return _filled(action, told)
        return replace(action, parts=(*action.parts, *told.tool_calls))
    return _filled(action, told) if action is not None and _tells_more(call, action, told, following.gap) else action


def _tells_more(call: Call, action: Message, told: Message, gap: Gap) -> bool:
    """Whether a history has the arguments, or the beginning of the text, that the call's own span lost."""
    if len(told.tool_calls) != len(action.tool_calls):
        return False
    if gap is not Gap.ARGUMENTS_DIFFER:
        return is_tail(call, told)
    pairs = zip(action.tool_calls, told.tool_calls, strict=True)
    return all(mine.arguments in (NO_ARGUMENTS, theirs.arguments) for mine, theirs in pairs)


def _filled(action: Message | None, told: Message) -> Message:
    """The answer as the history tells it, with its own reasoning, which histories drop."""
    thoughts = tuple(part for part in action.parts if isinstance(part, ReasoningPart)) if action is not None else ()
    if not thoughts:
        return told
    return replace(told, parts=(*thoughts, *(part for part in told.parts if not isinstance(part, ReasoningPart))))


def _told_ids(action: Message, following: Link | None) -> list[str | None]:
    """The ids a later history has for the action's calls, where they are the sender's own."""
    nothing: list[str | None] = [None] * len(action.tool_calls)
    told = _told_answer(following)
    if told is None or len(told.tool_calls) != len(nothing):
        return nothing
    return [part.id if not is_made_id(part.id) else None for part in told.tool_calls]


def _told_answer(following: Link | None) -> Message | None:
    """The answer as a later history repeats it."""
    if following is None or following.gap in (Gap.MESSAGE_DROPPED, Gap.PROMPT_REGROWN, Gap.NO_CONTENT):
        return None
    return following.later.body[following.tail - 1]


def _tell(story: _Story, action: Message, following: Link) -> tuple[tuple[Message, ...], frozenset[QualityFlag]]:
    """Note how later histories must show this turn; the results they have for it, and flags of the match."""
    story.known_ids.update(part.id for part in action.tool_calls)
    if following.gap in (Gap.PROMPT_REGROWN, Gap.NO_CONTENT):
        return (), frozenset()
    body, tail = following.later.body, following.tail
    told = _told_answer(following)
    if told is not None:
        story.known_ids.update(part.id for part in told.tool_calls)
        tells_calls = following.gap not in (Gap.CALLS_DROPPED, Gap.CALLS_AS_TEXT)
        if tells_calls and len(told.tool_calls) != len(action.tool_calls):
            action = told  # another branch's history restored the action; this one tells it differently
    if following.gap is Gap.ARGUMENTS_DIFFER and told is not None and _differ(action, told):
        story.lasting.add(QualityFlag.ARGUMENTS_ALTERED)
    found = translated(results_after(body, tail), told, action)
    results, flags = match_results(action.tool_calls, found)
    if following.gap is not Gap.PROMPT_CUT:
        _patch_answer(story, action, following)
        _patch_results(story, following, results)
    story.lasting.update(flags)
    return results, flags


def _patch_answer(story: _Story, action: Message, following: Link) -> None:
    """Show the action in later histories as it was given."""
    told, tail = _told_answer(following), following.tail
    if told is None:
        story.patches[tail] = _Patch(messages=(action, following.later.body[tail]), repaired=True)
        return
    if following.gap is Gap.CALLS_DROPPED:
        story.patches[tail - 1] = _Patch(messages=(action,), repaired=True)
        return
    shown = with_ids(told, [part.id for part in action.tool_calls]) if told.tool_calls else told
    restored = _with_lost_words(shown, action) if following.later.report.lossy_history else shown
    if restored is not told:
        ids_contradict = shown is not told and not any(is_made_id(part.id) for part in told.tool_calls)
        story.patches[tail - 1] = _Patch(messages=(restored,), repaired=restored is not shown or ids_contradict)


def _with_lost_words(told: Message, action: Message) -> Message:
    """The message with the text beside its tool calls that the sender's telemetry loses."""
    if told.text.strip() or not action.text.strip():
        return told
    words = tuple(part for part in action.parts if isinstance(part, TextPart))
    thoughts = tuple(part for part in told.parts if isinstance(part, ReasoningPart))
    others = tuple(part for part in told.parts if not isinstance(part, ReasoningPart | TextPart))
    return replace(told, parts=(*thoughts, *words, *others))


def _patch_results(story: _Story, following: Link, results: Sequence[Message]) -> None:
    """Show the results with their ids in later histories."""
    body, tail = following.later.body, following.tail
    positions = (position for position in range(tail, len(body)) if body[position].role is Role.TOOL)
    for position, shown in zip(positions, results, strict=False):
        if position == tail and following.gap is Gap.MESSAGE_DROPPED:
            story.patches[position] = _Patch(messages=(story.patches[position].messages[0], shown), repaired=True)
        elif shown is not body[position]:
            story.patches[position] = _Patch(messages=(shown,), repaired=False)
