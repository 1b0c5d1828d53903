"""Every limit, wait and address of the receiver: its name, default and unit.

Defaults < TOML file < command-line flags. Unknown keys fail. Nothing below the command line reads the environment.
"""

from __future__ import annotations

import difflib
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from otel_receiver.errors import ConfigError

MIB = 1024 * 1024
GIB = 1024 * MIB

Bytes = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    """A table of the TOML file; one owner per section."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsConfig(Section):
    """Encryption of both listening addresses."""

    cert_file: Path | None = None
    """PEM certificate chain of this server."""
    key_file: Path | None = None
    """PEM private key of that certificate."""
    client_ca_file: Path | None = None
    """PEM of the authority that signs client certificates; set it to require them (mTLS)."""


class AuthConfig(Section):
    """Who may send."""

    token_file: Path | None = None
    """One bearer token a line; several lines let a token be rotated. No file: no token is asked for."""


class ServerConfig(Section):
    """The two listening addresses."""

    grpc: str = "127.0.0.1:4317"
    """Address of OTLP/gRPC; port 0 takes a free one; empty: not served."""
    http: str = "127.0.0.1:4318"
    """Address of OTLP/HTTP, /metrics and /healthz; port 0 takes a free one; empty: not served."""
    grpc_workers: Count = 16
    """Threads answering gRPC; each holds one request, so the worst case is this times `request_bytes_max`."""
    http_connections_max: Count = 64
    """Open HTTP connections, a thread each; one more is answered 503."""
    http_idle_s: Seconds = 60.0
    """Wait for the next byte of an HTTP connection before it is closed."""
    keepalive_s: Seconds = 60.0
    """Silence on a gRPC connection before the server pings it."""
    stop_grace_s: Seconds = 5.0
    """Wait for requests under way when the server stops."""
    tls: TlsConfig = TlsConfig()
    auth: AuthConfig = AuthConfig()


class LimitsConfig(Section):
    """What one request and one record may hold.

    A span that loses attributes to a limit is counted as the sender's own dropped attributes are, so its step is
    flagged.
    """

    request_bytes_max: Bytes = 64 * MIB
    """A request, after decompression (the OTLP specification's recommendation)."""
    attributes_max: Count = 16_384
    """Attributes of one span, event, link, log record or resource; more are dropped and counted."""
    value_bytes_max: Bytes = 16 * MIB
    """One string or bytes value; a larger one is dropped and counted."""
    value_depth_max: Annotated[int, Field(gt=0, le=40)] = 24
    """Nesting of arrays and key-value lists in one value; a deeper one is dropped and counted."""
    events_max: Count = 16_384
    """Events of one span; more are dropped and counted."""
    links_max: Count = 1_024
    """Links of one span; more are dropped."""
    error_message_bytes_max: Bytes = 2_048
    """The explanation in an answer."""
    dead_letter_bytes_max: Bytes = 256 * MIB
    """Size of the dead-letter file; further refused bytes are counted only."""


class AdmissionConfig(Section):
    """When senders are asked to come back later."""

    in_flight_bytes_max: Bytes = 256 * MIB
    """Bytes of requests accepted but not yet answered; one request always fits."""
    lag_bytes_max: Bytes = 16 * GIB
    """Ingest log the processor has not yet read."""
    retry_min_s: Seconds = 1.0
    """Shortest wait senders are asked for; a random one up to `retry_max_s` spreads them."""
    retry_max_s: Seconds = 5.0


class LogConfig(Section):
    """The ingest log: the archive everything can be derived from again."""

    segment_bytes: Bytes = 64 * MIB
    """Size at which a new segment file begins."""
    retain_hours: Annotated[float, Field(gt=0)] = 30 * 24.0
    """Age at which a processed segment is deleted."""
    retain_bytes_max: Bytes = 32 * GIB
    """Size of the log at which its oldest processed segments are deleted before that age."""


class BufferConfig(Section):
    """Traces that wait for their last spans. Times are of arrival: senders' clocks are not trusted."""

    quiet_s: Seconds = 3.0
    """Wait without news after the root span or an end marker; longer than a Collector's flush and retry."""
    idle_s: Seconds = 60.0
    """Wait without news while no root has come; not asked again of what comes late to one of the last `traces_max`
    traces that ended."""
    age_max_s: Seconds = 3_600.0
    """Age at which a trace is closed although news still come."""
    traces_max: Count = 50_000
    """Open traces; the oldest is closed for one more. Log records that name only the answer they tell of count as a
    trace of their own, one per answer."""
    records_per_trace_max: Count = 100_000
    """Spans and log records of one open trace."""
    bytes_max: Bytes = 1 * GIB
    """Text and bytes in all open traces, estimated; the oldest are closed for more."""


class PipelineConfig(Section):
    """The processor, which turns the log into episodes."""

    flush_interval_s: Seconds = 1.0
    """Wait between writes to the store, when there is something to write."""
    store_retry_s: Seconds = 1.0
    """Wait before a store that another process holds is tried again."""
    shutdown_drain_s: Seconds = 20.0
    """Time for what is in the log to reach the store when the receiver stops; the rest is derived at the next start."""
    attempts_max: Count = 2
    """Tries of an entry or a trace that crashes the processor, before it goes to the dead-letter file."""
    batch_traces_max: Count = 256
    """Complete traces in one transaction."""
    component_traces_max: Count = 256
    """Traces joined into one derivation because one continues another's calls; more are left apart."""
    reread_bytes_max: Bytes = 512 * MIB
    """Log read again for the earlier records of one derivation; beyond it the trace is derived with what is there."""
    reference_root: str = ""
    """Folder (any fsspec address) of content that senders upload and only refer to (`*_ref` attributes). Files outside
    it are never read. Empty: none is read, and the steps are flagged `content_referenced`."""
    reference_bytes_max: Bytes = 64 * MIB
    """One such file; a larger one is left where it is."""


class StoreConfig(Section):
    """The DuckDB file with the episodes, opened for each batch and closed again."""

    lock_wait_s: Seconds = 10.0
    """Wait for other processes to let go of the file, before the write is put off."""
    threads: Count = 2
    """Threads of one write or query."""
    memory_limit: str = "2GiB"
    """Memory of one write or query, in DuckDB's notation."""


class MetricExport(StrEnum):
    """Where the receiver's own metrics go besides /metrics."""

    NONE = "none"
    CONSOLE = "console"
    OTLP = "otlp"


class TelemetryConfig(Section):
    """The receiver's own metrics."""

    export: MetricExport = MetricExport.NONE
    """`otlp` needs the package opentelemetry-exporter-otlp-proto-grpc."""
    otlp_endpoint: str = "http://127.0.0.1:4317"
    """Where `otlp` sends them; not this receiver, which stores no metrics."""
    interval_s: Seconds = 60.0
    """Time between two exports."""


class ReceiverConfig(Section):
    """The whole configuration, a TOML table per section."""

    server: ServerConfig = ServerConfig()
    limits: LimitsConfig = LimitsConfig()
    admission: AdmissionConfig = AdmissionConfig()
    log: LogConfig = LogConfig()
    buffer: BufferConfig = BufferConfig()
    pipeline: PipelineConfig = PipelineConfig()
    store: StoreConfig = StoreConfig()
    telemetry: TelemetryConfig = TelemetryConfig()


def load_config(path: Path | None) -> ReceiverConfig:
    """The configuration of a TOML file over the defaults; `None` gives the defaults. Raises ConfigError."""
    if path is None:
        return ReceiverConfig()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"config file {path}: not found; check the path, or leave --config out") from error
    except OSError as error:
        raise ConfigError(f"config file {path}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise ConfigError(f"config file {path}: is not TOML ({error}); see https://toml.io") from error
    try:
        return ReceiverConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"config file {path}: {describe(error)}") from error


def describe(error: ValidationError) -> str:
    """The first thing wrong with a configuration: key, value and remedy."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if first["type"] != "extra_forbidden":
        return f"{'.'.join(where)} = {first['input']!r}: {first['msg']}"
    known = _known_keys(ReceiverConfig, where[:-1])
    near = difflib.get_close_matches(where[-1], known, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known keys here: {', '.join(sorted(known))}"
    return f"unknown key {'.'.join(where)!r}; {remedy}"


def _known_keys(section: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the section that `path` leads to from `section`."""
    for name in path:
        annotation = section.model_fields[name].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        section = annotation
    return list(section.model_fields)
