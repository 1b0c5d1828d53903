"""Requests out of files.

Read are protobuf requests (.pb), OTLP JSON, and the JSON lines or length-prefixed protobuf that the Collector's file
exporter writes; each also gzipped. The form is told by content, not by name. One bad line costs no
other line.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError

from otel_receiver.config import LimitsConfig
from otel_receiver.errors import MalformedRequest, NotOtlp, ReceiverError
from otel_receiver.ingest_log import Signal
from otel_receiver.otlp import Checked, check, count_metrics, plausible_records
from otel_receiver.otlp_json import Document, check_document, load_document

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_FRAME = struct.Struct(">I")
_JSON_KEYS: dict[str, Signal | None] = {
    "resourceSpans": Signal.TRACES,
    "resourceLogs": Signal.LOGS,
    "resourceMetrics": None,
}
_EXPECTED = "an OTLP protobuf request, OTLP JSON, or what the Collector's file exporter writes"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """One request of a file."""

    signal: Signal
    checked: Checked


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFault:
    """A part of a file that holds no usable request."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A piece of a file, in order, and how many bytes on disk are read so far."""

    item: FileRequest | FileFault
    bytes_read: int


def read_parts(path: Path, limits: LimitsConfig) -> Iterator[FilePart]:
    """The requests and faults of a file; raises NotOtlp when nothing in it is OTLP, or it cannot be read."""
    requests = 0
    faults: list[FileFault] = []
    try:
        with path.open("rb") as raw:
            for item in _items(path, raw, limits):
                requests += isinstance(item, FileRequest)
                if isinstance(item, FileFault):
                    faults.append(item)
                yield FilePart(item=item, bytes_read=raw.tell())
    except FileNotFoundError as error:
        raise NotOtlp(f"{path}: not found; check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise NotOtlp(f"{path}: cannot be read ({error}); check that it is whole and readable") from error
    if faults and not requests:
        raise NotOtlp(f"{path}: {faults[0].where}: {faults[0].reason}; expected {_EXPECTED}")


def _items(path: Path, raw: BinaryIO, limits: LimitsConfig) -> Iterator[FileRequest | FileFault]:
    """What a file holds, by its first bytes."""
    start = raw.read(4)
    raw.seek(0)
    if start == _ZSTD:
        raise NotOtlp(f"{path}: is compressed with zstd, which is not read; decompress it with `zstd -d`")
    # GzipFile reads bytes and seeks, but is not declared a BinaryIO.
    file: BinaryIO = gzip.GzipFile(fileobj=raw) if start.startswith(_GZIP) else raw  # type: ignore[assignment]
    first = file.read(64)
    file.seek(0)
    if not first:
        raise NotOtlp(f"{path}: is empty; expected {_EXPECTED}")
    is_json = first.lstrip()[:1] in (b"{", b"[")
    yield from _json_items(file, limits) if is_json else _protobuf_items(path, file, limits)


def _json_items(file: BinaryIO, limits: LimitsConfig) -> Iterator[FileRequest | FileFault]:
    """JSON lines, or one JSON document over several lines."""
    number = 0
    while line := file.readline(limits.request_bytes_max + 1):
        number += 1
        if len(line) > limits.request_bytes_max:
            yield _too_large(f"line {number}", limits)
            while line and not line.endswith(b"\n"):
                line = file.readline(limits.request_bytes_max)
        elif line.strip():
            if number == 1 and (whole := _whole_document(line, file, limits)) is not None:
                yield from _document_items("the document", whole)
                return
            yield from _line_items(f"line {number}", line)


def _whole_document(line: bytes, file: BinaryIO, limits: LimitsConfig) -> Document | None:
    """The file as one document, when its first line is none by itself; else the file stays behind the first line."""
    if _is_json(line):
        return None
    position = file.tell()
    data = line + file.read(limits.request_bytes_max - len(line) + 1)
    try:
        if len(data) <= limits.request_bytes_max:
            return load_document(data)
    except MalformedRequest:
        pass
    file.seek(position)
    return None


def _is_json(line: bytes) -> bool:
    try:
        load_document(line)
    except MalformedRequest:
        return False
    return True


def _line_items(where: str, line: bytes) -> Iterator[FileRequest | FileFault]:
    try:
        document = load_document(line)
    except MalformedRequest as error:
        yield FileFault(where=where, reason=str(error))
        return
    yield from _document_items(where, document)


def _document_items(where: str, document: Document) -> Iterator[FileRequest | FileFault]:
    """The requests in one JSON object; the Collector writes one a line, others put several together."""
    keys = [key for key in _JSON_KEYS if key in document.content]
    if not keys:
        yield FileFault(where=where, reason=f"JSON without any of {', '.join(_JSON_KEYS)}")
    for key in keys:
        signal = _JSON_KEYS[key]
        try:
            if signal is not None:
                yield FileRequest(signal=signal, checked=check_document(signal, document))
        except MalformedRequest as error:
            yield FileFault(where=where, reason=str(error))


def _protobuf_items(path: Path, file: BinaryIO, limits: LimitsConfig) -> Iterator[FileRequest | FileFault]:
    """One request, or requests with their length in front as the Collector's file exporter writes them."""
    data = file.read(limits.request_bytes_max + 1)
    framed = _frame_length(data)
    if len(data) <= limits.request_bytes_max:
        try:
            yield from _protobuf_request(path, data)
        except MalformedRequest as error:
            if framed is None:
                yield FileFault(where="the file", reason=str(error))
                return
        else:
            return
    elif framed is None:
        yield _too_large("the file", limits)
        return
    file.seek(0)
    yield from _frames(path, file, limits)


def _frames(path: Path, file: BinaryIO, limits: LimitsConfig) -> Iterator[FileRequest | FileFault]:
    number = 0
    while head := file.read(_FRAME.size):
        number += 1
        where = f"message {number}"
        length = _FRAME.unpack(head)[0] if len(head) == _FRAME.size else limits.request_bytes_max + 1
        data = file.read(length) if length <= limits.request_bytes_max else b""
        if len(data) < length:
            yield FileFault(where=where, reason="ends early or is over limits.request_bytes_max; the rest is not read")
            return
        try:
            yield from _protobuf_request(path, data)
        except ReceiverError as error:
            yield FileFault(where=where, reason=str(error))


def _frame_length(data: bytes) -> int | None:
    """The length in front of the first message, when the file can hold that much."""
    if len(data) < _FRAME.size:
        return None
    length = int(_FRAME.unpack_from(data)[0])
    return length if 0 < length <= len(data) - _FRAME.size else None


def _protobuf_request(path: Path, data: bytes) -> Iterator[FileRequest]:
    """The request in some bytes, traces or logs, whichever they make sense as; raises MalformedRequest.

    The messages of both kinds have the same outer fields, so some bytes decode as both: what counts is which reading
    gives records with ids and times. The file's name decides only where the content does not.
    """
    hinted = [Signal.LOGS, Signal.TRACES] if "log" in path.name.lower() else [Signal.TRACES, Signal.LOGS]
    scores = {signal: plausible_records(signal, data) for signal in hinted}
    best = max(hinted, key=lambda signal: scores[signal])
    if scores[best]:
        yield FileRequest(signal=best, checked=check(best, data))
        return
    for signal in hinted:
        try:
            checked = check(signal, data)
        except MalformedRequest:
            continue
        if plausible_records(signal, checked.payload):
            yield FileRequest(signal=signal, checked=checked)
            return
    if not _is_metrics(data):
        raise MalformedRequest("no OTLP request: neither spans nor log records can be read from it")


def _is_metrics(data: bytes) -> bool:
    try:
        return count_metrics(data) > 0
    except (MalformedRequest, DecodeError):
        return False


def _too_large(where: str, limits: LimitsConfig) -> FileFault:
    return FileFault(where=where, reason=f"is over limits.request_bytes_max = {limits.request_bytes_max}; raise it")
