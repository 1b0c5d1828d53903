"""Save the good records of a request that protobuf refuses as a whole.

The parser refuses a request for one string that is not UTF-8, or one value nested too deep, anywhere in it. Here the
request is taken apart at wire level (protobuf encoding specification) down to its records, each is decoded alone, and
the request is put together again from those that can be decoded, with wrong bytes in strings replaced by U+FFFD.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1 import logs_pb2
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2

from otel_receiver.errors import MalformedRequest

DEPTH_MAX = 90
"""Nested messages; protobuf's own parsers stop at 100."""

NOT_UTF8 = "a string was not UTF-8; wrong bytes were replaced and an attribute counted as dropped"
UNDECODABLE = "the record cannot be decoded (damaged, or values nested too deep)"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The same in ResourceSpans and ResourceLogs, and in ScopeSpans and ScopeLogs.
_ENVELOPE, _SCOPES, _HEAD, _RECORDS = 1, 2, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Salvaged:
    """A request that can be decoded; one reason for each record that was left out or repaired."""

    payload: bytes
    rejected: tuple[str, ...]
    repaired: tuple[str, ...]


class _Field(NamedTuple):
    number: int
    wire_type: int
    start: int
    """Where the tag begins."""
    content: int
    """Where the content begins, behind its length."""
    end: int


def salvage(payload: bytes, record_type: type[trace_pb2.Span | logs_pb2.LogRecord]) -> Salvaged:
    """The request without what cannot be decoded; raises MalformedRequest when its envelopes are damaged.

    Bytes out of which fewer records can be saved than are lost are no request of this kind: some bytes of one kind
    can be read as another.
    """
    rejected: list[str] = []
    repaired: list[str] = []
    saved_records = 0

    def record(data: bytes) -> bytes:
        nonlocal saved_records
        saved, reason = _save_record(data, record_type)
        if reason is not None:
            (repaired if saved else rejected).append(reason)
        saved_records += saved is not None
        return _with_length(_RECORDS, saved) if saved is not None else b""

    def scope(data: bytes) -> bytes:
        return _rebuild(data, _RECORDS, record, InstrumentationScope.DESCRIPTOR)

    def resource(data: bytes) -> bytes:
        inner = _rebuild(data, _SCOPES, lambda part: _with_length(_SCOPES, scope(part)), Resource.DESCRIPTOR)
        return _with_length(_ENVELOPE, inner)

    parts = [resource(payload[field.content : field.end]) for field in _fields(payload) if _is(field, _ENVELOPE)]
    if saved_records <= len(rejected):
        raise MalformedRequest(
            f"not an OTLP request: {len(rejected)} of {len(rejected) + saved_records} records cannot be decoded; "
            "check the exporter's protocol and path"
        )
    return Salvaged(payload=b"".join(parts), rejected=tuple(rejected), repaired=tuple(repaired))


def _rebuild(data: bytes, number: int, rebuild: Callable[[bytes], bytes], head: Descriptor | None) -> bytes:
    """An envelope with the fields of one number rebuilt, its head repaired and its schema address made text."""
    parts: list[bytes] = []
    for field in _fields(data):
        content = data[field.content : field.end]
        if _is(field, number):
            parts.append(rebuild(content))
        elif _is(field, _HEAD):
            parts.append(_with_length(_HEAD, _repair(content, head, 1)))
        elif field.wire_type == _BYTES:
            parts.append(_with_length(field.number, content.decode(errors="replace").encode()))
    return b"".join(parts)


def _save_record(
    data: bytes, record_type: type[trace_pb2.Span | logs_pb2.LogRecord]
) -> tuple[bytes | None, str | None]:
    """The record's bytes, if they can be saved, and what had to be done."""
    try:
        record_type.FromString(data)
    except DecodeError:
        pass
    else:
        return data, None
    try:
        message = record_type.FromString(_repair(data, record_type.DESCRIPTOR, 0))
    except (DecodeError, MalformedRequest):
        return None, UNDECODABLE
    # Makes the change visible to everything behind: the sender's own lost attributes are counted here too.
    message.dropped_attributes_count += 1
    return message.SerializeToString(), NOT_UTF8


def _repair(data: bytes, descriptor: Descriptor | None, depth: int) -> bytes:
    """A message with every string made valid UTF-8; raises MalformedRequest when its structure is damaged."""
    if depth > DEPTH_MAX:
        raise MalformedRequest(f"a message is nested deeper than {DEPTH_MAX} levels; flatten it at the sender")
    parts: list[bytes] = []
    for field in _fields(data):
        known = descriptor.fields_by_number.get(field.number) if descriptor else None
        content = data[field.content : field.end]
        if known is None or field.wire_type != _BYTES:
            parts.append(data[field.start : field.end])
        elif known.type == FieldDescriptor.TYPE_STRING:
            parts.append(_with_length(field.number, content.decode(errors="replace").encode()))
        elif known.type == FieldDescriptor.TYPE_MESSAGE:
            parts.append(_with_length(field.number, _repair(content, known.message_type, depth + 1)))
        else:
            parts.append(data[field.start : field.end])
    return b"".join(parts)


def _fields(data: bytes) -> Iterator[_Field]:
    """The fields of a message; raises MalformedRequest when one runs over the end or has no known type."""
    position = 0
    while position < len(data):
        start = position
        tag, position = _varint(data, position)
        wire_type = tag & 7
        content = position
        if wire_type == _VARINT:
            _, position = _varint(data, position)
        elif wire_type == _FIXED64:
            position += 8
        elif wire_type == _FIXED32:
            position += 4
        elif wire_type == _BYTES:
            length, content = _varint(data, position)
            position = content + length
        else:
            raise MalformedRequest(f"wire type {wire_type} at byte {start}: not an OTLP request")
        if position > len(data) or tag >> 3 == 0:
            raise MalformedRequest(f"field {tag >> 3} at byte {start} runs over the end: not a whole OTLP request")
        yield _Field(tag >> 3, wire_type, start, content, position)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length number and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise MalformedRequest(f"a number ends early at byte {position}: not a whole OTLP request")


def _with_length(number: int, content: bytes) -> bytes:
    return _encode_varint(number << 3 | _BYTES) + _encode_varint(len(content)) + content


def _encode_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _is(field: _Field, number: int) -> bool:
    return field.number == number and field.wire_type == _BYTES
