"""How one model call continues another: the records the stages of chaining share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.keys import canonical_arguments, squeezed
from spanloop.records import Message, Role


class Gap(StrEnum):
    """What the later call's history makes of the earlier call's answer."""

    NONE = "none"
    """It repeats the answer, give or take what senders vary."""
    CALLS_DROPPED = "calls_dropped"
    """It has the answer's text without its tool calls."""
    MESSAGE_DROPPED = "message_dropped"
    """It has the results of the answer's tool calls, but no answer."""
    OUTPUT_LOST = "output_lost"
    """It has an answer, or tool calls, that the earlier span does not report."""
    ARGUMENTS_DIFFER = "arguments_differ"
    """It has the answer's tool calls, by id, with other arguments."""
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


def gap_after(earlier: Call, following: Message | None) -> Gap | None:
    """How the message that follows the earlier prompt can stand for the earlier answer; `None` when it cannot.

    Equal messages are not looked at: the prefix tree finds them.
    """
    if following is None:
        return None
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
        return Gap.CALLS_DROPPED if same_text else None
    return Gap.ARGUMENTS_DIFFER if _same_ids(output, following) else None


def _answers_one(output: Message, result: Message) -> bool:
    """Whether a tool message can be a result of one of the output's calls."""
    part = result.tool_result
    assert part is not None
    ids = {call.id for call in output.tool_calls}
    return bool(ids) and (not part.call_id or part.call_id in ids)


def _same_ids(output: Message, following: Message) -> bool:
    mine = [(call.id, call.name) for call in output.tool_calls]
    return bool(mine) and mine == [(call.id, call.name) for call in following.tool_calls]


def same_calls(one: Message, other: Message) -> bool:
    """Whether two messages call the same tools with the same arguments, in the same order."""
    mine, theirs = one.tool_calls, other.tool_calls
    return len(mine) == len(theirs) and all(
        a.name == b.name and canonical_arguments(a.arguments) == canonical_arguments(b.arguments)
        for a, b in zip(mine, theirs, strict=True)
    )
