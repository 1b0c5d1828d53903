"""Shared readers: indexed attributes, finish reasons, tools, ids, numbers."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.finish import finish_reason
from otel_receiver.dialects.indexed import read_indexed
from otel_receiver.dialects.messages import read_messages
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_float, as_int, as_text, compact_json
from spanloop.records import QualityFlag, ToolDefinition
from tests.unit.otel_receiver.dialects.factories import brief

SCHEMA = '{"type":"object","properties":{"city":{"type":"string"}}}'
WEATHER = ToolDefinition(name="get_weather", description="weather", parameters=SCHEMA)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}


def test_indexed_entries_come_in_the_order_of_their_numbers():
    """Entry 10 stands after entry 2, whatever the order of the attributes."""
    source = {"m.10.role": "c", "m.2.role": "b", "m.0.role": "a", "mm.0.role": "x", "m.x.role": "y"}
    assert ({"role": "a"}, {"role": "b"}, {"role": "c"}) == read_indexed(source, "m").entries


@pytest.mark.parametrize(
    ("indexes", "has_gaps"), [((0, 1, 2), False), ((0, 2), True), ((1, 2), True), ((), False), ((999_999_999,), True)]
)
def test_a_missing_index_is_a_gap(indexes, has_gaps):
    """An absent index before the last one, the first included, is noticed."""
    assert has_gaps == read_indexed({f"m.{index}.role": "user" for index in indexes}, "m").has_gaps


@pytest.mark.parametrize(
    ("carried", "expected"),
    [
        ("stop", "stop"),
        (("tool_calls",), "tool_calls"),
        (["tool_call"], "tool_calls"),
        ("FinishReason.TOOL_CALLS", "tool_calls"),
        ("tool-calls", "tool_calls"),
        ("tool_use", "tool_calls"),
        ("end_turn", "stop"),
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("content-filter", "content_filter"),
        ('["stop"]', "stop"),
        ("stop, tool_calls", "stop"),
        ("pause_turn", "pause_turn"),
        ("None", None),
        ("", None),
        ((), None),
        (None, None),
        (7, None),
    ],
)
def test_finish_reasons_come_in_openai_words(carried, expected):
    """Every provider's word for the same reason is one word; unknown ones stay as carried."""
    assert expected == finish_reason(carried)


@pytest.mark.parametrize(
    "carried",
    [
        [{"type": "function", "function": {"name": "get_weather", "description": "weather", "parameters": PARAMETERS}}],
        [{"type": "function", "name": "get_weather", "description": "weather", "parameters": PARAMETERS}],
        [{"name": "get_weather", "description": "weather", "input_schema": PARAMETERS}],
        [{"name": "get_weather", "description": "weather", "parameters": SCHEMA}],
        [{"toolSpec": {"name": "get_weather", "description": "weather", "inputSchema": {"json": PARAMETERS}}}],
        [{"function_declarations": [{"name": "get_weather", "description": "weather", "parameters": PARAMETERS}]}],
        f'[{{"name":"get_weather","description":"weather","parameters":{SCHEMA}}}]',
        [f'{{"type":"function","name":"get_weather","description":"weather","inputSchema":{SCHEMA}}}'],
    ],
)
def test_tool_definitions_of_every_shape_read_alike(carried):
    """Nested, flat, Anthropic, Bedrock, Gemini, AI SDK, text or structure: one definition."""
    notes = Notes()
    assert ((WEATHER,), frozenset()) == (read_tools(carried, notes), notes.flags)


def test_a_definition_without_schema_is_flagged_and_kept():
    """A tool that is only named is offered, but the step's tools are incomplete."""
    notes = Notes()
    assert (ToolDefinition(name="search"), WEATHER) == read_tools(
        ["search", {"name": "get_weather", "description": "weather", "parameters": PARAMETERS}], notes
    )
    assert {QualityFlag.TOOLS_INCOMPLETE} == notes.flags


def test_an_unreadable_definition_never_drops_its_neighbours():
    """A number among definitions is flagged; the others stay."""
    notes = Notes()
    assert (WEATHER,) == read_tools(
        [7, {"name": "get_weather", "description": "weather", "parameters": PARAMETERS}], notes
    )
    assert {QualityFlag.TOOLS_INCOMPLETE} == notes.flags


def test_cut_definitions_truncate_the_prompt():
    """Definitions that a length limit cut mean that the model was shown more than is known."""
    notes = Notes()
    assert (WEATHER,) == read_tools(
        f'[{{"name":"get_weather","description":"weather","parameters":{SCHEMA}}}, {{"na', notes
    )
    assert {QualityFlag.PROMPT_TRUNCATED} == notes.flags


def call(name, call_id=None):
    """A tool call in the chat form, without an id unless one is given."""
    return {"id": call_id, "function": {"name": name, "arguments": "{}"}}


def test_results_without_ids_go_to_the_first_open_call_of_their_name():
    """Made ids follow from the position, and each result takes the open call of its name, in order."""
    notes = Notes()
    messages = read_messages(
        [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b"), call("a")]},
            {"role": "tool", "name": "b", "content": "B"},
            {"role": "tool", "content": "A1"},
            {"role": "tool", "content": "A2"},
        ],
        notes,
    )
    results = brief(complete_ids(messages, notes))[2:]
    assert [
        ("tool", ("call_synthetic_1_1", "B")),
        ("tool", ("call_synthetic_1_0", "A1")),
        ("tool", ("call_synthetic_1_2", "A2")),
    ] == results
    assert {QualityFlag.IDS_SYNTHESISED} == notes.flags


def test_a_result_without_any_call_is_ambiguous():
    """A result whose call was lost keeps an empty id and blocks training."""
    notes = Notes()
    messages = complete_ids(read_messages([{"role": "tool", "content": "sunny"}], notes), notes)
    assert [("tool", ("", "sunny"))] == brief(messages)
    assert {QualityFlag.IDS_SYNTHESISED, QualityFlag.AMBIGUOUS_MATCH} == notes.flags


def test_carried_ids_are_kept():
    """Ids that are carried are not touched and nothing is flagged."""
    notes = Notes()
    messages = read_messages(
        [
            {"role": "assistant", "content": "", "tool_calls": [call("a", "x"), call("a", "y")]},
            {"role": "tool", "tool_call_id": "y", "content": "1"},
        ],
        notes,
    )
    assert [("assistant", ("x", "a", "{}"), ("y", "a", "{}")), ("tool", ("y", "1"))] == brief(
        complete_ids(messages, notes)
    )
    assert frozenset() == notes.flags


@pytest.mark.parametrize(
    ("carried", "expected"), [(5, 5), ("5", 5), (5.0, 5), (5.5, None), (True, None), ("x", None), ("9" * 99, None)]
)
def test_counts_are_whole_numbers(carried, expected):
    """Counts are read from numbers and text, never from booleans."""
    assert expected == as_int(carried)


@pytest.mark.parametrize(
    ("carried", "expected"), [("0.5", 0.5), (True, 1.0), ("nan", None), (float("inf"), None), (None, None)]
)
def test_scores_are_finite(carried, expected):
    """A score that is no finite number is no score."""
    assert expected == as_float(carried)


def test_lone_surrogates_become_storable():
    """A lone surrogate, which JSON can smuggle in and no UTF-8 can hold, is replaced."""
    assert "a\ufffdb" == as_text("a\ud800b")
    assert '{"x":"\ufffd"}' == compact_json({"x": "\udfff"})
