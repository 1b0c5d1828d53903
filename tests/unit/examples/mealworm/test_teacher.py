"""The perfect agent is perfect, and each habit is the fault it is named after, in its own context only."""

import random
from collections import Counter

import pytest

from examples.mealworm.domain import Split, draw_request, profiles_of
from examples.mealworm.faults import faults_at
from examples.mealworm.state import read_state
from examples.mealworm.teacher import (
    HABIT_FAULT,
    PLAN_HABITS,
    Habit,
    Trace,
    act_habit,
    clean_action,
    clean_trace,
    habit_at,
    imperfect_trace,
)
from examples.mealworm.tools import make_world
from spanloop.records import Message, Role
from tests.unit.examples.mealworm.scenes import ALL_FOUND, ASKED, FISH_FOUND, LOOKED, SAVED, SYSTEM, system, user


def traces(num: int, *, clean: bool, stumbles: float = 0.0) -> list[Trace]:
    """Traces of one kind, reproducible."""
    rng = random.Random(11)
    users = profiles_of(Split.TRAIN)
    made = []
    for _ in range(num):
        request = draw_request(rng, rng.choice(users))
        world = make_world(rng, request)
        trace = clean_trace(rng, request, world, stumble_probability=stumbles) if clean else None
        made.append(trace or imperfect_trace(rng, request, world))
    return made


def actions(trace: Trace) -> list[tuple[tuple[Message, ...], Message]]:
    """Each action of a trace with the state before it."""
    places = [index for index, message in enumerate(trace.messages) if message.role is Role.ASSISTANT]
    return [(trace.messages[:index], trace.messages[index]) for index in places]


def test_the_perfect_agent_makes_no_fault() -> None:
    """Clean traces are clean by the reward's own checks, and end with an answer."""
    for trace in traces(150, clean=True):
        assert all(frozenset() == faults_at(state, action) for state, action in actions(trace))
        assert not trace.messages[-1].tool_calls


def test_only_clean_actions_are_imitated_after_a_stumble() -> None:
    """Faults are shown so that the policy can recover, but never taught."""
    for trace in traces(150, clean=True, stumbles=0.3):
        for (state, action), good in zip(actions(trace), trace.imitate, strict=True):
            assert not (good and faults_at(state, action))


def with_line(old: str, new: str, history: tuple[Message, ...]) -> tuple[Message, ...]:
    """A history whose system prompt has one line changed."""
    return (system(SYSTEM.replace(old, new)), *history[1:])


QUICK = (ASKED[0], user("Quick, plan the week of 2026-11-29."))
COUNTS_AND_LOVES = SYSTEM[SYSTEM.index("Fish dishes") :]
FISH_LOVER = COUNTS_AND_LOVES.replace("2\nChicken dishes: 1", "1\nChicken dishes: 2").replace("sauce", "fish")
UNSEEN = (*ASKED, *FISH_FOUND[len(LOOKED) :], *ALL_FOUND[len(FISH_FOUND) :])


@pytest.mark.parametrize(
    ("habit", "state"),
    [
        (Habit.SKIP_HISTORY, QUICK),
        (Habit.NEVER_LOOK, UNSEEN),
        (Habit.BAD_ARGUMENTS, with_line("dairy-free", "gluten-free", LOOKED)),
        (Habit.REPEAT_SEARCH, with_line("dairy-free", "nut-free", FISH_FOUND)),
        (Habit.NO_SEARCH, with_line("Chicken dishes: 1", "Chicken dishes: 2", FISH_FOUND)),
        (Habit.TOO_MANY_FISH, with_line(COUNTS_AND_LOVES, FISH_LOVER, ALL_FOUND)),
        (Habit.TOO_MANY_CHICKEN, with_line("Loves: sauce", "Loves: chicken", ALL_FOUND)),
        (Habit.FORBIDDEN_INGREDIENT, with_line("Loves: sauce", "Loves: Italian food", ALL_FOUND)),
        (Habit.RECENT_MEAL, with_line("Loves: sauce", "Loves: Asian food", ALL_FOUND)),
        (Habit.LISTING_PAGE, with_line("Loves: sauce", "Loves: Latin food", ALL_FOUND)),
        (Habit.FALSE_ANSWER, (*QUICK, *SAVED[2:])),
    ],
)
def test_each_habit_is_its_fault_in_its_context(habit: Habit, state: tuple[Message, ...]) -> None:
    """The context is recognised from messages alone, and acting the habit there makes its fault."""
    assert habit is habit_at(state)
    action = act_habit(read_state(state), habit)
    assert HABIT_FAULT[habit] in faults_at(state, action)
    assert habit not in PLAN_HABITS or {HABIT_FAULT[habit]} == faults_at(state, action)


def test_ignoring_a_rule_needs_a_plan_it_changes() -> None:
    """A forbidden dish listed after the wanted ones is no context: ignoring the rule gives the same plan."""
    italian = with_line("Loves: sauce", "Loves: Italian food", ALL_FOUND)
    assert Habit.FORBIDDEN_INGREDIENT is habit_at(italian)
    first_fits = SYSTEM.replace("Fish dishes: 2\nChicken dishes: 1", "Fish dishes: 1\nChicken dishes: 0")
    assert None is habit_at((system(first_fits.replace("Loves: sauce", "Loves: Italian food")), *italian[1:]))


@pytest.mark.parametrize("state", [ASKED, LOOKED, FISH_FOUND, ALL_FOUND, SAVED])
def test_plain_users_trigger_no_habit(state: tuple[Message, ...]) -> None:
    """A user with the plain wording and no telling wish sees a clean agent."""
    assert None is habit_at(state)
    assert frozenset() == faults_at(state, clean_action(read_state(state)))


def test_imperfect_traces_show_every_habit_in_most_of_its_contexts() -> None:
    """What the base policy learns from has each habit in more than 60 % of its contexts."""
    seen, acted = Counter[Habit](), Counter[Habit]()
    for trace in traces(600, clean=False):
        for state, action in actions(trace):
            habit = habit_at(state)
            if habit is not None:
                seen[habit] += 1
                acted[habit] += HABIT_FAULT[habit] in faults_at(state, action)
    assert set(Habit) == set(seen)
    assert all(acted[habit] > 0.6 * seen[habit] for habit in Habit), (seen, acted)
    assert 0.95 * seen.total() > acted.total()
