"""Pools by conversation, equal states as one point, batches even over step indices, every point accounted for."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.unit.trainer.factories import make_candidate
from trainer.config import DataConfig
from trainer.dataset import Pool, build_dataset, draw_evenly, pool_of, schedule
from trainer.errors import DatasetError

EVERYTHING = DataConfig(validation=0.25, heldout=0.25, seed=3)


def conversations(count: int, steps: int = 3):
    """`count` conversations of one episode each, `steps` points long."""
    return [make_candidate(f"e{episode}:{step}") for episode in range(count) for step in range(steps)]


def test_a_conversation_is_never_split():
    """All points of a conversation are in one pool, also over several episodes."""
    points = [
        make_candidate(f"e{episode}:{step}", conversation_id=f"c{episode // 2}")
        for episode in range(80)
        for step in range(3)
    ]
    dataset = build_dataset(points, EVERYTHING)
    pools_of = {item.conversation_id: set() for item in points}
    for pool, items in dataset.pools.items():
        for item in items:
            pools_of[item.conversation_id].add(pool)
    assert {1} == {len(pools) for pools in pools_of.values()}
    assert all(dataset.pools.values())
    assert len(points) == sum(len(items) for items in dataset.pools.values())


def test_episodes_without_a_conversation_stand_alone():
    """Points without a conversation are split by episode."""
    points = [make_candidate(f"e{n}:{step}", conversation_id=None) for n in range(60) for step in range(2)]
    dataset = build_dataset(points, EVERYTHING)
    for items in dataset.pools.values():
        assert {2} == set(Counter(item.episode_id for item in items).values())


def test_a_conversation_keeps_its_pool_when_others_arrive():
    """What was held out once is not trained on later."""
    few = build_dataset(conversations(20), EVERYTHING)
    many = build_dataset(conversations(200), EVERYTHING)
    for pool in Pool:
        assert {item.point_id for item in few.pools[pool]} <= {item.point_id for item in many.pools[pool]}


def test_the_shares_are_those_asked_for():
    """Of 4,000 conversations a quarter is held out, a quarter validates (3 sigma: 2 percentage points)."""
    shares = Counter(pool_of(f"c{n}", EVERYTHING) for n in range(4000))
    assert 0.25 == pytest.approx(shares[Pool.HELDOUT] / 4000, abs=0.021)
    assert 0.25 == pytest.approx(shares[Pool.VALIDATION] / 4000, abs=0.021)


def test_another_seed_is_another_split():
    """The seed decides."""
    pools = [[pool_of(f"c{n}", EVERYTHING.model_copy(update={"seed": seed})) for n in range(50)] for seed in (1, 2)]
    assert pools[0] != pools[1]


def test_equal_states_are_one_point_and_never_straddle_the_split():
    """A state recorded in 40 conversations is one point of the first one's pool, with its multiplicity."""
    points = [make_candidate(f"e{n}:0", state_hash="same", started_at=100 - n) for n in range(40)]
    dataset = build_dataset(points, EVERYTHING)
    (only,) = [item for items in dataset.pools.values() for item in items]
    assert ("e39:0", 40) == (only.point_id, only.multiplicity)
    assert {"same state as another point": 39} == dict(dataset.left_out)
    assert dataset.pools[pool_of("conversation-e39", EVERYTHING)] == (only,)


def test_every_point_is_in_a_pool_or_counted_with_its_reason():
    """Nothing is dropped silently."""
    points = [
        make_candidate("good:0"),
        make_candidate("flagged:0", trainable=False, quality_flags=frozenset({"content_missing", "retried"})),
        make_candidate("agent:0", agent_name="other"),
        make_candidate("dialect:0", dialect="other"),
        make_candidate("late:0", started_at=2_000_000_000_000_000_000),
        make_candidate("timeless:0", started_at=None),
        make_candidate("long:0", num_chars=201),
        make_candidate("step:7"),
        make_candidate("twin:0", state_hash="state of good:0"),
    ]
    config = DataConfig(
        agents=("planner",), dialects=("openinference",), steps=(0,), until="2026-01-01", max_prompt_chars=200
    )
    dataset = build_dataset(points, config)
    assert {
        "not trainable: content_missing": 1,
        "other agent": 1,
        "other dialect": 1,
        "other step index": 1,
        "outside data.since and data.until": 2,
        "longer than data.max_prompt_chars": 1,
        "same state as another point": 1,
    } == dict(dataset.left_out)
    assert 9 == dataset.num_candidates == sum(dataset.left_out.values()) + sum(map(len, dataset.pools.values()))


def test_an_empty_pool_says_what_was_left_out():
    """The message counts the reasons, so that the remedy is plain."""
    dataset = build_dataset([make_candidate(trainable=False)], EVERYTHING)
    with pytest.raises(DatasetError, match=r"the train pool is empty .*not trainable: no messages: 1"):
        dataset.pool(Pool.TRAIN)


def test_a_batch_is_even_over_step_indices():
    """90 first turns, 9 second and 3 third: a batch of 9 has three of each."""
    points = [make_candidate(f"e{n}:{step}") for step, count in ((0, 90), (1, 9), (2, 3)) for n in range(count)]
    for batch in schedule(points, points_per_step=9, num_steps=4, seed=1):
        assert {0: 3, 1: 3, 2: 3} == Counter(item.step_index for item in batch)
        assert 9 == len({item.point_id for item in batch})


def test_a_step_index_with_few_points_leaves_its_places_to_the_others():
    """A point never comes twice in a batch."""
    points = [make_candidate(f"e{n}:{step}") for step, count in ((0, 20), (1, 2)) for n in range(count)]
    (batch,) = schedule(points, points_per_step=10, num_steps=1, seed=1)
    assert {0: 8, 1: 2} == Counter(item.step_index for item in batch)


def test_points_come_again_only_after_all_of_their_index_have_come():
    """Two batches of half the points are all the points."""
    points = [make_candidate(f"e{n}:0") for n in range(16)]
    first, second = schedule(points, points_per_step=8, num_steps=2, seed=5)
    assert {item.point_id for item in points} == {item.point_id for item in (*first, *second)}


def test_batches_depend_on_the_seed_and_on_nothing_else():
    """Neither the order of arrival nor the number of steps planned changes a batch."""
    points = conversations(30)
    shuffled = random.Random(0).sample(points, len(points))
    four = schedule(points, points_per_step=8, num_steps=4, seed=1)
    assert four == schedule(shuffled, points_per_step=8, num_steps=4, seed=1)
    assert four[:2] == schedule(points, points_per_step=8, num_steps=2, seed=1)
    assert four != schedule(points, points_per_step=8, num_steps=4, seed=2)


def test_too_few_points_for_a_batch_is_an_error_with_a_remedy():
    """The message has both numbers."""
    with pytest.raises(DatasetError, match=r"3 distinct points to train on, but train\.points_per_step is 4"):
        schedule(conversations(1), points_per_step=4, num_steps=1, seed=1)


def test_drawing_more_points_than_there_are_gives_all():
    """An evaluation of a small pool takes the whole pool."""
    points = conversations(4)
    assert {item.point_id for item in points} == {item.point_id for item in draw_evenly(points, 1000, 1)}


def test_a_time_that_is_none_is_refused():
    """A typo in data.since is named."""
    with pytest.raises(DatasetError, match="time 'yesterday' is not ISO 8601"):
        build_dataset([make_candidate()], DataConfig(since="yesterday"))
