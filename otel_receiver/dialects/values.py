"""Read values of unknown shape without raising: text, numbers, mappings, lists, compact JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

NUMBER_CHARS_MAX = 32
"""Characters of a number carried as text."""


def as_text(value: object) -> str | None:
    """The string, made storable: a lone surrogate, which JSON can smuggle in, becomes U+FFFD."""
    if not isinstance(value, str):
        return None
    if value.isascii():
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def as_word(value: object) -> str | None:
    """The string without surrounding space; `None` for an empty one."""
    text = as_text(value)
    return (text.strip() or None) if text is not None else None


def as_int(value: object) -> int | None:
    """A whole number, also from text or a float without fraction; never from a boolean."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    number = as_float(value)
    return int(number) if number is not None and number.is_integer() else None


def as_float(value: object) -> float | None:
    """A finite number, also from text."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and len(value) > NUMBER_CHARS_MAX:
        return None
    if not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def as_bool(value: object) -> bool | None:
    """A boolean, also from the words true and false."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else None
    return {"true": True, "false": False}.get(word or "")


def as_mapping(value: object) -> Mapping[str, object] | None:
    """The mapping, or `None` for anything else."""
    return value if isinstance(value, Mapping) else None


def as_items(value: object) -> tuple[object, ...] | None:
    """The elements of a list or tuple, or `None` for anything else."""
    return tuple(value) if isinstance(value, list | tuple) else None


def first_word(source: Mapping[str, object], *keys: str) -> str | None:
    """The first non-empty string among the keys."""
    for key in keys:
        value = source.get(key)  # mostly not there: asked before anything is called
        if value is not None and (word := as_word(value)) is not None:
            return word
    return None


def first_present(source: Mapping[str, object], *keys: str) -> object:
    """The value of the first key that is there and not `None`."""
    for key in keys:
        value = source.get(key)
        if value is not None:
            return value
    return None


def compact_json(value: object) -> str:
    """JSON text without spaces, keys in the carried order; bytes and other strangers as text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_stranger)
    return as_text(text) or ""


def _stranger(value: object) -> object:
    """A JSON form for what `json` does not know: mappings of other types, and text for the rest."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.hex() if isinstance(value, bytes) else str(value)
