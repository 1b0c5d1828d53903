"""The generated code is what the contract of record gives."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ("episode_pb2.py", "episode_pb2.pyi")


@pytest.fixture(scope="module")
def regenerated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with freshly generated code."""
    target = tmp_path_factory.mktemp("generated")
    command = [sys.executable, "-m", "grpc_tools.protoc", "-Iproto", f"--python_out={target}", f"--pyi_out={target}"]
    subprocess.run([*command, "proto/spanloop/v1/episode.proto"], cwd=ROOT, check=True)
    return target / "spanloop" / "v1"


@pytest.mark.parametrize("name", GENERATED)
def test_committed_code_equals_generated_code(regenerated: Path, name: str):
    """Regenerating gives the committed bytes; after a change of episode.proto, run `make proto`."""
    assert (regenerated / name).read_bytes() == (ROOT / "proto" / "spanloop" / "v1" / name).read_bytes()


def test_every_field_of_the_contract_is_explained():
    """Each message, field, enum and value of episode.proto has a comment right above it."""
    lines = (ROOT / "proto" / "spanloop" / "v1" / "episode.proto").read_text(encoding="utf-8").splitlines()
    body = lines[lines.index("package spanloop.v1;") + 1 :]
    silent = [
        line
        for above, line in itertools.pairwise(body)
        if line.strip() not in ("", "}") and not line.strip().startswith("//") and not above.strip().startswith("//")
    ]
    assert [] == silent
