"""`trainer watch`: pull what arrives and train when enough of it is new.

Every wait and count has a limit in `[watch]`; a source that cannot be read for a while is tried again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from trainer.config import RunConfig
from trainer.dataset import Pool, build_dataset
from trainer.errors import SourceError
from trainer.rows import PullRow
from trainer.source import PullFilter, pull
from trainer.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one look at the source came to."""

    pulled: PullRow | None
    """`None`: the source could not be read this time."""
    num_new_points: int
    """Training points that no run has been started with."""
    run_id: str | None = None
    """The run that was started on them."""


def watch(
    workspace: Workspace, source: str, config: RunConfig, start_run: Callable[[], str], *, once: bool = False
) -> Iterator[Look]:
    """Look, pull, and start a run when `watch.train_after_points` are new; ends at the limits, or after one look."""
    runs, failures = 0, 0
    wanted = PullFilter(agents=config.data.agents, dialects=config.data.dialects)
    while runs < config.watch.max_runs:
        pulled = _try_pull(workspace, source, wanted)
        failures = 0 if pulled else failures + 1
        num_new = num_new_points(workspace, config)
        run_id = start_run() if num_new >= config.watch.train_after_points else None
        runs += run_id is not None
        yield Look(pulled=pulled, num_new_points=num_new, run_id=run_id)
        if once:
            return
        if failures >= config.watch.max_failures:
            raise SourceError(f"source {source}: could not be read {failures} times in a row; watching ends")
        time.sleep(config.watch.poll_s)


def _try_pull(workspace: Workspace, source: str, wanted: PullFilter) -> PullRow | None:
    try:
        return pull(workspace, source, wanted)
    except SourceError as error:
        log.warning("source_unreadable reason=%s", error)
        return None


def num_new_points(workspace: Workspace, config: RunConfig) -> int:
    """Points of the training pool that were in no run's training pool."""
    used = {str(row[0]) for row in workspace.query("SELECT DISTINCT state_hash FROM run_points WHERE pool = 'train'")}
    dataset = build_dataset(workspace.candidates(), config.data)
    return sum(item.state_hash not in used for item in dataset.pools[Pool.TRAIN])
