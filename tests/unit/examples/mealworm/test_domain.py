"""Users, their split, and the worlds their tools see."""

import json
import random
from collections import Counter

import pytest

from examples.mealworm.domain import (
    ALL_LISTINGS,
    DIET_EXCLUDES,
    INGREDIENTS,
    TITLES,
    Kind,
    Split,
    draw_request,
    profiles_of,
)
from examples.mealworm.tools import BAD_ARGUMENTS, UNKNOWN_TOOL, World, kind_of_query, make_world
from spanloop.records import ToolStatus


def world(seed: int) -> World:
    """A world for some production user."""
    rng = random.Random(seed)
    return make_world(rng, draw_request(rng, rng.choice(profiles_of(Split.PRODUCTION))))


def test_no_user_is_in_two_pools() -> None:
    """Combinations are held out: no id of one pool occurs in another, and none twice."""
    ids = [profile.user_id for split in Split for profile in profiles_of(split)]
    assert len(ids) == len(set(ids))


def test_every_word_occurs_in_every_pool() -> None:
    """Words are shared, so an unseen user is a new combination and no new vocabulary."""
    for split in Split:
        users = profiles_of(split)
        assert set(INGREDIENTS) == {word for user in users for word in user.dislikes}
        assert {(2, 1), (1, 2), (2, 2), (2, 0)} == {(user.num_fish, user.num_chicken) for user in users}
        assert 7 == len({user.loves for user in users})
        assert set(DIET_EXCLUDES) == {user.diet for user in users}


@pytest.mark.parametrize("seed", range(50))
def test_every_plan_can_be_made(seed: int) -> None:
    """Whatever trouble the pages hold, two pages of each kind suit the user."""
    rng = random.Random(seed)
    request = draw_request(rng, rng.choice(profiles_of(Split.PRODUCTION)))
    made = make_world(rng, request)
    for kind in Kind:
        suitable = [
            page
            for page in made.pages[kind]
            if page.ingredient not in request.profile.forbidden
            and page.title not in made.recent
            and page.title not in ALL_LISTINGS
        ]
        assert len(suitable) >= 2
        assert len({page.title for page in made.pages[kind]}) == len(made.pages[kind])


def test_searches_hold_every_kind_of_trouble() -> None:
    """Disliked ingredients, recent meals and listing pages each stand in more than half of the searches."""
    found = Counter[str]()
    for seed in range(300):
        rng = random.Random(seed)
        request = draw_request(rng, rng.choice(profiles_of(Split.PRODUCTION)))
        made = make_world(rng, request)
        pages = made.pages[Kind.FISH]
        found["forbidden"] += any(page.ingredient in request.profile.forbidden for page in pages)
        found["recent"] += any(page.title in made.recent for page in pages)
        found["listing"] += any(page.title in ALL_LISTINGS for page in pages)
    assert all(150 < found[trouble] < 210 for trouble in ("forbidden", "recent", "listing")), found


def test_tools_return_what_the_world_holds() -> None:
    """History, search and file are executed for real; a plan can be read back."""
    made = world(1)
    history = made.execute("search_historical_meals", '{"limit": 3}')
    search = made.execute("search_web", '{"query": "chicken dinner"}')
    wrote = made.execute("write_file", '{"path": "2026-11-29.md", "meals": ["cod pie"]}')
    assert {"meals": list(made.recent[:3])} == json.loads(history.content)
    assert [page.title for page in made.pages[Kind.CHICKEN]] == [
        item["title"] for item in json.loads(search.content)["results"]
    ]
    assert '{"saved": "2026-11-29.md"}' == wrote.content
    assert {"2026-11-29.md": ("cod pie",)} == made.files
    assert [ToolStatus.OK] * 3 == [history.status, search.status, wrote.status]


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("order_food", "{}", UNKNOWN_TOOL),
        ("search_web", '{"text": "fish dinner"}', BAD_ARGUMENTS),
        ("search_web", '{"query": "fish', BAD_ARGUMENTS),
        ("search_web", '["fish"]', BAD_ARGUMENTS),
        ("write_file", '{"path": "x.md", "meals": []}', BAD_ARGUMENTS),
        ("search_historical_meals", '{"limit": "many"}', BAD_ARGUMENTS),
    ],
)
def test_bad_calls_get_an_error_result(name: str, arguments: str, expected: str) -> None:
    """A call that fits no schema changes nothing and says so."""
    made = world(2)
    executed = made.execute(name, arguments)
    assert (expected, ToolStatus.ERROR) == (executed.content, executed.status)
    assert {} == made.files


@pytest.mark.parametrize(
    ("query", "expected"),
    [("fish dinner", Kind.FISH), ("Chicken", Kind.CHICKEN), ("beef", None), ("fish or chicken", None), ("", None)],
)
def test_a_query_names_one_kind_or_none(query: str, expected: Kind | None) -> None:
    """A search that names no kind, or both, finds nothing."""
    assert expected is kind_of_query(query)


def test_all_dishes_differ() -> None:
    """No title is fish and chicken at once, and no listing page is a dish."""
    titles = [*TITLES[Kind.FISH], *TITLES[Kind.CHICKEN], *ALL_LISTINGS]
    assert len(titles) == len(set(titles))
