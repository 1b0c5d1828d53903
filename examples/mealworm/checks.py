"""The checks `reward.toml` names: one per aspect, 1 when the answer has no fault of that aspect and 0 when it has."""

from __future__ import annotations

from examples.mealworm.faults import ASPECTS, Aspect, faults_at
from trainer.rewards.base import Answer

CheckResult = tuple[float, str | None]
"""Score and the faults' names."""


def valid_call(answer: Answer) -> CheckResult:
    """Whether the answer is text, or a call the tools' schemas accept, and was not cut off."""
    return _score(answer, Aspect.VALID_CALL)


def grounded(answer: Answer) -> CheckResult:
    """Whether every meal comes from a search and every claim from a written file."""
    return _score(answer, Aspect.GROUNDED)


def progress(answer: Answer) -> CheckResult:
    """Whether the action does something that was not done before and is needed."""
    return _score(answer, Aspect.PROGRESS)


def constraints(answer: Answer) -> CheckResult:
    """Whether the agent's rules and the user's wishes hold."""
    return _score(answer, Aspect.CONSTRAINTS)


def _score(answer: Answer, aspect: Aspect) -> CheckResult:
    faults = faults_at(answer.point.messages, answer.message, answer.finish_reason)
    found = sorted(fault for fault in faults if ASPECTS[fault] is aspect)
    return (0.0, ", ".join(found)) if found else (1.0, None)
