"""`trainer`: the command line. Parses, calls, prints; everything heavy is imported once a command runs.

Data goes to stdout, logs and progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from trainer.errors import RunError, TrainerError

if TYPE_CHECKING:
    from trainer.config import RunConfig
    from trainer.evaluate import PoolEvaluation
    from trainer.runs import Run
    from trainer.workspace import Workspace

Command = TypeVar("Command", bound=Callable[..., None])

workspace_option = click.option(
    "--workspace",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".spanloop"),
    show_default=True,
    help="Folder the trainer works in.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
run_option = click.option("--run", "run_id", metavar="RUN", help="Run id or its beginning; default: the newest.")


def config_options(command: Command) -> Command:
    """Where settings come from: the run file, then flags."""
    for option in (
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of the run file."),
        click.option("--reward", type=click.Path(path_type=Path), help="Reward specification (reward.spec)."),
        click.option("--config", "config_file", type=click.Path(path_type=Path), help="Run file (TOML)."),
    ):
        command = option(command)
    return command


class Group(click.Group):
    """Turns the trainer's own errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except TrainerError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Group, epilog="Start with: trainer pull --from episodes.duckdb")
@click.option("--verbose", is_flag=True, help="Log more.")
@click.version_option(package_name="spanloop")
def main(*, verbose: bool) -> None:
    """Learn from recorded episodes: pull, score, train, evaluate, report, promote."""
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    for noisy in ("httpx", "LiteLLM", "urllib3", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


@main.command(epilog="Example: trainer pull --from episodes.duckdb --agent meal-planner")
@click.option("--from", "source", required=True, metavar="FILE", help="DuckDB file `otel-receiver` writes.")
@click.option("--agent", "agents", multiple=True, help="Only this agent (repeatable).")
@click.option("--dialect", "dialects", multiple=True, help="Only this dialect (repeatable).")
@click.option("--since", metavar="TIME", help="Only episodes that started at or after this time (ISO 8601).")
@click.option("--until", metavar="TIME", help="Only episodes that started before this time.")
@click.option("--trainable", is_flag=True, help="Leave untrainable steps in the source.")
@workspace_option
@json_option
def pull(
    *,
    source: str,
    agents: tuple[str, ...],
    dialects: tuple[str, ...],
    since: str | None,
    until: str | None,
    trainable: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Read new and revised episodes into the workspace; may be repeated at any time."""
    from trainer.source import PullFilter
    from trainer.source import pull as pull_episodes
    from trainer.workspace import Workspace

    wanted = PullFilter(agents=agents, dialects=dialects, since=since, until=until, trainable_only=trainable)
    done = pull_episodes(Workspace.open(folder, create=True), source, wanted)
    if as_json:
        _print_json(asdict(done))
        return
    click.echo(
        f"{done.episodes_new} new episodes, {done.episodes_revised} revised, {done.episodes_unchanged} unchanged; "
        f"{done.points_added} decision points added, {done.points_refused} refused"
    )


@main.command(epilog="Example: trainer score --reward rewards.toml")
@config_options
@workspace_option
@json_option
def score(
    *, config_file: Path | None, reward: Path | None, settings: tuple[str, ...], folder: Path, as_json: bool
) -> None:
    """Score what was recorded: the distribution of rewards, and which gates failed. The held-out pool stays closed."""
    from trainer.printing import describe_score
    from trainer.score import score_recorded

    config = _config(config_file, {"reward.spec": reward}, settings)
    found = score_recorded(_workspace(folder), config.data, _reward_model(config))
    if as_json:
        _print_json(asdict(found))
    else:
        click.echo(describe_score(found))


@main.command(epilog="Example: trainer train --config run.toml --steps 4   |   trainer train --resume")
@config_options
@click.option("--base", type=click.Path(path_type=Path), help="Base policy (policy.base).")
@click.option("--steps", type=int, metavar="N", help="GRPO steps (train.max_steps).")
@click.option("--points", type=int, metavar="N", help="Decision points a step (train.points_per_step).")
@click.option("--learning-rate", type=float, metavar="X", help="train.learning_rate.")
@click.option("--seed", type=int, metavar="N", help="Of batches, sampling and training (train.seed).")
@click.option("--control", type=click.Choice(["shuffled"]), help="Permute the rewards: such a run must not improve.")
@click.option("--resume", is_flag=False, flag_value="", metavar="[RUN]", help="Go on with an unfinished run.")
@click.option("--print-config", is_flag=True, help="Print the resolved configuration and stop.")
@workspace_option
@json_option
def train(
    *,
    config_file: Path | None,
    reward: Path | None,
    settings: tuple[str, ...],
    base: Path | None,
    steps: int | None,
    points: int | None,
    learning_rate: float | None,
    seed: int | None,
    control: str | None,
    resume: str | None,
    print_config: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Train the policy at recorded decision points. Ctrl-C stops after the step in progress; --resume goes on."""
    flags = {
        "reward.spec": reward,
        "policy.base": base,
        "train.max_steps": steps,
        "train.points_per_step": points,
        "train.learning_rate": learning_rate,
        "train.seed": seed,
    }
    config = _config(config_file, flags, settings)
    if print_config:
        _print_json(config.model_dump(mode="json"))
        return
    workspace = _workspace(folder)
    from trainer import loop

    if resume is None:
        run = loop.train(workspace, config, control=control)
    else:
        if any(value is not None for value in flags.values()) or config_file or settings or control:
            raise click.UsageError("a resumed run keeps its configuration; give --resume alone")
        run = loop.resume(workspace, resume or None)
    _print_run(workspace, run, as_json=as_json)
    _require_finished(run)


@main.command("eval", epilog="Example: trainer eval --run 20261123")
@run_option
@click.option("--pool", type=click.Choice(["heldout", "validation"]), default="heldout", show_default=True)
@click.option("--step", type=int, metavar="N", help="Evaluate the checkpoint after this step; default: the last.")
@workspace_option
@json_option
def evaluate(*, run_id: str | None, pool: str, step: int | None, folder: Path, as_json: bool) -> None:
    """Compare recorded, base and tuned policy on held-out conversations. Each opening of the pool is noted."""
    workspace = _workspace(folder)
    from trainer.dataset import Pool
    from trainer.held_out import evaluate_run
    from trainer.printing import describe_evaluation
    from trainer.runs import load_run

    found = evaluate_run(workspace, load_run(workspace, run_id), pool=Pool(pool), step=step)
    if as_json:
        _print_json(_evaluation_json(found))
    else:
        click.echo(describe_evaluation(found))


@main.command(epilog="Example: trainer report --out report.html")
@run_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: report.html beside the run.")
@workspace_option
@json_option
def report(*, run_id: str | None, out: Path | None, folder: Path, as_json: bool) -> None:
    """Write one self-contained HTML page about a run."""
    workspace = _workspace(folder)
    from trainer.report import write_report
    from trainer.runs import load_run

    run = load_run(workspace, run_id)
    path = write_report(workspace, run, out or run.folder / "report.html")
    if as_json:
        _print_json({"run_id": run.run_id, "path": str(path)})
    else:
        click.echo(str(path))


@main.command(epilog="Example: trainer promote --run 20261123")
@run_option
@workspace_option
@json_option
def promote(*, run_id: str | None, folder: Path, as_json: bool) -> None:
    """Make an evaluated checkpoint current: its gain must be proven, and no gated criterion may have fallen."""
    from trainer import registry
    from trainer.runs import load_run

    workspace = _workspace(folder)
    run = load_run(workspace, run_id)
    row = registry.promote(workspace, run, run.config.promotion)
    if as_json:
        _print_json(asdict(row))
    else:
        click.echo(f"{workspace.folder / registry.CURRENT} is now {row.checkpoint_id}: {row.reason}")


@main.command(epilog="Example: trainer rollback")
@workspace_option
@json_option
def rollback(*, folder: Path, as_json: bool) -> None:
    """Make the checkpoint before the current one current again."""
    from trainer import registry

    row = registry.rollback(_workspace(folder))
    if as_json:
        _print_json(asdict(row))
    else:
        click.echo(f"{row.previous_checkpoint_id} is taken back; current is {row.checkpoint_id or 'the base policy'}")


@main.command(epilog="Example: trainer runs --json")
@workspace_option
@json_option
def runs(*, folder: Path, as_json: bool) -> None:
    """List the runs: how far each came, what it gained, and which checkpoint is current."""
    from trainer.printing import describe_runs, list_runs

    rows = list_runs(_workspace(folder))
    if as_json:
        _print_json(rows)
    else:
        click.echo(describe_runs(rows))


@main.command(epilog="Example: trainer watch --from episodes.duckdb --config run.toml")
@click.option("--from", "source", required=True, metavar="FILE", help="DuckDB file `otel-receiver` writes.")
@config_options
@click.option("--once", is_flag=True, help="Look once and end.")
@workspace_option
@json_option
def watch(
    *,
    source: str,
    config_file: Path | None,
    reward: Path | None,
    settings: tuple[str, ...],
    once: bool,
    folder: Path,
    as_json: bool,
) -> None:
    """Pull what arrives, and train when enough points are new ([watch] of the run file)."""
    from trainer.watch import watch as watch_source
    from trainer.workspace import Workspace

    config = _config(config_file, {"reward.spec": reward}, settings)
    workspace = Workspace.open(folder, create=True)

    def start_run() -> str:
        from trainer import loop

        return _require_finished(loop.train(workspace, config)).run_id

    for look in watch_source(workspace, source, config, start_run, once=once):
        if as_json:
            _print_json(asdict(look), indent=None)
        else:
            added = look.pulled.points_added if look.pulled else 0
            started = f"; run {look.run_id}" if look.run_id else ""
            click.echo(f"{added} points added, {look.num_new_points} not trained on yet{started}")


def _require_finished(run: Run) -> Run:
    """An interrupted run is no success, and ends a watch too."""
    if run.steps_done < run.config.train.max_steps:
        raise RunError(f"run {run.run_id} was interrupted; go on with `trainer train --resume {run.run_id}`")
    return run


def _workspace(folder: Path) -> Workspace:
    from trainer.workspace import Workspace

    return Workspace.open(folder)


def _config(file: Path | None, flags: Mapping[str, object], settings: Sequence[str]) -> RunConfig:
    from trainer.config import load_config

    overrides = {key: _toml(value) for key, value in flags.items() if value is not None}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise click.UsageError(f"--set {setting}: write KEY=VALUE, such as train.seed=3")
        overrides[key.strip()] = value.strip()
    return load_config(file, overrides)


def _toml(value: object) -> str:
    """The value as TOML text; a path as a quoted string."""
    return json.dumps(str(value)) if isinstance(value, Path) else str(value)


def _reward_model(config: RunConfig):  # type: ignore[no-untyped-def]  # noqa: ANN202  # its type is heavy to import
    from trainer.errors import ConfigError
    from trainer.rewards.spec import load_reward_model

    if config.reward.spec is None:
        raise ConfigError("no reward specification; set reward.spec in the run file or give --reward")
    return load_reward_model(Path(config.reward.spec), cache_entries_max=config.reward.cache_entries_max)


def _print_run(workspace: Workspace, run: Run, *, as_json: bool) -> None:
    from trainer.printing import describe_runs, list_runs

    rows = [row for row in list_runs(workspace) if row["run_id"] == run.run_id]
    if as_json:
        _print_json(rows[0])
    else:
        click.echo(describe_runs(rows))


def _evaluation_json(found: PoolEvaluation) -> dict[str, object]:
    return {
        "run_id": found.run_id,
        "pool": found.pool,
        "policy_version": found.policy_version,
        "num_points": found.num_points,
        "num_trained_before": found.num_trained_before,
        "refused": dict(found.refused),
        "means": {item.label: item.mean("reward") for item in found.evaluations},
        "comparisons": [asdict(row) for row in found.comparisons],
    }


def _print_json(value: object, *, indent: int | None = 2) -> None:
    click.echo(json.dumps(value, indent=indent, default=_plain))


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else str(value)


if __name__ == "__main__":
    main()
