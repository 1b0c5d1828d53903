"""Paired comparisons: means by hand, intervals against an independent resampling, clusters and unscored pairs."""

from __future__ import annotations

import random

import pytest

from trainer.statistics import Pair, compare, mean


def pair(cluster: str, baseline: float | None, candidate: float | None) -> Pair:
    """A point's scores under two policies."""
    return Pair(cluster=cluster, baseline=baseline, candidate=candidate)


def test_means_and_gains_by_hand():
    """0.25 → 0.75 over four points: +0.5, +200 %."""
    pairs = [pair("a", 0, 1), pair("a", 1, 1), pair("b", 0, 1), pair("b", 0, 0)]
    found = compare(pairs, num_bootstrap=200, confidence=0.95, seed=1)
    assert (0.25, 0.75, 0.5, 2.0) == (found.baseline_mean, found.candidate_mean, found.gain, found.relative_gain)
    assert (4, 2, 0) == (found.num_points, found.num_clusters, found.num_unscored)


def test_a_gain_equal_in_every_conversation_has_no_width():
    """Nothing varies between conversations, so resampling them changes nothing."""
    pairs = [pair(name, 0.5, 0.75) for name in "abcd" for _ in range(3)]
    found = compare(pairs, num_bootstrap=500, confidence=0.95, seed=1)
    assert (0.25, 0.25) == (found.gain_low, found.gain_high)
    assert (0.5, 0.5) == (found.relative_low, found.relative_high)


def test_the_interval_equals_that_of_a_plain_resampling():
    """An independent bootstrap that draws conversations one by one agrees within sampling error."""
    source = random.Random(4)
    pairs = [pair(f"c{n % 40}", source.random(), min(1, source.random() * 1.3)) for n in range(200)]
    found = compare(pairs, num_bootstrap=4000, confidence=0.9, seed=2)
    by_cluster = {name: [p for p in pairs if p.cluster == name] for name in {p.cluster for p in pairs}}
    gains = []
    for _ in range(4000):
        drawn = [p for name in source.choices(sorted(by_cluster), k=40) for p in by_cluster[name]]
        gains.append(sum(p.candidate - p.baseline for p in drawn) / len(drawn))
    gains.sort()
    assert gains[200] == pytest.approx(found.gain_low, abs=0.006)
    assert gains[3799] == pytest.approx(found.gain_high, abs=0.006)


def test_clustering_widens_the_interval():
    """Ten points of one conversation are worth less than ten conversations."""
    source = random.Random(1)
    effects = [source.choice([-0.4, 0.6]) for _ in range(20)]
    together = [pair(f"c{n}", 0.4, 0.4 + effect) for n, effect in enumerate(effects) for _ in range(10)]
    apart = [pair(f"c{n}", item.baseline, item.candidate) for n, item in enumerate(together)]
    widths = []
    for pairs in (together, apart):
        found = compare(pairs, num_bootstrap=1000, confidence=0.95, seed=1)
        widths.append(found.gain_high - found.gain_low)
    assert widths[0] > 2.5 * widths[1]


def test_an_unscored_side_leaves_the_comparison_and_is_counted():
    """`None` is not 0: the pair takes part in no mean."""
    pairs = [pair("a", 0.5, 1.0), pair("b", None, 1.0), pair("c", 0.5, None), pair("d", 0.5, 0.5)]
    found = compare(pairs, num_bootstrap=200, confidence=0.95, seed=1)
    assert (0.5, 0.75, 2, 2) == (found.baseline_mean, found.candidate_mean, found.num_points, found.num_unscored)


def test_one_conversation_has_no_interval():
    """There is nothing to resample; a point estimate alone proves nothing."""
    found = compare([pair("a", 0.2, 0.4), pair("a", 0.2, 0.4)], num_bootstrap=200, confidence=0.95, seed=1)
    assert (None, None) == (found.gain_low, found.relative_low)
    assert pytest.approx(0.2) == found.gain


def test_nothing_scored_gives_nothing():
    """No pairs, no means, no division by zero."""
    found = compare([pair("a", None, 1.0)], num_bootstrap=200, confidence=0.95, seed=1)
    assert (None, None, None, 0, 1) == (
        found.baseline_mean, found.gain, found.gain_low, found.num_points, found.num_unscored
    )  # fmt: skip


def test_a_baseline_of_zero_has_no_relative_gain():
    """Anything over zero is no percentage."""
    found = compare([pair("a", 0, 1), pair("b", 0, 1)], num_bootstrap=200, confidence=0.95, seed=1)
    assert (1.0, None, None) == (found.gain, found.relative_gain, found.relative_low)


def test_the_seed_decides_the_interval():
    """Equal seeds, equal bounds."""
    pairs = [pair(f"c{n}", 0.5, n / 20) for n in range(20)]
    one, same, other = (compare(pairs, num_bootstrap=300, confidence=0.95, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_mean_leaves_out_what_is_unknown():
    """`None` values count neither above nor below the line."""
    assert 0.5 == mean([0.25, None, 0.75])
    assert mean([None]) is None
