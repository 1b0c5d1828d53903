"""Fetch content that a sender uploaded and only refers to, before a dialect reads the span.

OTel GenAI's upload hook writes messages, instructions and tool definitions to files (JSON or JSON lines) and puts their
fsspec addresses into attributes ending in `_ref`. Only files under one configured root are read: an address is the
sender's word, and must not make the receiver open files of its own.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import replace

import fsspec  # type: ignore[import-untyped]  # the package ships no types

from otel_receiver.dialects.genai_parts import INPUT, INSTRUCTIONS, OUTPUT, TOOLS
from otel_receiver.dialects.json_text import read_json
from otel_receiver.dialects.values import as_text
from otel_receiver.errors import ConfigError
from otel_receiver.spans import Attributes, LogRecord, Span, Value

REFERENCES: Mapping[str, str] = {f"{key}_ref": key for key in (INPUT, OUTPUT, INSTRUCTIONS, TOOLS)}
"""The attribute that refers, and the attribute whose content it refers to."""


class ReferenceRoot:
    """The folder (any fsspec address) below which uploaded content may be read."""

    def __init__(self, root: str, *, bytes_max: int) -> None:
        self._filesystem, path = fsspec.core.url_to_fs(root)
        self._path = posixpath.normpath(str(path))
        self._bytes_max = bytes_max

    def read(self, address: str) -> str | None:
        """The file as JSON text; `None` when it is outside the root, absent, too large or no text."""
        try:
            filesystem, found = fsspec.core.url_to_fs(address)
            path = posixpath.normpath(str(found))
            is_inside = type(filesystem) is type(self._filesystem) and path.startswith(f"{self._path}/")
            if not is_inside or filesystem.size(path) > self._bytes_max:
                return None
            data = filesystem.cat_file(path)
            text = data.decode("utf-8") if isinstance(data, bytes) else str(data)
        except (OSError, ValueError, ImportError):  # absent, malformed, not UTF-8, or no driver for the protocol
            return None
        return _one_json(text)


def reference_root(address: str, bytes_max: int) -> ReferenceRoot | None:
    """The root at an address; `None` for the empty one. Raises ConfigError for an address fsspec cannot open."""
    if not address:
        return None
    try:
        return ReferenceRoot(address, bytes_max=bytes_max)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"pipeline.reference_root {address!r}: {error}; give a folder fsspec can open") from error


def resolve(span: Span, logs: tuple[LogRecord, ...], root: ReferenceRoot | None) -> tuple[Span, tuple[LogRecord, ...]]:
    """The span and records with the content they refer to beside the references; unchanged without a root."""
    if root is None:
        return span, logs
    events = tuple(replace(event, attributes=_resolved(event.attributes, root)) for event in span.events)
    records = tuple(replace(record, attributes=_resolved(record.attributes, root)) for record in logs)
    return replace(span, attributes=_resolved(span.attributes, root), events=events), records


def _resolved(attributes: Attributes, root: ReferenceRoot) -> Attributes:
    """The attributes with the content of each reference that can be read and is not there already."""
    found: dict[str, Value] = {}
    for reference, key in REFERENCES.items():
        address = as_text(attributes.get(reference))
        if address and attributes.get(key) is None:
            text = root.read(address)
            if text is not None:
                found[key] = text
    return {**attributes, **found} if found else attributes


def _one_json(text: str) -> str:
    """JSON lines as one JSON list; JSON as it is."""
    if read_json(text).problem is None:
        return text
    lines = [line for line in text.splitlines() if line.strip()]
    return f"[{','.join(lines)}]"
