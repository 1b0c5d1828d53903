"""Tokens per second of the in-process sampler against transformers' `generate`, side by side on one small model.

Both answer the same prompts with G samples each, exactly as many tokens, on the same module and threads. `generate`
runs with each of its caches and as one batch with `num_return_sequences=G`; the best of them counts. It is not asked for
log-probabilities, which the sampler always returns. Greedy outputs are compared first: a speed gained by computing
something else would show there. Run it: `python -m benchmarks.rollouts`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from spanloop.records import Message, Role, TextPart
from trainer.grpo.policy import Policy
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.in_process import InProcessSampler

WORDS = 1000
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
WARM_UP, REPEATS = 1, 5


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
    Case(name="hidden 128, long prompt", hidden=128, prompt_tokens=512, answer_tokens=64),
    Case(name="hidden 256", hidden=256, prompt_tokens=256, answer_tokens=64),
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


def seconds(action: Callable[[], object]) -> float:
    """Median wall time of an action."""
    times = []
    for _ in range(WARM_UP + REPEATS):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


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
    tokens = case.num_prompts * case.num_samples * case.answer_tokens
    rates = {
        f"generate, {cache} cache": tokens
        / seconds(lambda: generate(policy, prompts, case, cache=cache, samples=case.num_samples, greedy=False))  # noqa: B023 - runs at once
        for cache in ("dynamic", "static")
    }
    ours = tokens / seconds(lambda: InProcessSampler(policy).sample(prompts, params))
    best = max(rates.values())
    print(
        f"\n{case.name}: {case.num_prompts} prompts of up to {case.prompt_tokens} tokens, G {case.num_samples}, "
        f"{case.answer_tokens} tokens each; greedy equal on {equal} of {len(prompts)}"
    )
    for name, rate in rates.items():
        print(f"  {name:<28}{rate:>10,.0f} tokens/s")
    print(f"  {'in-process sampler':<28}{ours:>10,.0f} tokens/s   {ours / best:.2f} times the best of generate")
    return ours / best


def main() -> None:
    """Measure every case; exit 1 where the sampler is less than 3 times as fast."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    ratios = {case.name: measure(case) for case in CASES}
    slow = [name for name, ratio in ratios.items() if ratio < 3]
    if slow:
        raise SystemExit(f"less than 3 times generate: {', '.join(slow)}")


if __name__ == "__main__":
    main()
