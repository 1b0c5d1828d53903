"""Gather attributes that spell lists out in their keys, such as `llm.input_messages.3.message.role`.

Entries are kept by index in a mapping, so an index of 999999999 costs no more than an index of 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otel_receiver.dialects.limits import INDEX_DIGITS_MAX

Entry = Mapping[str, object]
"""The attributes of one index, by what follows the index in the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedList:
    """A list that was spelled out in attribute keys."""

    entries: tuple[Entry, ...] = ()
    """In the order of the indexes."""
    has_gaps: bool = False
    """An index before the last is absent: the sender skipped or lost an entry."""


def read_indexed(source: Mapping[str, object], prefix: str) -> IndexedList:
    """The list under `prefix.<index>.<rest>`; a bare `prefix.<index>` has the empty rest."""
    return read_all_indexed(source, (prefix,))[prefix]


def read_all_indexed(source: Mapping[str, object], prefixes: Iterable[str]) -> dict[str, IndexedList]:
    """The lists under several prefixes, in one pass over the attributes."""
    heads = tuple(f"{prefix}." for prefix in prefixes)
    found: dict[str, dict[int, dict[str, object]]] = {head: {} for head in heads}
    for key, value in source.items():
        if not key.startswith(heads):
            continue
        head = next(head for head in heads if key.startswith(head))
        digits, _, rest = key[len(head) :].partition(".")
        if digits.isdecimal() and digits.isascii() and len(digits) <= INDEX_DIGITS_MAX:
            found[head].setdefault(int(digits), {})[rest] = value
    return {head[:-1]: _in_order(entries) for head, entries in found.items()}


def _in_order(entries: Mapping[int, Entry]) -> IndexedList:
    """The entries by index, with a note whether any index is missing."""
    indexes = sorted(entries)
    has_gaps = bool(indexes) and indexes[-1] != len(indexes) - 1
    return IndexedList(entries=tuple(entries[index] for index in indexes), has_gaps=has_gaps)
