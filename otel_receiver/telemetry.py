"""The receiver's own metrics: every counter in one place, through the OpenTelemetry SDK.

They are read in Prometheus' text form at /metrics and, by configuration, exported to a console or over OTLP.
Labels are closed choices: never a reason, an id or anything a sender wrote.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Counter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    InMemoryMetricReader,
    Metric,
    MetricExporter,
    MetricReader,
    NumberDataPoint,
    PeriodicExportingMetricReader,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from otel_receiver.config import MetricExport, TelemetryConfig
from otel_receiver.errors import ConfigError

PREFIX = "otel_receiver"


class Telemetry:
    """Counters to add to and gauges to register; one for the whole receiver, safe from any thread."""

    def __init__(self, config: TelemetryConfig) -> None:
        self._memory = InMemoryMetricReader()
        self._provider = MeterProvider(
            metric_readers=[self._memory, *_exporting(config)],
            resource=Resource.create({"service.name": "otel-receiver"}),
            shutdown_on_exit=False,
        )
        self._meter = self._provider.get_meter("otel_receiver")
        self.requests = self._counter("requests", "Requests acknowledged, by signal and protocol")
        self.refusals = self._counter("refusals", "Requests refused, by signal and cause")
        self.accepted = self._counter("records_accepted", "Spans, log records and data points accepted, by signal")
        self.rejected = self._counter("records_rejected", "Records refused in requests that were acknowledged")
        self.repaired = self._counter("records_repaired", "Records kept after wrong bytes in a string were replaced")
        self.bytes = self._counter("request_bytes", "Bytes of acknowledged requests, after decompression")
        self.dead_letters = self._counter("dead_letters", "Refused or crashing inputs, by whether they were kept")
        self.duplicates = self._counter("duplicate_spans", "Spans that were received before")
        self.episodes = self._counter("episodes_written", "Episode revisions written to the store")
        self.crashes = self._counter("processor_crashes", "Entries and traces that crashed the processor")
        self.store_waits = self._counter("store_waits", "Times the store was held by another process")

    def _counter(self, name: str, description: str) -> Counter:
        return self._meter.create_counter(f"{PREFIX}.{name}", description=description)

    def gauge(self, name: str, description: str, read: Callable[[], float]) -> None:
        """Observe a value whenever metrics are read; `read` is called from any thread."""

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            return [Observation(read())]

        self._meter.create_observable_gauge(f"{PREFIX}.{name}", callbacks=[observe], description=description)

    def value(self, name: str, **labels: str) -> float:
        """The present value of a counter or gauge with these labels, summed over all others."""
        return sum(
            point.value
            for metric in self._metrics()
            for point in metric.data.data_points
            if metric.name == f"{PREFIX}.{name}"
            and isinstance(point, NumberDataPoint)
            and labels.items() <= dict(point.attributes or {}).items()
        )

    def prometheus(self) -> str:
        """All metrics in Prometheus' text exposition format 0.0.4."""
        return "".join(_exposition(metric) for metric in self._metrics())

    def close(self) -> None:
        """Export what is left and stop."""
        self._provider.shutdown()

    def _metrics(self) -> list[Metric]:
        data = self._memory.get_metrics_data()
        if data is None:
            return []
        return [metric for part in data.resource_metrics for scope in part.scope_metrics for metric in scope.metrics]


def _exposition(metric: Metric) -> str:
    """One metric with its help and type."""
    is_counter = isinstance(metric.data, Sum)
    name = metric.name.replace(".", "_") + ("_total" if is_counter else "")
    lines = [f"# HELP {name} {metric.description}", f"# TYPE {name} {'counter' if is_counter else 'gauge'}"]
    for point in metric.data.data_points:
        if isinstance(point, NumberDataPoint):
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(dict(point.attributes or {}).items()))
            lines.append(f"{name}{{{labels}}} {point.value}" if labels else f"{name} {point.value}")
    return "\n".join(lines) + "\n"


def _exporting(config: TelemetryConfig) -> list[MetricReader]:
    """The reader that exports, if one is configured."""
    if config.export is MetricExport.NONE:
        return []
    exporter = _otlp(config) if config.export is MetricExport.OTLP else ConsoleMetricExporter(out=sys.stderr)
    return [PeriodicExportingMetricReader(exporter, export_interval_millis=config.interval_s * 1000)]


def _otlp(config: TelemetryConfig) -> MetricExporter:
    """The OTLP exporter, which is an optional package."""
    try:
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    except ImportError as error:
        raise ConfigError(
            "telemetry.export = 'otlp': needs the package opentelemetry-exporter-otlp-proto-grpc; "
            "install it, or choose 'console' or 'none'"
        ) from error
    return OTLPMetricExporter(endpoint=config.otlp_endpoint)
