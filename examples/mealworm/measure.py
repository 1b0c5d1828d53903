"""What a policy does in the closed loop, by fault, by turn and by habit: measured, and printed as tables."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from examples.mealworm.agent import Action, Run, make_tasks, work
from examples.mealworm.domain import Profile, draw_request
from examples.mealworm.faults import value_of
from examples.mealworm.teacher import HABIT_FAULT, Habit, habit_at
from trainer.rollouts.base import Sampler


@dataclass(frozen=True, slots=True, kw_only=True)
class HabitCount:
    """How a habit shows in its context."""

    num_points: int
    """Actions taken in the context."""
    share: float
    """Of those with the habit's fault."""
    mean_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The closed loop over some users at one temperature."""

    temperature: float
    num_episodes: int
    clean: float
    """Share of episodes that finished without any fault."""
    finished: float
    """Share of episodes with a written plan and an answer."""
    mean_value: float
    """Of the actions, turns weighted equally."""
    by_turn: Mapping[int, float]
    by_habit: Mapping[Habit, HabitCount]
    faults: Mapping[str, int]


def measure(
    sampler: Sampler, profiles: Sequence[Profile], *, num_episodes: int, temperature: float, seed: int
) -> Measured:
    """Let the agent work for randomly drawn users and count what it did."""
    rng = random.Random(seed)  # noqa: S311  reproducible users, no secret
    requests = [draw_request(rng, rng.choice(profiles)) for _ in range(num_episodes)]
    return summarise(work(sampler, make_tasks(requests, seed), temperature=temperature, seed=seed), temperature)


def summarise(runs: Sequence[Run], temperature: float) -> Measured:
    """The counts of finished runs."""
    actions = [action for run in runs for action in run.actions]
    by_turn: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        for turn, action in enumerate(run.actions):
            by_turn[turn].append(value_of(action.faults))
    means = {turn: _mean(values) for turn, values in sorted(by_turn.items())}
    return Measured(
        temperature=temperature,
        num_episodes=len(runs),
        clean=_mean([float(run.clean) for run in runs]),
        finished=_mean([float(run.finished) for run in runs]),
        mean_value=_mean(list(means.values())),
        by_turn=means,
        by_habit=_by_habit(actions),
        faults=Counter(fault.value for action in actions for fault in action.faults),
    )


def _by_habit(actions: Sequence[Action]) -> dict[Habit, HabitCount]:
    in_context: dict[Habit, list[Action]] = defaultdict(list)
    for action in actions:
        habit = habit_at(action.state)
        if habit is not None:
            in_context[habit].append(action)
    return {habit: _habit_count(habit, in_context[habit]) for habit in Habit if in_context[habit]}


def _habit_count(habit: Habit, actions: Sequence[Action]) -> HabitCount:
    return HabitCount(
        num_points=len(actions),
        share=_mean([float(HABIT_FAULT[habit] in action.faults) for action in actions]),
        mean_value=_mean([value_of(action.faults) for action in actions]),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def habit_table(at_one: Measured, greedy: Measured) -> str:
    """Every habit with its points and its share at temperature 1 and greedy."""
    rows = [f"{'habit':22} {'points':>6} {'T = 1':>7} {'greedy':>7}"]
    for habit in Habit:
        sampled, best = at_one.by_habit.get(habit), greedy.by_habit.get(habit)
        if sampled is not None and best is not None:
            rows.append(f"{habit:22} {best.num_points:6d} {sampled.share:7.2f} {best.share:7.2f}")
    return "\n".join(rows)
