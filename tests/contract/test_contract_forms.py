"""Records, protobuf and tables are three forms of one contract: field by field, a change of one alone fails here."""

import typing
from dataclasses import fields, is_dataclass
from enum import StrEnum
from types import UnionType

import duckdb
import pytest

from spanloop import records
from spanloop.v1 import episode_pb2 as pb
from tests.contract.schemas import open_schema

MESSAGES = [
    records.Episode,
    records.Step,
    records.Message,
    records.TextPart,
    records.ReasoningPart,
    records.MediaPart,
    records.ToolCall,
    records.ToolResult,
    records.ToolDefinition,
    records.Usage,
    records.Feedback,
]
ENUMS = [
    records.Role,
    records.MediaKind,
    records.ToolStatus,
    records.EpisodeStatus,
    records.EndReason,
    records.QualityFlag,
]
TABLES_OF_THE_EPISODE = {"message_table", "tools_table"}
"""Fields of the protobuf form alone: each message and tool list once per episode."""

STEP_COLUMNS = {
    "messages": {"history_id", "num_messages"},
    "tools": {"tools_id"},
    "action": {"action_id"},
    "observations": {"observation_ids"},
    "usage": {field.name for field in fields(records.Usage)},
}
"""Fields of a step that the tables hold under other names."""
STEP_EXTRAS = {
    "episode_id", "revision",  # the key
    "conversation_id", "agent_name",  # of the episode, for filters
    "shown_from", "shown_ids",  # the transcript
    "trainable",  # derived from the flags
}  # fmt: skip
EPISODE_EXTRAS = {
    "episode_number", "revision", "content_hash", "written_at",  # revisions
    "num_steps", "num_tool_calls", "input_tokens", "output_tokens",  # sums over the steps
}  # fmt: skip


@pytest.fixture(scope="module")
def schema():
    """The tables and views of a new store."""
    with open_schema() as connection:
        yield connection


def columns_of(schema: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """Names and types of a store table's columns."""
    rows = schema.execute(
        "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'store' AND table_name = ?", [table]
    ).fetchall()
    return dict(rows)


def hints_of(record: type) -> dict[str, object]:
    """Resolved types of a record's fields."""
    hints = typing.get_type_hints(record)
    return {field.name: hints[field.name] for field in fields(record)}


def may_be_unknown(hint: object) -> bool:
    """Whether a field's type allows `None`."""
    return isinstance(hint, UnionType) and type(None) in typing.get_args(hint)


def test_every_record_has_a_protobuf_form():
    """No dataclass and no enumeration of records.py is left out of these tests."""
    found = {
        item
        for item in vars(records).values()
        if isinstance(item, type)
        and item.__module__ == records.__name__
        and (is_dataclass(item) or issubclass(item, StrEnum))
    }
    assert found == {*MESSAGES, *ENUMS}


@pytest.mark.parametrize("record", MESSAGES, ids=lambda record: record.__name__)
def test_records_and_protobuf_have_the_same_fields(record: type):
    """Each field of a record is a field of its protobuf message, and the other way round."""
    descriptor = pb.DESCRIPTOR.message_types_by_name[record.__name__]
    extras = TABLES_OF_THE_EPISODE if record is records.Episode else set()
    assert set(hints_of(record)) == {field.name for field in descriptor.fields} - extras


@pytest.mark.parametrize("record", MESSAGES, ids=lambda record: record.__name__)
def test_what_may_be_unknown_may_be_absent(record: type):
    """A field that may be `None` is `optional` in protobuf, and only such a field."""
    descriptor = pb.DESCRIPTOR.message_types_by_name[record.__name__]
    absent = {field.name for field in descriptor.fields if field.has_presence and field.message_type is None}
    assert {name for name, hint in hints_of(record).items() if may_be_unknown(hint)} == absent


def test_parts_are_the_same_in_both_forms():
    """Each kind of part is a branch of the protobuf union."""
    branches = pb.DESCRIPTOR.message_types_by_name["Part"].oneofs_by_name["part"].fields
    assert {part.__name__ for part in typing.get_args(records.Part)} == {field.message_type.name for field in branches}


@pytest.mark.parametrize("enum", ENUMS, ids=lambda enum: enum.__name__)
def test_enumerations_have_the_same_values(enum: type[StrEnum]):
    """Each value of an enumeration is in its protobuf form, after the one that means nothing."""
    descriptor = pb.DESCRIPTOR.enum_types_by_name[enum.__name__]
    prefix = "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in enum.__name__).lstrip("_")
    expected = {f"{prefix}_{item.name}" for item in enum} | {f"{prefix}_UNSPECIFIED"}
    assert expected == {value.name for value in descriptor.values}
    assert f"{prefix}_UNSPECIFIED" == descriptor.values_by_number[0].name


def test_episodes_and_their_table_have_the_same_fields(schema: duckdb.DuckDBPyConnection):
    """Each field of an episode but its steps is a column, and each column is a field or a named extra."""
    expected = (set(hints_of(records.Episode)) - {"steps"}) | EPISODE_EXTRAS
    assert expected == set(columns_of(schema, "episodes"))


def test_steps_and_their_table_have_the_same_fields(schema: duckdb.DuckDBPyConnection):
    """Each field of a step is a column or the columns listed for it."""
    columns = (STEP_COLUMNS.get(name, {name}) for name in hints_of(records.Step))
    assert set().union(*columns) | STEP_EXTRAS == set(columns_of(schema, "steps"))


def test_feedback_and_its_table_have_the_same_fields(schema: duckdb.DuckDBPyConnection):
    """Each field of a judgement is a column."""
    assert set(hints_of(records.Feedback)) == set(columns_of(schema, "feedback"))


def test_unknown_fields_are_nullable_columns(schema: duckdb.DuckDBPyConnection):
    """A field that may be `None` is a nullable column, and only such a field."""
    for record, table in ((records.Episode, "episodes"), (records.Step, "steps"), (records.Feedback, "feedback")):
        rows = schema.execute(
            "SELECT column_name, is_nullable FROM duckdb_columns() WHERE schema_name = 'store' AND table_name = ?",
            [table],
        ).fetchall()
        nullable = dict(rows)
        hints = {name: hint for name, hint in hints_of(record).items() if name in nullable}
        assert {name: may_be_unknown(hint) for name, hint in hints.items()} == {name: nullable[name] for name in hints}
