"""A logger provider whose records end up in a file as an export request, without what tells of the machine."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource

try:
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
except ImportError:  # the SDK's older name
    from opentelemetry.sdk._logs.export import InMemoryLogExporter as InMemoryLogRecordExporter


class LogCapture:
    """Collects the log records of one run."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(resource=Resource.create({"service.name": tag}))
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self._exporter))

    def listen_to(self, name: str) -> None:
        """Take the records of Python's logger of this name, as an application that exports its logs does."""
        logger = logging.getLogger(name)
        logger.addHandler(LoggingHandler(logger_provider=self.provider))
        logger.setLevel(logging.INFO)

    def write(self) -> None:
        """Write the records into the folder named on the command line."""
        self.provider.shutdown()
        records = self._exporter.get_finished_logs()
        path = Path(sys.argv[1]) / f"{self._tag}.logs.pb"
        request = encode_logs(records)
        for resource in (r.resource for r in request.resource_logs):
            kept = [pair for pair in resource.attributes if pair.key.startswith(("service.name", "telemetry."))]
            del resource.attributes[:]
            resource.attributes.extend(kept)
        for record in (x for r in request.resource_logs for s in r.scope_logs for x in s.log_records):
            # Source files and stack traces hold the paths of the machine that captured; no dialect reads them.
            kept = [pair for pair in record.attributes if not pair.key.startswith(("code.", "exception.stacktrace"))]
            del record.attributes[:]
            record.attributes.extend(kept)
        path.write_bytes(request.SerializeToString())
        print(path, len(records), "log records")
