"""Paired comparisons of two policies, with bootstrap intervals clustered by conversation.

Points of one conversation share a user, a request and a prefix, so whole conversations are resampled; resampling
points would make every interval too narrow. An unscored pair takes part in nothing and is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_DRAWS_AT_A_TIME = 4_000_000
"""Entries of the resampling matrix held in memory at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One decision point's mean score under two policies."""

    cluster: str
    baseline: float | None
    candidate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """How much better the candidate is than the baseline, over the pairs both have a score for."""

    baseline_mean: float | None
    candidate_mean: float | None
    gain: float | None
    """Candidate minus baseline. `None`: no pair is scored."""
    gain_low: float | None
    """Bounds of the interval. `None` also with fewer than two conversations: there is nothing to resample."""
    gain_high: float | None
    relative_gain: float | None
    """Gain over the baseline's mean. `None` when that mean is 0."""
    relative_low: float | None
    relative_high: float | None
    num_points: int
    num_clusters: int
    num_unscored: int
    """Pairs left out because one side has no score."""


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of the known values; `None` when there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def compare(pairs: Sequence[Pair], *, num_bootstrap: int, confidence: float, seed: int) -> Comparison:
    """The paired comparison with percentile intervals from `num_bootstrap` resamplings of the conversations."""
    scored = [(pair.cluster, pair.baseline, pair.candidate) for pair in pairs]
    known = [(cluster, low, high) for cluster, low, high in scored if low is not None and high is not None]
    sums = _cluster_sums(known)
    if not known:
        return _nothing(len(pairs))
    count, baseline, candidate = sums.sum(axis=0)
    gain = (candidate - baseline) / count
    gain_bounds, relative_bounds = _intervals(sums, num_bootstrap, confidence, seed)
    return Comparison(
        baseline_mean=float(baseline / count),
        candidate_mean=float(candidate / count),
        gain=float(gain),
        gain_low=gain_bounds[0],
        gain_high=gain_bounds[1],
        relative_gain=float((candidate - baseline) / baseline) if baseline else None,
        relative_low=relative_bounds[0],
        relative_high=relative_bounds[1],
        num_points=len(known),
        num_clusters=len(sums),
        num_unscored=len(pairs) - len(known),
    )


def _cluster_sums(known: Sequence[tuple[str, float, float]]) -> FloatArray:
    """Per cluster: number of points, sum of baseline scores, sum of candidate scores; shape (clusters, 3)."""
    totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for cluster, baseline, candidate in known:
        total = totals[cluster]
        total[0] += 1
        total[1] += baseline
        total[2] += candidate
    return np.array([totals[cluster] for cluster in sorted(totals)], dtype=np.float64).reshape(-1, 3)


Bounds = tuple[float | None, float | None]


def _intervals(sums: FloatArray, num_bootstrap: int, confidence: float, seed: int) -> tuple[Bounds, Bounds]:
    """Percentile intervals of the absolute and the relative gain."""
    if len(sums) < 2:
        return (None, None), (None, None)
    count, baseline, candidate = _resampled(sums, num_bootstrap, np.random.default_rng(seed)).T
    gains = (candidate - baseline) / count
    if not np.all(baseline > 0):
        return _bounds(gains, confidence), (None, None)
    return _bounds(gains, confidence), _bounds((candidate - baseline) / baseline, confidence)


def _resampled(sums: FloatArray, num_bootstrap: int, source: np.random.Generator) -> FloatArray:
    """Totals of each resampling, shape (num_bootstrap, 3): clusters drawn with replacement, as counts per cluster."""
    size = len(sums)
    at_a_time = max(1, _DRAWS_AT_A_TIME // size)
    parts: list[FloatArray] = []
    for start in range(0, num_bootstrap, at_a_time):
        draws = min(at_a_time, num_bootstrap - start)
        parts.append(source.multinomial(size, np.full(size, 1 / size), size=draws).astype(np.float64) @ sums)
    return np.concatenate(parts)


def _bounds(values: FloatArray, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _nothing(num_pairs: int) -> Comparison:
    return Comparison(
        baseline_mean=None,
        candidate_mean=None,
        gain=None,
        gain_low=None,
        gain_high=None,
        relative_gain=None,
        relative_low=None,
        relative_high=None,
        num_points=0,
        num_clusters=0,
        num_unscored=num_pairs,
    )
