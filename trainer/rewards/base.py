"""What a reward is: criteria scored one by one, gates that cap, `None` where nothing could be scored.

Correctness before progress: a failed gate caps the reward whatever the other criteria say (DESIGN decision 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from spanloop.records import Message
from trainer.dataset import DecisionPoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A candidate action at a decision point: sampled, recorded or replayed."""

    point: DecisionPoint
    message: Message
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionScore:
    """What one criterion says of one answer."""

    name: str
    value: float | None
    """In [0, 1]; `None`: could not be scored, never read as 0."""
    reason: str | None = None
    broken: bool = False
    """The check itself failed (it raised, or returned nonsense), as opposed to not applying to this answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """The reward of one answer and how it came about."""

    value: float | None
    """In [0, 1]; `None`: unscored, excluded from groups and means."""
    criteria: tuple[CriterionScore, ...] = ()
    failed_gates: tuple[str, ...] = ()
    """Names of the gates that capped the value."""
    metadata: Mapping[str, str] = field(default_factory=dict)


class Criterion(Protocol):
    """Scores answers on one aspect."""

    @property
    def name(self) -> str:
        """What reports call the aspect."""

    def score(self, answer: Answer) -> CriterionScore:
        """The aspect's score; raises nothing on a bad answer, since bad answers are what it is for."""


class RewardModel(Protocol):
    """Scores the answers to one state: a specification of checks, or a judge that compares them."""

    @property
    def spec_hash(self) -> str:
        """Equal hashes score equally: it covers everything the scores depend on."""

    def score_group(self, answers: Sequence[Answer]) -> tuple[Reward, ...]:
        """One reward per answer, in their order; an answer that cannot be scored has the value `None`."""
