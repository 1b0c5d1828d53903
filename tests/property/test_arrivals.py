"""However the records of a captured payload arrive, the store shows the episodes of its golden file.

Every payload is taken apart into single spans and log records; these are sent again in any order, in requests of any
size, some of them twice, over any time, while the receiver is killed and goes on from its log and its store.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_receiver.config import ReceiverConfig
from otel_receiver.crash_guard import CrashGuard
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.ingest_log import IngestLog, LogEntry, Signal
from otel_receiver.pipeline import Pipeline, PipelineParts, open_pipeline
from otel_receiver.store import Store
from otel_receiver.telemetry import Telemetry
from spanloop.records import EndReason
from tests.golden.harness import PAYLOADS, by_time, golden, shown, tags

SECOND = 10**9
START = 1_800_000_000
REQUESTS = {Signal.TRACES: ExportTraceServiceRequest, Signal.LOGS: ExportLogsServiceRequest}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request and when it came, in seconds after the first."""

    signal: Signal
    payload: bytes
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A receiver's log and store without its servers."""

    parts: PipelineParts

    def take(self, arrivals: Sequence[Arrival], kills: random.Random | None = None) -> None:
        """Append what arrives and process it; now and then the process dies, having written or not."""
        for arrival in arrivals:
            self.parts.log.append(arrival.signal, arrival.payload, int((START + arrival.at) * SECOND))
        runner = self._open()
        entries = iter(self.parts.log.read(runner.state.position))
        while (entry := next(entries, None)) is not None:
            _step(runner, entry)
            if kills is not None and kills.random() < 0.3:
                if kills.random() < 0.5:
                    runner.write()
                runner = self._open()
                entries = iter(self.parts.log.read(runner.state.position))
                kills = kills if kills.random() < 0.8 else None
            elif runner.state.waiting_traces:
                runner.write()
        runner.drain(EndReason.IDLE_TIMEOUT)
        runner.write(progress_only=True)
        assert self.parts.log.end == runner.state.committed

    def shows(self) -> dict[str, object]:
        """The visible episodes and the feedback, as golden files write them."""
        episodes = [stored.episode for stored in self.parts.store.newest_episodes(0, 10_000)]
        return shown(by_time(episodes), list(self.parts.store.feedback()))

    def _open(self) -> Pipeline:
        return open_pipeline(self.parts)


def _step(runner: Pipeline, entry: LogEntry) -> None:
    """As the processor does: what became complete before an entry came leaves the buffer first."""
    runner.release(entry.received_at / SECOND)
    runner.feed(entry)


@contextmanager
def bench(directory: Path) -> Iterator[Bench]:
    """A log and a store of their own, default configuration."""
    config = ReceiverConfig()
    telemetry = Telemetry(config.telemetry)
    log = IngestLog(directory / "log", config.log)
    guard = CrashGuard(None, config.pipeline.attempts_max)
    letters = DeadLetters(directory / "log", config.limits.dead_letter_bytes_max, telemetry)
    store = Store(directory / "s.duckdb", config.store)
    parts = PipelineParts(log=log, store=store, config=config, telemetry=telemetry, dead_letters=letters, guard=guard)
    try:
        yield Bench(parts=parts)
        assert not letters.path.exists()
    finally:
        guard.close()
        log.close()
        telemetry.close()


def singles(tag: str, signal: Signal) -> list[ExportTraceServiceRequest | ExportLogsServiceRequest]:
    """Each span or log record of a payload as a request of its own, with its resource and scope."""
    found = []
    for path in sorted(PAYLOADS.glob(f"{tag}.{signal.value}*.pb")):
        whole = REQUESTS[signal].FromString(path.read_bytes())
        for resource in whole.resource_spans if signal is Signal.TRACES else whole.resource_logs:
            for scope in resource.scope_spans if signal is Signal.TRACES else resource.scope_logs:
                for record in scope.spans if signal is Signal.TRACES else scope.log_records:
                    found.append(_single(signal, resource, scope, record))
    return found


def _single(signal, resource, scope, record):
    request = REQUESTS[signal]()
    held = (request.resource_spans if signal is Signal.TRACES else request.resource_logs).add()
    held.resource.CopyFrom(resource.resource)
    inner = (held.scope_spans if signal is Signal.TRACES else held.scope_logs).add()
    inner.scope.CopyFrom(scope.scope)
    (inner.spans if signal is Signal.TRACES else inner.log_records).add().CopyFrom(record)
    return request


def requests(tag: str, signal: Signal, chance: random.Random) -> list[tuple[Signal, bytes]]:
    """The records in any order, a third of them twice, in requests of one to five."""
    parts = singles(tag, signal)
    parts += chance.choices(parts, k=len(parts) // 3) if parts else []
    chance.shuffle(parts)
    made = []
    while parts:
        request = REQUESTS[signal]()
        for part in [parts.pop() for _ in range(min(len(parts), chance.randint(1, 5)))]:
            request.MergeFrom(part)
        made.append((signal, request.SerializeToString()))
    return made


def timed(made: Sequence[tuple[Signal, bytes]], chance: random.Random) -> list[Arrival]:
    """The requests one after the other: most at once, some after a pause that closes traces, with a root or without."""
    now, arrivals = 0.0, []
    for signal, payload in made:
        now += chance.choice((0.0, 0.0, 0.0, 0.5, 4.0, 70.0))
        arrivals.append(Arrival(signal=signal, payload=payload, at=now))
    return arrivals


def arrival_orders() -> list[tuple[str, Signal | None]]:
    """Every payload with its spans first and mixed, and with its log records first where it has some."""
    logged = {path.name.split(".")[0] for path in PAYLOADS.glob("*.logs*.pb")}
    return [
        (tag, first)
        for tag in tags()
        for first in (Signal.TRACES, None, Signal.LOGS)
        if first is not Signal.LOGS or tag in logged
    ]


@pytest.mark.parametrize(("tag", "first"), arrival_orders())
def test_any_arrival_gives_the_golden_episodes(tag, first, tmp_path):
    """Any order, split, repetition, pause and kill: the store shows what the golden file says, and nothing else."""
    chance = random.Random(f"{tag} {first}")
    traces, logs = (requests(tag, signal, chance) for signal in (Signal.TRACES, Signal.LOGS))
    made = [*logs, *traces] if first is Signal.LOGS else [*traces, *logs]
    if first is None:
        chance.shuffle(made)
    with bench(tmp_path) as receiver:
        receiver.take(timed(made, chance), kills=chance)
        assert golden(tag) == receiver.shows()


def test_all_payloads_together_give_the_episodes_of_each_alone(tmp_path):
    """Records of all payloads, mixed in any order and split: the union of the golden files, none altered by another."""
    chance = random.Random(11)
    made = [item for tag in tags() for signal in REQUESTS for item in requests(tag, signal, chance)]
    chance.shuffle(made)
    with bench(tmp_path) as receiver:
        receiver.take([Arrival(signal=signal, payload=payload, at=0.0) for signal, payload in made])
        found = receiver.shows()["episodes"]
    apart = [episode for tag in tags() for episode in golden(tag)["episodes"]]
    assert len(apart) == len(found)
    assert sorted(map(_comparable, apart)) == sorted(map(_comparable, found))


def _comparable(episode: dict[str, object]) -> str:
    """An episode without what depends on its neighbours in the list: inferred names and its parent's number."""
    named = {key: value for key, value in episode.items() if key not in ("conversation_id", "parent")}
    return json.dumps(named, sort_keys=True)


def test_a_replay_gives_what_the_first_run_gave(tmp_path):
    """The log of a run with pauses and late records, read from its beginning into a new store, gives the same."""
    chance = random.Random(5)
    made = [item for tag in ("openlit_streamed", "v2_old", "double") for item in _all_requests(tag, chance)]
    chance.shuffle(made)
    with bench(tmp_path) as receiver:
        receiver.take(timed(made, chance), kills=chance)
        first = receiver.shows()
        parts = receiver.parts
        again = Bench(
            parts=PipelineParts(
                log=parts.log,
                store=Store(tmp_path / "again.duckdb", parts.config.store),
                config=parts.config,
                telemetry=parts.telemetry,
                dead_letters=parts.dead_letters,
                guard=parts.guard,
            )
        )
        again.take(())
        assert first == again.shows()


def _all_requests(tag: str, chance: random.Random) -> list[tuple[Signal, bytes]]:
    return [item for signal in REQUESTS for item in requests(tag, signal, chance)]
