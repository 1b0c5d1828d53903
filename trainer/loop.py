"""The training loop, and the only place that knows its order.

    points → rollouts → rewards → groups → update → checkpoint → records, then the next step with the new policy

A step is recorded in one transaction after its checkpoint is on disk. Whatever ends a run, it continues from its last
recorded step; equal seeds give equal batches, answers and, on a CPU with equally many threads, equal weights.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from trainer.answers import REWARD
from trainer.asking import answer_points
from trainer.config import RunConfig
from trainer.dataset import Candidate, DecisionPoint, Pool, build_dataset, draw_evenly, schedule
from trainer.errors import RunError
from trainer.evaluate import BASE, TUNED, Evaluation, compare_evaluations, evaluate_policy
from trainer.groups import Group, make_groups
from trainer.metric_sinks import MetricSink, check_sinks, open_sinks, update_metrics
from trainer.prompt_differences import count_differences, describe_differences
from trainer.recording import evaluation_rows, group_rows, load_evaluation
from trainer.registry import promoted_paths, relative_location
from trainer.rewards.spec import SpecRewardModel, load_reward_model
from trainer.rollouts.base import SamplingParams
from trainer.rows import CheckpointRow, Row, UpdateRow, now
from trainer.runs import (
    FAILED,
    FINISHED,
    INTERRUPTED,
    RESUMED,
    SHUFFLED,
    Run,
    load_run,
    note,
    run_pool,
    start_run,
    unfinished_run,
)
from trainer.samplers import check_sampler
from trainer.stages import Stages, UpdateOutcome, check_backend, open_stages
from trainer.statistics import mean
from trainer.threads import torch_threads, with_threads
from trainer.workspace import Workspace

log = logging.getLogger(__name__)

STEP_SEED_STRIDE = 1_000_003
"""Keeps the sampling seeds of steps apart: a prime larger than any number of steps."""


@dataclass(slots=True)
class Stop:
    """Whether somebody asked the run to end."""

    requested: bool = False


def train(
    workspace: Workspace, config: RunConfig, *, control: str | None = None, sinks: Sequence[MetricSink] = ()
) -> Run:
    """Start a run and carry it out; it may be interrupted and resumed. Returns it as it stands at the end.

    `sinks` get the figures of every update beside those of `[metrics]`, and are closed at the end.
    """
    if control not in {None, SHUFFLED}:
        raise RunError(f"control {control!r} is not known; use {SHUFFLED}")
    reward_model = _reward_model(config)
    if not Path(config.policy.base or "").is_dir() or not config.policy.base:
        raise RunError(f"no base policy at {config.policy.base!r}; set policy.base in the run file or give --base")
    _check_needs(config)
    dataset = build_dataset(workspace.candidates(), config.data)
    # A run that cannot fill its batches must fail before a model is loaded.
    schedule(dataset.pool(Pool.TRAIN), points_per_step=config.train.points_per_step, num_steps=1, seed=0)
    run = start_run(workspace, with_threads(config), dataset, reward_model, control)
    log.info("run_started run=%s points=%s left_out=%s", run.run_id, _sizes(dataset.pools), dict(dataset.left_out))
    return _carry_out(workspace, run, reward_model, sinks)


def resume(workspace: Workspace, run_id: str | None = None, *, sinks: Sequence[MetricSink] = ()) -> Run:
    """Continue an interrupted or failed run from its last recorded step."""
    run = unfinished_run(workspace, run_id)
    reward_model = _reward_model(run.config)
    if reward_model.spec_hash != run.spec_hash:
        raise RunError(
            f"run {run.run_id}: the reward specification or one of its checks has changed since it started; "
            f"restore it, or start a new run"
        )
    _check_needs(run.config)
    note(workspace, run.run_id, RESUMED, f"after step {run.steps_done}")
    log.info("run_resumed run=%s after_step=%d", run.run_id, run.steps_done)
    return _carry_out(workspace, run, reward_model, sinks)


def _check_needs(config: RunConfig) -> None:
    """What is missing is said before a run is recorded or a model loaded."""
    check_backend(config)
    check_sampler(config)
    check_sinks(config.metrics)


def _reward_model(config: RunConfig) -> SpecRewardModel:
    if config.reward.spec is None:
        raise RunError("no reward specification; set reward.spec in the run file or give --reward")
    return load_reward_model(Path(config.reward.spec), cache_entries_max=config.reward.cache_entries_max)


def _carry_out(workspace: Workspace, run: Run, reward_model: SpecRewardModel, others: Sequence[MetricSink]) -> Run:
    try:
        with (
            torch_threads(run.config.train.num_threads),
            _stop_between_steps() as stop,
            open_sinks(run.config.metrics, run.run_id, run.steps_done, others) as sinks,
        ):
            asyncio.run(_run_all(workspace, run, reward_model, sinks, stop))
    except KeyboardInterrupt:
        note(workspace, run.run_id, INTERRUPTED, "at once")
    except BaseException as error:
        note(workspace, run.run_id, FAILED, type(error).__name__)
        raise
    return load_run(workspace, run.run_id)


async def _run_all(
    workspace: Workspace, run: Run, reward_model: SpecRewardModel, sinks: Sequence[MetricSink], stop: Stop
) -> None:
    """The run from where it stands to its end, in the order of the flow."""
    async with open_stages(run, reward_model) as stages:
        watched = _validation_points(workspace, run)
        if run.steps_done == 0:
            _evaluate(workspace, run, stages, watched, policy=BASE, version=0)
        batches = schedule(
            run_pool(workspace, run.run_id, Pool.TRAIN),
            points_per_step=run.config.train.points_per_step,
            num_steps=run.config.train.max_steps,
            seed=run.config.train.seed,
        )
        with tqdm(total=len(batches), initial=run.steps_done, desc="train", unit="step", disable=None) as bar:
            for step, batch in list(enumerate(batches, start=1))[run.steps_done :]:
                report = await _step(workspace, run, stages, step, batch)
                for sink in sinks:
                    sink.log(step, update_metrics(report))
                bar.set_postfix(reward=f"{report.reward_mean:.3f}" if report.reward_mean is not None else "unscored")
                bar.update()
                if _evaluation_due(run.config, step):
                    _evaluate(workspace, run, stages, watched, policy=TUNED, version=report.policy_version)
                if stop.requested and step < len(batches):
                    note(workspace, run.run_id, INTERRUPTED, f"after step {step}")
                    return
        _evaluate(workspace, run, stages, watched, policy=TUNED, version=stages.policy_version)
        note(workspace, run.run_id, FINISHED)
        log.info("prompts run=%s %s", run.run_id, describe_differences(workspace, run.run_id))


async def _step(workspace: Workspace, run: Run, stages: Stages, step: int, batch: Sequence[Candidate]) -> UpdateRow:
    """One GRPO step: sample, score, group, update, save, record."""
    started = time.monotonic()
    train = run.config.train
    seed = train.seed * STEP_SEED_STRIDE + step
    params = SamplingParams(
        num_samples=train.num_generations,
        temperature=train.temperature,
        top_p=train.top_p,
        max_tokens=train.max_completion_length,
        seed=seed,
    )
    points = workspace.decision_points(batch)
    answered = answer_points(points, stages.sampler, stages.reward_model, params, label=f"step {step}: answer")
    groups = make_groups(answered, shuffle_seed=seed if run.control == SHUFFLED else None)
    differences = count_differences(answered, stages.policy_tokenizer, stages.server_mismatches)
    outcome = await stages.update([group for group in groups if group.drop_reason is None])
    outcome = replace(outcome, metrics={**outcome.metrics, **differences})
    update = _update_row(run, step, groups, outcome, time.monotonic() - started)
    checkpoint = CheckpointRow(
        checkpoint_id=update.checkpoint_id,
        run_id=run.run_id,
        step=step,
        policy_version=outcome.policy_version,
        path=relative_location(outcome.checkpoint, workspace.folder),
        saved_at=update.ended_at,
    )
    rows: list[Row] = [update, checkpoint, *group_rows(run.run_id, step, groups, stages.reward_model.spec_hash)]
    workspace.insert(rows)
    stages.prune(keep=promoted_paths(workspace))
    log.info("step run=%s %s", run.run_id, _describe(update, groups))
    return update


def _update_row(run: Run, step: int, groups: Sequence[Group], outcome: UpdateOutcome, seconds: float) -> UpdateRow:
    return UpdateRow(
        run_id=run.run_id,
        step=step,
        policy_version=outcome.policy_version,
        checkpoint_id=f"{run.run_id}:{step}",
        num_groups=len(groups),
        num_groups_trained=sum(group.drop_reason is None for group in groups),
        reward_mean=mean([reward.value for group in groups for reward in group.answered.rewards]),
        # What was not measured (no gradient step) is no number, and JSON has no name for it but null.
        metrics=json.dumps({name: value if math.isfinite(value) else None for name, value in outcome.metrics.items()}),
        seconds=seconds,
        ended_at=now(),
    )


def _describe(update: UpdateRow, groups: Sequence[Group]) -> str:
    dropped = Counter(str(group.drop_reason) for group in groups if group.drop_reason is not None)
    reward = "none" if update.reward_mean is None else f"{update.reward_mean:.4f}"
    trained = f"{update.num_groups_trained}/{update.num_groups}"
    return f"step={update.step} reward={reward} groups={trained} dropped={dict(dropped)} seconds={update.seconds:.1f}"


def _sizes(pools: Mapping[Pool, Sequence[Candidate]]) -> dict[str, int]:
    return {str(pool): len(items) for pool, items in pools.items()}


def _validation_points(workspace: Workspace, run: Run) -> tuple[DecisionPoint, ...]:
    settings = run.config.eval
    chosen = draw_evenly(run_pool(workspace, run.run_id, Pool.VALIDATION), settings.validation_points, settings.seed)
    return workspace.decision_points(chosen)


def _evaluation_due(config: RunConfig, step: int) -> bool:
    """Between steps; the last one is evaluated when all are done, also when it was done before a resume."""
    every = config.train.eval_every
    return every > 0 and step % every == 0 and step < config.train.max_steps


def _evaluate(
    workspace: Workspace, run: Run, stages: Stages, points: Sequence[DecisionPoint], *, policy: str, version: int
) -> None:
    """Ask the validation points again at temperature 1 and greedy, and compare a tuned policy with the base."""
    if not points:
        return
    for temperature in run.config.eval.temperatures:
        found = evaluate_policy(
            points,
            stages.sampler,
            stages.reward_model,
            policy=policy,
            policy_version=version,
            temperature=temperature,
            settings=run.config.eval,
            max_tokens=run.config.train.max_completion_length,
        )
        rows = evaluation_rows(run.run_id, Pool.VALIDATION, found, stages.reward_model.spec_hash)
        workspace.insert([*rows, *_against_base(workspace, run, found)])
        log.info(
            "validation run=%s policy=%s version=%d reward=%s", run.run_id, found.label, version, found.mean(REWARD)
        )


def _against_base(workspace: Workspace, run: Run, tuned: Evaluation) -> tuple[Row, ...]:
    if tuned.policy == BASE:
        return ()
    base = load_evaluation(workspace, run.run_id, Pool.VALIDATION, BASE, tuned.temperature)
    if base is None:
        return ()
    return compare_evaluations(run.run_id, Pool.VALIDATION, base, tuned, run.config.eval)


@contextmanager
def _stop_between_steps() -> Iterator[Stop]:
    """The first Ctrl-C lets the step in progress finish, the second ends the run at once; both can be resumed."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread gets signals; a caller in another one stops the run its own way
        return

    def on_interrupt(_signal: int, _frame: object) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True
        log.warning("stopping after this step; press Ctrl-C again to stop at once (the step is then done again)")

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, previous)
