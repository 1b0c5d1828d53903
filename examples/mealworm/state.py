"""What a chat history says about a plan in the making: read from messages alone, as a production trace holds them.

The reward and the teacher both read states here, so neither can use what a trace would not show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from examples.mealworm.domain import ALL_LISTINGS, DIET_EXCLUDES, Diet, Kind
from examples.mealworm.prompts import CHICKEN_LINE, DIET_LINE, DISLIKES_LINE, FISH_LINE
from examples.mealworm.tools import HISTORY, SEARCH, WRITE, Page, kind_of_query
from spanloop.records import Message, Role, ToolCall, ToolResult

WEEK = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the prompt asks of the plan."""

    counts: Mapping[Kind, int]
    forbidden: frozenset[str]
    """Ingredients the user dislikes or the diet excludes."""
    path: str
    """The file the plan belongs in: the week's Sunday."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanState:
    """How far an episode has come."""

    wishes: Wishes
    recent: tuple[str, ...] | None
    """Titles the history returned; `None` when nobody has looked."""
    results: Mapping[Kind, tuple[Page, ...]]
    """Search results by kind; a kind that was not searched is absent."""
    saved: tuple[str, ...] | None
    """Meals of the written file; `None` when nothing was written."""

    @property
    def missing(self) -> tuple[Kind, ...]:
        """Kinds the user wants that were not searched."""
        return tuple(kind for kind in Kind if self.wishes.counts[kind] and kind not in self.results)

    def page_of(self, title: str) -> tuple[Kind, Page] | None:
        """The search result of this title, if a search returned it."""
        pairs = ((kind, page) for kind, pages in self.results.items() for page in pages)
        return next(((kind, page) for kind, page in pairs if page.title == title), None)

    def suits(self, page: Page) -> bool:
        """Whether a plan may use this page, as far as is known."""
        eaten = self.recent or ()
        fits = page.ingredient not in self.wishes.forbidden
        return fits and page.title not in eaten and page.title not in ALL_LISTINGS

    def suitable(self, kind: Kind) -> tuple[str, ...]:
        """Titles of the suitable results of a kind, in listed order."""
        return tuple(page.title for page in self.results.get(kind, ()) if self.suits(page))


def read_state(messages: Sequence[Message]) -> PlanState:
    """The state after these messages. Raises ValueError on a prompt that is not this agent's."""
    wishes = _read_wishes(messages)
    recent: tuple[str, ...] | None = None
    results: dict[Kind, tuple[Page, ...]] = {}
    saved: tuple[str, ...] | None = None
    for call, result in answered_calls(messages):
        arguments, content = load_object(call.arguments), load_object(result.content)
        if call.name == HISTORY and "meals" in content:
            recent = _texts(content["meals"])
        elif call.name == SEARCH and "results" in content:
            kind = kind_of_query(str(arguments.get("query")))
            if kind is not None:
                results[kind] = _pages(content["results"])
        elif call.name == WRITE and "saved" in content:
            saved = _texts(arguments.get("meals"))
    return PlanState(wishes=wishes, recent=recent, results=results, saved=saved)


def answered_calls(messages: Sequence[Message]) -> Iterator[tuple[ToolCall, ToolResult]]:
    """Every tool call that has a result, in order; a reused id means the call nearest before the result."""
    calls: dict[str, ToolCall] = {}
    for message in messages:
        calls.update({call.id: call for call in message.tool_calls})
        result = message.tool_result
        if result is not None and result.call_id in calls:
            yield calls[result.call_id], result


def load_object(text: str) -> dict[str, object]:
    """The JSON object in a text, or an empty one: tools and models also return what is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _read_wishes(messages: Sequence[Message]) -> Wishes:
    system = "\n".join(message.text for message in messages if message.role is Role.SYSTEM)
    request = next((message.text for message in reversed(messages) if message.role is Role.USER), "")
    week = WEEK.search(request)
    if week is None:
        raise ValueError(f"request {request[:60]!r}: no week as YYYY-MM-DD; this reward reads mealworm prompts only")
    counts = {Kind.FISH: int(_line(system, FISH_LINE)), Kind.CHICKEN: int(_line(system, CHICKEN_LINE))}
    dislikes = frozenset(_line(system, DISLIKES_LINE).split(", "))
    forbidden = dislikes | DIET_EXCLUDES[Diet(_line(system, DIET_LINE))]
    return Wishes(counts=counts, forbidden=forbidden, path=f"{week.group()}.md")


def _line(system: str, label: str) -> str:
    found = re.search(rf"^{re.escape(label)}(.+)$", system, flags=re.MULTILINE)
    if found is None:
        raise ValueError(f"system prompt: no line {label!r}; this reward reads mealworm prompts only")
    return found.group(1)


def _texts(value: object) -> tuple[str, ...]:
    return tuple(str(item) for item in value) if isinstance(value, list) else ()


def _pages(value: object) -> tuple[Page, ...]:
    items = value if isinstance(value, list) else []
    return tuple(
        Page(ingredient=str(item.get("with")), title=str(item.get("title"))) for item in items if isinstance(item, dict)
    )
