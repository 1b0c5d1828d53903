"""Files of OTLP: every form is told by its content, and one bad part costs no other."""

import base64
import gzip
import json
import struct
from pathlib import Path

import pytest
from google.protobuf import json_format

from otel_receiver.config import LimitsConfig
from otel_receiver.errors import NotOtlp
from otel_receiver.ingest_log import Signal
from otel_receiver.otlp_files import FileFault, FileRequest, read_parts
from otel_receiver.otlp_json import check_json
from tests.unit.otel_receiver.front import logs_request, metrics_request, span, trace_request, with_invalid_utf8

TRACES = trace_request(span(1), span(2))
LOGS = logs_request("a", "b", "c")


def write(directory: Path, name: str, data: bytes) -> Path:
    """A file with this content."""
    path = directory / name
    path.write_bytes(data)
    return path


def found(path: Path, limits: LimitsConfig = LimitsConfig()) -> list[tuple[Signal, int]]:  # noqa: B008 (frozen)
    """Signal and number of records of each request; no part may be a fault."""
    items = [part.item for part in read_parts(path, limits)]
    assert [] == [item for item in items if isinstance(item, FileFault)]
    return [(item.signal, item.checked.accepted) for item in items if isinstance(item, FileRequest)]


def as_line(request) -> bytes:
    """A request as the Collector's file exporter writes it: OTLP JSON with hex ids, one line."""
    document = json.loads(json_format.MessageToJson(request, indent=None))
    text = json.dumps(document)
    for index in range(1, 10):
        for size in (8, 16):
            raw = index.to_bytes(size)
            text = text.replace(f'"{base64.b64encode(raw).decode()}"', f'"{raw.hex()}"')
    return text.encode() + b"\n"


def test_json_of_protobufs_own_printer_is_read_like_otlp_json(tmp_path):
    """Ids in base64, as protobuf's JSON mapping has them, give the same spans and log records as ids in hex."""
    for request in (TRACES, LOGS):
        mapped = json_format.MessageToJson(request, indent=None).encode()
        payloads = [
            part.item.checked.payload
            for name, line in (("hex.jsonl", as_line(request)), ("mapped.jsonl", mapped))
            for part in read_parts(write(tmp_path, name, line), LimitsConfig())
            if isinstance(part.item, FileRequest)
        ]
        assert [request.SerializeToString()] * 2 == payloads


@pytest.mark.parametrize("bad", ["xyz", "AAA=", 7])
def test_an_id_that_cannot_be_read_refuses_its_record(tmp_path, bad):
    """A log record with a broken trace id is refused and said so; it does not lose its id in silence."""
    document = json.loads(as_line(LOGS))
    document["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["traceId"] = bad
    (part,) = read_parts(write(tmp_path, "x.jsonl", json.dumps(document).encode()), LimitsConfig())
    assert isinstance(part.item, FileRequest)
    assert 2 == part.item.checked.accepted
    (rejected,) = part.item.checked.rejected
    assert ("must be 16 or absent" in rejected.reason, 1) == (True, rejected.count)


@pytest.mark.parametrize("name", ["x.traces.pb", "x.logs.pb", "x.pb"])
def test_protobuf_is_told_by_content_whatever_its_name(tmp_path, name):
    """Traces under a log's name are traces, and the other way round."""
    assert [(Signal.TRACES, 2)] == found(write(tmp_path, name, TRACES.SerializeToString()))
    assert [(Signal.LOGS, 3)] == found(write(tmp_path, name, LOGS.SerializeToString()))


def test_collector_json_lines_hold_traces_logs_and_metrics(tmp_path):
    """Each line is a request of its own; metrics are passed over."""
    lines = as_line(TRACES) + as_line(LOGS) + b"\n" + as_line(metrics_request()) + as_line(TRACES)
    for path in (write(tmp_path, "x.jsonl", lines), write(tmp_path, "x.json.gz", gzip.compress(lines))):
        assert [(Signal.TRACES, 2), (Signal.LOGS, 3), (Signal.TRACES, 2)] == found(path)


def test_json_lines_give_the_same_bytes_as_protobuf(tmp_path):
    """The Collector's JSON of a request is read back to that request."""
    (part,) = read_parts(write(tmp_path, "x.jsonl", as_line(TRACES)), LimitsConfig())
    assert TRACES.SerializeToString() == part.item.checked.payload


def test_a_pretty_printed_document_is_one_request(tmp_path):
    """JSON over many lines, as people write it by hand."""
    pretty = json.dumps(json.loads(as_line(TRACES)), indent=2).encode()
    assert [(Signal.TRACES, 2)] == found(write(tmp_path, "x.json", pretty))


def test_length_prefixed_protobuf_is_read_message_by_message(tmp_path):
    """The Collector's file exporter with `format: proto` writes a 4-byte big-endian length before each request."""
    bodies = [TRACES.SerializeToString(), LOGS.SerializeToString(), TRACES.SerializeToString()]
    data = b"".join(struct.pack(">I", len(body)) + body for body in bodies)
    path = write(tmp_path, "x.binpb", data)
    assert [(Signal.TRACES, 2), (Signal.LOGS, 3), (Signal.TRACES, 2)] == found(path)
    small = LimitsConfig(request_bytes_max=len(bodies[0]) + 5)
    assert [(Signal.TRACES, 2), (Signal.LOGS, 3), (Signal.TRACES, 2)] == found(path, small)


def test_a_bad_line_costs_no_other_line(tmp_path):
    """Garbage, a foreign document and a line over the limit are reported by number."""
    long = b'{"resourceSpans": [], "x": "' + b"x" * 3000 + b'"}\n'
    data = as_line(TRACES) + b"{broken\n" + b'{"batches": []}\n' + long + as_line(LOGS)
    parts = [part.item for part in read_parts(write(tmp_path, "x.jsonl", data), LimitsConfig(request_bytes_max=2000))]
    assert [Signal.TRACES, Signal.LOGS] == [item.signal for item in parts if isinstance(item, FileRequest)]
    assert ["line 2", "line 3", "line 4"] == [item.where for item in parts if isinstance(item, FileFault)]


def test_a_protobuf_file_with_invalid_utf8_is_mended(tmp_path):
    """One bad string in a file costs no span of it."""
    bad = span(2, name="BAD!")
    path = write(tmp_path, "x.pb", with_invalid_utf8(trace_request(span(1), bad, span(3))))
    assert [(Signal.TRACES, 3)] == found(path)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("x.pb", b"", "is empty"),
        ("x.pb", b"%PDF-1.4 no request at all", "expected an OTLP protobuf request"),
        ("x.pb", TRACES.SerializeToString()[:-3], "expected an OTLP protobuf request"),
        ("x.json", b'{"hello": "world"}', "without any of resourceSpans"),
        ("x.json", b"[1, 2]", "no OTLP request"),
        ("x.jsonl.zst", b"\x28\xb5\x2f\xfdxxxx", "zstd -d"),
        ("x.jsonl.gz", gzip.compress(b'{"resourceSpans": []}' * 100)[:-9], "cannot be read"),
    ],
)
def test_a_file_that_is_no_otlp_says_what_is_expected(tmp_path, name, data, reason):
    """The error names the file and the remedy."""
    path = write(tmp_path, name, data)
    with pytest.raises(NotOtlp, match=reason) as caught:
        list(read_parts(path, LimitsConfig()))
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_directory_are_clear_errors(tmp_path):
    """Both name the path."""
    with pytest.raises(NotOtlp, match=r"nowhere\.pb: not found"):
        list(read_parts(tmp_path / "nowhere.pb", LimitsConfig()))
    with pytest.raises(NotOtlp, match="cannot be read"):
        list(read_parts(tmp_path, LimitsConfig()))


def test_lone_surrogates_and_wrong_bytes_in_json_are_mended(tmp_path):
    """Both become U+FFFD, and only the spans that hold it count as changed."""
    line = as_line(trace_request(span(1, name="BAD!"), span(2), span(3, name="half")))
    line = line.replace(b"BAD!", b"\xff").replace(b"half", b"\\ud83d")
    checked = check_json(Signal.TRACES, line)
    assert (3, [2]) == (checked.accepted, [item.count for item in checked.repaired])
