"""Answers from an ART model's own inference endpoint, for backends whose policy lives in a service of theirs.

In: prompts. Out: groups, each by one chat completion with `n` answers and log-probabilities. Token ids are the server's
where it tells them (vLLM's `return_token_ids`, or tokens named `token_id:N`); else a token's text says which it is.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

# First, so that its environment settings are in place when ART is imported.
from trainer.backends.trajectories import TrajectoryError, choice_tokens  # isort: skip

import art
import openai
from openai.types.chat import ChatCompletion
from openai.types.chat.chat_completion import Choice
from transformers import PreTrainedTokenizerBase

from spanloop.convert import messages_to_chat, tools_to_chat
from trainer.backends.background import Background
from trainer.rollouts.balance import digest
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.errors import ContextLimitError, SamplerError
from trainer.rollouts.reading import RolloutReader, Sampled
from trainer.rollouts.rendering import renderer_of
from trainer.rollouts.server_prompts import ServerPrompts
from trainer.rollouts.template_mismatch import TemplateMismatch
from trainer.rollouts.vllm_requests import num_asked, sampling_fields

log = logging.getLogger(__name__)

RETRIES = 4
"""Of a request that met a passing failure; the client waits longer each time."""
STANDARD_FIELDS = frozenset(
    {"n", "max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"}
)
"""Fields every server knows; the others are vLLM's and left out where a server refuses them."""
CONTEXT_CODE, CONTEXT_WORDS = "context_length_exceeded", "context length"
"""How servers say that a prompt is too long: OpenAI's code, vLLM's words."""
REASON_CHARACTERS_MAX = 300
"""Of a server's own error text, what goes into ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """How to ask."""

    request_timeout_s: float = 600.0
    """One request: a whole group of answers."""
    concurrent_requests_max: int = 64


class ArtSampler:
    """A `Sampler` over a registered model. Its client is used on `background`, which stays the caller's."""

    def __init__(
        self,
        model: art.TrainableModel[Any, Any],
        tokenizer: PreTrainedTokenizerBase,
        background: Background,
        settings: EndpointSettings = EndpointSettings(),
        *,
        prepare: Callable[[int], None] | None = None,
        policy_version: int = 0,
    ) -> None:
        """Ask a registered model.

        Args:
            model: its endpoint and its names.
            tokenizer: the policy's; it renders what a server does not tell, and parses answers.
            background: the loop the model's client belongs to.
            settings: how to ask.
            prepare: called with a version before it is asked for the first time.
            policy_version: the version to ask for.

        """
        self._prepare = prepare
        self._model = model
        self._tokenizer = tokenizer
        self._background = background
        self._settings = settings
        self._reader = RolloutReader(tokenizer)
        self._prompts = ServerPrompts(tokenizer)
        self._takes_extras = True
        self._context_max: int | None = None
        self._asked_context = False
        self.advance(policy_version)

    @property
    def template_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """How many distinct prompts the server rendered otherwise than the trainer, by kind, as far as it tells."""
        return self._prompts.mismatches

    def advance(self, policy_version: int) -> None:
        """Ask for this version of the policy from now on."""
        if self._prepare is not None:
            self._prepare(policy_version)
        self.policy_version = policy_version
        self._name = self._model.get_inference_name(policy_version)

    def load_policy(self, checkpoint: Path, policy_version: int) -> None:
        """As `advance`: the service has the weights of every version it trained."""
        del checkpoint
        self.advance(policy_version)

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[tuple[Rollout, ...]]:
        """One group of `params.num_samples` rollouts per prompt, in the order of the prompts.

        Raises:
            ContextLimitError: prompts fill the context; it names all of them.
            RenderingError: the policy's chat template refuses a prompt.
            SamplerError: the endpoint does not answer, or not with log-probabilities.

        """
        rendered = [renderer_of(self._tokenizer).token_ids(prompt.messages, prompt.tools) for prompt in prompts]
        groups = self._background.run(self._sample(prompts, rendered, params))
        self._prompts.report()
        return groups

    def close(self) -> None:
        """Nothing to release: the client belongs to the model."""

    async def _sample(
        self, prompts: Sequence[Prompt], rendered: Sequence[tuple[int, ...]], params: SamplingParams
    ) -> list[tuple[Rollout, ...]]:
        limit = await self._context_limit()
        pairs = list(zip(prompts, rendered, strict=True))
        too_long = [(prompt.prompt_id, len(ids)) for prompt, ids in pairs if limit and len(ids) >= limit]
        if too_long:
            raise ContextLimitError(too_long, limit or 0)
        seed = secrets.randbits(31) if params.seed is None else params.seed
        turns = asyncio.Semaphore(self._settings.concurrent_requests_max)

        async def group(prompt: Prompt, ids: tuple[int, ...]) -> tuple[Rollout, ...] | None:
            room = params.max_tokens if limit is None else min(params.max_tokens, limit - len(ids))
            own_seed = digest(f"{seed}\0{prompt.prompt_id}") >> 34
            fields = sampling_fields(params, max_tokens=room, seed=own_seed, stop_ids=self._reader.stop_ids)
            async with turns:
                completion = await self._complete(prompt, fields)
            return None if completion is None else self._rollouts(prompt, ids, completion, params)

        groups = await asyncio.gather(*(group(prompt, ids) for prompt, ids in pairs))
        refused = [(p.prompt_id, len(ids)) for (p, ids), found in zip(pairs, groups, strict=True) if found is None]
        if refused:
            raise ContextLimitError(refused, limit or min(length for _, length in refused))
        return [found for found in groups if found is not None]

    async def _context_limit(self) -> int | None:
        """Tokens of prompt and answer together, where the endpoint says (vLLM does)."""
        if not self._asked_context:
            try:
                models = (await self._client().models.list()).data
            except openai.OpenAIError:
                models = []  # not every service lists its models; a prompt too long is then refused by itself
            limits = [value for model in models if isinstance(value := _extra(model, "max_model_len"), int)]
            self._context_max, self._asked_context = min(limits, default=None), True
        return self._context_max

    def _client(self) -> openai.AsyncOpenAI:
        return self._model.openai_client().with_options(timeout=self._settings.request_timeout_s, max_retries=RETRIES)

    async def _complete(self, prompt: Prompt, fields: Mapping[str, object]) -> ChatCompletion | None:
        """The server's answer; `None` where it says that the prompt is too long."""
        try:
            try:
                return await self._create(prompt, fields, extras=self._takes_extras)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                if _is_too_long(error) or not self._takes_extras:
                    raise
                completion = await self._create(prompt, fields, extras=False)
                self._takes_extras = False
                log.warning("endpoint_plain reason=%s", _reason(error))
                return completion
        except openai.OpenAIError as error:
            if _is_too_long(error):
                return None
            raise SamplerError(
                f"endpoint {self._model.inference_base_url}: {self._name} does not answer: {_reason(error)}; "
                "see the backend's own log, or raise art.request_timeout_s if answers are long"
            ) from error

    async def _create(self, prompt: Prompt, fields: Mapping[str, object], *, extras: bool) -> ChatCompletion:
        standard = {name: value for name, value in fields.items() if name in STANDARD_FIELDS}
        others = {name: value for name, value in fields.items() if name not in STANDARD_FIELDS}
        options: dict[str, Any] = {"tools": tools_to_chat(prompt.tools)} if prompt.tools else {}
        completion = await self._client().chat.completions.create(
            model=self._name,
            messages=cast("Any", messages_to_chat(prompt.messages)),
            logprobs=True,
            extra_body=others if extras else None,
            **cast("dict[str, Any]", standard),
            **options,
        )
        return cast("ChatCompletion", completion)

    def _rollouts(
        self, prompt: Prompt, ours: tuple[int, ...], completion: ChatCompletion, params: SamplingParams
    ) -> tuple[Rollout, ...]:
        choices = sorted(completion.choices, key=lambda choice: choice.index)
        if len(choices) != num_asked(params):
            raise SamplerError(f"endpoint {self._name}: {len(choices)} answers instead of {num_asked(params)}")
        told = _extra(completion, "prompt_token_ids") or _extra(choices[0], "prompt_token_ids")
        prompt_ids = tuple(told) if isinstance(told, list) else ours
        self._prompts.compare(prompt, ours, prompt_ids)
        answers = [self._tokens(choice) for choice in choices]
        group = self._reader.group(prompt.prompt_id, prompt_ids, answers, params, self.policy_version)
        return tuple(_ended(rollout, choices[rollout.rollout_index % len(choices)]) for rollout in group)

    def _tokens(self, choice: Choice) -> Sampled:
        try:
            token_ids, logprobs = choice_tokens(choice, self._tokenizer)
        except TrajectoryError as error:
            raise SamplerError(f"endpoint {self._name}: {error}") from error
        says_something = bool(choice.message.content or choice.message.tool_calls)
        if logprobs is None or (says_something and not token_ids):
            raise SamplerError(
                f"endpoint {self._name}: an answer without a log-probability per token, so nothing can be trained on "
                "it; use a backend whose endpoint honours logprobs=true"
            )
        return Sampled(token_ids, logprobs)


def _ended(rollout: Rollout, choice: Choice) -> Rollout:
    """With its finish reason where the server ended the turn and did not count the token that ends it."""
    if rollout.finish_reason != "length" or choice.finish_reason == "length":
        return rollout
    return replace(rollout, finish_reason="tool_calls" if rollout.message.tool_calls else "stop")


def _extra(answer: object, name: str) -> object:
    """A field beyond OpenAI's own."""
    return (getattr(answer, "model_extra", None) or {}).get(name)


def _is_too_long(error: openai.OpenAIError) -> bool:
    return isinstance(error, openai.BadRequestError) and (
        error.code == CONTEXT_CODE or CONTEXT_WORDS in error.message.lower()
    )


def _reason(error: openai.OpenAIError) -> str:
    """The first line of the server's own words; those that follow may quote the request."""
    return f"{type(error).__name__}: {error}".partition("\n")[0][:REASON_CHARACTERS_MAX]
