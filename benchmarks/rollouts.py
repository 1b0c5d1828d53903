"""Tokens per second of the in-process sampler against transformers' `generate`, side by side on one small model.

Both answer the same prompts with G samples each, exactly as many tokens, on the same module and threads. `generate`
runs with each of its caches and as one batch with `num_return_sequences=G`; the best of them counts. It is not asked
for log-probabilities, which the sampler always returns. Greedy outputs are compared first: a speed gained by computing
something else would show there. Wall time gives the rates; the ratio is of processor time. On a busy machine use one
thread: where threads wait for each other while another program has their core, waiting counts as processor time too.

    python -m benchmarks.rollouts                                       two threads, a quiet machine
    python -m benchmarks.rollouts --threads 1 --case "scale model"      one case, one thread
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from spanloop.records import Message, Role, TextPart
from trainer.grpo.policy import Policy
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.in_process import InProcessSampler

WORDS = 1000
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
CACHES = ("dynamic", "static")
OURS = "in-process sampler"
WARM_UP, REPEATS = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One comparison: model size and token counts."""

    name: str
    hidden: int
    prompt_tokens: int
    answer_tokens: int
    num_prompts: int = 16
    num_samples: int = 8


CASES = (
    Case(name="scale model", hidden=128, prompt_tokens=100, answer_tokens=32),
    Case(name="hidden 128, long prompt", hidden=128, prompt_tokens=512, answer_tokens=32),
    Case(name="hidden 256", hidden=256, prompt_tokens=256, answer_tokens=32),
)


def make_policy(hidden: int) -> Policy:
    """A Qwen3 shape of 4 layers with random weights and one token per word; no token ends an answer."""
    core = Tokenizer(models.WordLevel({f"w{i}": i for i in range(WORDS)}, unk_token="w0"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=WORDS,
        hidden_size=hidden,
        intermediate_size=5 * hidden // 2,
        num_hidden_layers=4,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 64,
        head_dim=32,
        max_position_embeddings=2048,
        initializer_range=0.1,
        tie_word_embeddings=True,
        eos_token_id=None,
        bos_token_id=None,
        pad_token_id=None,
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, chat_template=TEMPLATE)
    return Policy(module=Qwen3ForCausalLM(config).eval(), tokenizer=tokenizer, device=torch.device("cpu"))


def make_prompts(case: Case) -> list[Prompt]:
    """Prompts of unequal length, three quarters to all of the case's tokens."""
    generator = torch.Generator().manual_seed(1)
    prompts = []
    for number in range(case.num_prompts):
        length = case.prompt_tokens - number * case.prompt_tokens // (4 * case.num_prompts)
        ids = torch.randint(1, WORDS, (length,), generator=generator).tolist()
        text = " ".join(f"w{i}" for i in ids)
        prompts.append(Prompt(prompt_id=str(number), messages=(Message(role=Role.USER, parts=(TextPart(text=text),)),)))
    return prompts


def generate(
    policy: Policy, prompts: list[Prompt], case: Case, *, cache: str, samples: int, greedy: bool
) -> torch.Tensor:
    """Transformers' answers [prompts · samples, tokens] of one left-padded batch."""
    texts = [prompt.messages[0].text for prompt in prompts]
    policy.tokenizer.padding_side, policy.tokenizer.pad_token = "left", "w0"
    batch = policy.tokenizer(texts, return_tensors="pt", padding=True)
    with torch.inference_mode():
        output = policy.module.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            max_new_tokens=case.answer_tokens,
            do_sample=not greedy,
            **({} if greedy else {"top_k": 0}),
            num_return_sequences=samples,
            cache_implementation=cache,
            disable_compile=True,
            pad_token_id=0,
        )
    return output[:, batch["input_ids"].shape[1] :]


class Taken(NamedTuple):
    """Seconds of one action."""

    wall: float
    processor: float


def seconds(actions: Mapping[str, Callable[[], object]]) -> dict[str, Taken]:
    """Medians of each action. They take turns, so that another program on the machine slows all alike."""
    times: dict[str, list[Taken]] = {name: [] for name in actions}
    for _ in range(WARM_UP + REPEATS):
        for name, action in actions.items():
            wall, processor = time.perf_counter(), time.process_time()
            action()
            times[name].append(Taken(time.perf_counter() - wall, time.process_time() - processor))
    return {
        name: Taken(*(statistics.median(column) for column in zip(*taken[WARM_UP:], strict=True)))
        for name, taken in times.items()
    }


def equal_greedy(policy: Policy, prompts: list[Prompt], case: Case) -> int:
    """Prompts whose greedy answers are the same tokens."""
    params = SamplingParams(num_samples=1, temperature=0, max_tokens=case.answer_tokens)
    ours = [group[0].token_ids for group in InProcessSampler(policy).sample(prompts, params)]
    theirs = generate(policy, prompts, case, cache="dynamic", samples=1, greedy=True)
    return sum(answer == tuple(row.tolist()) for answer, row in zip(ours, theirs, strict=True))


def measure(case: Case) -> float:
    """Prints one case; the ratio to the best of `generate`."""
    policy, prompts = make_policy(case.hidden), make_prompts(case)
    equal = equal_greedy(policy, prompts, case)
    if equal < len(prompts):
        raise SystemExit(f"{case.name}: greedy answers differ on {len(prompts) - equal} of {len(prompts)} prompts")
    params = SamplingParams(num_samples=case.num_samples, max_tokens=case.answer_tokens, seed=0)
    sampler = InProcessSampler(policy)
    peers = {
        f"generate, {cache} cache": partial(
            generate, policy, prompts, case, cache=cache, samples=case.num_samples, greedy=False
        )
        for cache in CACHES
    }
    taken = seconds({**peers, OURS: lambda: sampler.sample(prompts, params)})
    tokens = case.num_prompts * case.num_samples * case.answer_tokens
    print(
        f"\n{case.name}: {case.num_prompts} prompts of up to {case.prompt_tokens} tokens, G {case.num_samples}, "
        f"{case.answer_tokens} tokens each; greedy equal on {equal} of {len(prompts)}"
    )
    for name, it in taken.items():
        print(f"  {name:<28}{tokens / it.wall:>10,.0f} tokens/s   {it.processor:.2f} s of processor time")
    by_wall, by_processor = (min(taken[name][i] for name in peers) / taken[OURS][i] for i in range(2))
    print(f"  {by_processor:.2f} times the best of generate ({by_wall:.2f} by wall time)")
    return by_processor


def main() -> None:
    """Measure every case; exit 1 where the sampler is less than 3 times as fast."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--case", action="append", default=[], choices=[case.name for case in CASES])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    ratios = {case.name: measure(case) for case in CASES if case.name in options.case or not options.case}
    slow = [name for name, ratio in ratios.items() if ratio < 3]
    if slow:
        raise SystemExit(f"less than 3 times generate: {', '.join(slow)}")


if __name__ == "__main__":
    main()
