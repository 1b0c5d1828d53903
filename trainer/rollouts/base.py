"""What a rollout is, and what any sampler does: answer recorded prompts with the current policy.

The token ids a sampler produced are what is trained: nobody downstream tokenises a message again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from spanloop.records import Message, ToolDefinition


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A state to answer."""

    prompt_id: str
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to sample. `temperature` 0 is greedy."""

    num_samples: int = 8
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings no sampler could honour."""
        if self.num_samples < 1 or self.max_tokens < 1:
            raise ValueError(f"sampling: num_samples {self.num_samples}, max_tokens {self.max_tokens}; both start at 1")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"sampling: temperature {self.temperature}, top_p {self.top_p}; use >= 0 and (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One sampled answer, token by token."""

    prompt_id: str
    rollout_index: int
    """0-based position in its group."""
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """The sampled tokens, the end-of-turn token included when the policy produced it."""
    logprobs: tuple[float, ...]
    """Of each sampled token under the sampling policy, at the sampling temperature (before top-p renormalisation)."""
    message: Message
    """The tokens parsed into text, reasoning and tool calls; malformed calls stay as text."""
    finish_reason: str
    """`stop`, `tool_calls` or `length`."""
    policy_version: int
    temperature: float

    def __post_init__(self) -> None:
        """Tokens and their log-probabilities belong together one by one."""
        if len(self.token_ids) != len(self.logprobs):
            raise ValueError(f"rollout: {len(self.token_ids)} tokens but {len(self.logprobs)} log-probabilities")


class Sampler(Protocol):
    """Answers prompts with the current policy."""

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[tuple[Rollout, ...]]:
        """One group of `params.num_samples` rollouts per prompt, in the order of the prompts."""

    def load_policy(self, checkpoint: Path, policy_version: int) -> None:
        """Answer with the weights of this checkpoint directory from now on."""

    def close(self) -> None:
        """Release what the sampler holds; safe to call twice."""
