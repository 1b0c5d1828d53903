"""The example end to end: its spans through a real receiver, and the whole demo in its quick size."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from examples.mealworm.agent import Run
from examples.mealworm.demo import POLICY
from examples.mealworm.processes import receiver
from examples.mealworm.recording import production_requests, record, wait_until_stored
from examples.mealworm.tools import TOOLS
from examples.mealworm.tracing import AGENT_NAME
from spanloop.convert import message_to_chat, messages_from_chat, tools_to_chat
from trainer.grpo.policy import load_policy
from trainer.rollouts.in_process import InProcessSampler

ROOT = Path(__file__).parents[2]
DEMO = (sys.executable, "-m", "examples.mealworm.demo", "--quick", "--workspace")
RESULT_KEYS = {
    "baseline_mean", "tuned_mean", "gain_ci95", "baseline_greedy", "tuned_greedy", "clean_before", "clean_after",
    "num_heldout", "num_steps", "num_data_points", "seconds", "finish_before", "finish_after", "best_base_mean",
    "best_base_temperature", "relative_gain_low", "relative_gain_greedy_low", "by_turn", "by_habit", "controls",
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[Run, ...]]:
    """Ten episodes of the shipped policy, as the agent knows them and as the receiver stored them."""
    folder = tmp_path_factory.mktemp("recorded")
    store = folder / "episodes.duckdb"
    sampler = InProcessSampler(load_policy(POLICY, device="cpu"))
    requests = production_requests(10, seed=3)
    with receiver(store, folder / "log", folder / "receiver.log") as running:
        runs = record(sampler, running.endpoint, requests, seed=3)
        wait_until_stored(store, len(runs), running.check)
    return store, runs


def rows(store: Path, sql: str) -> list[tuple[object, ...]]:
    """The rows of a query."""
    with duckdb.connect(str(store), read_only=True) as connection:
        return connection.execute(sql).fetchall()


@pytest.mark.timeout(300)
def test_decision_points_are_what_the_agent_really_did(recorded: tuple[Path, tuple[Run, ...]]) -> None:
    """Every state, tool list, action and finish reason survives SDK, OTLP, receiver and store; nothing is added."""
    store, runs = recorded
    found = rows(store, "SELECT messages, tools, action, finish_reason, trainable, quality_flags FROM decision_points")
    stored = {json.dumps([messages_from_json(row[0]), json.loads(str(row[2]))], sort_keys=True): row for row in found}
    done = [action for run in runs for action in run.actions]
    assert len(done) == len(found)
    for action in done:
        state = [message_to_chat(message) for message in action.state]
        key = json.dumps([without_names(state), message_to_chat(action.message)], sort_keys=True)
        _, tools, _, finish_reason, trainable, flags = stored[key]
        assert tools_to_chat(TOOLS) == json.loads(str(tools))
        assert (action.finish_reason, True, []) == (finish_reason, trainable, flags)


def messages_from_json(text: object) -> list[dict[str, object]]:
    """Stored messages in chat form, without the tool names that the history of a span does not carry."""
    chats = [message_to_chat(message) for message in messages_from_chat(json.loads(str(text)))]
    return without_names(chats)


def without_names(chats: list[dict[str, object]]) -> list[dict[str, object]]:
    """Tool messages without the name of their tool: OpenInference carries only the call id."""
    return [{key: value for key, value in chat.items() if key != "name"} for chat in chats]


@pytest.mark.timeout(300)
def test_episodes_belong_to_their_users(recorded: tuple[Path, tuple[Run, ...]]) -> None:
    """One episode per request; conversation and user are the profile; token counts and calls add up."""
    store, runs = recorded
    found = rows(store, "SELECT conversation_id, user_id, agent_name, num_steps, num_tool_calls, dialect FROM episodes")
    expected = []
    for run in runs:
        user = run.task.request.profile.user_id
        calls = sum(len(action.message.tool_calls) for action in run.actions)
        expected.append((user, user, AGENT_NAME, len(run.actions), calls, "openinference"))
    assert sorted(expected) == sorted(found)


def processes_of(folder: Path) -> list[int]:
    """Processes with this folder in their command line, our own excepted."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in command:
                found.append(int(entry.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_quick_demo_runs_to_its_end(tmp_path: Path) -> None:
    """From nothing to a table and a result file, with no process left behind."""
    folder = tmp_path / "demo"
    done = subprocess.run(
        [*DEMO, str(folder), "--control", "shuffled"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr[-3000:]
    result = json.loads((folder / "result.json").read_text())
    assert set(result) >= RESULT_KEYS
    assert (2, 32) == (result["num_steps"], result["num_data_points"])
    assert 0 < result["baseline_mean"] <= 1
    assert 0 < result["num_heldout"] <= 60
    assert 1 == len(result["controls"])
    assert "recorded" in done.stdout
    assert "closed loop" in done.stdout
    assert "the base at its best temperature" in done.stdout
    assert {"turn 0", "skip_history"} <= {line.split("  ")[0] for line in done.stdout.splitlines()}
    assert Path(done.stdout.split("report: ")[1].splitlines()[0]).is_file()
    assert [] == processes_of(folder)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the demo and the receiver it started, also where a shell had SIGINT ignored."""
    folder = tmp_path / "demo"
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *DEMO, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        wait_for(lambda: len(processes_of(folder)) >= 2 and (folder / "episodes.duckdb.log").is_dir())
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode not in {0, None}
    wait_for(lambda: not processes_of(folder), timeout_s=10)
    assert not (folder / "result.json").exists()


def wait_for(condition, timeout_s: float = 120.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def test_a_missing_base_policy_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shipped policy the demo says how to make one, before it starts anything."""
    from examples.mealworm import demo
    from examples.mealworm.processes import DemoError

    monkeypatch.setattr(demo, "POLICY", tmp_path / "nowhere")
    with pytest.raises(DemoError, match="make_base_policy"):
        demo.demo(tmp_path / "demo", demo.QUICK, seed=0, control=None)
