"""A DuckDB file with the receiver's public views, filled by hand, and a tiny policy that can answer at its points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb

from spanloop.convert import messages_to_chat, tool_to_chat
from tests.unit.trainer.factories import SEARCH, call, calls, says, user
from tests.unit.trainer.rollouts.models import byte_tokenizer, small_model

EPISODES = """CREATE TABLE episodes (episode_id VARCHAR, revision INTEGER, conversation_id VARCHAR, user_id VARCHAR,
  agent_name VARCHAR, service_name VARCHAR, model VARCHAR, dialect VARCHAR, started_at TIMESTAMP, ended_at TIMESTAMP,
  status VARCHAR, end_reason VARCHAR, num_steps BIGINT, num_tool_calls BIGINT, input_tokens BIGINT,
  output_tokens BIGINT, quality_flags VARCHAR[])"""
POINTS = """CREATE TABLE decision_points (episode_id VARCHAR, step_index INTEGER, conversation_id VARCHAR,
  agent_name VARCHAR, model VARCHAR, dialect VARCHAR, messages JSON, tools JSON, action JSON, finish_reason VARCHAR,
  trainable BOOLEAN, quality_flags VARCHAR[], trace_id VARCHAR, span_id VARCHAR, started_at TIMESTAMP)"""

STARTED = "2026-11-01 10:00:00"


def make_store(path: Path, episode_ids: Sequence[str] = (), *, num_steps: int = 2) -> Path:
    """A file with the columns and types of the public views, and these episodes."""
    with duckdb.connect(str(path)) as connection:
        connection.execute(EPISODES)
        connection.execute(POINTS)
    for episode_id in episode_ids:
        add_episode(path, episode_id, num_steps=num_steps)
    return path


def add_episode(
    path: Path,
    episode_id: str,
    *,
    num_steps: int = 2,
    revision: int = 1,
    agent: str = "planner",
    started: str = STARTED,
    ask: str = "",
    broken_step: int | None = None,
) -> None:
    """Write an episode, in place of its earlier revision: a search in each step, an answer in the last."""
    history = [user(ask or f"plan for {episode_id}")]
    with duckdb.connect(str(path)) as connection:
        connection.execute("DELETE FROM episodes WHERE episode_id = ?", [episode_id])
        connection.execute("DELETE FROM decision_points WHERE episode_id = ?", [episode_id])
        connection.execute(
            "INSERT INTO episodes BY NAME SELECT ? AS episode_id, ? AS revision, ? AS conversation_id, "
            "? AS agent_name, 'openinference' AS dialect, ? :: TIMESTAMP AS started_at, 'ok' AS status, ? AS num_steps",
            [episode_id, revision, f"conversation-{episode_id}", agent, started, num_steps],
        )
        for step in range(num_steps):
            last = step == num_steps - 1
            action = says("Done.") if last else calls(call("search", json.dumps({"query": f"q{step}"})))
            messages = "[{}]" if step == broken_step else json.dumps(messages_to_chat(history))
            connection.execute(
                "INSERT INTO decision_points VALUES (?, ?, ?, ?, 'gpt', 'openinference', ?, ?, ?, ?, true, ?, ?, ?, ?)",
                [
                    episode_id, step, f"conversation-{episode_id}", agent, messages,
                    json.dumps([tool_to_chat(SEARCH)]), json.dumps(messages_to_chat([action])[0]),
                    "stop" if last else "tool_calls", ["retried"] if step else [],
                    f"{step:032x}", f"{step:016x}", started,
                ],
            )  # fmt: skip
            history += [action, user(f"result {step}")]


def make_base(folder: Path) -> Path:
    """A random policy of two layers with a byte tokenizer, as a directory transformers loads."""
    small_model(context=1024).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


LENIENT = '''
"""Checks a random policy sometimes passes."""


def has_letter(answer, letter="e"):
    """The share of a few letters in the text: random bytes differ in it."""
    text = answer.message.text.lower()
    return min(1.0, sum(text.count(each) for each in letter) / 4)


def starts_low(answer):
    """Whether the first byte is below the middle."""
    text = answer.message.text
    return None if not text else float(ord(text[0]) < 110)
'''

SPEC = """
name = "letters"
[[criteria]]
name = "letters"
check = "python:letter_checks:has_letter"
weight = 2.0
parameters = { letter = "aeiouAEIOU0123456789" }
[[criteria]]
name = "low"
check = "python:letter_checks:starts_low"
[[criteria]]
name = "says_something"
check = "answer_not_empty"
weight = 0.5
[[gates]]
criterion = "says_something"
threshold = 1.0
cap = 0.0
"""


def make_run_file(folder: Path, base: Path, **train: object) -> Path:
    """A run of two steps that takes seconds, with its reward specification beside it."""
    (folder / "letter_checks.py").write_text(LENIENT, encoding="utf-8")
    (folder / "rewards.toml").write_text(SPEC, encoding="utf-8")
    settings = {
        "max_steps": 2, "points_per_step": 4, "num_generations": 4, "max_completion_length": 12,
        "learning_rate": 0.02, "optim": "sgd", **train,
    }  # fmt: skip
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = (
        f'[policy]\nbase = {json.dumps(str(base))}\ndevice = "cpu"\n[reward]\nspec = "rewards.toml"\n'
        "[data]\nvalidation = 0.2\nheldout = 0.3\nseed = 1\n"
        "[eval]\nnum_samples = 2\nbase_temperatures = [0.5]\nvalidation_points = 4\nbootstrap_samples = 200\n"
        "[train]\n" + "\n".join(lines) + "\n"
    )
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path
