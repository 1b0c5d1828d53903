"""Every fault of an action, found by program from the decision point's messages alone.

The worst fault decides (`FAULT_VALUE`). Doing nothing useful never pays more than trying and failing: a policy learns
within four steps to prefer a harmless no-progress action that pays more than a risky useful one.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from examples.mealworm.domain import ALL_LISTINGS, Kind
from examples.mealworm.state import PlanState, load_object, read_state
from examples.mealworm.tools import HISTORY, SEARCH, VALIDATORS, WRITE, kind_of_query
from spanloop.records import Message, ToolCall

ANSWER_START = "Saved "
CALL_MARK = "<tool_call>"


class Aspect(StrEnum):
    """What a fault breaks; each is one criterion of the reward."""

    VALID_CALL = "valid_call"
    GROUNDED = "grounded"
    PROGRESS = "progress"
    CONSTRAINTS = "constraints"


class Fault(StrEnum):
    """One way in which an action is wrong."""

    CUT_OFF = "cut_off"
    """The answer hit the length limit."""
    MALFORMED_CALL = "malformed_call"
    """Text with a tool-call mark that no parser accepts."""
    UNKNOWN_TOOL = "unknown_tool"
    BAD_ARGUMENTS = "bad_arguments"
    """Arguments that do not match the tool's schema."""
    INVENTED_RECIPE = "invented_recipe"
    """A meal that no search returned."""
    FALSE_ANSWER = "false_answer"
    """An answer whose file or meals are not those written."""
    REPEATED_STEP = "repeated_step"
    """A call whose result is already in the history."""
    UNNEEDED_SEARCH = "unneeded_search"
    """A search for a kind the user does not want, or for no kind."""
    EARLY_ANSWER = "early_answer"
    """An answer before a plan is written."""
    HISTORY_SKIPPED = "history_skipped"
    """Searching or writing without having looked at the historical meals."""
    TOO_MANY_FISH = "too_many_fish"
    TOO_MANY_CHICKEN = "too_many_chicken"
    TOO_FEW_DISHES = "too_few_dishes"
    FORBIDDEN_INGREDIENT = "forbidden_ingredient"
    RECENT_MEAL = "recent_meal"
    LISTING_PAGE = "listing_page"
    WRONG_FILE = "wrong_file"
    MEAL_TWICE = "meal_twice"
    NARRATION = "narration"
    """Text beside a tool call."""
    SEVERAL_CALLS = "several_calls"


ASPECTS: dict[Fault, Aspect] = {
    **dict.fromkeys(
        (Fault.CUT_OFF, Fault.MALFORMED_CALL, Fault.UNKNOWN_TOOL, Fault.BAD_ARGUMENTS),
        Aspect.VALID_CALL,
    ),
    **dict.fromkeys((Fault.INVENTED_RECIPE, Fault.FALSE_ANSWER), Aspect.GROUNDED),
    **dict.fromkeys((Fault.REPEATED_STEP, Fault.UNNEEDED_SEARCH, Fault.EARLY_ANSWER), Aspect.PROGRESS),
    **dict.fromkeys(
        (
            Fault.HISTORY_SKIPPED,
            Fault.TOO_MANY_FISH,
            Fault.TOO_MANY_CHICKEN,
            Fault.TOO_FEW_DISHES,
            Fault.FORBIDDEN_INGREDIENT,
            Fault.RECENT_MEAL,
            Fault.LISTING_PAGE,
            Fault.WRONG_FILE,
            Fault.MEAL_TWICE,
            Fault.NARRATION,
            Fault.SEVERAL_CALLS,
        ),
        Aspect.CONSTRAINTS,
    ),
}

CLEAN_VALUE = 1.0
FAULT_VALUE: dict[Aspect, float] = {
    Aspect.VALID_CALL: 0.0,
    Aspect.GROUNDED: 0.05,
    Aspect.PROGRESS: 0.05,
    Aspect.CONSTRAINTS: 0.10,
}
"""What an action with a fault of this aspect is worth at most; the gates of `reward.toml` say the same."""


def faults_at(messages: Sequence[Message], action: Message, finish_reason: str | None = None) -> frozenset[Fault]:
    """Every fault of an action after these messages; none means a clean action."""
    return faults_of(read_state(messages), action, finish_reason)


def faults_of(state: PlanState, action: Message, finish_reason: str | None = None) -> frozenset[Fault]:
    """Every fault of an action in this state."""
    if finish_reason == "length":
        return frozenset({Fault.CUT_OFF})
    calls = action.tool_calls
    if not calls:
        return _answer_faults(state, action.text)
    faults = _call_faults(state, calls[0])
    if len(calls) > 1:
        faults |= {Fault.SEVERAL_CALLS}
    if action.text.strip():
        faults |= {Fault.NARRATION}
    return faults


def value_of(faults: frozenset[Fault]) -> float:
    """The reward of an action with these faults: the worst decides."""
    return min((FAULT_VALUE[ASPECTS[fault]] for fault in faults), default=CLEAN_VALUE)


def _answer_faults(state: PlanState, text: str) -> frozenset[Fault]:
    if CALL_MARK in text:
        return frozenset({Fault.MALFORMED_CALL})
    if state.saved is None:
        return frozenset({Fault.EARLY_ANSWER})
    file_name, _, meals = text.strip().removeprefix(ANSWER_START).removesuffix(".").partition(": ")
    true = file_name == state.wishes.path and sorted(meals.split(", ")) == sorted(state.saved)
    return frozenset() if true else frozenset({Fault.FALSE_ANSWER})


def _call_faults(state: PlanState, call: ToolCall) -> frozenset[Fault]:
    validator = VALIDATORS.get(call.name)
    if validator is None:
        return frozenset({Fault.UNKNOWN_TOOL})
    arguments = load_object(call.arguments)
    if not validator.is_valid(arguments):
        return frozenset({Fault.BAD_ARGUMENTS})
    if call.name == HISTORY:
        return frozenset({Fault.REPEATED_STEP}) if state.recent is not None else frozenset()
    skipped = frozenset({Fault.HISTORY_SKIPPED}) if state.recent is None else frozenset()
    if call.name == SEARCH:
        return skipped | _search_faults(state, str(arguments["query"]))
    assert call.name == WRITE, call.name
    meals = arguments["meals"]
    assert isinstance(meals, list), "the schema holds"
    return skipped | _write_faults(state, str(arguments["path"]), tuple(str(meal) for meal in meals))


def _search_faults(state: PlanState, query: str) -> frozenset[Fault]:
    kind = kind_of_query(query)
    if kind is None or not state.wishes.counts[kind]:
        return frozenset({Fault.UNNEEDED_SEARCH})
    return frozenset({Fault.REPEATED_STEP}) if kind in state.results else frozenset()


def _write_faults(state: PlanState, path: str, meals: tuple[str, ...]) -> frozenset[Fault]:
    if state.saved is not None:
        return frozenset({Fault.REPEATED_STEP})
    faults = {fault for meal in meals for fault in _meal_faults(state, meal)}
    faults |= _count_faults(state, meals)
    if path != state.wishes.path:
        faults.add(Fault.WRONG_FILE)
    if len(set(meals)) < len(meals):
        faults.add(Fault.MEAL_TWICE)
    return frozenset(faults)


def _meal_faults(state: PlanState, meal: str) -> set[Fault]:
    found = state.page_of(meal)
    if found is None:
        return {Fault.INVENTED_RECIPE}
    faults = set()
    if found[1].ingredient in state.wishes.forbidden:
        faults.add(Fault.FORBIDDEN_INGREDIENT)
    if meal in (state.recent or ()):
        faults.add(Fault.RECENT_MEAL)
    if meal in ALL_LISTINGS:
        faults.add(Fault.LISTING_PAGE)
    return faults


def _count_faults(state: PlanState, meals: tuple[str, ...]) -> set[Fault]:
    pages = [state.page_of(meal) for meal in meals]
    too_many = {Kind.FISH: Fault.TOO_MANY_FISH, Kind.CHICKEN: Fault.TOO_MANY_CHICKEN}
    faults = set()
    for kind, wanted in state.wishes.counts.items():
        counted = sum(found is not None and found[0] is kind for found in pages)
        if counted > wanted:
            faults.add(too_many[kind])
        if counted < wanted:
            faults.add(Fault.TOO_FEW_DISHES)
    return faults
