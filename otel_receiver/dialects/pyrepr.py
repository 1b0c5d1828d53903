"""Read Python reprs as data, without evaluating anything.

Understood: literals, lists, tuples, sets, dictionaries, calls such as `Message(role='user')` (a mapping of their
keyword arguments), `key=value` pairs side by side (pydantic's `str`), and `<object at 0x…>` (read as `None`). A text
that was cut gives what stands before the cut.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from otel_receiver.dialects.limits import REPR_CHARS_MAX, REPR_DEPTH_MAX

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<fields>(?:[A-Za-z_]\w*=(?:None|True|False|\d{1,18})(?:,\ ?|\ |(?=\))|\Z))+)
    | (?P<string>[bBrRuU]{0,2}(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"))
    | (?P<number>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<name>[^\W\d][\w.]*)
    | (?P<mark>[\[\](){},:=])
    | (?P<angle><[^<>]*(?:<[^<>]*>[^<>]*)*>)
    )""",
    re.VERBOSE | re.DOTALL,
)
_FIELD = re.compile(r"(\w+)=(\w+)")
"""One of a run of plain fields: most of a repr is such runs, so the tokeniser takes each as a whole."""
_NAMES = {"None": None, "True": True, "False": False, "nan": None, "inf": None}
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_END = ("end", "")


class Repr(NamedTuple):
    """A value and whether all of the text was understood."""

    value: object
    is_whole: bool


def read_repr(text: str) -> Repr:
    """The value of the text: for a call or for pairs side by side, a mapping; a call's class is under `__class__`."""
    if len(text) > REPR_CHARS_MAX:
        return Repr(None, is_whole=False)
    reader = _Reader(text)
    value = reader.pairs() if re.match(r"\s*[A-Za-z_]\w*=", text) else reader.value(0)
    return Repr(value, is_whole=reader.is_clean and reader.peek == _END)


class _Reader:
    """One pass over the tokens; on the first thing it does not understand it closes what is open and stops."""

    def __init__(self, text: str) -> None:
        self.is_clean = True
        self._tokens = _tokens(text)
        self.peek = next(self._tokens)

    def pairs(self) -> dict[str, object]:
        """`key=value` pairs up to a closing mark or the end, with or without commas."""
        return self._arguments(0)

    def value(self, depth: int) -> object:
        """The next value."""
        kind, text = self._take()
        if depth > REPR_DEPTH_MAX:
            return self._stop()
        if kind in ("string", "number"):
            return self._literal(text)
        if kind == "name":
            return self._named(text, depth)
        if kind == "angle":
            return self._after_enum(text)
        if kind == "mark" and text in _CLOSERS:
            return self._dictionary(depth) if text == "{" else self._list(_CLOSERS[text], depth)
        return self._stop()

    def _take(self) -> tuple[str, str]:
        token = self.peek
        if token == ("bad", ""):
            self.is_clean = False
            self.peek = _END
            return _END
        if token != _END:
            self.peek = next(self._tokens)
        return token

    def _stop(self) -> object:
        """Understand no more: everything open is closed with what it has."""
        self.is_clean = False
        self.peek = _END
        return None

    def _literal(self, text: str) -> object:
        """A string or number."""
        if text[0] in "'\"" and "\\" not in text:
            return text[1:-1]
        try:
            value: object = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return self._stop()
        return value

    def _named(self, name: str, depth: int) -> object:
        """A constant, or a call as the mapping of its keyword arguments."""
        if self.peek != ("mark", "("):
            return _NAMES.get(name, name)
        self._take()
        if depth > REPR_DEPTH_MAX:
            return self._stop()
        arguments = self._arguments(depth + 1)
        self._close(")")
        if name == "set" and "" in arguments:
            return arguments[""]
        return {"__class__": name.rpartition(".")[2], **arguments}

    def _arguments(self, depth: int) -> dict[str, object]:
        """Arguments of a call; an argument without a keyword is kept under the empty name."""
        arguments: dict[str, object] = {}
        while self.peek != _END and self.peek != ("mark", ")"):
            if self.peek == ("mark", ","):
                self._take()
                continue
            kind, text = self.peek
            if kind == "fields":
                self._take()
                for name, word in _FIELD.findall(text):
                    arguments[name] = _NAMES[word] if word in _NAMES else int(word)
                continue
            if kind != "name":
                arguments[""] = self.value(depth + 1)
                continue
            self._take()
            if self.peek == ("mark", "="):
                self._take()
                arguments[text] = self.value(depth + 1)
            else:
                arguments[""] = self._named(text, depth + 1)
        return arguments

    def _list(self, closer: str, depth: int) -> list[object]:
        items: list[object] = []
        while self.peek not in (_END, ("mark", closer)):
            items.append(self.value(depth + 1))
            self._separate(closer)
        self._close(closer)
        return items

    def _dictionary(self, depth: int) -> object:
        """A dictionary, or a set as a list."""
        pairs: dict[str, object] = {}
        items: list[object] = []
        while self.peek not in (_END, ("mark", "}")):
            key = self.value(depth + 1)
            if self.peek == ("mark", ":"):
                self._take()
                pairs[str(key)] = self.value(depth + 1)
            else:
                items.append(key)
            self._separate("}")
        self._close("}")
        return items if items and not pairs else pairs

    def _separate(self, closer: str) -> None:
        """Take the comma between elements; anything else but the closing mark is no literal."""
        if self.peek == ("mark", ","):
            self._take()
        elif self.peek != ("mark", closer):
            self._stop()

    def _close(self, closer: str) -> None:
        if self.peek == ("mark", closer):
            self._take()
        else:
            self._stop()

    def _after_enum(self, text: str) -> object:
        """The value of an enum member such as `<Status.running: 'RUNNING'>`; `None` for any other object."""
        member = re.fullmatch(r"<[\w.]+: ('[^'\\]*'|\"[^\"\\]*\"|-?\d+)>", text)
        return self._literal(member.group(1)) if member else None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """The tokens, then the end; a place that is no token gives one bad token."""
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            yield ("bad", "")
            return
        yield match.lastgroup, match.group(match.lastgroup)
        position = match.end()
    while True:
        yield _END
