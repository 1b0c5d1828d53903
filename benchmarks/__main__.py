"""Run every benchmark and print its ratios: `python -m benchmarks [NAME ...]`.

Each one runs in a process of its own, so that one's memory and threads do not sit on another's figures.
"""

import os
import subprocess
import sys
from pathlib import Path

NAMES = ("ingest", "dialects", "views", "rollouts", "update")


def _environment() -> dict[str, str]:
    """Ours, with threads that spin while they wait: a benchmark has the machine to itself, and so have its peers."""
    return {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}


def main(arguments: list[str]) -> int:
    """The number of benchmarks that failed."""
    unknown = sorted(set(arguments) - set(NAMES))
    if unknown:
        sys.exit(f"benchmarks: no benchmark named {', '.join(unknown)}; choose from {', '.join(NAMES)}")
    failed = 0
    for name in arguments or NAMES:
        sys.stdout.write(f"\n== {name}\n")
        sys.stdout.flush()
        command = [sys.executable, "-m", f"benchmarks.{name}"]
        run = subprocess.run(command, cwd=Path(__file__).parents[1], env=_environment(), check=False)
        failed += run.returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
