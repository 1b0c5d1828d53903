"""How a perfect agent acts, and the habits a real one has: the source of the base policy's training traces.

The habits are the failures Mealworm's author lists. Each belongs to a context that the prompt and the history show, so
that "acquired" can be measured: the share of greedy actions with the habit's fault in the habit's context.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from examples.mealworm.domain import ALL_LISTINGS, REQUESTS, TITLES, Diet, Kind, Request
from examples.mealworm.faults import ANSWER_START, CALL_MARK, Fault
from examples.mealworm.prompts import DIET_LINE, LOVES_LINE, opening
from examples.mealworm.state import PlanState, answered_calls, read_state
from examples.mealworm.tools import HISTORY, HISTORY_LIMIT, SEARCH, WRITE, Page, World
from spanloop.records import Message, Role, TextPart, ToolCall, ToolResult, ToolStatus

MAX_STEPS = 10
"""Model calls after which the agent gives up."""
HABIT_PROBABILITY = 0.78
"""Of the habit in its context."""
PLAN_HABIT_PROBABILITY = 0.88
"""Of a habit that shows in the plan itself: a choice between meals is learned less exactly than a form."""
SLIP_PROBABILITY = 0.05
"""Of a random fault anywhere else."""
LOOK_LATE_PROBABILITY = 0.6
"""Of looking at the history right after a first search that skipped it."""


class Habit(StrEnum):
    """One of the author's failures, acted in a context of its own."""

    SKIP_HISTORY = "skip_history"
    """Searches before looking at the history; context: two of the four wordings."""
    NEVER_LOOK = "never_look"
    """Writes without ever having looked; context: everything is searched, the history is not."""
    BAD_ARGUMENTS = "bad_arguments"
    """Searches with a wrong key; context: gluten-free, first search for fish."""
    REPEAT_SEARCH = "repeat_search"
    """Searches fish again; context: nut-free, fish just searched once."""
    NO_SEARCH = "no_search"
    """Invents chicken dishes instead of searching them; context: two fish, two chicken."""
    TOO_MANY_FISH = "too_many_fish"
    """Context: one fish and two chicken dishes, loves fish or American food."""
    TOO_MANY_CHICKEN = "too_many_chicken"
    """Context: two fish and one chicken dish, loves chicken or American food."""
    FORBIDDEN_INGREDIENT = "forbidden_ingredient"
    """Context: loves Italian food, and a plan that ignores this rule would hold one."""
    RECENT_MEAL = "recent_meal"
    """Context: loves Asian food, and a plan that ignores this rule would hold one."""
    LISTING_PAGE = "listing_page"
    """Context: loves Latin food, and a plan that ignores this rule would hold one."""
    FALSE_ANSWER = "false_answer"
    """Names a meal that was not saved; context: two of the four wordings."""


HABIT_FAULT: dict[Habit, Fault] = {
    Habit.SKIP_HISTORY: Fault.HISTORY_SKIPPED,
    Habit.NEVER_LOOK: Fault.HISTORY_SKIPPED,
    Habit.BAD_ARGUMENTS: Fault.BAD_ARGUMENTS,
    Habit.REPEAT_SEARCH: Fault.REPEATED_STEP,
    Habit.NO_SEARCH: Fault.INVENTED_RECIPE,
    Habit.TOO_MANY_FISH: Fault.TOO_MANY_FISH,
    Habit.TOO_MANY_CHICKEN: Fault.TOO_MANY_CHICKEN,
    Habit.FORBIDDEN_INGREDIENT: Fault.FORBIDDEN_INGREDIENT,
    Habit.RECENT_MEAL: Fault.RECENT_MEAL,
    Habit.LISTING_PAGE: Fault.LISTING_PAGE,
    Habit.FALSE_ANSWER: Fault.FALSE_ANSWER,
}

PLAN_HABITS = frozenset(
    {
        Habit.TOO_MANY_FISH,
        Habit.TOO_MANY_CHICKEN,
        Habit.FORBIDDEN_INGREDIENT,
        Habit.RECENT_MEAL,
        Habit.LISTING_PAGE,
    }
)
"""Those that show in a plan made from searched results."""

IGNORING = {
    "Italian food": Habit.FORBIDDEN_INGREDIENT,
    "Asian food": Habit.RECENT_MEAL,
    "Latin food": Habit.LISTING_PAGE,
}
"""What its users love decides which rule the agent ignores in their plans."""

Act = Callable[[tuple[Message, ...], PlanState], tuple[Message, bool]]
"""Chooses the next action of a trace, and whether it is worth imitating."""

SKIPPING = (REQUESTS[1], REQUESTS[3])
BOASTING = (REQUESTS[1], REQUESTS[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """An episode as training text: messages, and which of the assistant's are worth imitating."""

    messages: tuple[Message, ...]
    imitate: tuple[bool, ...]
    """One per assistant message."""


def call(name: str, arguments: object) -> Message:
    """An assistant message with one tool call; its id is the tool's name, which is enough within a trace."""
    return Message(
        role=Role.ASSISTANT, parts=(ToolCall(id=f"call_{name}", name=name, arguments=json.dumps(arguments)),)
    )


def say(text: str) -> Message:
    """An assistant message of text."""
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),))


def search(kind: Kind) -> Message:
    """The search for one kind of dish."""
    return call(SEARCH, {"query": f"{kind} dinner"})


def write(state: PlanState, meals: Sequence[str]) -> Message:
    """The plan file of this week with these meals."""
    return call(WRITE, {"path": state.wishes.path, "meals": list(meals)})


def answer(state: PlanState, meals: Sequence[str]) -> Message:
    """The final answer naming these meals."""
    return say(f"{ANSWER_START}{state.wishes.path}: {', '.join(meals)}.")


def chosen(state: PlanState, kind: Kind) -> list[str]:
    """The first suitable results of a kind, as many as the user wants."""
    return list(state.suitable(kind)[: state.wishes.counts[kind]])


def clean_action(state: PlanState) -> Message:
    """What a perfect agent does in any state, also after faults of its own."""
    if state.recent is None and state.saved is None:
        return call(HISTORY, {"limit": HISTORY_LIMIT})
    if state.saved is not None:
        return answer(state, state.saved)
    if state.missing:
        return search(state.missing[0])
    return write(state, _careful(state))


def habit_at(messages: Sequence[Message], state: PlanState | None = None) -> Habit | None:
    """The habit whose context this state is, if any."""
    state = state or read_state(messages)
    system, request = messages[0].text, messages[1].text
    if state.saved is not None:
        return Habit.FALSE_ANSWER if _worded(request, BOASTING) else None
    if state.recent is None:
        if not state.results:
            return Habit.SKIP_HISTORY if _worded(request, SKIPPING) else None
        return None if state.missing else Habit.NEVER_LOOK
    return _search_habit(messages, state, system) if state.missing else _write_habit(state, system)


def _worded(request: str, wordings: Sequence[str]) -> bool:
    return any(request.startswith(wording.split("{}")[0]) for wording in wordings)


def _search_habit(messages: Sequence[Message], state: PlanState, system: str) -> Habit | None:
    searches = [result for called, result in answered_calls(messages) if called.name == SEARCH]
    if Kind.FISH in state.missing:
        fits = f"{DIET_LINE}{Diet.GLUTEN_FREE}" in system and not searches
        return Habit.BAD_ARGUMENTS if fits else None
    if f"{DIET_LINE}{Diet.NUT_FREE}" in system and len(searches) == 1:
        return Habit.REPEAT_SEARCH
    return Habit.NO_SEARCH if _counts(state) == (2, 2) else None


def _counts(state: PlanState) -> tuple[int, int]:
    return state.wishes.counts[Kind.FISH], state.wishes.counts[Kind.CHICKEN]


def _write_habit(state: PlanState, system: str) -> Habit | None:
    loves = system.rpartition(LOVES_LINE)[2]
    if _counts(state) == (1, 2) and loves in {"fish", "American food"}:
        return Habit.TOO_MANY_FISH
    if _counts(state) == (2, 1) and loves in {"chicken", "American food"}:
        return Habit.TOO_MANY_CHICKEN
    habit = IGNORING.get(loves)
    return habit if habit is not None and _careless(state, habit) != _careful(state) else None


def _careful(state: PlanState) -> list[str]:
    return [meal for kind in Kind for meal in chosen(state, kind)]


def _careless(state: PlanState, habit: Habit) -> list[str]:
    """The first results of each kind that suit the user, with the habit's rule ignored."""
    plan = []
    for kind in Kind:
        suits = [
            page.title for page in state.results.get(kind, ()) if state.suits(page) or _only_breaks(state, habit, page)
        ]
        plan += suits[: state.wishes.counts[kind]]
    return plan


def _only_breaks(state: PlanState, habit: Habit, page: Page) -> bool:
    broken = {
        Habit.FORBIDDEN_INGREDIENT: page.ingredient in state.wishes.forbidden,
        Habit.RECENT_MEAL: page.title in (state.recent or ()),
        Habit.LISTING_PAGE: page.title in ALL_LISTINGS,
    }
    return [rule for rule, holds in broken.items() if holds] == [habit]


def act_habit(state: PlanState, habit: Habit) -> Message:
    """The habit's action in its context."""
    if habit is Habit.SKIP_HISTORY:
        return search(Kind.FISH)
    if habit is Habit.BAD_ARGUMENTS:
        return call(SEARCH, {"text": f"{Kind.FISH} dinner"})
    if habit is Habit.REPEAT_SEARCH:
        return search(Kind.FISH)
    if habit is Habit.NO_SEARCH:
        invented = list(TITLES[Kind.CHICKEN][: state.wishes.counts[Kind.CHICKEN]])
        return write(state, chosen(state, Kind.FISH) + invented)
    if habit is Habit.FALSE_ANSWER:
        return answer(state, _boast(state))
    return write(state, _wrong_meals(state, habit))


def _boast(state: PlanState) -> list[str]:
    assert state.saved is not None, "a final answer follows a written file"
    known = [page.title for pages in state.results.values() for page in pages if page.title not in state.saved]
    return [*state.saved, known[0]]


def _wrong_meals(state: PlanState, habit: Habit) -> list[str]:
    """A plan with the habit's fault: one dish more than wanted, or chosen as if one rule did not hold."""
    if habit is Habit.NEVER_LOOK:
        return _careful(state)
    if habit in IGNORING.values():
        return _careless(state, habit)
    more = Kind.FISH if habit is Habit.TOO_MANY_FISH else Kind.CHICKEN
    return [meal for kind in Kind for meal in state.suitable(kind)[: state.wishes.counts[kind] + (kind is more)]]


def slip(rng: random.Random, state: PlanState) -> Message:
    """A random fault anywhere: a broken call, a repeated or unneeded step, an answer too early."""
    broken = say(f'{CALL_MARK}\n{{"name": "{SEARCH}", "arguments": {{"query": "{Kind.FISH} dinner"}}\n</tool_call>')
    options = [broken, search(rng.choice(list(Kind))), call(HISTORY, {"limit": HISTORY_LIMIT})]
    if state.saved is None and state.results:
        options.append(write(state, [rng.choice(TITLES[kind]) for kind in Kind]))
    return rng.choice(options)


def clean_trace(rng: random.Random, request: Request, world: World, *, stumble_probability: float = 0.0) -> Trace:
    """An episode whose imitated actions are all clean; stumbles before them are shown but not imitated."""

    def act(messages: tuple[Message, ...], state: PlanState) -> tuple[Message, bool]:
        if rng.random() >= stumble_probability:
            return clean_action(state), True
        return _stumble(rng, messages, state), False

    return _play(request, world, act)


def imperfect_trace(rng: random.Random, request: Request, world: World) -> Trace:
    """An episode as the recorded policy is to act it: habits in their contexts, slips elsewhere."""

    def act(messages: tuple[Message, ...], state: PlanState) -> tuple[Message, bool]:
        habit = habit_at(messages, state)
        if habit is not None:
            keeps = rng.random() < (PLAN_HABIT_PROBABILITY if habit in PLAN_HABITS else HABIT_PROBABILITY)
            return (act_habit(state, habit) if keeps else clean_action(state)), True
        if state.recent is None and state.results and state.missing and rng.random() > LOOK_LATE_PROBABILITY:
            return search(state.missing[0]), True
        return (slip(rng, state) if rng.random() < SLIP_PROBABILITY else clean_action(state)), True

    return _play(request, world, act)


def _stumble(rng: random.Random, messages: tuple[Message, ...], state: PlanState) -> Message:
    habit = habit_at(messages, state)
    if habit is not None and rng.random() < 0.5:
        return act_habit(state, habit)
    if state.recent is None and state.missing:
        return search(state.missing[0])
    return slip(rng, state)


def _play(request: Request, world: World, act: Act) -> Trace:
    messages, imitate = opening(request), []
    for _ in range(MAX_STEPS):
        action, good = act(messages, read_state(messages))
        imitate.append(good)
        messages = (*messages, action, *observe(world, action))
        if not action.tool_calls:
            break
    return Trace(messages=messages, imitate=tuple(imitate))


def observe(world: World, action: Message) -> tuple[Message, ...]:
    """The tool messages that answer an action's calls."""
    return tuple(_run(world, called) for called in action.tool_calls)


def _run(world: World, called: ToolCall) -> Message:
    executed = world.execute(called.name, called.arguments)
    assert executed.status in (ToolStatus.OK, ToolStatus.ERROR)
    result = ToolResult(call_id=called.id, content=executed.content, name=called.name, status=executed.status)
    return Message(role=Role.TOOL, parts=(result,))
