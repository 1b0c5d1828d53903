"""OpenInference spans whose own keys a Collector's normaliser renamed and removed.

Source: opentelemetry-collector-contrib, `processor/genainormalizerprocessor`, with `remove_originals`. The scope still
names the instrumentation. The kind became an operation, `llm.model_name` the model asked for, and indexed messages
became parts, without the text that stood beside tool calls; raw requests, tools and parameters keep their keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects.values import as_word
from otel_receiver.spans import Span

KIND = "openinference.span.kind"
OPERATION = "gen_ai.operation.name"
SCOPE = "openinference.instrumentation."
_OWN_KEYS = {
    "gen_ai.request.model": "llm.model_name",
    "gen_ai.agent.name": "agent.name",
    "gen_ai.conversation.id": "session.id",
}
_AGENT_MARKS = ("gen_ai.agent.name", "agent.name", "graph.node.id", "graph.node.name")
_KINDS: Mapping[str, str] = {
    "chat": "LLM",
    "embeddings": "EMBEDDING",
    "retrieval": "RETRIEVER",
    "execute_tool": "TOOL",
    "text_completion": "PROMPT",
}


def is_normalised(span: Span) -> bool:
    """Whether an OpenInference instrumentation wrote the span and a Collector took its kind away."""
    attributes = span.attributes
    return KIND not in attributes and OPERATION in attributes and span.scope_name.startswith(SCOPE)


def with_own_keys(span: Span) -> Span:
    """The span under the keys it had; of agents and chains, which have one operation, those that name an agent."""
    held = {_OWN_KEYS.get(key, key): value for key, value in span.attributes.items()}
    operation = as_word(span.attributes.get(OPERATION)) or ""
    if operation == "invoke_agent":
        held[KIND] = "AGENT" if any(key in span.attributes for key in _AGENT_MARKS) else "CHAIN"
    else:
        held[KIND] = _KINDS.get(operation, operation.upper())
    return replace(span, attributes=held)
