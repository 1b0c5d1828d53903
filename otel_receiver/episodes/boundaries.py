"""Tell where one episode ends and the next begins, between two calls of one history."""

from __future__ import annotations

import re

from otel_receiver.episodes.calls import Call, is_output_tool
from otel_receiver.episodes.keys import squeezed
from otel_receiver.episodes.links import Boundary, shared_start
from spanloop.records import Message, Role

ALIKE_SHARE = 0.6
"""Share of the longer system prompt that two prompts of one agent have in common, at their start and end together:
dates, memories and user data change between calls, the instructions do not."""

FRAMEWORK_FEEDBACK = re.compile(
    r"\s*(observation\s*:|tool (result|response|output)s?\s*:|validation feedback|\[\[ ## "
    r"|.*fix the errors and try again\.?\s*$|your previous response failed the application's validation"
    r"|.*(text responses are not permitted|include your response in a tool call|return text or call a tool))",
    re.IGNORECASE | re.DOTALL,
)
"""User messages that agent frameworks write themselves: text-form tool results and requests to repair an answer."""


def boundary_between(earlier: Call, later: Call, tail: int) -> Boundary:
    """What lies between a call and the call that continues its history from `tail` on."""
    if not same_agent(earlier, later) or _inside_tool(earlier, later, tail):
        return Boundary.OTHER_AGENT
    users = [message for message in later.body[tail:] if message.role is Role.USER]
    if not users or not _is_request(earlier, later, [message.text for message in users]):
        return Boundary.CONTINUES
    return Boundary.NEXT_REQUEST


def _inside_tool(earlier: Call, later: Call, tail: int) -> bool:
    """Whether the later call runs in another tool execution and was handed a history without that tool's result."""
    if earlier.place.tool is later.place.tool:
        return False
    return later.place.tool is not None and not any(message.role is Role.TOOL for message in later.body[tail:])


def _is_request(earlier: Call, later: Call, texts: list[str]) -> bool:
    same_trace = earlier.ref.trace_id == later.ref.trace_id
    if answered(earlier):
        return not (same_trace and all(FRAMEWORK_FEEDBACK.match(text) for text in texts))
    runs = (earlier.place.agent, later.place.agent)
    if runs[0] is not None and runs[1] is not None:
        return runs[0] is not runs[1]
    return not same_trace and later.body[-1].role is Role.USER


def answered(call: Call) -> bool:
    """Whether the call ended its episode: it answered instead of calling tools."""
    if call.output is not None and call.output.tool_calls:
        return not awaited(call, call.output)
    return call.report.finish_reason != "tool_calls"


def awaited(call: Call, action: Message) -> bool:
    """Whether one of the action's tools is still to be run: no output tool, and none that the provider ran itself."""
    ran = {result.call_id for message in call.report.own_results if (result := message.tool_result) is not None}
    return any(not is_output_tool(part.name) and part.id not in ran for part in action.tool_calls)


def same_agent(one: Call, other: Call) -> bool:
    """Whether two calls with one history are of one agent: by name where the spans give it, and by system prompt."""
    if one.report.auxiliary is not other.report.auxiliary:
        return False
    names = (one.context.agent_name, other.context.agent_name)
    if None not in names and names[0] != names[1]:
        return False
    own = (one.place.reading.context.agent_name, other.place.reading.context.agent_name)
    if own[0] is not None and own[0] == own[1]:
        return True
    if not one.system or not other.system:
        return one.system == other.system or one.report.model == other.report.model
    return alike(one.system, other.system)


def alike(one: str, other: str) -> bool:
    """Whether two system prompts are one agent's, filled in differently."""
    if one == other or squeezed(one) == squeezed(other):
        return True
    longer, shorter = max(len(one), len(other)), min(len(one), len(other))
    shared = shared_start(one, other) + shared_start(one[::-1], other[::-1])
    return min(shared, shorter) >= ALIKE_SHARE * longer
