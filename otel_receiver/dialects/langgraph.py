"""The agent's name in LangGraph's metadata, which OpenInference, LangSmith and OpenLLMetry copy onto spans."""

from __future__ import annotations

from collections.abc import Mapping

from otel_receiver.dialects.values import first_word

PLAIN_NODES = frozenset({"model", "agent", "call_model", "llm", "tools"})
"""Nodes of the prebuilt agents: they name a step, not an agent."""


def langgraph_agent(metadata: Mapping[str, object]) -> str | None:
    """The agent's own name, else the enclosing graph's node, else the node, unless it only names a step."""
    named = named_agent(metadata)
    if named is not None:
        return named
    node = first_word(metadata, "langgraph_node")
    return None if node in PLAIN_NODES else node


def named_agent(metadata: Mapping[str, object]) -> str | None:
    """The agent's own name, else the enclosing graph's node: what tells a sub-agent from the agent around it."""
    named = first_word(metadata, "lc_agent_name")
    if named is not None:
        return named
    path = (first_word(metadata, "langgraph_checkpoint_ns", "checkpoint_ns") or "").split("|")
    return path[-2].partition(":")[0] or None if len(path) > 1 else None
