"""Bring files, or a whole ingest log, into a store and return when every episode is there."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NoReturn, TypeVar

from tqdm import tqdm

from otel_receiver.config import ReceiverConfig
from otel_receiver.crash_guard import CrashGuard
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.errors import ConfigError, NotOtlp, RetryableError
from otel_receiver.ingest_log import IngestLog, Signal
from otel_receiver.intake import Intake
from otel_receiver.otlp import Checked
from otel_receiver.otlp_files import FileFault, FileRequest, read_parts
from otel_receiver.pipeline import Pipeline, PipelineParts, open_pipeline
from otel_receiver.store import Store
from otel_receiver.telemetry import Telemetry
from spanloop.records import EndReason

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """What one file held."""

    path: str
    spans: int = 0
    log_records: int = 0
    rejected: int = 0
    repaired: int = 0
    problems: tuple[str, ...] = ()
    """Parts that were refused, and why; the rest of the file was taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What an import or a replay did."""

    store: str
    files: tuple[FileReport, ...] = ()
    episodes_written: int
    """New episodes and new revisions; importing a file again writes none."""
    num_episodes: int
    """Episodes the store shows now."""
    num_trainable: int
    """Decision points a policy can be asked at, of all in the store."""

    def problems(self) -> tuple[str, ...]:
        """Everything that was refused, with its file."""
        return tuple(problem for file in self.files for problem in file.problems)

    def as_dict(self) -> dict[str, object]:
        """For machines."""
        return asdict(self)

    def as_text(self) -> str:
        """For people."""
        lines = [
            f"{file.path}: {file.spans} spans, {file.log_records} log records, {file.rejected} rejected, "
            f"{file.repaired} repaired"
            for file in self.files
        ]
        lines.append(
            f"{self.store}: {self.episodes_written} episodes written, {self.num_episodes} in the store, "
            f"{self.num_trainable} trainable decision points"
        )
        return "\n".join(lines)


def import_into(config: ReceiverConfig, store_path: Path, log_dir: Path, files: Sequence[Path]) -> ImportReport:
    """Append the files' requests to the log, derive them, and report; raises what the log and the store raise."""
    with ExitStack() as stack:
        log = IngestLog(log_dir, config.log)
        stack.callback(log.close)
        parts = _parts(stack, config, log, Store(store_path, config.store), log_dir)
        pipeline = _open(parts)
        received_at = time.time_ns()
        # One time of arrival for all: nothing is complete before the last file is read.
        intake = Intake(log, parts.dead_letters, parts.telemetry, clock=lambda: received_at)
        reports = tuple(_read_files(files, intake, config))
        written = _derive(pipeline, log, config, "deriving")
        log.retire(pipeline.state.committed)
        return _report(parts.store, reports, written)


def replay_into(config: ReceiverConfig, log_dir: Path, store_path: Path) -> ImportReport:
    """Derive everything in a log again, into a new store; the log stays as it is, and may be in use."""
    if store_path.exists():
        raise ConfigError(f"store {store_path}: exists; replay writes a new file, name another with --store")
    with ExitStack() as stack:
        log = IngestLog(log_dir, config.log, read_only=True)
        stack.callback(log.close)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otel-receiver-")))
        letters_dir = store_path.parent if store_path.parent.is_dir() else scratch
        parts = _parts(stack, config, log, Store(store_path, config.store), letters_dir, guarded=False)
        return _report(parts.store, (), _derive(_open(parts), log, config, "replaying"))


def _parts(
    stack: ExitStack, config: ReceiverConfig, log: IngestLog, store: Store, directory: Path, *, guarded: bool = True
) -> PipelineParts:
    telemetry = Telemetry(config.telemetry)
    stack.callback(telemetry.close)
    guard = CrashGuard(directory if guarded else None, config.pipeline.attempts_max)
    stack.callback(guard.close)
    letters = DeadLetters(directory, config.limits.dead_letter_bytes_max, telemetry)
    return PipelineParts(log=log, store=store, config=config, telemetry=telemetry, dead_letters=letters, guard=guard)


def _open(parts: PipelineParts) -> Pipeline:
    """The pipeline, once whoever holds the store lets go of it."""
    return _patiently(lambda: open_pipeline(parts), parts.config)


def _patiently(work: Callable[[], T], config: ReceiverConfig) -> T:
    """The result of work on the store, which waits while another process holds it: an import must not fail for that."""
    while True:
        try:
            return work()
        except RetryableError as error:
            logger.warning("waiting: %s", error)
            time.sleep(config.pipeline.store_retry_s)


def _read_files(files: Sequence[Path], intake: Intake, config: ReceiverConfig) -> Iterable[FileReport]:
    """Append the good parts of each file."""
    total = sum(path.stat().st_size for path in files if path.is_file())
    with _bar(total, "reading") as bar:
        for path in files:
            yield _read_file(path, intake, config, bar)


def _read_file(path: Path, intake: Intake, config: ReceiverConfig, bar: tqdm[NoReturn]) -> FileReport:
    report = FileReport(path=str(path))
    done = 0
    try:
        for part in read_parts(path, config.limits):
            bar.update(part.bytes_read - done)
            done = part.bytes_read
            if isinstance(part.item, FileFault):
                report = replace(report, problems=(*report.problems, f"{path}: {part.item.where}: {part.item.reason}"))
            else:
                report = _counted(report, part.item, intake.keep(part.item.signal, part.item.checked))
    except NotOtlp as error:
        return replace(report, problems=(str(error),))
    return report


def _counted(report: FileReport, request: FileRequest, checked: Checked) -> FileReport:
    is_traces = request.signal is Signal.TRACES
    rejected = sum(item.count for item in checked.rejected)
    reasons = tuple(f"{report.path}: {item.count} refused: {item.reason}" for item in checked.rejected)
    return replace(
        report,
        spans=report.spans + (checked.accepted if is_traces else 0),
        log_records=report.log_records + (0 if is_traces else checked.accepted),
        rejected=report.rejected + rejected,
        repaired=report.repaired + sum(item.count for item in checked.repaired),
        problems=report.problems + reasons,
    )


def _derive(pipeline: Pipeline, log: IngestLog, config: ReceiverConfig, label: str) -> int:
    """Feed the rest of the log and write every trace; the number of episode revisions written."""
    written = 0
    with _bar(log.end - pipeline.state.position, label) as bar:
        for entry in log.read(pipeline.state.position):
            pipeline.feed(entry)
            bar.update(entry.next_position - entry.position)
            if pipeline.is_full:
                # Earlier than the end: a trace of which more follows is derived again, whole.
                pipeline.drain(EndReason.IMPORTED)
                written += _patiently(pipeline.write, config)
        pipeline.drain(EndReason.IMPORTED)
        return written + _patiently(lambda: pipeline.write(progress_only=True), config)


def _report(store: Store, files: tuple[FileReport, ...], written: int) -> ImportReport:
    status = store.status()
    return ImportReport(
        store=str(store.path),
        files=files,
        episodes_written=written,
        num_episodes=status.num_episodes if status else 0,
        num_trainable=status.num_trainable if status else 0,
    )


def _bar(total: int, label: str) -> tqdm[NoReturn]:
    """Progress in bytes on stderr, only on a terminal."""
    return tqdm(total=total, desc=label, unit="B", unit_scale=True, file=sys.stderr, disable=not sys.stderr.isatty())
