"""The little world of the example: dishes, ingredients, users, and how users are split.

Every dish, ingredient and date is one token of the example's tokenizer, so that a policy of a million parameters can
copy them without error; what it has to learn is which to choose.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from itertools import combinations, product


class Kind(StrEnum):
    """The kinds of dish a plan counts."""

    FISH = "fish"
    CHICKEN = "chicken"


class Diet(StrEnum):
    """What a user must not eat."""

    NONE = "none"
    DAIRY_FREE = "dairy-free"
    NUT_FREE = "nut-free"
    GLUTEN_FREE = "gluten-free"


class Split(StrEnum):
    """What a user's wishes are for; all episodes of a user are one conversation."""

    TRAIN = "train"
    """The base policy is trained on traces of these."""
    VALIDATION = "validation"
    """The base policy is measured on these."""
    PRODUCTION = "production"
    """The demo's users, which the base policy has never seen; the trainer splits them again by conversation."""


FISH = ("cod", "salmon", "tuna", "trout", "haddock", "sardine", "mackerel", "halibut")
FISH_STYLES = ("tacos", "curry", "pie", "chowder", "bake")
FLAVOURS = ("lemon", "herb", "smoky", "honey", "garlic", "ginger", "maple", "chili")
CHICKEN_STYLES = ("chicken stew", "chicken pot", "drumsticks", "chicken wraps", "chicken salad")

TITLES: dict[Kind, tuple[str, ...]] = {
    Kind.FISH: tuple(f"{fish} {style}" for fish, style in product(FISH, FISH_STYLES)),
    Kind.CHICKEN: tuple(f"{flavour} {style}" for flavour, style in product(FLAVOURS, CHICKEN_STYLES)),
}
"""The dishes there are, each with a recipe page of its own."""

LISTING_PATTERNS = (
    "25 best {} dinners",
    "easy {} dinners",
    "{} dinners for families",
    "our top {} dinners",
    "{} dinner ideas",
)
LISTINGS: dict[Kind, tuple[str, ...]] = {
    kind: tuple(pattern.format(kind.value) for pattern in LISTING_PATTERNS) for kind in Kind
}
"""Titles of pages that list many recipes: what a search also returns and no plan may link to."""

ALL_LISTINGS = frozenset(title for titles in LISTINGS.values() for title in titles)

INGREDIENTS = (
    "olives", "capers", "pesto", "mushrooms", "feta", "cream", "peanuts",
    "almonds", "noodles", "breadcrumbs", "tofu", "spinach", "beans", "corn",
)  # fmt: skip

DIET_EXCLUDES: dict[Diet, frozenset[str]] = {
    Diet.NONE: frozenset(),
    Diet.DAIRY_FREE: frozenset({"feta", "cream"}),
    Diet.NUT_FREE: frozenset({"peanuts", "almonds"}),
    Diet.GLUTEN_FREE: frozenset({"noodles", "breadcrumbs"}),
}

COUNTS = ((2, 1), (1, 2), (2, 2), (2, 0))
"""Fish and chicken dishes a user wants in a week; the first is Mealworm's own rule."""

LOVES = ("fish", "chicken", "Italian food", "Asian food", "Latin food", "American food", "sauce")

REQUESTS = (
    "Generate a meal plan for the week of {}.",
    "Quick, plan the week of {}.",
    "Plan my dinners for the week of {}.",
    "I need meals for the week of {}.",
)

FIRST_SUNDAY = date(2026, 11, 29)
WEEKS = tuple((FIRST_SUNDAY + timedelta(weeks=week)).isoformat() for week in range(26))
"""Sundays a plan may start on, as ISO dates."""

PRODUCTION_PERCENT = 10
VALIDATION_PERCENT = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What one user wants of every plan."""

    num_fish: int
    num_chicken: int
    diet: Diet
    dislikes: tuple[str, str]
    loves: str

    @property
    def forbidden(self) -> frozenset[str]:
        """The ingredients no dish of this user may be made with."""
        return DIET_EXCLUDES[self.diet] | set(self.dislikes)

    @property
    def user_id(self) -> str:
        """A readable id; two users with equal wishes are one user here."""
        loves = self.loves.split()[0].lower()
        return f"{self.num_fish}f{self.num_chicken}c-{self.diet}-{'-'.join(self.dislikes)}-{loves}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of one user."""

    profile: Profile
    wording: str
    """One of `REQUESTS`."""
    week: str
    """ISO date of the Sunday the plan starts on."""

    @property
    def text(self) -> str:
        """The user's message."""
        return self.wording.format(self.week)


def all_profiles() -> tuple[Profile, ...]:
    """Every combination of wishes, in a fixed order; dislikes that the diet excludes anyway are left out."""
    return tuple(
        Profile(num_fish=fish, num_chicken=chicken, diet=diet, dislikes=(first, second), loves=loves)
        for (fish, chicken), diet, (first, second), loves in product(COUNTS, Diet, combinations(INGREDIENTS, 2), LOVES)
        if not {first, second} & DIET_EXCLUDES[diet]
    )


def profiles_of(split: Split, seed: int = 0) -> tuple[Profile, ...]:
    """The users of one pool, shuffled. Combinations are held out; every word occurs in every pool."""
    shuffled = list(all_profiles())
    random.Random(f"split {seed}").shuffle(shuffled)  # noqa: S311  a reproducible split, not a secret
    production = len(shuffled) * PRODUCTION_PERCENT // 100
    validation = production + len(shuffled) * VALIDATION_PERCENT // 100
    bounds = {
        Split.PRODUCTION: (0, production),
        Split.VALIDATION: (production, validation),
        Split.TRAIN: (validation, None),
    }
    start, stop = bounds[split]
    return tuple(shuffled[start:stop])


def draw_request(rng: random.Random, profile: Profile) -> Request:
    """A request of this user in a random week and wording."""
    return Request(profile=profile, wording=rng.choice(REQUESTS), week=rng.choice(WEEKS))
