"""Reading Python reprs as data."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.limits import REPR_CHARS_MAX
from otel_receiver.dialects.pyrepr import read_repr


def test_a_call_is_the_mapping_of_its_keyword_arguments():
    """An object's repr gives its fields and, under `__class__`, its class."""
    text = "ModelResponse(role='assistant', content=None, n=[1, 2.5, True], inner=Metrics(input_tokens=5))"
    expected = {
        "__class__": "ModelResponse",
        "role": "assistant",
        "content": None,
        "n": [1, 2.5, True],
        "inner": {"__class__": "Metrics", "input_tokens": 5},
    }
    assert (expected, True) == read_repr(text)


def test_pairs_side_by_side_are_a_mapping():
    """Pydantic's `str` of a model, fields without commas, gives the fields."""
    text = "role='tool' content='sunny' tool_args={'city': 'Paris'} tool_call_error=False metrics=Metrics(a=0, b=None)"
    expected = {
        "role": "tool",
        "content": "sunny",
        "tool_args": {"city": "Paris"},
        "tool_call_error": False,
        "metrics": {"__class__": "Metrics", "a": 0, "b": None},
    }
    assert (expected, True) == read_repr(text)


def test_quotes_escapes_and_prefixes_are_read_as_python_reads_them():
    """String literals follow Python's rules."""
    assert (["it's", 'say "hi"\n', b"\x00", "é"], True) == read_repr("""["it's", 'say "hi"\\n', b'\\x00', 'é']""")


def test_objects_without_a_repr_of_their_own_are_none():
    """`<object at 0x…>` stands for a value nobody can read; an enum member gives its value."""
    expected = {"__class__": "Run", "timer": None, "status": "RUNNING", "n": 1}
    text = "Run(timer=<agno.utils.timer.Timer object at 0x7efc9169fd50>, status=<RunStatus.running: 'RUNNING'>, n=1)"
    assert (expected, True) == read_repr(text)


def test_a_cut_repr_gives_what_stands_before_the_cut():
    """A repr that ends too early keeps its whole fields and says that it is not whole."""
    value, is_whole = read_repr("Message(role='user', content='Weather in Paris', name='Pa")
    assert ({"__class__": "Message", "role": "user", "content": "Weather in Paris", "name": None}, False) == (
        value,
        is_whole,
    )


@pytest.mark.parametrize(
    "text", ["__import__('os').system('true')", "(lambda: 1)()", "a + b", "f'{x}'", "[1 for x in y]"]
)
def test_expressions_are_never_evaluated(text):
    """Anything beyond literals and calls as data is not understood, and nothing runs."""
    assert not read_repr(text).is_whole


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "A(" * 100_000, "{'a':" * 100_000, "'" * 99_999, "x" * (REPR_CHARS_MAX + 1)]
)
def test_hostile_reprs_are_refused_without_raising(text):
    """Deep nesting, open quotes and texts over the limit cost no exception."""
    assert not read_repr(text).is_whole


def test_plain_and_other_pairs_may_alternate():
    """Pairs that are taken at a glance and those that are not give one mapping in their order, up to a cut."""
    text = r"""{'a': 'x', "b": 1, 'c': [1, 'y'], 'd': None, 'e': 'it\'s', 'f': -2.5, 'g': 007}"""
    expected = {"a": "x", "b": 1, "c": [1, "y"], "d": None, "e": "it's", "f": -2.5, "g": None}
    value, is_whole = read_repr(text)
    assert (list(expected.items()), False) == (list(value.items()), is_whole)
    assert ({"a": "x", "b": True}, True) == read_repr("{'a': 'x', 'b': True,}")


def test_plain_fields_with_text_are_read_like_others():
    """Commas, spaces and brackets inside a text end nothing; a text with an escape is read as Python reads it."""
    text = r"A(x='a, b=1) ', y=2, z='q\tr', t='', u=B(v='w'))"
    expected = {"__class__": "A", "x": "a, b=1) ", "y": 2, "z": "q\tr", "t": "", "u": {"__class__": "B", "v": "w"}}
    assert (expected, True) == read_repr(text)


def test_a_list_cut_in_an_element_keeps_the_whole_ones():
    """What stands before the cut is given, and nothing for a value that was cut."""
    assert ([{"a": "x"}, {"b": None}], False) == read_repr("[{'a': 'x'}, {'b': 'y")
