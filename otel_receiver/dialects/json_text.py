"""Read JSON text tolerantly: tell cut text from text that never was JSON, and save what stands before a cut."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import NamedTuple

CUT_MARGIN_CHARS = 8
"""An error this near the end is a cut: the parser points to the start of a broken literal or escape."""


class JsonProblem(StrEnum):
    """Why a text gave no JSON value."""

    CUT = "cut"
    """It starts as JSON and ends too early: a length limit at the sender."""
    NOT_JSON = "not_json"
    """It is something else, or malformed in the middle."""


class JsonText(NamedTuple):
    """A JSON value, or the problem and what could be saved."""

    value: object
    problem: JsonProblem | None = None


_DECODER = json.JSONDecoder(parse_constant=str, strict=False)
"""NaN and infinities become text, since no JSON may hold them; control characters in strings are let through."""


def read_json(text: str) -> JsonText:
    """The value of the text; of a list that was cut, the elements before the cut."""
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        if not _is_cut(text, error):
            return JsonText(None, JsonProblem.NOT_JSON)
        return JsonText(_elements_before_cut(text), JsonProblem.CUT)
    except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
        return JsonText(None, JsonProblem.NOT_JSON)
    return JsonText(value)


def read_structured(value: object) -> JsonText:
    """A structured value: JSON text is parsed (twice, where it was encoded twice), anything else is taken as it is."""
    if not isinstance(value, str):
        return JsonText(value)
    reading = read_json(value)
    if isinstance(reading.value, str) and reading.value[:1] in ("[", "{"):
        return read_json(reading.value)
    return reading


def unquoted(value: object) -> object:
    """The string that a JSON string literal spells; any other value as it is."""
    if not isinstance(value, str) or len(value) < 2 or not value[0] == value[-1] == '"':
        return value
    reading = read_json(value)
    return reading.value if reading.problem is None else value


def looks_like_json(text: str) -> bool:
    """Whether the text starts as a JSON object or list does."""
    return text.lstrip()[:1] in ("{", "[")


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Whether the text is JSON up to its end."""
    if not looks_like_json(text):
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()) - CUT_MARGIN_CHARS


def _elements_before_cut(text: str) -> object:
    """The whole elements of a cut list; `None` when the text is no list or holds none."""
    position = text.find("[") + 1
    if position == 0 or text[: position - 1].strip():
        return None
    elements: list[object] = []
    while position < len(text):
        position = _skip(text, position)
        try:
            element, position = _DECODER.raw_decode(text, position)
        except (json.JSONDecodeError, RecursionError):
            break
        elements.append(element)
    return elements or None


def _skip(text: str, position: int) -> int:
    """The position after spaces and commas."""
    while position < len(text) and text[position] in ", \t\r\n":
        position += 1
    return position
