"""The command line: what it prints where, its exit codes, and errors that name thing, value and remedy."""

import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from google.protobuf import json_format

from otel_receiver.cli import main
from tests.e2e.receiver_process import agent_trace
from tests.unit.otel_receiver.front import logs_request

COMMANDS = ["serve", "import", "status", "replay"]


def run(*arguments: object) -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def write(directory: Path, name: str, data: bytes) -> Path:
    """A file."""
    path = directory / name
    path.write_bytes(data)
    return path


def traces(directory: Path, *numbers: int) -> list[Path]:
    """A protobuf file for each trace."""
    return [write(directory, f"{number}.pb", agent_trace(number).SerializeToString()) for number in numbers]


def episodes(store: Path) -> list[str]:
    """Conversations in the store."""
    with duckdb.connect(str(store), read_only=True) as connection:
        return [row[0] for row in connection.execute("SELECT conversation_id FROM episodes ORDER BY 1").fetchall()]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_a_sentence_and_has_an_example(command):
    """Every command says what it does and shows how."""
    text = run(command, "--help").output
    assert "Example:" in text
    assert f"otel-receiver {command}" in text
    sentence = text.split("\n\n")[1].strip()
    assert sentence[0].isupper()
    assert "." in sentence


def test_help_is_fast_and_imports_nothing_heavy():
    """`--help` takes less than a second: no duckdb, grpc, protobuf or SDK is imported for it."""
    code = (
        "import sys; from otel_receiver.cli import main\n"
        "try: main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(name for name in ('duckdb', 'grpc', 'google.protobuf', 'opentelemetry', 'pyarrow') "
        "if name in sys.modules), file=sys.stderr)"
    )
    began = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "[]" == result.stderr.strip()
    assert time.monotonic() - began < 5


def test_import_brings_every_episode_into_the_store(tmp_path):
    """Data on stdout, nothing but logs on stderr, exit code 0; a second import writes nothing."""
    files, store = traces(tmp_path, 1, 2), tmp_path / "e.duckdb"
    result = run("import", "--store", store, *files)
    assert (0, ["c1", "c2"]) == (result.exit_code, episodes(store))
    assert "2 episodes written, 2 in the store, " in result.stdout
    again = run("import", "--store", store, "--json", *files)
    report = json.loads(again.stdout)
    assert (0, 2, [2, 2]) == (report["episodes_written"], report["num_episodes"], [f["spans"] for f in report["files"]])


def test_import_reads_the_collectors_file_exporter(tmp_path):
    """JSON lines, gzipped; hex ids."""
    documents = [json.loads(json_format.MessageToJson(agent_trace(number), indent=None)) for number in (1, 2)]
    for number, document in enumerate(documents, 1):
        for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            span["traceId"] = f"{number:032x}"
            span["spanId"] = f"{2 * number + span['name'].startswith('chat'):016x}"
            span.pop("parentSpanId", None)
    lines = "\n".join(json.dumps(document) for document in documents).encode()
    store = tmp_path / "e.duckdb"
    result = run("import", "--store", store, write(tmp_path, "x.jsonl.gz", gzip.compress(lines)))
    assert (0, ["c1", "c2"]) == (result.exit_code, episodes(store))


def test_a_bad_file_keeps_no_good_one_out(tmp_path):
    """A missing file, a file that is no OTLP, a bad line and a bad id: exit code 1, each named; the good are stored."""
    bad_id = agent_trace(2)
    bad_id.resource_spans[0].scope_spans[0].spans[0].trace_id = b"abc"
    store = tmp_path / "e.duckdb"
    result = run(
        "import",
        "--store",
        store,
        tmp_path / "missing.pb",
        write(tmp_path, "text.pb", b"hello world, no OTLP"),
        write(tmp_path, "lines.jsonl", b'{"resourceSpans": []}\n{broken\n'),
        write(tmp_path, "id.pb", bad_id.SerializeToString()),
        *traces(tmp_path, 1),
    )
    assert (1, ["c1", "c2"]) == (result.exit_code, episodes(store))
    for words in (
        "missing.pb: not found; check the path",
        "text.pb: the file: no OTLP request",
        "lines.jsonl: line 2: not JSON",
        "id.pb: 1 refused: trace_id is 3 bytes, must be 16",
    ):
        assert words in result.stderr


def test_replay_derives_the_same_and_leaves_the_log(tmp_path):
    """A new store from the log equals the old one; an existing store is not touched."""
    files, store = traces(tmp_path, 1, 2, 3), tmp_path / "e.duckdb"
    run("import", "--store", store, *files, write(tmp_path, "l.pb", logs_request("a").SerializeToString()))
    log, again = tmp_path / "e.duckdb.log", tmp_path / "again.duckdb"
    before = {path.name: path.read_bytes() for path in log.iterdir() if path.name != "working-on"}
    assert 0 == run("replay", "--log-dir", log, "--store", again, "--json").exit_code
    assert before == {path.name: path.read_bytes() for path in log.iterdir() if path.name != "working-on"}
    sql = "SELECT * EXCLUDE (written_at) FROM store.episodes ORDER BY episode_id"
    rows = []
    for path in (store, again):
        with duckdb.connect(str(path), read_only=True) as connection:
            rows.append(connection.execute(sql).fetchall())
    assert 3 == len(rows[0])
    assert rows[0] == rows[1]
    refused = run("replay", "--log-dir", log, "--store", store)
    assert (1, True) == (refused.exit_code, "exists; replay writes a new file" in refused.stderr)
    missing = run("replay", "--log-dir", tmp_path / "nothing", "--store", tmp_path / "x.duckdb")
    assert (1, True) == (missing.exit_code, "holds no ingest log" in missing.stderr)


def test_status_says_what_arrived_and_how_to_fix_the_sender(tmp_path):
    """A sender without content gets the switch of its dialect; JSON has the same."""
    request = agent_trace(1)
    span = request.resource_spans[0].scope_spans[0].spans[1]
    kept = [item for item in span.attributes if "messages" not in item.key]
    del span.attributes[:]
    span.attributes.extend(kept)
    store = tmp_path / "e.duckdb"
    run("import", "--store", store, write(tmp_path, "x.pb", request.SerializeToString()))
    text = run("status", "--store", store).stdout
    assert "1 episodes of 1 conversations, 1 steps (0 trainable)" in text
    assert "! content_missing x 1: Set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=" in text
    report = json.loads(run("status", "--store", store, "--json").stdout)
    flags = {flag["flag"]: flag["blocking"] for sender in report["store"]["senders"] for flag in sender["flags"]}
    assert flags["content_missing"] is True
    remedies = {flag["flag"]: flag["remedy"] for sender in report["store"]["senders"] for flag in sender["flags"]}
    assert "CAPTURE_MESSAGE_CONTENT" in remedies["content_missing"]
    assert 0 == report["log"]["uncommitted_bytes"]
    assert report["log"]["size_bytes"] > 0
    assert [None] == [sender["remedy"] for sender in report["store"]["senders"]]


def test_status_says_when_a_service_reports_no_model_call(tmp_path):
    """Agents and tools without any model call make no episode; the operator is told what is not instrumented."""
    payload = Path(__file__).parents[2] / "golden" / "payloads" / "oi_crewai_alone.traces.pb"
    store = tmp_path / "e.duckdb"
    run("import", "--store", store, payload)
    text = run("status", "--store", store).stdout
    assert "8 spans, no steps" in text
    assert "! no span of this service reports a model call" in text
    report = json.loads(run("status", "--store", store, "--json").stdout)
    assert "instrument the model's client" in report["store"]["senders"][0]["remedy"]


def test_status_says_whose_calls_were_merged_with_anothers(tmp_path):
    """A sender whose calls are all told more fully by another has no steps, and the line says where they went."""
    payload = Path(__file__).parents[2] / "golden" / "payloads" / "double.traces.pb"
    store = tmp_path / "e.duckdb"
    run("import", "--store", store, payload)
    lines = run("status", "--store", store).stdout.splitlines()
    (merged,) = (line for line in lines if "openinference.instrumentation.openai" in line)
    assert "2 spans, no steps of its own, 2 calls told more fully by another span and merged with it" in merged
    (told,) = (line for line in lines if "opentelemetry.instrumentation.openai.v1" in line)
    assert told.endswith("2 spans, 100% of 2 steps trainable")


def test_wrong_usage_and_wrong_paths_have_their_exit_codes(tmp_path):
    """2 for usage, 1 for failures, with the remedy."""
    assert 2 == run("import", "--store", tmp_path / "e.duckdb").exit_code
    assert 2 == run("serve", "--no-such-option").exit_code
    missing = run("status", "--store", tmp_path / "none.duckdb")
    assert (1, True) == (missing.exit_code, "run `otel-receiver serve` first" in missing.stderr)
    config = tmp_path / "c.toml"
    config.write_text("[buffer]\nquite_s = 1\n")
    wrong = run("serve", "--config", config)
    assert (1, True) == (wrong.exit_code, "did you mean 'quiet_s'" in wrong.stderr)
    for address, words in (("nonsense", "not host:port"), ("0.0.0.0:0", "others can reach it")):
        store = tmp_path / f"{words[0]}.duckdb"
        bad = run("serve", "--store", store, "--grpc", address, "--http", "127.0.0.1:0")
        assert (1, True) == (bad.exit_code, words in bad.stderr)


def test_a_store_that_is_no_store_is_left_alone(tmp_path):
    """Another program's file is refused, not changed."""
    foreign = tmp_path / "e.duckdb"
    with duckdb.connect(str(foreign)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    before = foreign.read_bytes()
    result = run("import", "--store", foreign, *traces(tmp_path, 1))
    assert (1, True) == (result.exit_code, "another program" in result.stderr)
    assert before == foreign.read_bytes()
    shutil.rmtree(tmp_path / "e.duckdb.log")
    text = write(tmp_path, "text.duckdb", b"this is no database at all, only text" * 50)
    result = run("import", "--store", text, *traces(tmp_path, 1))
    assert (1, True) == (result.exit_code, "--store" in result.stderr)
