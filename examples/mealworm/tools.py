"""The agent's tools: their JSON schemas, and the functions that execute them over a generated recipe corpus.

A search returns what Mealworm's searches return: recipes that suit the user, recipes with an ingredient he must not
have, dishes he has just eaten, and listing pages that are no recipe.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from jsonschema import Draft202012Validator

from examples.mealworm.domain import INGREDIENTS, LISTINGS, TITLES, Kind, Request
from spanloop.records import ToolDefinition, ToolStatus

HISTORY = "search_historical_meals"
SEARCH = "search_web"
WRITE = "write_file"

HISTORY_LIMIT = 30
NUM_RECENT = 5
"""Meals the history holds for each user."""
NUM_RESULTS = 5
"""Pages a search returns."""
TROUBLE_PROBABILITY = 0.6
"""Of each kind of unsuitable page in a search's results, independently."""


def _object_schema(properties: Mapping[str, object]) -> str:
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return json.dumps(schema)


TOOLS = (
    ToolDefinition(
        name=HISTORY,
        description="Meals of the last plans.",
        parameters=_object_schema({"limit": {"type": "integer", "minimum": 1}}),
    ),
    ToolDefinition(
        name=SEARCH,
        description="Search recipes on the web.",
        parameters=_object_schema({"query": {"type": "string", "minLength": 1}}),
    ),
    ToolDefinition(
        name=WRITE,
        description="Write the plan file.",
        parameters=_object_schema(
            {"path": {"type": "string"}, "meals": {"type": "array", "items": {"type": "string"}, "minItems": 1}}
        ),
    ),
)

VALIDATORS = {tool.name: Draft202012Validator(json.loads(tool.parameters or "{}")) for tool in TOOLS}

BAD_ARGUMENTS = '{"error": "bad arguments"}'
UNKNOWN_TOOL = '{"error": "unknown tool"}'
NOTHING_FOUND = '{"results": []}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of the recipe corpus, as a search shows it."""

    ingredient: str
    """What the dish is made with."""
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What a tool returned."""

    content: str
    status: ToolStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What one user's tools see: the meals of the last plans and the pages of the web."""

    recent: tuple[str, ...]
    pages: Mapping[Kind, tuple[Page, ...]]
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Written plans by path; the one thing a tool changes."""

    def execute(self, name: str, arguments: str) -> Executed:
        """Run one tool call; bad calls get an error result, as a production agent's do."""
        validator = VALIDATORS.get(name)
        if validator is None:
            return Executed(content=UNKNOWN_TOOL, status=ToolStatus.ERROR)
        try:
            parsed = json.loads(arguments)
        except ValueError:
            return Executed(content=BAD_ARGUMENTS, status=ToolStatus.ERROR)
        if not validator.is_valid(parsed):
            return Executed(content=BAD_ARGUMENTS, status=ToolStatus.ERROR)
        run: dict[str, Callable[[Mapping[str, object]], str]] = {
            HISTORY: self._history,
            SEARCH: self._search,
            WRITE: self._write,
        }
        return Executed(content=run[name](parsed), status=ToolStatus.OK)

    def _history(self, arguments: Mapping[str, object]) -> str:
        limit = int(str(arguments["limit"]))
        return json.dumps({"meals": list(self.recent[:limit])})

    def _search(self, arguments: Mapping[str, object]) -> str:
        kind = kind_of_query(str(arguments["query"]))
        if kind is None:
            return NOTHING_FOUND
        return json.dumps({"results": [{"with": page.ingredient, "title": page.title} for page in self.pages[kind]]})

    def _write(self, arguments: Mapping[str, object]) -> str:
        path, meals = str(arguments["path"]), arguments["meals"]
        self.files[path] = tuple(str(meal) for meal in meals) if isinstance(meals, list) else ()
        return json.dumps({"saved": path})


def kind_of_query(query: str) -> Kind | None:
    """The one kind of dish a query asks for; `None` when it names none or both."""
    named = [kind for kind in Kind if kind.value in query.lower().split()]
    return named[0] if len(named) == 1 else None


def make_world(rng: random.Random, request: Request) -> World:
    """A history and search results for this request; at least two pages of each kind always suit the user."""
    recent = [title for kind in Kind for title in rng.sample(TITLES[kind], NUM_RECENT // 2 + 1)]
    rng.shuffle(recent)
    history = tuple(recent[:NUM_RECENT])
    return World(recent=history, pages={kind: _pages(rng, request, kind, history) for kind in Kind})


def _pages(rng: random.Random, request: Request, kind: Kind, recent: tuple[str, ...]) -> tuple[Page, ...]:
    forbidden = sorted(request.profile.forbidden)
    allowed = [ingredient for ingredient in INGREDIENTS if ingredient not in forbidden]
    fresh = rng.sample([title for title in TITLES[kind] if title not in recent], NUM_RESULTS)
    eaten = [title for title in recent if title in TITLES[kind]]
    pages = []
    if rng.random() < TROUBLE_PROBABILITY:
        pages.append(Page(ingredient=rng.choice(forbidden), title=fresh.pop()))
    if rng.random() < TROUBLE_PROBABILITY:
        pages.append(Page(ingredient=rng.choice(allowed), title=rng.choice(eaten)))
    if rng.random() < TROUBLE_PROBABILITY:
        pages.append(Page(ingredient=rng.choice(allowed), title=rng.choice(LISTINGS[kind])))
    pages += [Page(ingredient=rng.choice(allowed), title=fresh.pop()) for _ in range(NUM_RESULTS - len(pages))]
    rng.shuffle(pages)
    return tuple(pages)
