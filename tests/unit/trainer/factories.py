"""Small records for the trainer's tests."""

from __future__ import annotations

from pathlib import Path

from spanloop.convert import compact_json
from spanloop.hashing import state_hash
from spanloop.records import Message, Role, TextPart, ToolCall, ToolDefinition
from trainer.dataset import Candidate, DecisionPoint
from trainer.rewards.base import Answer
from trainer.rollouts.base import Rollout

SEARCH = ToolDefinition(
    name="search",
    description="Find recipes",
    parameters=compact_json(
        {
            "type": "object",
            "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
            "required": ["query"],
            "additionalProperties": False,
        }
    ),
)


def user(text: str) -> Message:
    """What a user says."""
    return Message(role=Role.USER, parts=(TextPart(text=text),))


def says(text: str) -> Message:
    """An assistant message of text."""
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),) if text else ())


def call(name: str, arguments: str, *, call_id: str = "c1") -> ToolCall:
    """A tool call."""
    return ToolCall(id=call_id, name=name, arguments=arguments)


def calls(*made: ToolCall) -> Message:
    """An assistant message of calls."""
    return Message(role=Role.ASSISTANT, parts=made)


def make_point(
    point_id: str = "e1:0", *, messages: tuple[Message, ...] | None = None, **given: object
) -> DecisionPoint:
    """A decision point with one user message and the search tool."""
    episode_id, step = point_id.rsplit(":", 1)
    state = messages if messages is not None else (user(f"plan {point_id}"),)
    values: dict[str, object] = {
        "point_id": point_id,
        "state_hash": state_hash(state, (SEARCH,)),
        "episode_id": episode_id,
        "step_index": int(step),
        "conversation_id": f"conversation-{episode_id}",
        "messages": state,
        "tools": (SEARCH,),
    }
    return DecisionPoint(**{**values, **given})  # type: ignore[arg-type]  # a factory's keywords


def make_candidate(point_id: str = "e1:0", **given: object) -> Candidate:
    """A candidate that nothing speaks against."""
    episode_id, step = point_id.rsplit(":", 1)
    values: dict[str, object] = {
        "point_id": point_id,
        "revision": 1,
        "state_hash": f"state of {point_id}",
        "episode_id": episode_id,
        "step_index": int(step),
        "conversation_id": f"conversation-{episode_id}",
        "agent_name": "planner",
        "dialect": "openinference",
        "started_at": 1,
        "trainable": True,
        "quality_flags": frozenset(),
        "num_chars": 10,
    }
    return Candidate(**{**values, **given})  # type: ignore[arg-type]  # a factory's keywords


def make_answer(message: Message, *, point: DecisionPoint | None = None, finish_reason: str | None = "stop") -> Answer:
    """An answer at a decision point."""
    return Answer(point=point or make_point(), message=message, finish_reason=finish_reason)


def make_rollout(index: int = 0, *, prompt_id: str = "e1:0", text: str = "yes") -> Rollout:
    """A rollout of three tokens."""
    return Rollout(
        prompt_id=prompt_id,
        rollout_index=index,
        prompt_token_ids=(1, 2),
        token_ids=(3, 4, 5),
        logprobs=(-0.1, -0.2, -0.3),
        message=says(text),
        finish_reason="stop",
        policy_version=0,
        temperature=1.0,
    )


def write(path: Path, text: str) -> Path:
    """The path, with the text in it."""
    path.write_text(text, encoding="utf-8")
    return path
