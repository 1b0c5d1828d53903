"""Every fault by a hand-written example, with the reward it costs."""

import pytest

from examples.mealworm.faults import Fault, faults_at, value_of
from spanloop.records import Message, Role, TextPart, ToolCall
from tests.unit.examples.mealworm.scenes import (
    ALL_FOUND,
    ASKED,
    FISH,
    FISH_FOUND,
    GOOD_MEALS,
    LOOKED,
    PATH,
    SAVED,
    calls,
    pages,
    returns,
    says,
    system,
    user,
)

LOOK = calls("search_historical_meals", limit=30)
FIND_FISH = calls("search_web", query="fish dinner")
FIND_CHICKEN = calls("search_web", query="chicken dinner")
DONE = says("Saved 2026-11-29.md: cod tacos, tuna curry, ginger chicken pot.")


def write(*meals: str, path: str = PATH) -> Message:
    """The call that writes a plan."""
    return calls("write_file", path=path, meals=list(meals))


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (ASKED, LOOK),
        (LOOKED, FIND_FISH),
        (LOOKED, FIND_CHICKEN),
        (FISH_FOUND, FIND_CHICKEN),
        (ALL_FOUND, write(*GOOD_MEALS)),
        (ALL_FOUND, write("honey chicken stew", "tuna curry", "cod tacos")),
        (SAVED, DONE),
        (SAVED, says("Saved 2026-11-29.md: ginger chicken pot, cod tacos, tuna curry.")),
    ],
)
def test_clean_actions_are_worth_one(state: tuple[Message, ...], action: Message) -> None:
    """Every useful action that breaks no rule is clean, in any order of dishes."""
    assert frozenset() == faults_at(state, action)
    assert 1.0 == value_of(faults_at(state, action))


@pytest.mark.parametrize(
    ("state", "action", "expected", "value"),
    [
        (ASKED, FIND_FISH, {Fault.HISTORY_SKIPPED}, 0.10),
        (LOOKED, LOOK, {Fault.REPEATED_STEP}, 0.05),
        (FISH_FOUND, FIND_FISH, {Fault.REPEATED_STEP}, 0.05),
        (LOOKED, calls("search_web", query="beef dinner"), {Fault.UNNEEDED_SEARCH}, 0.05),
        (LOOKED, DONE, {Fault.EARLY_ANSWER}, 0.05),
        (LOOKED, calls("search_web", text="fish dinner"), {Fault.BAD_ARGUMENTS}, 0.0),
        (LOOKED, calls("search_historical_meals", limit=0), {Fault.BAD_ARGUMENTS}, 0.0),
        (LOOKED, calls("order_food", query="fish dinner"), {Fault.UNKNOWN_TOOL}, 0.0),
        (LOOKED, says('<tool_call>\n{"name": "search_web"\n</tool_call>'), {Fault.MALFORMED_CALL}, 0.0),
        (ALL_FOUND, write("cod tacos", "tuna curry", "maple drumsticks"), None, 0.05),
        (ALL_FOUND, write("cod tacos", "salmon pie", "ginger chicken pot"), {Fault.FORBIDDEN_INGREDIENT}, 0.10),
        (ALL_FOUND, write("cod tacos", "tuna curry", "herb drumsticks"), {Fault.FORBIDDEN_INGREDIENT}, 0.10),
        (ALL_FOUND, write("cod tacos", "cod pie", "ginger chicken pot"), {Fault.RECENT_MEAL}, 0.10),
        (ALL_FOUND, write("cod tacos", "25 best fish dinners", "ginger chicken pot"), {Fault.LISTING_PAGE}, 0.10),
        (ALL_FOUND, write("cod tacos", "ginger chicken pot"), {Fault.TOO_FEW_DISHES}, 0.10),
        (ALL_FOUND, write(*GOOD_MEALS, "honey chicken stew"), {Fault.TOO_MANY_CHICKEN}, 0.10),
        (ALL_FOUND, write(*GOOD_MEALS, path="2026-12-06.md"), {Fault.WRONG_FILE}, 0.10),
        (SAVED, write(*GOOD_MEALS), {Fault.REPEATED_STEP}, 0.05),
        (SAVED, says("Saved 2026-11-29.md: cod tacos, tuna curry."), {Fault.FALSE_ANSWER}, 0.05),
        (SAVED, says("Saved 2026-12-06.md: cod tacos, tuna curry, ginger chicken pot."), {Fault.FALSE_ANSWER}, 0.05),
    ],
)
def test_each_fault_is_found_and_costs_what_it_should(
    state: tuple[Message, ...], action: Message, expected: set[Fault] | None, value: float
) -> None:
    """The worst fault decides: malformed 0, invented or no progress 0.05, a broken rule 0.10."""
    found = faults_at(state, action)
    assert (expected or {Fault.INVENTED_RECIPE, Fault.TOO_FEW_DISHES}) == found
    assert value == value_of(found)


def test_a_third_fish_dish_is_too_many() -> None:
    """The count is of search results by kind, not of words in a title."""
    found = (*FISH, ("tofu", "trout chowder"))
    state = (*LOOKED, FIND_FISH, returns(pages(found)), *ALL_FOUND[-2:])
    action = write("cod tacos", "tuna curry", "trout chowder", "ginger chicken pot")
    assert {Fault.TOO_MANY_FISH} == faults_at(state, action)


def test_the_same_meal_twice_is_a_fault_of_its_own() -> None:
    """Repeating a dish does not fill the plan."""
    assert {Fault.MEAL_TWICE} == faults_at(ALL_FOUND, write("cod tacos", "cod tacos", "ginger chicken pot"))


def test_writing_without_the_history_is_a_violation() -> None:
    """A plan that suits by luck still skipped the look through the history."""
    state = (*ASKED, *FISH_FOUND[len(LOOKED) :], *ALL_FOUND[len(FISH_FOUND) :])
    assert {Fault.HISTORY_SKIPPED} == faults_at(state, write(*GOOD_MEALS))


def test_a_kind_the_user_does_not_want_need_not_be_searched() -> None:
    """Searching chicken for a user without chicken dishes makes no progress."""
    asked = (system(ASKED[0].text.replace("Chicken dishes: 1", "Chicken dishes: 0")), user())
    state = (*asked, *FISH_FOUND[len(ASKED) :])
    assert {Fault.UNNEEDED_SEARCH} == faults_at(state, FIND_CHICKEN)
    assert frozenset() == faults_at(state, write("cod tacos", "tuna curry"))


def test_an_answer_cut_off_is_malformed_whatever_it_says() -> None:
    """The length limit ends an answer in the middle; nothing in it can be trusted."""
    assert {Fault.CUT_OFF} == faults_at(SAVED, DONE, "length")


def test_narration_and_several_calls_break_rules_of_the_prompt() -> None:
    """One tool at a time, without narration."""
    first = ToolCall(id="a", name="search_web", arguments='{"query": "fish dinner"}')
    second = ToolCall(id="b", name="search_web", arguments='{"query": "chicken dinner"}')
    action = Message(role=Role.ASSISTANT, parts=(TextPart(text="Let me search."), first, second))
    assert {Fault.NARRATION, Fault.SEVERAL_CALLS} == faults_at(LOOKED, action)


def test_a_call_that_failed_may_be_made_again() -> None:
    """An error result is no search result, so trying again makes progress."""
    state = (*LOOKED, calls("search_web", text="fish dinner"), returns({"error": "bad arguments"}))
    assert frozenset() == faults_at(state, FIND_FISH)


def test_doing_nothing_useful_never_pays_more_than_failing() -> None:
    """A policy must not be drawn to harmless actions: no progress pays at most what a broken rule pays."""
    idle = max(
        value_of(frozenset({fault})) for fault in (Fault.REPEATED_STEP, Fault.UNNEEDED_SEARCH, Fault.EARLY_ANSWER)
    )
    tried = value_of(frozenset({Fault.FORBIDDEN_INGREDIENT}))
    assert idle <= tried


def test_another_agents_prompt_is_refused_by_name() -> None:
    """The reward reads this agent's prompts; a foreign one is an error and not a score."""
    with pytest.raises(ValueError, match="no line 'Fish dishes: '"):
        faults_at((system("You are a poet."), user()), LOOK)
    with pytest.raises(ValueError, match="no week"):
        faults_at((system(), user("Write a poem.")), LOOK)
