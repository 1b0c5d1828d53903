"""Decision points: the states a policy is asked at again, deduplicated and split by conversation."""

from __future__ import annotations

from dataclasses import dataclass

from spanloop.records import Message, QualityFlag, ToolDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionPoint:
    """A recorded state at which a policy can be asked again."""

    point_id: str
    """`<episode_id>:<step_index>`."""
    state_hash: str
    """Equal for equal messages and tools: points with one hash are one prompt."""
    episode_id: str
    step_index: int
    conversation_id: str | None
    agent_name: str | None = None
    model: str | None = None
    dialect: str | None = None
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    action: Message | None = None
    """What the recorded policy did here."""
    finish_reason: str | None = None
    started_at: int | None = None
    quality_flags: frozenset[QualityFlag] = frozenset()
    multiplicity: int = 1
    """How many recorded points share this state."""
