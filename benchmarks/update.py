"""One policy update on fixed tokens: this engine against TRL's GRPOTrainer, side by side.

    python -m benchmarks.update                      two CPU threads, the cases with a target
    python -m benchmarks.update --case star --vocab 151936 --lora 16
    python -m benchmarks.update --device cuda --shape qwen3-14b --lora 16 --gradient-checkpointing

Both get the same weights, tokens, masks, advantages and optimizer, and time forward, loss, backward, clipping and step;
sampling and rewards are outside. Each runs in a process of its own, and steps alternate between the two, so that
whatever else the machine does hits both. Their gradients are compared before anything is timed: a lead cannot come from
computing less. TRL runs one decision point per forward, which pads nothing; this engine packs into tries, with its
default settings.

Beside the ratio by the clock stands the ratio by processor time, which other work on the machine disturbs less. Memory
is what tensors take at the fullest moment of a step, counted in a step of its own; beside it stands the whole process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self, cast

import torch
from safetensors.torch import load_file

from benchmarks.update_sides import CASES, SHAPES, Case, Setup, dump, load, samples_of, work
from trainer.grpo.samples import logical_tokens

PACKAGES = ("torch", "transformers", "trl", "peft")
MEMORY_TARGET = 0.5
"""Of TRL's peak, at most, in every case."""


class Worker:
    """A side in its own process."""

    def __init__(self, kind: str, setup: Setup) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(setup.threads), "TOKENIZERS_PARALLELISM": "false"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.update", "--worker", kind, "--setup", dump(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if kind == "trl" else None,
            env=environment,
            text=True,
        )

    def __enter__(self) -> Self:
        """For `with`."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()

    def ask(self, command: str) -> dict[str, float | str]:
        """Send a command and wait for its answer."""
        to, back = cast("IO[str]", self.process.stdin), cast("IO[str]", self.process.stdout)
        to.write(command + "\n")
        to.flush()
        line = back.readline()
        if not line:
            raise RuntimeError(
                f"a worker ended with code {self.process.wait()} on {command!r}; run it alone to see why"
            )
        return cast("dict[str, float | str]", json.loads(line))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One case, measured."""

    case: Case
    setup: Setup
    logical: int
    computed: int
    attention: str
    engine_seconds: tuple[float, ...]
    trl_seconds: tuple[float, ...]
    engine_work: float
    """Processor seconds per step, over all threads (median)."""
    trl_work: float
    engine_tensors: int
    """Peak bytes of tensors above the weights."""
    trl_tensors: int
    engine_peak: int
    """Peak bytes of the process above what it held at rest; on CUDA of the device."""
    trl_peak: int
    gradient_error: float
    """Largest difference, relative to the largest gradient of the parameter."""
    cosine: float

    @property
    def speed(self) -> float:
        """How many times TRL's logical tokens per second, by the medians."""
        return statistics.median(self.trl_seconds) / statistics.median(self.engine_seconds)

    @property
    def memory(self) -> float:
        """Share of TRL's peak of tensors."""
        return self.engine_tensors / self.trl_tensors

    def misses(self) -> list[str]:
        """Targets not met."""
        found = []
        target = self.case.target_speed
        if target is not None and self.speed < target:
            found.append(f"{self.case.name}: {self.speed:.2f} times TRL's speed, the target is {target}")
        if target is not None and self.memory > MEMORY_TARGET:
            found.append(f"{self.case.name}: {self.memory:.2f} of TRL's memory, the target is {MEMORY_TARGET}")
        return found


def measure(case: Case, setup: Setup, *, steps: int) -> Result:
    """Compare gradients, then time alternating steps."""
    logical = logical_tokens([sample for point in samples_of(setup) for sample in point])
    with Worker("engine", setup) as engine, Worker("trl", setup) as trl:
        error, cosine = _compare(engine, trl)
        # One step to warm up, after the comparison: it makes the optimizer's state.
        engine.ask("step"), trl.ask("step")
        pairs = [(engine.ask("step"), trl.ask("step")) for _ in range(steps)]
        # Last, because what counts them takes memory too.
        tensors = [int(side.ask("tensors")["tensors"]) for side in (engine, trl)]
    last = pairs[-1]
    return Result(
        case=case,
        setup=setup,
        logical=logical,
        computed=int(last[0]["computed"]),
        attention=str(last[0]["attention"]),
        engine_seconds=tuple(float(mine["seconds"]) for mine, _ in pairs),
        trl_seconds=tuple(float(theirs["seconds"]) for _, theirs in pairs),
        engine_work=statistics.median(float(mine["cpu_seconds"]) for mine, _ in pairs),
        trl_work=statistics.median(float(theirs["cpu_seconds"]) for _, theirs in pairs),
        engine_tensors=tensors[0],
        trl_tensors=tensors[1],
        engine_peak=int(last[0]["peak"]),
        trl_peak=int(last[1]["peak"]),
        gradient_error=error,
        cosine=cosine,
    )


def _compare(engine: Worker, trl: Worker) -> tuple[float, float]:
    """Largest relative difference and cosine of all gradients; fails where they are not the same gradient."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / "engine.safetensors", Path(folder) / "trl.safetensors"]
        for worker, path in zip((engine, trl), paths, strict=True):
            worker.ask(f"gradients {path}")
        mine, theirs = (load_file(path) for path in paths)
    if mine.keys() != theirs.keys():
        raise RuntimeError(f"gradients of different parameters: {sorted(mine.keys() ^ theirs.keys())[:4]}")
    worst = max(((mine[n] - theirs[n]).abs().max() / theirs[n].abs().max().clamp(min=1e-12)).item() for n in mine)
    dot = sum((mine[n].double() * theirs[n].double()).sum().item() for n in mine)
    norms = [sum(t.double().square().sum().item() for t in side.values()) ** 0.5 for side in (mine, theirs)]
    cosine = dot / (norms[0] * norms[1])
    if cosine < 0.999:
        raise RuntimeError(f"the sides compute different gradients: cosine {cosine:.6f}")
    return worst, cosine


def table(results: list[Result]) -> str:
    """Markdown, one row per case."""
    head = (
        "| case | prompt, answer, group, points | vocabulary, trained | engine logical tokens/s | TRL | ratio |"
        " by processor time | tokens computed of logical | s per step (quartiles), engine / TRL |"
        " peak MiB of tensors, engine / TRL | share | peak MiB of the process |"
        " gradient difference, cosine |\n" + "|---" * 13 + "|"
    )
    return "\n".join([head, *(_row(result) for result in results)])


def _row(result: Result) -> str:
    case, setup = result.case, result.setup
    mine, theirs = (statistics.median(s) for s in (result.engine_seconds, result.trl_seconds))
    extra = f" +{case.step_tokens} a point" if case.step_tokens else ""
    cells = [
        f"{case.name} ({result.attention})",
        f"{case.prompt}{extra}, {case.answer}, {case.group}, {case.points}",
        f"{setup.vocab}, {'LoRA ' + str(setup.lora) if setup.lora else 'all weights'}",
        f"{result.logical / mine:,.0f}",
        f"{result.logical / theirs:,.0f}",
        f"**{result.speed:.2f}**",
        f"{result.trl_work / result.engine_work:.2f}",
        f"{result.computed:,} of {result.logical:,}",
        f"{_spread(result.engine_seconds)} / {_spread(result.trl_seconds)}",
        f"{result.engine_tensors / 2**20:,.0f} / {result.trl_tensors / 2**20:,.0f}",
        f"**{result.memory:.2f}**",
        f"{result.engine_peak / 2**20:,.0f} / {result.trl_peak / 2**20:,.0f}",
        f"{result.gradient_error:.1e}, {result.cosine:.7f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _spread(seconds: tuple[float, ...]) -> str:
    if len(seconds) < 2:
        return f"{seconds[0]:.2f}"
    low, middle, high = statistics.quantiles(seconds, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"


def machine(setup: Setup) -> str:
    """Versions and hardware, in words that fit any host."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    where = torch.cuda.get_device_name() if setup.device == "cuda" else f"{setup.threads} CPU threads"
    return f"{where}, Python {platform.python_version()}, {versions}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table; 1 when a target is missed."""
    options = _options(arguments)
    if options.worker:
        work(options.worker, load(options.setup))
        return 0
    chosen = [case for case in CASES if case.name in options.case or (not options.case and case.target_speed)]
    results = []
    for case in chosen:
        setup = Setup(
            case=case.name,
            shape=options.shape,
            vocab=options.vocab,
            device=options.device,
            lora=options.lora,
            threads=options.threads,
            gradient_checkpointing=options.gradient_checkpointing,
            liger=options.liger,
        )
        results.append(measure(case, setup, steps=options.steps))
        print(_row(results[-1]), file=sys.stderr)
    print(machine(results[0].setup), table(results), sep="\n\n")
    misses = [line for result in results for line in result.misses()]
    print("", *(misses or ["Every target is met."]), sep="\n")
    return 1 if misses else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.update", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--case", action="append", default=[], choices=[case.name for case in CASES])
    parser.add_argument("--shape", default="small", choices=list(SHAPES))
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--lora", type=int, default=0, help="rank of the adapter; 0 trains all weights")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--liger", action="store_true", help="TRL with liger-kernel, which must be installed")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of each side, after one that warms up")
    parser.add_argument("--worker", choices=["engine", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--setup", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
