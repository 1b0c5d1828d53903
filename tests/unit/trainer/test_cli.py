"""The command line: quick help without heavy imports, exit codes, usage errors, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from tests.unit.trainer.factories import write
from tests.unit.trainer.stores import make_store
from trainer.cli import main

COMMANDS = ("pull", "score", "train", "eval", "report", "watch", "promote", "rollback", "runs")


def run(*arguments: object):
    """The result of a command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def test_help_takes_less_than_a_second_and_imports_nothing_heavy():
    """No torch, art, transformers or duckdb before the arguments are parsed."""
    code = (
        "import sys\nfrom trainer.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'art', 'transformers', 'duckdb', 'pyarrow', 'numpy', 'jinja2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1, seconds
    assert all(command in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_json(command):
    """`--help` shows how to call it."""
    result = run(command, "--help")
    assert f"Example: trainer {command}" in " ".join(result.output.split())
    assert "--json" in result.output


def test_wrong_usage_is_2_and_failure_1(tmp_path):
    """Scripts can tell a typo from a failed command."""
    assert 2 == run("pull").exit_code
    assert 2 == run("nonsense").exit_code
    assert 2 == run("train", "--set", "train.seed", "--workspace", tmp_path).exit_code
    assert 2 == run("train", "--control", "random", "--workspace", tmp_path).exit_code
    failed = run("runs", "--workspace", tmp_path)
    assert (1, "") == (failed.exit_code, failed.stdout)
    assert failed.stderr.startswith("error: no workspace in")


def test_an_unknown_key_fails_with_the_nearest_one(tmp_path):
    """From a file and from a flag."""
    file = write(tmp_path / "run.toml", "[train]\nlearning_rat = 1\n")
    assert "did you mean train.learning_rate?" in run("train", "--config", file, "--print-config").stderr
    assert "did you mean train.max_steps?" in run("train", "--set", "train.max_step=1", "--print-config").stderr


def test_print_config_shows_every_value_and_trains_nothing(tmp_path):
    """Flags over file over defaults, as JSON."""
    file = write(tmp_path / "run.toml", "[train]\nseed = 3\nmax_steps = 9\n")
    shown = json.loads(run("train", "--config", file, "--steps", 2, "--print-config", "--workspace", tmp_path).stdout)
    assert (3, 2, 64) == (shown["train"]["seed"], shown["train"]["max_steps"], shown["train"]["points_per_step"])
    assert [file] == list(tmp_path.iterdir())


def test_a_resumed_run_takes_no_settings(tmp_path):
    """It keeps the configuration it was started with."""
    run("pull", "--from", make_store(tmp_path / "e.duckdb"), "--workspace", tmp_path / "ws")
    result = run("train", "--resume", "--steps", 9, "--workspace", tmp_path / "ws")
    assert (2, True) == (result.exit_code, "a resumed run keeps its configuration" in result.stderr)
    assert "no runs in" in run("train", "--resume", "--workspace", tmp_path / "ws").stderr


def test_pull_prints_what_it_did(tmp_path):
    """As a sentence and as JSON."""
    store = make_store(tmp_path / "e.duckdb", ["a", "b"])
    said = run("pull", "--from", store, "--workspace", tmp_path / "ws").stdout
    assert "2 new episodes, 0 revised, 0 unchanged; 4 decision points added, 0 refused\n" == said
    as_json = json.loads(run("pull", "--from", store, "--workspace", tmp_path / "ws", "--json").stdout)
    assert (0, 2) == (as_json["episodes_new"], as_json["episodes_unchanged"])


def test_training_without_what_it_needs_says_what_is_missing(tmp_path):
    """No reward specification, no base policy, no points: each before anything is started."""
    workspace = tmp_path / "ws"
    run("pull", "--from", make_store(tmp_path / "e.duckdb", ["a"]), "--workspace", workspace)
    spec = write(tmp_path / "rewards.toml", '[[criteria]]\nname = "done"\ncheck = "finished"\n')
    said = [
        run("train", "--workspace", workspace).stderr,
        run("train", "--reward", spec, "--workspace", workspace).stderr,
        run("train", "--reward", spec, "--base", tmp_path, "--set", "data.heldout=0", "--set", "data.validation=0",
            "--workspace", workspace).stderr,
    ]  # fmt: skip
    assert "no reward specification; set reward.spec" in said[0]
    assert "no base policy at None; set policy.base" in said[1]
    assert "2 distinct points to train on, but train.points_per_step is 64" in said[2]
    assert "[]" == run("runs", "--json", "--workspace", workspace).stdout.strip()
