"""How one model call continues another: the records the stages of chaining share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.keys import squeezed
from spanloop.records import Message, QualityFlag, Role

FIELD_MARK = re.compile(r"\s*\[\[ ## \w+ ## ]]\s*")
"""A line with which DSPy begins a field; answers name a field otherwise than the prompts that repeat it."""
CLOSING_WORDS = "\n\nRespond with the corresponding output fields"
"""With which DSPy ends a prompt; they name the fields asked for, which change from call to call of one module."""
ANSWER_CHARS_MIN = 8
"""Characters of an answer's longest line that must stand in a later prompt to recognise the answer in it."""


class Gap(StrEnum):
    """What the later call's history makes of the earlier call's answer."""

    NONE = "none"
    """It repeats the answer, give or take what senders vary."""
    CALLS_DROPPED = "calls_dropped"
    """It has the answer's text without its tool calls, though their results follow."""
    MESSAGE_DROPPED = "message_dropped"
    """It has the results of the answer's tool calls, but no answer."""
    OUTPUT_LOST = "output_lost"
    """It has an answer, tool calls or the rest of a text that the earlier span does not report."""
    CALLS_AS_TEXT = "calls_as_text"
    """It tells the answer's tool calls in words or not at all, as some agents really send it."""
    ARGUMENTS_DIFFER = "arguments_differ"
    """It has the answer's tool calls, by id, with other arguments."""
    PROMPT_REGROWN = "prompt_regrown"
    """Its last message is the earlier prompt's with the answer written into it."""
    PROMPT_CUT = "prompt_cut"
    """Its beginning is lost; it was recognised by the answer alone."""
    NO_CONTENT = "no_content"
    """Neither call carries messages; time alone orders them."""


class Boundary(StrEnum):
    """What lies between two calls of one history."""

    CONTINUES = "continues"
    """Nothing but tool results: the same episode."""
    NEXT_REQUEST = "next_request"
    """A new user message after an answer: the next episode of the conversation."""
    OTHER_AGENT = "other_agent"
    """Another agent took the history over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Link:
    """A call and the call whose history it continues."""

    earlier: Call
    later: Call
    gap: Gap
    tail: int
    """Position, in the later call's body, of the first message after the earlier answer."""
    boundary: Boundary
    ambiguous: bool = False
    """Another call could be continued as well."""


def gap_after(earlier: Call, rest: Sequence[Message]) -> Gap | None:
    """How the first of the messages after the earlier prompt can stand for its answer; `None` when it cannot.

    Equal messages are not looked at: the prefix tree finds them.
    """
    if not rest:
        return None
    following = rest[0]
    output = earlier.output
    if following.role is Role.TOOL:
        return Gap.MESSAGE_DROPPED if output is not None and _answers_one(output, following) else None
    if following.role is not Role.ASSISTANT:
        return None
    if output is None:
        return None if earlier.ref.failed else Gap.OUTPUT_LOST
    same_text = squeezed(output.text) == squeezed(following.text)
    if following.tool_calls and not output.tool_calls:
        return Gap.OUTPUT_LOST if same_text or not output.text.strip() or not following.text.strip() else None
    if output.tool_calls and not following.tool_calls:
        if (same_text or not following.parts) and len(rest) > 1 and rest[1].role is Role.TOOL:
            return Gap.CALLS_DROPPED
        return Gap.CALLS_AS_TEXT if same_text or _told_in_words(output, following) else None
    if output.tool_calls:
        if _same_ids(output, following):
            return Gap.ARGUMENTS_DIFFER
        return Gap.OUTPUT_LOST if _some_of(output, following) and same_text else None
    is_part = may_be_cut(earlier) and _begins(output, following)
    return Gap.OUTPUT_LOST if is_part or is_tail(earlier, following) else None


def may_be_cut(call: Call) -> bool:
    """Whether the reported answer may be less than the model gave."""
    return QualityFlag.OUTPUT_TRUNCATED in call.report.flags or call.attempt_failed


def is_tail(call: Call, told: Message) -> bool:
    """Whether the reported answer is the end of what a later history has for it, at a sender that tells ends alone."""
    if not call.report.tail_only or call.output is None:
        return False
    mine, theirs = squeezed(call.output.text), squeezed(told.text)
    return len(mine) < len(theirs) and theirs.endswith(mine)


def regrown(earlier: Message, answer: Message, later: Message) -> bool:
    """Whether a message is an earlier one with an answer to it written in: at its end, or before its closing words."""
    before, after = (message.text.partition(CLOSING_WORDS)[0] for message in (earlier, later))
    if len(after) <= len(before):
        return False
    start = shared_start(before, after)
    end = min(shared_start(before[::-1], after[::-1]), len(before) - start)
    if start + end < len(before):
        return False
    lines = (squeezed(line) for line in answer.text.splitlines() if not FIELD_MARK.fullmatch(line))
    line = max(lines, key=len, default="")
    return len(line) >= ANSWER_CHARS_MIN and line in squeezed(after[start : len(after) - end])


def in_fields(message: Message) -> bool:
    """Whether a prompt is one that DSPy wrote."""
    return FIELD_MARK.match(message.text) is not None and CLOSING_WORDS in message.text


def shared_start(one: str, other: str) -> int:
    """How many characters two texts begin with alike, by halving."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _begins(output: Message, following: Message) -> bool:
    """Whether the following text is the output's, and more."""
    return bool(output.text.strip()) and squeezed(following.text).startswith(squeezed(output.text))


def _told_in_words(output: Message, following: Message) -> bool:
    """Whether a text names every tool call of the output, by id or with its arguments."""
    text = squeezed(following.text)
    return all(
        call.name in text and (call.id in text or squeezed(call.arguments) in text) for call in output.tool_calls
    )


def _answers_one(output: Message, result: Message) -> bool:
    """Whether a tool message can be a result of one of the output's calls."""
    part = result.tool_result
    assert part is not None
    ids = {call.id for call in output.tool_calls}
    return bool(ids) and (not part.call_id or part.call_id in ids)


def _some_of(output: Message, following: Message) -> bool:
    """Whether the reported calls are some of those a later history has, by id and name."""
    mine = {(call.id, call.name) for call in output.tool_calls}
    return len(mine) < len(following.tool_calls) and mine < {(call.id, call.name) for call in following.tool_calls}


def _same_ids(output: Message, following: Message) -> bool:
    mine = [(call.id, call.name) for call in output.tool_calls]
    return bool(mine) and mine == [(call.id, call.name) for call in following.tool_calls]
