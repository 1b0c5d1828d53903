"""Rules of the layout that import-linter cannot see."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RAW_KEY = re.compile(
    r"""["'](gen_ai|llm|openinference|traceloop|langfuse|langsmith|mlflow|gcp\.vertex|ai\.(prompt|response|toolCall))\."""
)


def tracked_files(*patterns: str) -> list[Path]:
    """Files git knows or would add, so that a stranger's leftovers do not matter."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_raw_attribute_names_stay_in_the_dialects():
    """Outside `dialects/`, no module of the two programs names an attribute of an instrumentation."""
    offenders = [
        f"{path.relative_to(ROOT)}: {match.group(0)}"
        for path in tracked_files("otel_receiver/*.py", "trainer/*.py", "proto/*.py")
        if "dialects" not in path.parts
        for match in RAW_KEY.finditer(path.read_text(encoding="utf-8"))
    ]
    assert [] == offenders


def test_proto_is_a_source_root_and_no_package():
    """`proto` is the import name of proto-plus; an `__init__.py` there would shadow it."""
    assert not (ROOT / "proto" / "__init__.py").exists()


@pytest.mark.parametrize("program", ["otel_receiver", "trainer", "proto/spanloop"])
def test_files_and_functions_stay_small(program: str):
    """No file of the programs is longer than 400 lines and no function longer than 70."""
    import ast

    offenders = []
    for path in tracked_files(f"{program}/*.py"):
        if path.name.endswith("_pb2.py"):
            continue
        source = path.read_text(encoding="utf-8")
        if source.count("\n") > 400:
            offenders.append(f"{path.relative_to(ROOT)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno - node.lineno + 1 > 70:
                offenders.append(f"{path.relative_to(ROOT)}:{node.name}: {node.end_lineno - node.lineno + 1} lines")
    assert [] == offenders


def test_nothing_is_loaded_from_pickles():
    """Weights and state are safetensors and JSON: no module unpickles, torch.load reads weights only."""
    offenders = []
    for path in tracked_files("otel_receiver/*.py", "trainer/*.py", "proto/*.py", "examples/*.py"):
        text = path.read_text(encoding="utf-8")
        if re.search(r"^\s*(import|from) (pickle|dill|cloudpickle|joblib)\b", text, re.M):
            offenders.append(f"{path.relative_to(ROOT)}: imports a pickle module")
        offenders += [
            f"{path.relative_to(ROOT)}: {call}"
            for call in re.findall(r"torch\.load\([^\n]*", text)
            if "weights_only=True" not in call
        ]
    assert [] == offenders


def test_no_machine_of_ours_shows_through():
    """No tracked file names an absolute path of one machine."""
    pattern = re.compile(r"(^|[^A-Za-z0-9_.-])/(home|root|tmp|work)/[a-z]")
    offenders = []
    for path in tracked_files("*.py", "*.md", "*.toml", "*.yaml", "*.sql", "*.proto", "Makefile", ".ci/run"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if pattern.search(line) and "pattern = re.compile" not in line:
                offenders.append(f"{path.relative_to(ROOT)}:{number}")
    assert [] == offenders
