"""Rewards remembered by state, answer and specification, so that equal answers of a group are scored once."""

from __future__ import annotations

from collections import OrderedDict

from trainer.rewards.base import Reward

Key = tuple[str, str, str]
"""State hash, answer hash, specification hash."""


class RewardCache:
    """At most `entries_max` rewards; the one unused for longest goes first. 0 remembers nothing."""

    def __init__(self, entries_max: int) -> None:
        self._entries_max = entries_max
        self._entries: OrderedDict[Key, Reward] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def get(self, key: Key) -> Reward | None:
        """The remembered reward, if any."""
        found = self._entries.get(key)
        if found is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return found

    def put(self, key: Key, reward: Reward) -> None:
        """Remember the reward."""
        self._entries[key] = reward
        self._entries.move_to_end(key)
        while len(self._entries) > self._entries_max:
            self._entries.popitem(last=False)
