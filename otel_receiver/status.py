"""What arrived, from which dialects, what is flagged, and what to change at the sender."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from otel_receiver.batch import SenderStatus, StoreStatus
from otel_receiver.config import LogConfig, StoreConfig
from otel_receiver.dead_letters import FILE_NAME
from otel_receiver.episodes import quality
from otel_receiver.errors import ConfigError
from otel_receiver.ingest_log import IngestLog
from otel_receiver.store import Store
from spanloop.records import BLOCKING_FLAGS

NO_MODEL_CALLS = (
    "no span of this service reports a model call: instrument the model's client as well (with CrewAI's wrappers, the "
    "client's own instrumentation, or CrewAI's event listener), and export logs if calls are reported as log records."
)
"""What the operator of a service is told whose spans show agents and tools alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """A flag of one sender and what to do about it."""

    flag: str
    count: int
    blocking: bool
    """Steps with it are not trainable."""
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStatus:
    """The ingest log beside the store."""

    directory: str
    end: int
    size_bytes: int
    uncommitted_bytes: int
    """Not yet in the store: it waits for its traces to end, for the store, or for `serve`."""
    dead_letter_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReport:
    """Store and log together."""

    store_path: str
    store: StoreStatus
    log: LogStatus | None
    """`None` when there is no log at that place."""

    def as_dict(self) -> dict[str, object]:
        """For machines; the advice is beside each sender."""
        store = asdict(self.store)
        store["senders"] = [
            asdict(sender)
            | {"flags": [asdict(item) for item in advice(sender)], "remedy": remedy(sender, self.store.senders)}
            for sender in self.store.senders
        ]
        return {"store_path": self.store_path, "store": store, "log": asdict(self.log) if self.log else None}

    def as_text(self) -> str:
        """For people."""
        store = self.store
        lines = [
            f"{self.store_path}: {store.num_episodes} episodes of {store.num_conversations} conversations, "
            f"{store.num_steps} steps ({store.num_trainable} trainable), {store.num_spans} spans, "
            f"{store.num_feedback} feedback; last written {_when(store.updated_at)}",
        ]
        if self.log is not None:
            lines.append(
                f"{self.log.directory}: {self.log.size_bytes} bytes, {self.log.uncommitted_bytes} not yet in the "
                f"store, {self.log.dead_letter_bytes} bytes of dead letters"
            )
        for sender in store.senders:
            lines += _sender_lines(sender, remedy(sender, store.senders))
        lines += [f"problem: {count} records: {reason}" for reason, count in store.problems]
        return "\n".join(lines)


def read_status(store_path: Path, log_dir: Path) -> StatusReport:
    """The report; raises ConfigError when there is no store, and what the store raises."""
    store = Store(store_path, StoreConfig()).status()
    if store is None:
        raise ConfigError(f"store {store_path}: not found or empty; check --store, or run `otel-receiver serve` first")
    return StatusReport(store_path=str(store_path), store=store, log=_log_status(log_dir, store))


def advice(sender: SenderStatus) -> tuple[Advice, ...]:
    """What the flags of a sender ask for, blocking ones first."""
    items = [
        Advice(
            flag=str(flag), count=count, blocking=flag in BLOCKING_FLAGS, remedy=quality.advice(flag, sender.dialect)
        )
        for flag, count in sender.flags
    ]
    return tuple(sorted(items, key=lambda item: (not item.blocking, -item.count, item.flag)))


def remedy(sender: SenderStatus, senders: Sequence[SenderStatus]) -> str | None:
    """What a sender lacks that no flag of a step can tell: model calls, in all its service's spans."""
    has_calls = any(other.num_steps for other in senders if other.service_name == sender.service_name)
    return None if has_calls or sender.dialect is None else NO_MODEL_CALLS


def _sender_lines(sender: SenderStatus, lack: str | None) -> list[str]:
    share = f"{sender.trainable_share:.0%} of {sender.num_steps} steps trainable" if sender.num_steps else "no steps"
    if sender.num_merged:
        share += " of its own" if not sender.num_steps else ""
        share += f", {sender.num_merged} calls told more fully by another span and merged with it"
    name = sender.service_name or "(no service name)"
    lines = [
        f"{name} · {sender.dialect or 'unknown dialect'} · {sender.scope or '-'}: {sender.num_spans} spans, {share}"
    ]
    for item in advice(sender):
        mark = "!" if item.blocking else "-"
        lines.append(f"  {mark} {item.flag} x {item.count}: {item.remedy}")
    return lines if lack is None else [*lines, f"  ! {lack}"]


def _log_status(directory: Path, store: StoreStatus) -> LogStatus | None:
    if not (directory / "identity").exists():
        return None
    log = IngestLog(directory, LogConfig(), read_only=True)
    size = log.size
    is_same = store.log_id in (None, log.identity)
    log.close()
    letters = directory / FILE_NAME
    return LogStatus(
        directory=str(directory),
        end=size.end,
        size_bytes=size.end - size.start,
        uncommitted_bytes=max(0, size.end - store.committed_position) if is_same else 0,
        dead_letter_bytes=letters.stat().st_size if letters.exists() else 0,
    )


def _when(nanoseconds: int | None) -> str:
    if nanoseconds is None:
        return "never"
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="seconds")
