"""Whole episodes of held-out users, before and after: a score per decision can rise while an agent gets worse."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from examples.mealworm.measure import Measured, measure
from examples.mealworm.outcome import conversations_of
from examples.mealworm.recording import users_by_id
from trainer.grpo.policy import load_policy
from trainer.rollouts.in_process import InProcessSampler

TEMPERATURES = {"T = 1": 1.0, "greedy": 0.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """The same requests in the same worlds, worked on by two policies."""

    before: dict[str, Measured]
    after: dict[str, Measured]

    def table(self) -> str:
        """Clean and finished episodes before and after."""
        lines = [
            f"{'closed loop':12} {'clean':>16} {'finished':>16}   ({self._num_episodes} episodes of held-out users)"
        ]
        for label in TEMPERATURES:
            old, new = self.before[label], self.after[label]
            clean, finished = (f"{a:.3f} → {b:.3f}" for a, b in ((old.clean, new.clean), (old.finished, new.finished)))
            lines.append(f"{label:12} {clean:>16} {finished:>16}")
        return "\n".join(lines)

    @property
    def _num_episodes(self) -> int:
        return next(iter(self.before.values())).num_episodes


def closed_loop(
    base: Path, checkpoint: Path, workspace: Path, run_id: str, *, num_episodes: int, seed: int
) -> ClosedLoop:
    """Base and tuned policy on new requests of users in the held-out pool."""
    known = users_by_id()
    users = tuple(known[conversation] for conversation in conversations_of(workspace, run_id, "heldout"))
    sampler = InProcessSampler(load_policy(base, device="cpu"))

    with tqdm(total=2 * len(TEMPERATURES), desc="closed loop", unit="run", disable=None) as bar:

        def work() -> dict[str, Measured]:
            found = {}
            for label, temperature in TEMPERATURES.items():
                found[label] = measure(sampler, users, num_episodes=num_episodes, temperature=temperature, seed=seed)
                bar.update()
            return found

        before = work()
        sampler.load_policy(checkpoint, policy_version=1)
        return ClosedLoop(before=before, after=work())
