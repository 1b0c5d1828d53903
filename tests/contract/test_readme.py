"""README does what it says: its commands parse, its queries run, its files and targets exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pytest

from otel_receiver.cli import main as receiver
from trainer.cli import main as trainer

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = {"otel-receiver": receiver, "trainer": trainer}


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[list[str]]:
    """Every command line of our programs in README, without its comment."""
    lines = [line for block in blocks("console") for line in block.splitlines()]
    lines += re.findall(r"`((?:otel-receiver|trainer) [^`]+)`", README)
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0] in PROGRAMS]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_each_command_parses(words: list[str]):
    """The subcommand and every option README shows exist, and the arguments are accepted."""
    group = PROGRAMS[words[0]]
    command = group.commands[words[1]]
    parameters = {option for parameter in command.params for option in parameter.opts}
    assert set() == {word for word in words[2:] if word.startswith("--")} - parameters
    positional = any(isinstance(parameter, click.Argument) for parameter in command.params)
    assert positional or not words[2:] or words[2].startswith("-")


def test_both_programs_are_shown():
    """The commands were really found in the text."""
    assert {"otel-receiver", "trainer"} == {words[0] for words in commands()}
    assert len(commands()) >= 10


def test_the_queries_run(tmp_path: Path):
    """Every SQL block runs on a store made from captured payloads, and the main ones return rows."""
    store = tmp_path / "episodes.duckdb"
    payloads = sorted(str(path) for path in (ROOT / "tests/golden/payloads").glob("oi_openai*.pb"))
    program = "from otel_receiver.cli import main; main()"
    subprocess.run([sys.executable, "-c", program, "import", "--store", str(store), *payloads], check=True)
    with duckdb.connect(str(store), read_only=True) as connection:
        answers = [
            connection.sql(query).fetchall() for block in blocks("sql") for query in block.split(";") if query.strip()
        ]
    assert 5 == len(answers)
    assert all(answers[:4])


def test_the_first_two_commands_are_make_targets():
    """A stranger needs `make demo` and `make test`, and nothing before them."""
    first = [line.split("#")[0].split() for line in blocks("console")[0].splitlines()]
    assert [["make", "demo"], ["make", "test"]] == first
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert {"demo", "test", "check", "bench", "clean"} <= set(targets)


def test_the_tree_names_real_files():
    """Each path of the annotated tree exists."""
    missing, folder = [], ""
    for line in blocks("text")[3].splitlines():
        name = re.split(r"\s{2,}", line.strip())[0]
        for word in name.split():
            folder = word if not line.startswith(" ") and word.endswith("/") else folder
            path = ROOT / word if not line.startswith(" ") else ROOT / folder / word
            missing += [] if path.exists() else [str(path.relative_to(ROOT))]
    assert [] == missing


def test_documents_named_in_readme_exist():
    """Files README points to are there."""
    named = re.findall(r"`((?:docs|examples|benchmarks)/[a-z0-9_./-]+)`", README)
    assert [] == [name for name in named if not (ROOT / name).exists()]
    assert named


def test_the_tests_named_in_the_architecture_exist():
    """Each invariant of ARCHITECTURE.md names a test that is there."""
    architecture = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[a-z_/.]+)`", architecture)
    assert [] == [name for name in named if not (ROOT / name).exists()]
    assert len(named) >= 7
