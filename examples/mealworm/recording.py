"""Production at scale-model size: the agent works for many users and exports to a receiver, until all is stored."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
from tqdm import tqdm

from examples.mealworm.agent import Run, make_tasks, work
from examples.mealworm.domain import Profile, Request, Split, draw_request, profiles_of
from examples.mealworm.processes import DemoError
from examples.mealworm.tracing import connect
from trainer.rollouts.base import Sampler

WAVE = 100
"""Users the agent works for at once; their spans are exported before the next wave."""
REQUESTS_PER_USER = 2
STORE_TIMEOUT_S = 120.0
"""Seconds without a new episode in the store before the demo gives up."""
POLL_S = 0.5


def production_requests(num_episodes: int, seed: int) -> tuple[Request, ...]:
    """Requests of users the base policy was not trained on, `REQUESTS_PER_USER` of each."""
    rng = random.Random(f"production {seed}")  # noqa: S311  reproducible users, no secret
    num_users = -(-num_episodes // REQUESTS_PER_USER)
    users = rng.sample(profiles_of(Split.PRODUCTION), num_users)
    requests = [draw_request(rng, user) for _ in range(REQUESTS_PER_USER) for user in users]
    return tuple(requests[:num_episodes])


def users_by_id() -> dict[str, Profile]:
    """Every production user by the id that stands in the spans."""
    return {profile.user_id: profile for profile in profiles_of(Split.PRODUCTION)}


def record(sampler: Sampler, endpoint: str, requests: Sequence[Request], *, seed: int) -> tuple[Run, ...]:
    """Let the agent work on the requests, wave by wave, and export every step to the receiver."""
    tracer = connect(endpoint)
    tasks = make_tasks(requests, seed)
    runs: list[Run] = []
    try:
        with tqdm(total=len(tasks), desc="agent at work", unit="episode", disable=None) as bar:
            for start in range(0, len(tasks), WAVE):
                wave = tasks[start : start + WAVE]
                runs += work(sampler, wave, temperature=1.0, seed=seed + start, tracer=tracer)
                bar.update(len(wave))
                tracer.flush()
    finally:
        tracer.close()
    return tuple(runs)


def wait_until_stored(store: Path, num_episodes: int, check: Callable[[], None]) -> None:
    """Return when the store holds every episode; `check` raises when waiting is in vain."""
    last_change, seen = time.monotonic(), -1
    with tqdm(total=num_episodes, desc="stored", unit="episode", disable=None) as bar:
        while seen < num_episodes:
            check()
            found = count_episodes(store)
            if found > seen:
                bar.update(found - max(seen, 0))
                last_change, seen = time.monotonic(), found
            elif time.monotonic() - last_change > STORE_TIMEOUT_S:
                raise DemoError(
                    f"store {store}: {found} of {num_episodes} episodes, and none new for {STORE_TIMEOUT_S:g} s; "
                    f"ask `otel-receiver status --store {store}`"
                )
            time.sleep(POLL_S)


def count_episodes(store: Path) -> int:
    """Episodes in the store; 0 while there is no store, or while the receiver is writing it."""
    if not store.is_file():
        return 0
    try:
        with duckdb.connect(str(store), read_only=True) as connection:
            row = connection.execute("SELECT count(*) FROM episodes").fetchone()
    except (duckdb.IOException, duckdb.CatalogException):
        return 0
    return int(row[0]) if row else 0


SAMPLE_QUERY = """SELECT conversation_id, status, num_steps, num_tool_calls, input_tokens, output_tokens
FROM episodes ORDER BY started_at, episode_id LIMIT 5"""
TRANSCRIPT_QUERY = """SELECT role, text FROM transcript
WHERE episode_id = (SELECT episode_id FROM episodes ORDER BY started_at, episode_id LIMIT 1) ORDER BY position"""


def sample_of(store: Path) -> str:
    """A few episodes and one transcript, as a DuckDB session shows them."""
    with duckdb.connect(str(store), read_only=True) as connection:
        return "\n".join(f"{query}\n{connection.sql(query)}" for query in (SAMPLE_QUERY, TRANSCRIPT_QUERY))
