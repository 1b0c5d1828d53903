"""What a turn's tool calls returned: from the next call's history, completed from the tools' own spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from otel_receiver.episodes.calls import is_output_tool
from otel_receiver.episodes.executions import Execution
from otel_receiver.episodes.history import Turn
from spanloop.records import Message, QualityFlag, Role, ToolResult, ToolStatus


def observe(turn: Turn, executions: Sequence[Execution]) -> tuple[tuple[Message, ...], frozenset[QualityFlag]]:
    """The results in the order of the calls, then those of none of them; flags of what is missing or guessed.

    A guess that tells nothing the history does not is no doubt about the step.
    """
    calls = turn.action.tool_calls if turn.action is not None else ()
    reported = (*turn.call.report.own_results, *turn.results)
    told_results = [result for message in reported if (result := message.tool_result) is not None]
    by_id = {result.call_id: result for result in told_results}
    reports = {execution.call_id: execution for execution in executions}
    flags: set[QualityFlag] = set()
    observed: list[ToolResult] = []
    for call in calls:
        execution = reports.get(call.id)
        told = by_id.pop(call.id, None)
        result = _observed(call.id, call.name, told, execution)
        if result is not None:
            observed.append(result)
        elif not is_output_tool(call.name):
            flags.add(QualityFlag.TOOL_RESULT_MISSING)
        if execution is not None and execution.guessed and result is not told:
            flags.add(QualityFlag.AMBIGUOUS_MATCH)
    observed.extend(result for result in told_results if result.call_id in by_id)
    return tuple(Message(role=Role.TOOL, parts=(result,)) for result in observed), frozenset(flags)


def _observed(call_id: str, name: str, told: ToolResult | None, execution: Execution | None) -> ToolResult | None:
    """What the model was shown, with the status that the tool's own span knows."""
    if execution is None:
        return told
    status = _status(execution)
    if told is not None:
        learns = told.status is ToolStatus.UNKNOWN and status is not ToolStatus.UNKNOWN
        return replace(told, status=status) if learns else told
    content = execution.report.result
    if content is None and status is ToolStatus.ERROR:
        content = execution.reading.span.error
    return None if content is None else ToolResult(call_id=call_id, content=content, name=name, status=status)


def _status(execution: Execution) -> ToolStatus:
    return ToolStatus.ERROR if execution.reading.span.failed else execution.report.status
