"""What a reader notes down while it reads: quality flags, and bytes that go to the blob table."""

from __future__ import annotations

import hashlib

from otel_receiver.dialects.base import Blob
from spanloop.records import QualityFlag

REDACTION_MARKERS = frozenset({"__REDACTED__", "[REDACTED]", "<REDACTED>", "<redacted>"})
"""What senders write in place of content they hide."""

SCRUBBED_MARK = "[Scrubbed due to "
"""Begins what Logfire writes in place of a value that looks like a secret, also deep inside a structure."""

UNSERIALISABLE_MARKERS = frozenset({"<not serializable>"})
"""What senders write in place of content they could not write."""


def is_redacted(text: str) -> bool:
    """Whether a marker stands where the value was."""
    return text in REDACTION_MARKERS or text.startswith(SCRUBBED_MARK)


class Notes:
    """Flags and blobs of one reading. Local to a dialect's `read`; it never leaves the package."""

    __slots__ = ("_blobs", "_flags")

    def __init__(self) -> None:
        self._flags: set[QualityFlag] = set()
        self._blobs: dict[str, Blob] = {}

    @property
    def flags(self) -> frozenset[QualityFlag]:
        """The flags noted so far."""
        return frozenset(self._flags)

    @property
    def blobs(self) -> tuple[Blob, ...]:
        """The blobs noted so far, each once."""
        return tuple(self._blobs.values())

    def flag(self, *flags: QualityFlag) -> None:
        """Note that the reading is not fully trustworthy."""
        self._flags.update(flags)

    def add(self, other: Notes) -> None:
        """Take over what another reader noted."""
        self._flags |= other._flags
        self._blobs |= other._blobs

    def keep(self, data: bytes, mime_type: str | None) -> str:
        """The SHA-256 under which the bytes are kept."""
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = Blob(sha256=digest, mime_type=mime_type, data=data)
        return digest

    def check_text(self, text: str) -> None:
        """Flag a redaction marker that stands where content was."""
        if text.startswith(SCRUBBED_MARK):
            self.flag(QualityFlag.CONTENT_REDACTED)
        if len(text) > 32:
            return
        if text in REDACTION_MARKERS:
            self.flag(QualityFlag.CONTENT_REDACTED)
        elif text in UNSERIALISABLE_MARKERS:
            self.flag(QualityFlag.CONTENT_MISSING)
