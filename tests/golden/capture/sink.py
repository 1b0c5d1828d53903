"""A tracer provider whose spans end up in a file as an export request, without what tells of the capturing machine."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

LEFT_OUT = ("exception.stacktrace", "error.stack_trace", "user_agent.original")
TRACED_FILE = re.compile(r'(File \\*")[^"]*/')
"""A file in a stack trace that stands in an error's message, up to the file's own name."""


class Capture:
    """Collects the spans of one run."""

    def __init__(self, tag: str, *, before: Sequence[SpanProcessor] = ()) -> None:
        self._tag = tag
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(resource=Resource.create({"service.name": tag}))
        for processor in before:  # those that rewrite spans before they are exported
            self.provider.add_span_processor(processor)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def write(self) -> None:
        """Write the spans into the folder named on the command line."""
        self.provider.shutdown()
        spans = self.exporter.get_finished_spans()
        path = Path(sys.argv[1]) / f"{self._tag}.traces.pb"
        request = encode_spans(spans)
        for resource in (r.resource for r in request.resource_spans):
            kept = [pair for pair in resource.attributes if pair.key.startswith(("service.name", "telemetry."))]
            del resource.attributes[:]
            resource.attributes.extend(kept)
        written = [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
        for holder in (*written, *(event for span in written for event in span.events)):
            # Stack traces hold the paths of the machine that captured, user agents its system; no dialect reads them.
            kept = [pair for pair in holder.attributes if pair.key not in LEFT_OUT]
            del holder.attributes[:]
            for pair in (pair for pair in kept if pair.value.HasField("string_value")):
                pair.value.string_value = TRACED_FILE.sub(r"\1", pair.value.string_value)
            holder.attributes.extend(kept)
            for pair in holder.attributes:
                pair.value.CopyFrom(_without_paths(pair.value))
        for span in written:
            span.status.message = span.status.message.replace(sys.prefix, "env")
        path.write_bytes(request.SerializeToString())
        print(path, len(spans), "spans")


def _without_paths(value: AnyValue) -> AnyValue:
    """The value; a text without the path of the environment that captured."""
    if value.WhichOneof("value") != "string_value":
        return value
    return AnyValue(string_value=value.string_value.replace(sys.prefix, "env"))
