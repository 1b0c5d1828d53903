"""Uploaded content is read from the configured root and from nowhere else."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.references import reference_root
from otel_receiver.dialects.registry import read_span
from otel_receiver.errors import ConfigError
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_log, make_span

CHAT = {"gen_ai.operation.name": "chat"}
MESSAGES = [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
DETAILS = "gen_ai.client.inference.operation.details"


@pytest.fixture
def folder(tmp_path):
    """A folder with uploaded messages, as JSON and as JSON lines, and a file beside it that nobody may read."""
    inside = tmp_path / "uploads"
    inside.mkdir()
    (inside / "input.json").write_text(json.dumps(MESSAGES))
    (inside / "input.jsonl").write_text("\n".join(json.dumps(message) for message in MESSAGES * 2))
    (tmp_path / "secret.json").write_text(json.dumps(MESSAGES))
    return inside


def read(folder, address, bytes_max=10_000):
    """The call of a span that refers to its input by this address."""
    span = make_span({**CHAT, "gen_ai.input.messages_ref": address})
    (call,) = read_span(span, (), reference_root(f"file://{folder}", bytes_max)).model_calls
    return call


def test_messages_are_read_from_the_root(folder):
    """A file below the root is read as if its content stood on the span."""
    call = read(folder, f"file://{folder}/input.json")
    assert ([("user", "Hi")], frozenset()) == (brief(call.messages), call.flags)


def test_json_lines_are_a_list(folder):
    """One message a line reads like a list of messages."""
    assert [("user", "Hi"), ("user", "Hi")] == brief(read(folder, f"file://{folder}/input.jsonl").messages)


@pytest.mark.parametrize(
    "address", ["file://{}/../secret.json", "file://{}/absent.json", "memory://input.json", "nonsense://x", "{}"]
)
def test_no_other_file_is_read(folder, address):
    """Outside the root, absent, of another file system or of an unknown one: the content is missing and flagged."""
    call = read(folder, address.format(folder))
    assert ((), True) == (call.messages, QualityFlag.CONTENT_REFERENCED in call.flags)


def test_a_file_over_the_limit_is_not_read(folder):
    """A file larger than the limit is left where it is."""
    assert QualityFlag.CONTENT_REFERENCED in read(folder, f"file://{folder}/input.json", bytes_max=10).flags


def test_references_in_events_and_records_are_followed_too(folder):
    """The reference may stand in an operation-details event or log record."""
    attributes = {"gen_ai.input.messages_ref": f"file://{folder}/input.json"}
    root = reference_root(f"file://{folder}", 10_000)
    by_event = read_span(make_span(CHAT, events=(make_event(DETAILS, attributes),)), (), root).model_calls[0]
    by_record = read_span(make_span(CHAT), (make_log(DETAILS, attributes=attributes),), root).model_calls[0]
    assert [("user", "Hi")] == brief(by_event.messages) == brief(by_record.messages)


def test_a_root_that_no_file_system_knows_is_a_configuration_error():
    """The address is checked at the start, and the error names the key; no address means no root."""
    assert reference_root("", 10) is None
    with pytest.raises(ConfigError, match=r"pipeline\.reference_root 'nonsense://x'"):
        reference_root("nonsense://x", 10)
