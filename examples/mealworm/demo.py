"""The whole loop, running: `python -m examples.mealworm.demo`.

An agent works for many users and exports its spans to a receiver; the trainer pulls the episodes, takes four GRPO steps
on 256 decision points, and is evaluated on conversations it has not seen. The programs are those of the product, and
every number is measured in this run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from examples.mealworm.closed_loop import ClosedLoop, closed_loop
from examples.mealworm.outcome import AT_ONE, GREEDY, Results, control_summary, details, last_checkpoint, summary, table
from examples.mealworm.processes import DemoError, receiver, run, stop_on_signals
from examples.mealworm.recording import production_requests, record, sample_of, wait_until_stored
from trainer.grpo.policy import load_policy
from trainer.rollouts.in_process import InProcessSampler

HERE = Path(__file__).parent
POLICY = HERE / "policy"
DEFAULT_WORKSPACE = Path(".spanloop/demo")
OWN_FILES = ("episodes.duckdb", "episodes.duckdb.wal", "episodes.duckdb.log", "trainer", "receiver.log", "result.json")
"""What an earlier demo left in its folder, and this one replaces; nothing else there is touched."""
NUM_CONTROLS = 3
SHUFFLED = "shuffled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much the demo does."""

    num_episodes: int
    num_closed_loop: int
    """Episodes of held-out users before and after, at each temperature; with 200, one more that finishes is 0.005."""
    run_file: Path
    num_controls: int


FULL = Size(num_episodes=600, num_closed_loop=1000, run_file=HERE / "run.toml", num_controls=NUM_CONTROLS)
QUICK = Size(num_episodes=60, num_closed_loop=20, run_file=HERE / "quick.toml", num_controls=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where the demo puts things."""

    folder: Path

    @property
    def store(self) -> Path:
        """The receiver's episodes."""
        return self.folder / "episodes.duckdb"

    @property
    def workspace(self) -> Path:
        """The trainer's workspace."""
        return self.folder / "trainer"


def main() -> None:
    """Run the demo; exit code 1 and one line when something it needs fails."""
    options = _options()
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    stop_on_signals()
    try:
        demo(options.workspace, QUICK if options.quick else FULL, seed=options.seed, control=options.control)
    except DemoError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; everything it started has ended")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.mealworm.demo", description=__doc__)
    parser.add_argument("--workspace", type=Path, default=DEFAULT_WORKSPACE, help="folder for everything it writes")
    parser.add_argument("--seed", type=int, default=2026, help="of users, worlds, sampling and training")
    parser.add_argument("--control", choices=[SHUFFLED], help="also train on shuffled rewards, which must not help")
    parser.add_argument("--quick", action="store_true", help="a small run that shows only that every part works")
    return parser.parse_args()


def demo(folder: Path, size: Size, *, seed: int, control: str | None) -> None:
    """The whole loop in order: record, pull, train, evaluate, report."""
    started = time.monotonic()
    paths = Paths(folder=folder)
    _prepare(paths)
    _record(paths, size, seed)
    say("3. The trainer pulls the episodes, trains, and is evaluated on held-out conversations.")
    run("trainer", "pull", "--from", str(paths.store), "--workspace", str(paths.workspace), "--json")
    run_id = _train(paths, size, seed, pool="heldout")
    report = json.loads(run("trainer", "report", "--run", run_id, "--workspace", str(paths.workspace), "--json"))[
        "path"
    ]
    say("4. Base and tuned policy work for held-out users, from request to answer.")
    loop = _closed_loop(paths, run_id, size, seed)
    controls = _controls(paths, size, seed) if control else []
    results = Results(paths.workspace, run_id, "heldout")
    seconds = round(time.monotonic() - started, 1)
    found = {**summary(results), **_closed_loop_numbers(loop), "controls": controls, "seconds": seconds}
    target = paths.folder / "result.json"
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    say(f"\n{table(results)}\n\n{details(results)}\n\n{loop.table()}\n")
    say(f"report: {report}\nresult: {target}   ({seconds:.0f} s)")


def say(text: str) -> None:
    """Print at once, so that the text stands before the next program's progress bar."""
    print(text, flush=True)


def _prepare(paths: Paths) -> None:
    if not (POLICY / "model.safetensors").is_file():
        raise DemoError(f"no base policy in {POLICY}; make one with `python -m examples.mealworm.make_base_policy`")
    paths.folder.mkdir(parents=True, exist_ok=True)
    for name in OWN_FILES:
        old = paths.folder / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)


def _record(paths: Paths, size: Size, seed: int) -> None:
    say(f"1. The agent works for its users and exports {size.num_episodes} episodes to otel-receiver.")
    sampler = InProcessSampler(load_policy(POLICY, device="cpu"))
    requests = production_requests(size.num_episodes, seed)
    with receiver(paths.store, paths.folder / "episodes.duckdb.log", paths.folder / "receiver.log") as running:
        record(sampler, running.endpoint, requests, seed=seed)
        wait_until_stored(paths.store, len(requests), running.check)
        say(f"2. What the receiver made of them, in {paths.store}:\n\n{sample_of(paths.store)}")


def _train(paths: Paths, size: Size, seed: int, *, pool: str, control: str | None = None) -> str:
    where = ("--workspace", str(paths.workspace))
    flags = ("--control", control) if control else ()
    output = run("trainer", "train", "--config", str(size.run_file), "--seed", str(seed), *flags, *where, "--json")
    run_id = str(json.loads(output)["run_id"])
    run("trainer", "eval", "--run", run_id, "--pool", pool, *where, "--json")
    return run_id


def _closed_loop(paths: Paths, run_id: str, size: Size, seed: int) -> ClosedLoop:
    checkpoint = last_checkpoint(paths.workspace, run_id)
    return closed_loop(POLICY, checkpoint, paths.workspace, run_id, num_episodes=size.num_closed_loop, seed=seed)


def _closed_loop_numbers(loop: ClosedLoop) -> dict[str, float]:
    """Rates at temperature 1 under the plain names, greedy ones beside them."""
    numbers = {}
    for suffix, label in (("", "T = 1"), ("_greedy", "greedy")):
        for when, measured in (("before", loop.before[label]), ("after", loop.after[label])):
            numbers[f"clean{suffix}_{when}"] = measured.clean
            numbers[f"finish{suffix}_{when}"] = measured.finished
    return numbers


def _controls(paths: Paths, size: Size, seed: int) -> list[dict[str, object]]:
    """Runs on shuffled rewards, compared on the validation pool: the held-out one is opened once."""
    say("5. The control: the same run on shuffled rewards, which must not improve.")
    found = []
    for number in range(1, size.num_controls + 1):
        run_id = _train(paths, size, seed + number, pool="validation", control=SHUFFLED)
        results = Results(paths.workspace, run_id, "validation")
        found.append(control_summary(results, seed + number))
        at_one, greedy = (results.find(temperature) for temperature in (AT_ONE, GREEDY))
        say(f"   seed {seed + number}: gain {at_one.gain:+.3f} at T = 1, {greedy.gain:+.3f} greedy")
    return found


if __name__ == "__main__":
    main()
