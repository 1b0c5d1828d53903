"""Histories written out by hand, so that the expected faults can be read off the page."""

import json

from spanloop.records import Message, Role, TextPart, ToolCall, ToolResult

SYSTEM = """You are mealworm, a meal planning agent.
Fish dishes: 2
Chicken dishes: 1
Diet: dairy-free
Dislikes: olives, corn
Loves: sauce"""

RECENT = ("cod pie", "tuna bake", "lemon drumsticks", "herb chicken pot", "trout curry")

FISH = (
    ("tofu", "cod tacos"),
    ("feta", "salmon pie"),
    ("beans", "cod pie"),
    ("pesto", "25 best fish dinners"),
    ("spinach", "tuna curry"),
)
"""Suitable: the first and the last. In between: dairy, a recent meal, a listing page."""

CHICKEN = (
    ("corn", "herb drumsticks"),
    ("tofu", "ginger chicken pot"),
    ("pesto", "honey chicken stew"),
)
"""Suitable: the last two; the user dislikes corn."""

GOOD_MEALS = ["cod tacos", "tuna curry", "ginger chicken pot"]
PATH = "2026-11-29.md"


def system(text: str = SYSTEM) -> Message:
    """The system prompt."""
    return Message(role=Role.SYSTEM, parts=(TextPart(text=text),))


def user(text: str = "Generate a meal plan for the week of 2026-11-29.") -> Message:
    """The request."""
    return Message(role=Role.USER, parts=(TextPart(text=text),))


def says(text: str) -> Message:
    """An answer in words."""
    return Message(role=Role.ASSISTANT, parts=(TextPart(text=text),))


def calls(name: str, call_id: str = "call_1", **arguments: object) -> Message:
    """An answer with one tool call."""
    return Message(role=Role.ASSISTANT, parts=(ToolCall(id=call_id, name=name, arguments=json.dumps(arguments)),))


def returns(content: object, call_id: str = "call_1") -> Message:
    """A tool message."""
    return Message(role=Role.TOOL, parts=(ToolResult(call_id=call_id, content=json.dumps(content)),))


def pages(found: tuple[tuple[str, str], ...]) -> dict[str, object]:
    """Search results as the tool returns them."""
    return {"results": [{"with": ingredient, "title": title} for ingredient, title in found]}


ASKED = (system(), user())
LOOKED = (*ASKED, calls("search_historical_meals", "h", limit=30), returns({"meals": list(RECENT)}, "h"))
FISH_FOUND = (*LOOKED, calls("search_web", "f", query="fish dinner"), returns(pages(FISH), "f"))
ALL_FOUND = (*FISH_FOUND, calls("search_web", "c", query="chicken dinner"), returns(pages(CHICKEN), "c"))
SAVED = (*ALL_FOUND, calls("write_file", "w", path=PATH, meals=GOOD_MEALS), returns({"saved": PATH}, "w"))
