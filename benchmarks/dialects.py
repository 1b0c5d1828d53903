"""Throughput of parse, normalise and assemble on one core, by dialect, as ratio to the fastest.

Each captured payload under `tests/golden/payloads` is taken from wire bytes to episodes, over and over; the median of
several rounds counts. Payloads differ in how much they repeat themselves, so the figure compared is steps (decision
points) a second; spans and MiB a second stand beside it. Run it: `python -m benchmarks.dialects`.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from otel_receiver.config import LimitsConfig
from otel_receiver.dialects.registry import read_spans
from otel_receiver.episodes.assemble import assemble
from otel_receiver.otlp import parse_logs, parse_traces
from spanloop.records import EndReason

PAYLOADS = Path(__file__).parents[1] / "tests" / "golden" / "payloads"
ROUNDS = 7
ROUND_S = 0.3
SLOWEST_RATIO = 1 / 3
"""The aim: no dialect slower than a third of the fastest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one payload gives in a second of one core."""

    tag: str
    steps: float
    spans: float
    mib: float


def derive(traces: list[bytes], logs: list[bytes]) -> tuple[int, int]:
    """The number of steps and of spans in the payloads, taken the whole way."""
    limits = LimitsConfig()
    spans = [span for payload in traces for span in parse_traces(payload, limits).records]
    records = [record for payload in logs for record in parse_logs(payload, limits).records]
    episodes = assemble(read_spans(spans, records), EndReason.IMPORTED).episodes
    return sum(len(episode.steps) for episode in episodes), len(spans)


def measure(tags: list[str]) -> list[Rate]:
    """The median rate of each payload. Rounds take turns over the payloads, so that a slow minute slows all alike."""
    payloads = {tag: (_bytes(tag, "traces"), _bytes(tag, "logs")) for tag in tags}
    rates: dict[str, list[float]] = {tag: [] for tag in tags}
    for _ in range(ROUNDS):
        for tag, (traces, logs) in payloads.items():
            rates[tag].append(_rounds_a_second(traces, logs))
    return [_rate(tag, payloads[tag], statistics.median(rates[tag])) for tag in tags]


def _bytes(tag: str, signal: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted(PAYLOADS.glob(f"{tag}.{signal}*.pb"))]


def _rate(tag: str, payload: tuple[list[bytes], list[bytes]], rate: float) -> Rate:
    """The rate in steps, spans and bytes of a payload that is derived so many times a second."""
    traces, logs = payload
    steps, spans = derive(traces, logs)
    size = sum(map(len, (*traces, *logs)))
    return Rate(tag=tag, steps=rate * steps, spans=rate * spans, mib=rate * size / 2**20)


def _rounds_a_second(traces: list[bytes], logs: list[bytes]) -> float:
    started = time.process_time()
    done = 0
    while time.process_time() - started < ROUND_S:
        derive(traces, logs)
        done += 1
    return done / (time.process_time() - started)


def main() -> int:
    """Print the table; 1 when a dialect misses the aim."""
    tags = sorted({path.name.split(".")[0] for path in PAYLOADS.glob("*.pb")})
    rates = sorted(measure(tags), key=lambda rate: -rate.steps)
    fastest = rates[0].steps
    sys.stdout.write(f"{'payload':16}{'steps/s':>10}{'spans/s':>10}{'MiB/s':>8}{'ratio':>8}\n")
    for rate in rates:
        ratio = rate.steps / fastest
        mark = "" if ratio >= SLOWEST_RATIO else "  below a third"
        sys.stdout.write(f"{rate.tag:16}{rate.steps:10.0f}{rate.spans:10.0f}{rate.mib:8.2f}{ratio:8.2f}{mark}\n")
    return int(rates[-1].steps < fastest * SLOWEST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
