"""Decision points: the states a policy is asked at again, deduplicated and split by conversation.

In: the candidates of the workspace, without their messages. Out: pools of points, and how many were left out why.
Pure: equal candidates and settings give equal pools and batches, on any machine and in any order of arrival.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice

from spanloop.records import BLOCKING_FLAGS, Message, QualityFlag, ToolDefinition
from trainer.config import DataConfig
from trainer.errors import DatasetError


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionPoint:
    """A recorded state at which a policy can be asked again."""

    point_id: str
    """`<episode_id>:<step_index>`."""
    state_hash: str
    """Equal for equal messages and tools: points with one hash are one prompt."""
    episode_id: str
    step_index: int
    conversation_id: str | None
    agent_name: str | None = None
    model: str | None = None
    dialect: str | None = None
    messages: tuple[Message, ...]
    tools: tuple[ToolDefinition, ...] = ()
    action: Message | None = None
    """What the recorded policy did here."""
    finish_reason: str | None = None
    started_at: int | None = None
    quality_flags: frozenset[QualityFlag] = frozenset()
    multiplicity: int = 1
    """How many recorded points share this state."""
    revision: int = 1
    """Of the episode it was read from."""
    trace_id: str | None = None
    span_id: str | None = None


class Pool(StrEnum):
    """What a conversation's points are for."""

    TRAIN = "train"
    VALIDATION = "validation"
    """Watched during runs; settings are chosen here."""
    HELDOUT = "heldout"
    """Evidence: opened by `eval` only, and each opening is noted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What choosing and splitting need to know of a point; its messages stay in the workspace."""

    point_id: str
    revision: int
    state_hash: str
    episode_id: str
    step_index: int
    conversation_id: str | None
    agent_name: str | None
    dialect: str | None
    started_at: int | None
    trainable: bool
    quality_flags: frozenset[str]
    num_chars: int
    """Length of messages and tools as JSON."""
    multiplicity: int = 1
    """How many recorded points share this state."""

    @property
    def cluster(self) -> str:
        """What is split and resampled as one: the conversation, or the episode where none is known."""
        return self.conversation_id or f"episode:{self.episode_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The pools and what was left out."""

    pools: Mapping[Pool, tuple[Candidate, ...]]
    left_out: Mapping[str, int]
    """Points by the reason they were left out for."""
    num_candidates: int

    def pool(self, pool: Pool) -> tuple[Candidate, ...]:
        """The points of a pool; raises `DatasetError` when there are none."""
        if not self.pools[pool]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in self.left_out.items()) or "nothing left out"
            raise DatasetError(
                f"the {pool} pool is empty ({self.num_candidates} points in the workspace; {reasons}); "
                f"pull more conversations, widen [data], or change its shares"
            )
        return self.pools[pool]


def build_dataset(candidates: Iterable[Candidate], config: DataConfig) -> Dataset:
    """Filter, merge equal states, and split by conversation; every candidate is in a pool or counted in `left_out`."""
    everything = sorted(candidates, key=_by_time)
    left_out: Counter[str] = Counter()
    usable = [item for item in everything if not _note(left_out, _reason_against(item, config))]
    pools: dict[Pool, list[Candidate]] = {pool: [] for pool in Pool}
    for same_state in _grouped_by_state(usable):
        first = same_state[0]
        pools[pool_of(first.cluster, config)].append(replace(first, multiplicity=len(same_state)))
        left_out["same state as another point"] += len(same_state) - 1
    return Dataset(
        pools={pool: tuple(items) for pool, items in pools.items()},
        left_out={reason: count for reason, count in sorted(left_out.items()) if count},
        num_candidates=len(everything),
    )


def pool_of(cluster: str, config: DataConfig) -> Pool:
    """The pool of a conversation: by its own hash, so that it stays there whatever arrives later."""
    digest = hashlib.sha256(f"{config.seed}:{cluster}".encode()).digest()
    position = int.from_bytes(digest[:8]) / 2**64
    if position < config.heldout:
        return Pool.HELDOUT
    return Pool.VALIDATION if position < config.heldout + config.validation else Pool.TRAIN


def schedule(
    points: Sequence[Candidate], *, points_per_step: int, num_steps: int, seed: int
) -> tuple[tuple[Candidate, ...], ...]:
    """The points of each training step, drawn evenly over step indices.

    Early turns are in every episode and late ones in few; drawn evenly, a habit of the first turn cannot fill the
    batch. A point comes again only when all of its step index have had their turn, and never twice in a batch.
    """
    if len(points) < points_per_step:
        raise DatasetError(
            f"{len(points)} distinct points to train on, but train.points_per_step is {points_per_step}; "
            f"pull more episodes or lower it"
        )
    draws = _evenly(points, seed)
    return tuple(_distinct(draws, points_per_step) for _ in range(num_steps))


def draw_evenly(points: Sequence[Candidate], count: int, seed: int) -> tuple[Candidate, ...]:
    """At most `count` distinct points, evenly over step indices; all of them when there are no more."""
    return _distinct(_evenly(points, seed), min(count, len(points)))


def _evenly(points: Sequence[Candidate], seed: int) -> Iterator[Candidate]:
    """Endless: one point of each step index in turn, each index in shuffled rounds of its own."""
    by_step: dict[int, list[Candidate]] = defaultdict(list)
    for point in sorted(points, key=lambda item: item.point_id):
        by_step[point.step_index].append(point)
    rounds = [_rounds(by_step[step], random.Random(f"{seed}:{step}")) for step in sorted(by_step)]  # noqa: S311  # seeded sampling
    while rounds:
        for draws in rounds:
            yield next(draws)


def _rounds(points: Sequence[Candidate], source: random.Random) -> Iterator[Candidate]:
    while True:
        yield from source.sample(points, len(points))


def _distinct(draws: Iterator[Candidate], count: int) -> tuple[Candidate, ...]:
    chosen: dict[str, Candidate] = {}
    while len(chosen) < count:
        for point in islice(draws, count - len(chosen)):
            chosen.setdefault(point.point_id, point)
    return tuple(chosen.values())


def _grouped_by_state(points: Sequence[Candidate]) -> Iterable[list[Candidate]]:
    groups: dict[str, list[Candidate]] = defaultdict(list)
    for point in points:
        groups[point.state_hash].append(point)
    return groups.values()


def _by_time(point: Candidate) -> tuple[int, str]:
    return (point.started_at or 0, point.point_id)


def _note(left_out: Counter[str], reason: str | None) -> bool:
    if reason is None:
        return False
    left_out[reason] += 1
    return True


def _reason_against(point: Candidate, config: DataConfig) -> str | None:
    if not point.trainable:
        flags = sorted(point.quality_flags & BLOCKING_FLAGS)
        return f"not trainable: {', '.join(flags) or 'no messages'}"
    if config.agents and point.agent_name not in config.agents:
        return "other agent"
    if config.dialects and point.dialect not in config.dialects:
        return "other dialect"
    if config.steps and point.step_index not in config.steps:
        return "other step index"
    if not _in_time(point.started_at, config):
        return "outside data.since and data.until"
    return "longer than data.max_prompt_chars" if point.num_chars > config.max_prompt_chars else None


def _in_time(started_at: int | None, config: DataConfig) -> bool:
    since, until = (nanoseconds(text) for text in (config.since, config.until))
    if since is None and until is None:
        return True
    return started_at is not None and (since or 0) <= started_at and (until is None or started_at < until)


def nanoseconds(text: str | None) -> int | None:
    """An ISO 8601 time as nanoseconds since the epoch; UTC when it names no zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DatasetError(f"time {text!r} is not ISO 8601; write 2026-11-23 or 2026-11-23T17:00:00Z") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 1_000_000_000
