"""Every error the receiver raises: permanent ones say what to change, retryable ones that trying again helps.

A message names the thing, its value and the remedy, and never holds the content of a span.
"""

from __future__ import annotations


class ReceiverError(Exception):
    """Base of the receiver's own errors."""


class PermanentError(ReceiverError):
    """Trying again with the same input fails again."""


class RetryableError(ReceiverError):
    """Temporary: the sender keeps its data and sends it again."""


class ConfigError(PermanentError):
    """A configuration file, key or value cannot be used."""


class MalformedRequest(PermanentError):
    """Bytes that are no OTLP request."""


class RequestTooLarge(PermanentError):
    """A request over `limits.request_bytes_max`, counted after decompression."""


class NotOtlp(PermanentError):
    """A file that holds no OTLP request."""


class AddressInUse(PermanentError):
    """A listening address that another process holds or that does not exist."""


class InsecureBind(PermanentError):
    """An address others can reach, without TLS or without authentication."""


class LogLocked(PermanentError):
    """Another process owns the ingest log."""


class LogMismatch(PermanentError):
    """A store that was derived from another ingest log."""


class StoreUnusable(PermanentError):
    """A path that cannot be a store: no DuckDB file, another program's tables, a missing directory."""


class StoreTooNew(PermanentError):
    """A store written by a newer version of this program."""


class LogEntryMissing(PermanentError):
    """An entry that was retired, or a position that is none."""


class LogWriteFailed(RetryableError):
    """The disk is full or fails: nothing of the request was kept."""


class Overloaded(RetryableError):
    """Too many bytes in flight, or the processor is too far behind."""


class StoreBusy(RetryableError):
    """Another process, which the text names, holds the DuckDB file."""


class StoreWriteFailed(RetryableError):
    """The store cannot be written at all: its disk is full or fails."""
