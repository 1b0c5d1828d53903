"""Read Python reprs as data, without evaluating anything.

Understood: literals, lists, tuples, sets, dictionaries, calls such as `Message(role='user')` (a mapping of their
keyword arguments), `key=value` pairs side by side (pydantic's `str`), and `<object at 0x…>` (read as `None`). A text
that was cut gives what stands before the cut.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from otel_receiver.dialects.limits import REPR_CHARS_MAX, REPR_DEPTH_MAX

_PLAIN = r"""None|True|False|0|[1-9]\d{0,17}|'[^'\\]*'"""
"""A value that can be read at a glance; most of a repr is such values."""
_TOKEN = re.compile(
    rf"""\s*(?:
      (?P<mark>[\[\](){{}},:=])
    | (?P<string>[bBrRuU]{{0,2}}(?:'[^'\\]*(?:\\.[^'\\]*)*'|"[^"\\]*(?:\\.[^"\\]*)*"))
    | (?P<fields>(?:[A-Za-z_]\w*=(?:{_PLAIN})(?:,\ ?|\ |(?=\))|\Z))+)
    | (?P<number>[-+]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)
    | (?P<name>[^\W\d][\w.]*)
    | (?P<angle><[^<>]*(?:<[^<>]*>[^<>]*)*>)
    )""",
    re.VERBOSE | re.DOTALL,
)
_FIELD = re.compile(rf"(\w+)=({_PLAIN})")
"""One of a run of plain fields, which the tokeniser takes as a whole."""
_PAIR = re.compile(rf"\s*'([^'\\]*)':\s*({_PLAIN})\s*(?:,|(?=}}))")
"""One plain pair of a dictionary with what separates it from the next."""
_NAMES = {"None": None, "True": True, "False": False, "nan": None, "inf": None}
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_SIMPLE_INT = re.compile(r"0|[1-9]\d{0,17}")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "'": "'", '"': '"', "\\": "\\"}


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
    return Repr(value, is_whole=reader.is_clean and reader.kind == "end")


class _Reader:
    """One pass over the tokens; on the first thing it does not understand it closes what is open and stops."""

    __slots__ = ("_at", "_end", "_next", "_text", "is_clean", "kind", "lexeme")

    def __init__(self, text: str) -> None:
        self.is_clean = True
        self._text = text
        self._end = len(text.rstrip())
        self._next = 0
        self._advance()

    def pairs(self) -> dict[str, object]:
        """`key=value` pairs up to a closing mark or the end, with or without commas."""
        return self._arguments(0)

    def value(self, depth: int) -> object:
        """The next value."""
        kind, lexeme = self.kind, self.lexeme
        self._advance()
        if kind == "string":
            return self._string(lexeme)
        if depth > REPR_DEPTH_MAX:
            return self._stop()
        if kind == "number":
            return int(lexeme) if _SIMPLE_INT.fullmatch(lexeme) else self._literal(lexeme)
        if kind == "name":
            return self._named(lexeme, depth)
        if kind == "angle":
            return self._after_enum(lexeme)
        if kind == "mark" and lexeme in _CLOSERS:
            return self._dictionary(depth) if lexeme == "{" else self._list(_CLOSERS[lexeme], depth)
        return self._stop()

    def _advance(self) -> None:
        """Look at the next lexeme: its kind and text, from now on the current ones."""
        self._at = self._next
        if self._at >= self._end:
            self.kind, self.lexeme = "end", ""
            return
        match = _TOKEN.match(self._text, self._at)
        if match is None or match.lastgroup is None:
            self._stop()
            return
        self.kind, self.lexeme = match.lastgroup, match.group(match.lastgroup)
        self._next = match.end()

    def _stop(self) -> object:
        """Understand no more: everything open is closed with what it has."""
        self.is_clean = False
        self._next = self._at = self._end
        self.kind, self.lexeme = "end", ""
        return None

    def _at_mark(self, mark: str) -> bool:
        return self.kind == "mark" and self.lexeme == mark

    def _string(self, lexeme: str) -> object:
        """A string literal; what only Python itself decodes, such as bytes, it decodes."""
        if lexeme[0] not in "'\"":
            return self._literal(lexeme)
        body = lexeme[1:-1]
        if "\\" not in body:
            return body
        if all(escape in _ESCAPES for escape in _ESCAPE.findall(body)):
            return _ESCAPE.sub(lambda match: _ESCAPES[match.group(1)], body)
        return self._literal(lexeme)

    def _literal(self, lexeme: str) -> object:
        """A string or number as Python reads it."""
        try:
            value: object = ast.literal_eval(lexeme)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return self._stop()
        return value

    def _named(self, name: str, depth: int) -> object:
        """A constant, or a call as the mapping of its keyword arguments."""
        if not self._at_mark("("):
            return _NAMES.get(name, name)
        self._advance()
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
        while self.kind != "end" and not self._at_mark(")"):
            kind, lexeme = self.kind, self.lexeme
            if kind == "fields":
                arguments.update((name, _plain(word)) for name, word in _FIELD.findall(lexeme))
                self._advance()
            elif kind == "mark" and lexeme == ",":
                self._advance()
            elif kind == "name":
                self._argument(lexeme, arguments, depth)
            else:
                arguments[""] = self.value(depth + 1)
        return arguments

    def _argument(self, name: str, arguments: dict[str, object], depth: int) -> None:
        """One argument that begins with a name: its keyword, or the value itself."""
        self._advance()
        if self._at_mark("="):
            self._advance()
            arguments[name] = self.value(depth + 1)
        else:
            arguments[""] = self._named(name, depth + 1)

    def _list(self, closer: str, depth: int) -> list[object]:
        items: list[object] = []
        while self.kind != "end" and not self._at_mark(closer):
            items.append(self.value(depth + 1))
            self._separate(closer)
        self._close(closer)
        return items

    def _dictionary(self, depth: int) -> object:
        """A dictionary, or a set as a list."""
        pairs: dict[str, object] = {}
        items: list[object] = []
        while self.kind != "end" and not self._at_mark("}"):
            if self.kind == "string" and self._plain_pairs(pairs):
                continue
            key = self.value(depth + 1)
            if self._at_mark(":"):
                self._advance()
                pairs[str(key)] = self.value(depth + 1)
            else:
                items.append(key)
            self._separate("}")
        self._close("}")
        return items if items and not pairs else pairs

    def _plain_pairs(self, pairs: dict[str, object]) -> bool:
        """Take the plain pairs that stand here, without looking at each of their tokens; whether there was one."""
        position = self._at
        while (match := _PAIR.match(self._text, position)) is not None:
            pairs[match.group(1)] = _plain(match.group(2))
            position = match.end()
        if position == self._at:
            return False
        self._next = position
        self._advance()
        return True

    def _separate(self, closer: str) -> None:
        """Take the comma between elements; anything else but the closing mark is no literal."""
        if self._at_mark(","):
            self._advance()
        elif not self._at_mark(closer):
            self._stop()

    def _close(self, closer: str) -> None:
        if self._at_mark(closer):
            self._advance()
        else:
            self._stop()

    def _after_enum(self, lexeme: str) -> object:
        """The value of an enum member such as `<Status.running: 'RUNNING'>`; `None` for any other object."""
        member = re.fullmatch(r"<[\w.]+: ('[^'\\]*'|\"[^\"\\]*\"|-?\d+)>", lexeme)
        return self._literal(member.group(1)) if member else None


def _plain(word: str) -> object:
    """The value of a word that `_PLAIN` matched."""
    if word[0] == "'":
        return word[1:-1]
    return _NAMES[word] if word in _NAMES else int(word)
