"""Reading JSON text that may be cut, doubled or no JSON at all."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.json_text import JsonProblem, read_json, read_structured


def test_whole_json_is_read():
    """Whole JSON gives its value and no problem."""
    assert ({"a": [1, "b"]}, None) == read_json('{"a": [1, "b"]}')


@pytest.mark.parametrize(
    "text", ['[{"role": "user", "content": "Weath', '{"a": 1', '{"a": [1, 2', '{"a": tr', '{"a": "x\\', '[{"a": 1},']
)
def test_json_that_ends_too_early_is_cut(text):
    """Text that is JSON up to its end is told apart from text that never was JSON."""
    assert JsonProblem.CUT == read_json(text).problem


@pytest.mark.parametrize(
    "text", ["sunny in Paris", "ModelResponse(role='assistant')", '{"a": 1} and {"b": 2} more', ""]
)
def test_text_that_is_no_json_is_not_cut(text):
    """Plain text, reprs and malformed JSON are no JSON, rather than cut JSON."""
    assert JsonProblem.NOT_JSON == read_json(text).problem


def test_elements_before_a_cut_are_saved():
    """Of a list that was cut, the whole elements before the cut are kept."""
    assert [{"role": "system"}, {"role": "user"}] == read_json('[{"role": "system"}, {"role": "user"}, {"ro').value


def test_json_encoded_twice_is_read_to_the_ground():
    """A JSON string that holds JSON is the value inside."""
    assert {"a": 1} == read_structured('"{\\"a\\": 1}"').value


def test_numbers_that_no_json_may_hold_become_text():
    """NaN and infinities, which Python writes, come out as text and cannot poison stored JSON."""
    assert {"a": "NaN", "b": "-Infinity"} == read_json('{"a": NaN, "b": -Infinity}').value


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000, "[" + "9" * 10_000 + "]"]
)
def test_hostile_json_is_refused_without_raising(text):
    """Nesting beyond the stack and numbers of thousands of digits cost no exception."""
    assert read_json(text).problem is not None
