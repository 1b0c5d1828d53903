"""The pipeline on a real log and a real store: what is written, how far, and what a crash costs."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_receiver import derivation, pipeline
from otel_receiver.batch import WriteBatch, WriteOutcome
from otel_receiver.config import ReceiverConfig
from otel_receiver.crash_guard import CrashGuard, Poisonous
from otel_receiver.dead_letters import DeadLetters
from otel_receiver.errors import LogMismatch, StoreWriteFailed
from otel_receiver.ingest_log import IngestLog, Signal
from otel_receiver.pipeline import Pipeline, PipelineParts, open_pipeline
from otel_receiver.store import Store
from otel_receiver.telemetry import Telemetry
from spanloop.records import EndReason
from tests.e2e.receiver_process import agent_trace

SECOND = 10**9
START = 1_700_000_000 * SECOND


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A log, a store, and pipelines over them."""

    directory: Path
    parts: PipelineParts

    def append(self, request, received_s: float = 0.0, signal: Signal = Signal.TRACES) -> int:
        """Put a request into the log, as if it came so many seconds after the start."""
        return self.parts.log.append(signal, request.SerializeToString(), START + int(received_s * SECOND))

    def run(self) -> Pipeline:
        """A new pipeline, as after a restart, that reads and writes everything."""
        result = self.open()
        for entry in self.parts.log.read(result.state.position):
            result.feed(entry)
            result.release()
            result.write()
        result.drain(EndReason.IDLE_TIMEOUT)
        result.write(progress_only=True)
        return result

    def open(self) -> Pipeline:
        """A pipeline that goes on where the store stands."""
        return open_pipeline(self.parts)

    def query(self, sql: str) -> list[tuple]:
        """Rows of the store."""
        with duckdb.connect(str(self.parts.store.path), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    @property
    def letters(self) -> list[dict]:
        """The dead letters."""
        path = self.parts.dead_letters.path
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def bench(tmp_path):
    """Everything in a directory of its own, default configuration with small segments."""
    yield from make_bench(tmp_path, Store)


def make_bench(tmp_path: Path, store_class: type[Store]):
    """The same with another store class."""
    config = ReceiverConfig.model_validate({"log": {"segment_bytes": 2000}})
    telemetry = Telemetry(config.telemetry)
    log = IngestLog(tmp_path / "log", config.log)
    guard = CrashGuard(tmp_path / "log", config.pipeline.attempts_max)
    parts = PipelineParts(
        log=log,
        store=store_class(tmp_path / "s.duckdb", config.store),
        config=config,
        telemetry=telemetry,
        dead_letters=DeadLetters(tmp_path / "log", config.limits.dead_letter_bytes_max, telemetry),
        guard=guard,
    )
    yield Bench(directory=tmp_path, parts=parts)
    guard.close()
    log.close()
    telemetry.close()


def test_episodes_and_position_are_written_together(bench):
    """Two closed traces are in the store with the position behind them; nothing is written twice after a restart."""
    for number in (1, 2):
        bench.append(agent_trace(number))
    assert bench.parts.log.end == bench.run().state.committed
    bench.run()
    assert [(2, 2)] == bench.query("SELECT count(*), count(DISTINCT episode_id) FROM store.episodes")
    assert [(bench.parts.log.end,)] == bench.query("SELECT committed_position FROM store.progress")


def test_the_position_stays_below_every_open_trace(bench):
    """A trace that still waits is read again after a crash: the position stops at its first record."""
    first = bench.append(agent_trace(1), received_s=0)
    second = bench.append(agent_trace(2, with_root=False), received_s=1)
    bench.append(agent_trace(3), received_s=2)
    runner = bench.open()
    for entry in bench.parts.log.read(0):
        runner.feed(entry)
    runner.release(now=START / SECOND + 10)
    assert 2 == runner.write()
    assert (second, 1) == (runner.state.committed, runner.state.open_traces)
    assert first < second < bench.parts.log.end
    assert 3 == len(bench.run() and bench.query("SELECT episode_id FROM episodes"))


def test_the_clock_is_that_of_the_log(bench):
    """Traces close by the times their entries came, however fast these are read: one batch for each pause."""
    bench.append(agent_trace(1), received_s=0)
    bench.append(agent_trace(2), received_s=5)
    bench.append(agent_trace(3), received_s=600)
    bench.run()
    assert [(3, 3)] == bench.query("SELECT num_batches, (SELECT count(*) FROM episodes) FROM store.progress")


def test_the_first_received_of_two_different_spans_with_one_id_stays(bench):
    """A conflicting resend changes nothing, also when its entry is read again for another span of the trace."""
    bench.append(agent_trace(1, "first"))
    bench.run()
    conflicting = agent_trace(1, "second")
    for late, request in ((50, conflicting), (51, agent_trace(1, with_root=False))):
        spans = request.resource_spans[0].scope_spans[0].spans
        spans.add(trace_id=spans[0].trace_id, span_id=late.to_bytes(8), parent_span_id=(2).to_bytes(8), name="other")
        if late == 51:
            del spans[0]
        bench.append(request, received_s=10 * late)
        bench.run()
    assert [(4,)] == bench.query("SELECT count(*) FROM store.spans")
    assert [(1, "first")] == bench.query(
        "SELECT e.revision, d.action->>'content' FROM episodes e JOIN decision_points d USING (episode_id)"
    )


def test_calls_in_traces_of_their_own_become_one_episode(bench):
    """A sender without a root makes a trace per call; the second call's history finds the first, already stored one."""
    tool_call = [{"type": "tool_call", "id": "t1", "name": "look", "arguments": {"x": 1}}]
    first = agent_trace(1, with_root=False)
    call = first.resource_spans[0].scope_spans[0].spans[0]
    call.ClearField("parent_span_id")
    output = [{"role": "assistant", "parts": tool_call, "finish_reason": "tool_calls"}]
    set_attribute(call, "gen_ai.output.messages", json.dumps(output))
    second = agent_trace(2, with_root=False)
    call = second.resource_spans[0].scope_spans[0].spans[0]
    call.ClearField("parent_span_id")
    history = [
        {"role": "user", "parts": [{"type": "text", "content": "question 1"}]},
        {"role": "assistant", "parts": tool_call},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "seen"}]},
    ]
    set_attribute(call, "gen_ai.input.messages", json.dumps(history))
    set_attribute(call, "gen_ai.conversation.id", "c1")
    call.start_time_unix_nano, call.end_time_unix_nano = 10**18 + 1000, 10**18 + 1500
    bench.append(first, received_s=0)
    bench.run()
    assert [(1,)] == bench.query("SELECT num_steps FROM episodes")
    bench.append(second, received_s=300)
    bench.run()
    assert [(2, 2)] == bench.query("SELECT num_steps, revision FROM episodes")


def set_attribute(span, key: str, value: str) -> None:
    """Change an attribute."""
    (attribute,) = [item for item in span.attributes if item.key == key]
    attribute.value.string_value = value


def test_a_late_record_of_a_retired_trace_leaves_its_episode_alone(bench):
    """What is left would give a worse episode: the old one stays, and the store says what came too late."""
    bench.append(agent_trace(1))
    for number in range(2, 6):
        bench.append(agent_trace(number))
    bench.run()
    (segment,) = [path for path in (bench.directory / "log").glob("*.log") if int(path.stem) == 0]
    os.utime(segment, (0, 0))
    assert 1 == bench.parts.log.retire(bench.parts.log.end)
    late = agent_trace(1, with_root=False)
    late.resource_spans[0].scope_spans[0].spans[0].span_id = (99).to_bytes(8)
    bench.append(late, received_s=600)
    assert bench.run().state.committed == bench.parts.log.end
    assert [(f"{3:016x}",)] == bench.query("SELECT span_id FROM decision_points WHERE conversation_id = 'c1'")
    ((reason, num),) = bench.query("SELECT reason, num_records FROM store.problems")
    assert ("log.retain_hours" in reason, 1) == (True, num)


def test_an_entry_that_crashes_is_buried_and_the_others_go_on(bench, monkeypatch):
    """Tried twice, then in the dead-letter file with its bytes, counted, and a problem in the store."""
    bench.append(agent_trace(1))
    poison = bench.append(agent_trace(2))
    bench.append(agent_trace(3))
    payload = bench.parts.log.entry(poison).payload
    parse, tries = pipeline.parse_traces, []

    def crash(data: bytes, limits):
        if data == payload:
            tries.append(1)
            raise ZeroDivisionError
        return parse(data, limits)

    monkeypatch.setattr(pipeline, "parse_traces", crash)
    assert bench.run().state.committed == bench.parts.log.end
    assert [("c1",), ("c3",)] == bench.query("SELECT conversation_id FROM episodes ORDER BY 1")
    assert 2 == len(tries)
    assert [poison] == [letter["position"] for letter in bench.letters]
    assert [(poison, "reading the entry crashed (ZeroDivisionError)")] == bench.query(
        "SELECT log_position, reason FROM store.problems"
    )
    assert 1 == bench.parts.telemetry.value("processor_crashes")


@pytest.mark.parametrize("stage", ["assemble", "read_spans"])
def test_a_trace_that_crashes_is_buried_and_the_others_go_on(bench, monkeypatch, stage):
    """Whether reading or assembling it fails: its neighbours in the batch are stored, its spans stay findable."""
    for number in range(1, 6):
        bench.append(agent_trace(number))
    poison = f"{3:032x}"
    real = getattr(derivation, stage)

    def crash(first, *rest):
        items = [item.span for item in first] if stage == "assemble" else first
        if any(item.trace_id == poison for item in items):
            raise ZeroDivisionError
        return real(first, *rest)

    monkeypatch.setattr(derivation, stage, crash)
    assert bench.run().state.committed == bench.parts.log.end
    assert [("c1",), ("c2",), ("c4",), ("c5",)] == bench.query("SELECT conversation_id FROM episodes ORDER BY 1")
    assert [(poison, 2)] == bench.query("SELECT trace_id, num_records FROM store.problems")
    assert 1 == len(bench.letters)


class PickyStore(Store):
    """A store whose database fails on one conversation."""

    def write(self, batch: WriteBatch) -> WriteOutcome:
        """As the store, but for conversation c3."""
        if any(episode.conversation_id == "c3" for episode in batch.episodes):
            raise duckdb.InternalException("boom")
        return super().write(batch)


def test_a_trace_that_cannot_be_written_is_found_by_halving(tmp_path):
    """Seven of eight traces of one batch are stored; the eighth is a problem with its bytes in the dead-letter file."""
    for bench in make_bench(tmp_path, PickyStore):
        for number in range(1, 9):
            bench.append(agent_trace(number))
        runner = bench.open()
        for entry in bench.parts.log.read(0):
            runner.feed(entry)
        runner.drain(EndReason.IMPORTED)
        assert 7 == runner.write()
        assert bench.parts.log.end == runner.state.committed
        assert [(f"{3:032x}",)] == bench.query("SELECT trace_id FROM store.problems")
        assert 1 == len(bench.letters)


class BrokenStore(Store):
    """A store whose disk has failed."""

    def write(self, batch: WriteBatch) -> WriteOutcome:
        """Never succeeds."""
        raise duckdb.IOException("No space left on device")


def test_a_store_that_fails_altogether_blames_no_trace(tmp_path):
    """Nothing is buried when not even an empty batch can be written; everything waits."""
    for bench in make_bench(tmp_path, BrokenStore):
        bench.append(agent_trace(1))
        runner = bench.open()
        for entry in bench.parts.log.read(0):
            runner.feed(entry)
        runner.drain(EndReason.IMPORTED)
        for _ in range(5):
            with pytest.raises(StoreWriteFailed, match="check its disk"):
                runner.write()
        assert (0, 1) == (runner.state.committed, runner.state.waiting_traces)
        assert [] == bench.letters


def test_a_store_of_another_log_is_refused(bench, tmp_path):
    """Positions of one log mean nothing in another."""
    bench.append(agent_trace(1))
    bench.run()
    for other in make_bench(tmp_path / "other", Store):
        parts = PipelineParts(
            log=other.parts.log,
            store=bench.parts.store,
            config=other.parts.config,
            telemetry=other.parts.telemetry,
            dead_letters=other.parts.dead_letters,
            guard=other.parts.guard,
        )
        with pytest.raises(LogMismatch, match="--log-dir"):
            open_pipeline(parts)


def test_work_that_kills_the_process_is_skipped_after_two_times(tmp_path):
    """The guard remembers over processes; other work is not affected, and work that ends well is forgotten."""
    code = (
        "import os, sys; from pathlib import Path; from otel_receiver.crash_guard import CrashGuard\n"
        "guard = CrashGuard(Path(sys.argv[1]), 2)\n"
        "with guard.attempt('entry 5'): pass\n"
        "with guard.attempt('entry 7'): os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        assert -9 == subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60).returncode
    guard = CrashGuard(tmp_path, 2)
    with pytest.raises(Poisonous, match="entry 7: ended the process 2 times"), guard.attempt("entry 7"):
        pass
    with guard.attempt("entry 5"):
        pass
    guard.close()


def test_feedback_without_a_trace_is_stored_at_once(bench):
    """A log record with a judgement and no ids waits for no trace."""
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(time_unix_nano=5, event_name="gen_ai.evaluation.result")
    )
    for key, value in {"gen_ai.evaluation.name": "helpful", "gen_ai.response.id": "r1"}.items():
        record.attributes.add(key=key).value.string_value = value
    record.attributes.add(key="gen_ai.evaluation.score.value").value.double_value = 0.5
    bench.append(request, signal=Signal.LOGS)
    bench.run()
    assert [("helpful", 0.5)] == bench.query("SELECT name, score FROM feedback")
