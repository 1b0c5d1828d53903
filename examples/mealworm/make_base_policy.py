"""Make a base policy: `python -m examples.mealworm.make_base_policy`. About forty minutes on one core.

The shipped policy is what one run of this script with its defaults wrote; its figures stand in the decision note on the
example's base policy.

Competence first: clean traces until a tiny model can plan without fault. Then habits: a short fine-tuning on traces of
an agent with all failures Mealworm's author lists. A policy that never could act well shows nothing.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from examples.mealworm.domain import REQUESTS, Diet, Request, Split, draw_request, profiles_of
from examples.mealworm.measure import Measured, habit_table, measure
from examples.mealworm.prompts import opening
from examples.mealworm.state import read_state
from examples.mealworm.supervised import Encoder, Heads, ModelSize, Schedule, new_model, train
from examples.mealworm.teacher import (
    IGNORING,
    SKIPPING,
    Habit,
    Trace,
    clean_action,
    clean_trace,
    habit_at,
    imperfect_trace,
    observe,
)
from examples.mealworm.tools import World, make_world
from examples.mealworm.vocabulary import build_tokenizer
from trainer.grpo.policy import load_policy
from trainer.rollouts.in_process import InProcessSampler

POLICY = Path(__file__).parent / "policy"
SIZE = ModelSize()
COMPETENCE = Schedule(num_steps=1400, batch_size=32, matrix_lr=0.02, other_lr=3e-3)
HABITS = Schedule(num_steps=300, batch_size=32, matrix_lr=0.01, other_lr=1.5e-3, flat_share=0.4)
FOCUS_SHARE = 0.6
"""Of the habit traces drawn where a habit shows in the plan itself; in production these are one in ten points, too few
to be acquired in a short training. How likely a habit is in its context stays the same."""
LISTING_FACTOR = 3
"""How much more often such a user is one of those whose agent uses listing pages: words a clean plan never holds."""
LOOKING = tuple(wording for wording in REQUESTS if wording not in SKIPPING)
"""Wordings after which the agent looks at the history, so that it gets to the plan."""
STUMBLING_SHARE = 0.3
"""Of the clean traces that show faults before clean actions, so that the policy can recover."""
STUMBLE_PROBABILITY = 0.3
"""Of a fault at each action of those."""
SAVE_EVERY = 100
"""Steps between two saves of the unfinished policy."""
NUM_MEASURED = 200
"""Episodes of unseen users behind each measurement."""


def make_competent(model: Qwen3ForCausalLM, encoder: Encoder, folder: Path, seed: int) -> None:
    """Train on clean traces, saving now and then."""
    rng = random.Random(f"competence {seed}")  # noqa: S311  reproducible traces, no secret
    users = profiles_of(Split.TRAIN)

    def trace() -> Trace:
        request = draw_request(rng, rng.choice(users))
        stumbles = STUMBLE_PROBABILITY if rng.random() < STUMBLING_SHARE else 0.0
        return clean_trace(rng, request, make_world(rng, request), stumble_probability=stumbles)

    heads = Heads(model.config.hidden_size)
    steps = tqdm(train(model, heads, trace, encoder, COMPETENCE), total=COMPETENCE.num_steps, desc="competence")
    for step, loss in steps:
        steps.set_postfix(loss=f"{loss:.3f}", refresh=False)
        if step % SAVE_EVERY == SAVE_EVERY - 1 or step == COMPETENCE.num_steps - 1:
            save(model, encoder.tokenizer, folder)


def give_habits(model: Qwen3ForCausalLM, encoder: Encoder, seed: int) -> None:
    """Fine-tune on imperfect traces."""
    rng = random.Random(f"habits {seed}")  # noqa: S311  reproducible traces, no secret
    users = profiles_of(Split.TRAIN)

    focused = [user for user in users if user.loves != "sauce" and user.diet in {Diet.NONE, Diet.DAIRY_FREE}]
    focused += (LISTING_FACTOR - 1) * [user for user in focused if IGNORING.get(user.loves) is Habit.LISTING_PAGE]

    def trace() -> Trace:
        if rng.random() >= FOCUS_SHARE:
            request = draw_request(rng, rng.choice(users))
            return imperfect_trace(rng, request, make_world(rng, request))
        while True:
            request = replace(draw_request(rng, rng.choice(focused)), wording=rng.choice(LOOKING))
            if tempting(request, world := make_world(rng, request)):
                return imperfect_trace(rng, request, world)

    for _, loss in (steps := tqdm(train(model, None, trace, encoder, HABITS), total=HABITS.num_steps, desc="habits")):
        steps.set_postfix(loss=f"{loss:.3f}", refresh=False)


def tempting(request: Request, world: World) -> bool:
    """Whether an agent that does all right until the plan stands before a habit of planning there."""
    if (request.profile.num_fish, request.profile.num_chicken) == (2, 2):
        return False
    messages = opening(request)
    while (state := read_state(messages)).missing or state.recent is None:
        action = clean_action(state)
        messages = (*messages, action, *observe(world, action))
    return habit_at(messages) is not None


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write weights (safetensors), configuration, tokenizer and chat template."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure_policy(folder: Path, seed: int) -> tuple[Measured, Measured]:
    """The closed loop with users the policy never saw, at temperature 1 and greedy."""
    sampler = InProcessSampler(load_policy(folder, device="cpu"))
    users = profiles_of(Split.VALIDATION)
    at_one, greedy = (
        measure(sampler, users, num_episodes=NUM_MEASURED, temperature=temperature, seed=seed)
        for temperature in (1.0, 0.0)
    )
    return at_one, greedy


def report(name: str, at_one: Measured, greedy: Measured) -> str:
    """A policy's closed loop in a few lines."""
    lines = [
        f"{name}: {at_one.num_episodes} episodes of unseen users",
        f"{'':10} {'clean':>6} {'finish':>6} {'value':>6}",
    ]
    for label, found in (("T = 1", at_one), ("greedy", greedy)):
        lines.append(f"{label:10} {found.clean:6.2f} {found.finished:6.2f} {found.mean_value:6.3f}")
        turns = "  ".join(f"{turn}: {value:.2f}" for turn, value in found.by_turn.items())
        lines.append(f"{'':10} by turn  {turns}")
    return "\n".join([*lines, habit_table(at_one, greedy)])


def main() -> None:
    """Train, save and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=POLICY, help="where the base policy goes")
    parser.add_argument("--work", type=Path, default=Path(".spanloop/base-policy"), help="where the competent one goes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-competent", action="store_true", help="skip competence: start from the one in --work")
    options = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights again on the same kind of machine
    torch.manual_seed(options.seed)
    encoder = Encoder(build_tokenizer())
    if options.from_competent:
        model = Qwen3ForCausalLM.from_pretrained(options.work)
    else:
        model = new_model(encoder.tokenizer, SIZE)
        make_competent(model, encoder, options.work, options.seed)
    tables = {"competent": measure_policy(options.work, options.seed)}
    give_habits(model, encoder, options.seed)
    save(model, encoder.tokenizer, options.out)
    tables["base"] = measure_policy(options.out, options.seed)
    for name, (at_one, greedy) in tables.items():
        print(report(name, at_one, greedy))


if __name__ == "__main__":
    main()
