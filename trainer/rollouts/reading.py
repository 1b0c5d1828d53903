"""Sampled tokens to rollouts, in one way for every sampler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from trainer.rollouts.base import Rollout, SamplingParams
from trainer.rollouts.rendering import end_of_turn_ids, opens_reasoning, parse_answer

TAIL_TOKENS = 16
"""Of a prompt, what is decoded to see whether it ends inside a reasoning block."""


class Sampled(NamedTuple):
    """The tokens of one answer, the end-of-turn token included, and their log-probabilities."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


class RolloutReader:
    """Reads the answers to one policy's prompts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, extra_stop_ids: Iterable[int] = ()) -> None:
        self._tokenizer = tokenizer
        self.stop_ids = end_of_turn_ids(tokenizer, extra_stop_ids)

    def group(
        self,
        prompt_id: str,
        prompt_ids: tuple[int, ...],
        answers: Sequence[Sampled],
        params: SamplingParams,
        policy_version: int,
    ) -> tuple[Rollout, ...]:
        """One rollout per answer to a prompt, in their order; with one greedy answer for all, that one again and again.

        Args:
            prompt_id: of the prompt.
            prompt_ids: its token ids as the sampler had them.
            answers: `params.num_samples` of them, or one.
            params: how they were sampled.
            policy_version: of the policy that gave them.

        """
        tail = str(self._tokenizer.decode(list(prompt_ids[-TAIL_TOKENS:]), skip_special_tokens=False))
        in_reasoning = opens_reasoning(tail)
        parsed = [
            parse_answer(self._tokenizer, answer.token_ids, stop_ids=self.stop_ids, in_reasoning=in_reasoning)
            for answer in answers
        ]
        return tuple(
            Rollout(
                prompt_id=prompt_id,
                rollout_index=number,
                prompt_token_ids=prompt_ids,
                token_ids=answers[number % len(answers)].token_ids,
                logprobs=answers[number % len(answers)].logprobs,
                message=parsed[number % len(answers)].message,
                finish_reason=parsed[number % len(answers)].finish_reason,
                policy_version=policy_version,
                temperature=params.temperature,
            )
            for number in range(params.num_samples)
        )
