"""Throughput of parse, normalise and assemble on one core, by dialect, as ratio to the fastest.

Each captured payload under `tests/golden/payloads` is taken from wire bytes to episodes several times; the median
counts. A dialect's figure is that of all its payloads together. Payloads differ in how much they repeat themselves, so
what is compared is steps (decision points) a second; spans and MiB a second stand beside it. Payloads without any
message (content switched off) are left out: their steps are empty.

    python -m benchmarks.dialects               half a minute
    python -m benchmarks.dialects --payloads    every payload by itself too
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from otel_receiver.config import LimitsConfig
from otel_receiver.dialects.registry import read_spans
from otel_receiver.episodes.assemble import assemble
from otel_receiver.otlp import parse_logs, parse_traces
from spanloop.records import EndReason, Episode

PAYLOADS = Path(__file__).parents[1] / "tests" / "golden" / "payloads"
ROUNDS = 7
SLOWEST_RATIO = 1 / 3
"""The aim: no dialect slower than a third of the fastest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What some payloads hold, and the seconds of one core they take."""

    name: str
    steps: int
    spans: int
    size: int
    """Bytes on the wire."""
    seconds: float

    @property
    def rate(self) -> float:
        """Steps a second."""
        return self.steps / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """One capture's requests and what they become."""

    tag: str
    traces: tuple[bytes, ...]
    logs: tuple[bytes, ...]
    dialect: str
    """Of most of its episodes."""
    steps: int
    spans: int

    def derive(self) -> tuple[tuple[Episode, ...], int]:
        """The episodes, taken the whole way, and the number of spans."""
        return derive(self.traces, self.logs)

    def cost(self, seconds: float) -> Cost:
        """Its figures, given the seconds it took."""
        size = sum(map(len, (*self.traces, *self.logs)))
        return Cost(name=self.tag, steps=self.steps, spans=self.spans, size=size, seconds=seconds)


def derive(traces: Iterable[bytes], logs: Iterable[bytes]) -> tuple[tuple[Episode, ...], int]:
    """Episodes and the number of spans in some requests."""
    limits = LimitsConfig()
    spans = [span for payload in traces for span in parse_traces(payload, limits).records]
    records = [record for payload in logs for record in parse_logs(payload, limits).records]
    return assemble(read_spans(spans, records), EndReason.IMPORTED).episodes, len(spans)


def payloads() -> list[Payload]:
    """The captures in which some step has messages."""
    found = []
    for tag in sorted({path.name.split(".")[0] for path in PAYLOADS.glob("*.pb")}):
        traces, logs = _bytes(tag, "traces"), _bytes(tag, "logs")
        episodes, spans = derive(traces, logs)
        steps = [step for episode in episodes for step in episode.steps]
        if any(step.messages for step in steps):
            dialect = Counter(str(episode.dialect) for episode in episodes).most_common(1)[0][0]
            found.append(Payload(tag=tag, traces=traces, logs=logs, dialect=dialect, steps=len(steps), spans=spans))
    return found


def _bytes(tag: str, signal: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(PAYLOADS.glob(f"{tag}.{signal}*.pb")))


def measure(given: list[Payload]) -> dict[Payload, float]:
    """The median seconds of each payload. Rounds take turns over them, so that a slow minute slows all alike."""
    seconds: dict[Payload, list[float]] = {payload: [] for payload in given}
    for _ in range(ROUNDS):
        for payload in given:
            started = time.process_time()
            payload.derive()
            seconds[payload].append(time.process_time() - started)
    return {payload: statistics.median(taken) for payload, taken in seconds.items()}


def by_dialect(seconds: dict[Payload, float]) -> list[Cost]:
    """Each dialect's payloads together."""
    costs: dict[str, list[Cost]] = defaultdict(list)
    for payload, taken in seconds.items():
        costs[payload.dialect].append(payload.cost(taken))
    return [
        Cost(
            name=f"{dialect} ({len(parts)})",
            steps=sum(part.steps for part in parts),
            spans=sum(part.spans for part in parts),
            size=sum(part.size for part in parts),
            seconds=sum(part.seconds for part in parts),
        )
        for dialect, parts in costs.items()
    ]


def show(title: str, costs: list[Cost], aim: float | None = None) -> float:
    """Print a table, the fastest first; the ratio of the slowest."""
    costs = sorted(costs, key=lambda cost: -cost.rate)
    sys.stdout.write(f"{title:36}{'steps/s':>10}{'spans/s':>10}{'MiB/s':>8}{'ratio':>8}\n")
    for cost in costs:
        ratio, mib = cost.rate / costs[0].rate, cost.size / 2**20 / cost.seconds
        mark = "  below a third" if aim is not None and ratio < aim else ""
        spans = cost.spans / cost.seconds
        sys.stdout.write(f"{cost.name:36}{cost.rate:10.0f}{spans:10.0f}{mib:8.2f}{ratio:8.2f}{mark}\n")
    return costs[-1].rate / costs[0].rate


def main() -> int:
    """Print the tables; 1 when a dialect misses the aim."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dialects")
    parser.add_argument("--payloads", action="store_true", help="show every payload too")
    options = parser.parse_args()
    seconds = measure(payloads())
    slowest = show("dialect (payloads)", by_dialect(seconds), SLOWEST_RATIO)
    if options.payloads:
        show("payload", [payload.cost(taken) for payload, taken in seconds.items()])
    return int(slowest < SLOWEST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
