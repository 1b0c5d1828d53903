"""Read media parts of any provider's shape: bytes go to the blob table, addresses stay, the rest is flagged."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from otel_receiver.dialects.notes import Notes, is_redacted
from otel_receiver.dialects.values import as_mapping, as_text, first_present, first_word
from spanloop.records import MediaKind, MediaPart, QualityFlag

_KIND_WORDS = (
    ("image", MediaKind.IMAGE),
    ("audio", MediaKind.AUDIO),
    ("video", MediaKind.VIDEO),
    ("document", MediaKind.DOCUMENT),
    ("pdf", MediaKind.DOCUMENT),
)
_ADDRESS_KEYS = ("uri", "url", "file_uri", "fileUri", "file_id", "fileId", "image_url", "image.image.url", "audio.url")
_BYTES_KEYS = ("data", "content", "bytes", "base64", "file_data", "blob", "binary_content")
_NESTED_KEYS = (
    "image_url",
    "image",
    "input_audio",
    "audio",
    "video",
    "document",
    "file",
    "source",
    "inline_data",
    "inlineData",
    "file_data",
    "fileData",
    "blob",
)
_MIME_KEYS = ("mime_type", "mimeType", "media_type", "mediaType", "format")


def read_media(part: Mapping[str, object], notes: Notes) -> MediaPart:
    """The media part, its bytes kept under their hash; flagged when it has neither bytes nor address."""
    kind = _kind(part)
    holders = _holders(part)
    mime = next((word for holder in holders if (word := first_word(holder, *_MIME_KEYS)) is not None), None)
    for holder in holders:
        found = _from_holder(holder, kind, mime, notes)
        if found is not None:
            return found
    notes.flag(QualityFlag.MEDIA_MISSING)
    return MediaPart(kind=kind, mime_type=mime)


def _holders(part: Mapping[str, object]) -> tuple[Mapping[str, object], ...]:
    """The part and the mappings inside it that may hold bytes or an address."""
    inner = [held for key in _NESTED_KEYS if (held := as_mapping(part.get(key))) is not None]
    deeper = [held for holder in inner for key in ("source",) if (held := as_mapping(holder.get(key))) is not None]
    return (*deeper, *inner, part)


def _kind(part: Mapping[str, object]) -> MediaKind:
    """What the part holds, by its type, modality, MIME type or keys."""
    said = " ".join(
        word
        for word in (first_word(part, key) for key in ("modality", "type", "kind", *_MIME_KEYS))
        if word is not None
    )
    hints = f"{said} {' '.join(part)}".lower()
    return next((kind for word, kind in _KIND_WORDS if word in hints), MediaKind.FILE)


def _from_holder(holder: Mapping[str, object], kind: MediaKind, mime: str | None, notes: Notes) -> MediaPart | None:
    """The part, if this mapping holds its address or its bytes."""
    address = first_word(holder, *_ADDRESS_KEYS)
    if address is not None and address.startswith("data:"):
        return _from_data_uri(address, kind, mime, notes)
    if address is not None and is_redacted(address):
        notes.flag(QualityFlag.CONTENT_REDACTED, QualityFlag.MEDIA_MISSING)
        return MediaPart(kind=kind, mime_type=mime)
    if address is not None:
        return MediaPart(kind=kind, mime_type=mime, uri=address)
    return _from_bytes(first_present(holder, *_BYTES_KEYS), kind, mime, notes)


def _from_data_uri(address: str, kind: MediaKind, mime: str | None, notes: Notes) -> MediaPart | None:
    """The part inside a `data:` address."""
    head, _, payload = address.partition(",")
    return _from_bytes(payload, kind, head[5:].partition(";")[0] or mime, notes)


def _from_bytes(value: object, kind: MediaKind, mime: str | None, notes: Notes) -> MediaPart | None:
    """The part with these bytes, raw or in base64; `None` when it is neither."""
    text = as_text(value)
    if text is not None and is_redacted(text):
        notes.flag(QualityFlag.CONTENT_REDACTED, QualityFlag.MEDIA_MISSING)
        return MediaPart(kind=kind, mime_type=mime)
    if text:
        try:
            value = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return None
    if not isinstance(value, bytes) or not value:
        return None
    return MediaPart(kind=kind, mime_type=mime, sha256=notes.keep(value, mime))
