"""What is wrong with a file of settings, in one clause per key, each with what would be valid."""

from __future__ import annotations

import difflib

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def explain(error: ValidationError, valid: tuple[str, ...]) -> str:
    """What pydantic found, one clause per key; an unknown key comes with the nearest of the `valid` ones."""
    return "; ".join(_explain(detail, valid) for detail in error.errors())


def _explain(detail: ErrorDetails, valid: tuple[str, ...]) -> str:
    dotted = ".".join(str(part) for part in detail["loc"])
    if detail["type"] != "extra_forbidden":
        return f"{dotted}: {detail['msg']} (got {detail['input']!r})" if dotted else detail["msg"]
    near = nearest(".".join(part for part in detail["loc"] if isinstance(part, str)), valid)
    return f"unknown key {dotted}" + (f"; did you mean {near}?" if near else f"; valid are {', '.join(valid)}")


def nearest(name: str, valid: tuple[str, ...]) -> str | None:
    """The valid name most like this one, if any is: the same last part in another section counts most."""
    same_key = [option for option in valid if option.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    return next(iter(same_key or difflib.get_close_matches(name, valid, n=1, cutoff=0.5)), None)
