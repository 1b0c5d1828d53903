"""Which tools a model call could use, when its own span does not say or says it incompletely.

Definitions that another span carries for the same agent (the agent's own span, another call of the episode that shows
the tools were offered here too) are carried, not inferred. Definitions gathered from the spans of tools that ran are
inferred: tools that were offered and never used leave no span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from otel_receiver.episodes.calls import Call
from otel_receiver.episodes.executions import Execution
from otel_receiver.episodes.history import Turn
from spanloop.records import QualityFlag, Role, ToolDefinition

Tools = tuple[ToolDefinition, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The tools of one step and what is wrong with them."""

    tools: Tools | None
    flags: frozenset[QualityFlag] = frozenset()


def offers(turns: Sequence[Turn], executions: Sequence[Execution]) -> tuple[Offer, ...]:
    """The offer of each turn of one episode; `executions` are those of its calls."""
    schemas = _schemas(executions)
    siblings = next((turn.call.report.tools for turn in turns if turn.call.report.tools), None)
    used = _tools_used(turns)
    return tuple(_offer(turn, siblings, schemas, used=used) for turn in turns)


def _schemas(executions: Sequence[Execution]) -> dict[str, ToolDefinition]:
    """A definition per tool that ran, the most complete its spans carry."""
    schemas: dict[str, ToolDefinition] = {}
    for execution in executions:
        found = execution.report.definition or ToolDefinition(name=execution.report.name)
        present = schemas.get(found.name)
        if present is None or (present.parameters is None and found.parameters is not None):
            schemas[found.name] = found
    return schemas


def _tools_used(turns: Sequence[Turn]) -> bool:
    """Whether the episode, or the history it began with, shows that there were tools."""
    if any(turn.action is not None and turn.action.tool_calls for turn in turns):
        return True
    return any(message.role is Role.TOOL or message.tool_calls for message in turns[0].messages)


def _offer(turn: Turn, siblings: Tools | None, schemas: Mapping[str, ToolDefinition], *, used: bool) -> Offer:
    call = turn.call
    flags: set[QualityFlag] = set()
    tools = call.report.tools if call.report.tools is not None else _run_tools(call)
    if tools is None and siblings is not None:
        tools = siblings
        if not _shows_use(turn, siblings):
            flags.add(QualityFlag.TOOLS_INFERRED)
    if tools is None and used and schemas:
        tools = tuple(schemas[name] for name in sorted(schemas))
        flags.add(QualityFlag.TOOLS_INFERRED)
    if tools is None:
        return Offer(tools=None, flags=frozenset({QualityFlag.TOOLS_MISSING} if used else ()))
    tools = tuple(_completed(tool, schemas) for tool in tools)
    if any(tool.parameters is None for tool in tools):
        flags.add(QualityFlag.TOOLS_INCOMPLETE)
    return Offer(tools=tools, flags=frozenset(flags))


def _run_tools(call: Call) -> Tools | None:
    run = call.place.tools_from
    return run.agent.tools if run is not None and run.agent is not None else None


def _shows_use(turn: Turn, tools: Tools) -> bool:
    """Whether the answer calls one of these tools: then they were offered to this call as well."""
    names = {tool.name for tool in tools}
    return turn.action is not None and any(call.name in names for call in turn.action.tool_calls)


def _completed(tool: ToolDefinition, schemas: Mapping[str, ToolDefinition]) -> ToolDefinition:
    """The definition with the parameters that the tool's own span carries."""
    schema = schemas.get(tool.name)
    if tool.parameters is not None or schema is None or schema.parameters is None:
        return tool
    return replace(tool, parameters=schema.parameters, description=tool.description or schema.description)
