"""What stands between the log and the store: readers, late records, resends, stops, full disks, wrong stores."""

import json
import resource
import subprocess
import threading

import duckdb
import grpc
import httpx
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from tests.e2e.receiver_process import (
    COMMAND,
    FAST,
    LOGS_EXPORT,
    TRACE_EXPORT,
    agent_trace,
    query,
    running,
    wait_for,
)


def send(receiver, request, method: str = TRACE_EXPORT) -> None:
    """One acknowledged request."""
    with grpc.insecure_channel(receiver.grpc) as channel:
        channel.unary_unary(method)(request.SerializeToString(), timeout=20)


def episodes(directory) -> list[tuple]:
    """Revision, steps and status of what the view shows."""
    return query(directory, "SELECT revision, num_steps, status FROM episodes ORDER BY started_at")


def test_acknowledgements_go_on_while_a_reader_holds_the_store(tmp_path):
    """A forgotten session delays what others see, never ingest; the log says who it is."""
    with running(tmp_path) as receiver:
        send(receiver, agent_trace(1))
        wait_for(lambda: len(episodes(tmp_path)) == 1, "the first episode")
        holder = duckdb.connect(str(tmp_path / "episodes.duckdb"), read_only=True)
        for number in range(2, 30):
            send(receiver, agent_trace(number))
        wait_for(lambda: "PID" in receiver.stderr.read_text() or "process" in receiver.stderr.read_text(), "a warning")
        wait_for(lambda: "episodes wait for the store" in receiver.stderr.read_text(), "a warning")
        assert [(1,)] == holder.execute("SELECT count(*) FROM episodes").fetchall()
        holder.close()
        wait_for(lambda: len(episodes(tmp_path)) == 29, "the other episodes")
        assert 0 == receiver.stop()


def test_the_receiver_starts_while_a_reader_holds_the_store(tmp_path):
    """Requests are acknowledged at once; they are in the store when the reader lets go."""
    with running(tmp_path) as receiver:
        send(receiver, agent_trace(1))
        assert 0 == receiver.stop()
    holder = duckdb.connect(str(tmp_path / "episodes.duckdb"), read_only=True)
    with running(tmp_path) as receiver:
        send(receiver, agent_trace(2))
        assert [(1,)] == holder.execute("SELECT count(*) FROM episodes").fetchall()
        holder.close()
        wait_for(lambda: len(episodes(tmp_path)) == 2, "both episodes")
        assert 0 == receiver.stop()


def test_a_late_span_gives_a_new_revision(tmp_path):
    """The model call arrives after the trace was closed with another one: the episode has both, as revision 2."""
    whole = agent_trace(1)
    late = agent_trace(1, with_root=False)
    second = late.resource_spans[0].scope_spans[0].spans[0]
    second.span_id, second.start_time_unix_nano = (77).to_bytes(8), 10**18 + 2000
    second.end_time_unix_nano = 10**18 + 3000
    history = [
        {"role": "user", "parts": [{"type": "text", "content": "question 1"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "look", "arguments": {}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "t1", "response": "seen"}]},
    ]
    call = whole.resource_spans[0].scope_spans[0].spans[1]
    output = [{"role": "assistant", "parts": history[1]["parts"], "finish_reason": "tool_calls"}]
    _set(call, "gen_ai.output.messages", json.dumps(output))
    _set(second, "gen_ai.input.messages", json.dumps(history))
    with running(tmp_path) as receiver:
        send(receiver, whole)
        wait_for(lambda: episodes(tmp_path) == [(1, 1, "incomplete")], "the first revision")
        send(receiver, late)
        wait_for(lambda: episodes(tmp_path) == [(2, 2, "ok")], "the second revision")
        assert 0 == receiver.stop()
    assert [(3,)] == query(tmp_path, "SELECT count(*) FROM store.spans")


def _set(span, key: str, value: str) -> None:
    (attribute,) = [item for item in span.attributes if item.key == key]
    attribute.value.string_value = value


def test_a_late_log_record_gives_a_new_revision(tmp_path):
    """The content of a call comes as an event after its trace was closed without it."""
    request = agent_trace(1)
    span = request.resource_spans[0].scope_spans[0].spans[1]
    content = {item.key: item.value.string_value for item in span.attributes if "messages" in item.key}
    kept = [item for item in span.attributes if "messages" not in item.key]
    del span.attributes[:]
    span.attributes.extend(kept)
    logs = ExportLogsServiceRequest()
    record = (
        logs.resource_logs.add()
        .scope_logs.add()
        .log_records.add(
            trace_id=span.trace_id,
            span_id=span.span_id,
            time_unix_nano=span.end_time_unix_nano,
            event_name="gen_ai.client.inference.operation.details",
        )
    )
    for key, value in content.items():
        record.attributes.add(key=key).value.string_value = value
    with running(tmp_path) as receiver:
        send(receiver, request)
        wait_for(lambda: [row[0] for row in episodes(tmp_path)] == [1], "the first revision")
        assert [("[]",)] == query(tmp_path, "SELECT CAST(messages AS VARCHAR) FROM decision_points")
        send(receiver, logs, LOGS_EXPORT)
        wait_for(lambda: [row[0] for row in episodes(tmp_path)] == [2], "the second revision")
        assert 0 == receiver.stop()
    ((messages, action),) = query(tmp_path, "SELECT messages, action FROM decision_points")
    assert "question 1" == json.loads(messages)[0]["content"]
    assert "fine" == json.loads(action)["content"]


def test_resent_requests_change_nothing(tmp_path):
    """The same request before and after its trace is closed: one revision, each span once, duplicates counted."""
    with running(tmp_path) as receiver:
        for _ in range(3):
            send(receiver, agent_trace(1))
        wait_for(lambda: len(episodes(tmp_path)) == 1, "the episode")
        send(receiver, agent_trace(1))
        send(receiver, agent_trace(2))
        wait_for(lambda: len(episodes(tmp_path)) == 2, "the other episode")

        def duplicates() -> bool:
            return "otel_receiver_duplicate_spans_total 6" in httpx.get(f"http://{receiver.http}/metrics").text

        wait_for(duplicates, "six duplicates")
        assert 0 == receiver.stop()
    assert [(1, 1, "ok"), (1, 1, "ok")] == episodes(tmp_path)
    assert [(4,)] == query(tmp_path, "SELECT count(*) FROM store.spans")


def test_everything_acknowledged_before_a_stop_is_stored(tmp_path):
    """SIGTERM while four clients send: exit code 0, and every acknowledged trace is in the store, without a restart."""
    acknowledged: set[int] = set()
    refused = set()

    def sender(first: int, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            for number in range(first, first + 100_000):
                try:
                    channel.unary_unary(TRACE_EXPORT)(agent_trace(number).SerializeToString(), timeout=5)
                except grpc.RpcError as error:
                    refused.add(error.code())
                    return
                acknowledged.add(number)

    with running(tmp_path) as receiver:
        threads = [threading.Thread(target=sender, args=(1 + k * 1_000_000, receiver.grpc)) for k in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(acknowledged) > 80, "acknowledgements")
        assert 0 == receiver.stop()
        for thread in threads:
            thread.join(30)
    stored = {int(row[0], 16) for row in query(tmp_path, "SELECT DISTINCT trace_id FROM store.spans")}
    assert set() == acknowledged - stored
    assert refused <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def test_a_full_disk_refuses_and_forgets_nothing(tmp_path):
    """At the kernel's limit on file sizes clients must retry; with room again every acknowledged span is there."""

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    acknowledged: set[int] = set()
    with running(tmp_path, FAST, small_files) as receiver:
        with grpc.insecure_channel(receiver.grpc) as channel:
            export = channel.unary_unary(TRACE_EXPORT)

            def send_until_refused() -> None:
                for number in range(1, 200):
                    export(agent_trace(number, answer="x" * 40_000).SerializeToString(), timeout=20)
                    acknowledged.add(number)

            with pytest.raises(grpc.RpcError) as refused:
                send_until_refused()
        assert grpc.StatusCode.UNAVAILABLE is refused.value.code()
        assert "free disk space" in refused.value.details()
        assert 20 < len(acknowledged) < 100
        receiver.kill()
    with running(tmp_path) as receiver:
        wait_for(lambda: len(episodes(tmp_path)) >= len(acknowledged), "all episodes")
        assert 0 == receiver.stop()
    stored = {int(row[0], 16) for row in query(tmp_path, "SELECT DISTINCT trace_id FROM store.spans")}
    assert acknowledged == stored


def failing(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command."""
    result = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


def test_a_second_receiver_on_one_log_is_told_who_has_it(tmp_path):
    """Also `import`, which would otherwise append to the same log."""
    with running(tmp_path) as receiver:
        store = str(tmp_path / "episodes.duckdb")
        code, error = failing("import", "--store", store, "README.md")
        assert (1, True) == (code, f"process {receiver.process.pid}" in error)
        assert "--log-dir" in error
        assert 0 == receiver.stop()


def test_a_store_of_another_log_is_refused(tmp_path):
    """A position means nothing in another log; the error says what belongs together."""
    with running(tmp_path) as receiver:
        send(receiver, agent_trace(1))
        assert 0 == receiver.stop()
    store = str(tmp_path / "episodes.duckdb")
    code, error = failing(
        "serve",
        "--store",
        store,
        "--log-dir",
        str(tmp_path / "other"),
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    )
    assert 1 == code
    assert "another ingest log" in error


@pytest.mark.parametrize("command", ["serve", "import", "status"])
def test_a_store_of_a_newer_schema_is_refused(tmp_path, command):
    """No command touches what it would misread; the error names the version and the remedy."""
    with running(tmp_path) as receiver:
        send(receiver, agent_trace(1))
        assert 0 == receiver.stop()
    store = tmp_path / "episodes.duckdb"
    with duckdb.connect(str(store)) as connection:
        connection.execute("UPDATE store.migrations SET version = 99")
    extra = {"serve": ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"], "import": ["pyproject.toml"], "status": []}
    code, error = failing(command, "--store", str(store), *extra[command])
    assert 1 == code
    assert "schema version 99" in error
    assert "upgrade spanloop" in error
