"""Rollouts from vLLM servers: one request per prompt for its whole group, the prompt computed once by the server.

In: prompts. Out: groups with the server's own token ids and log-probabilities. The server renders the messages with its
chat template, as it does in production; every prompt is compared with the trainer's rendering, and a difference is
classified and counted. What the server says it was asked (`prompt_token_ids`) is what is trained.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import cast

from transformers import PreTrainedTokenizerBase

from trainer.grpo.policy import ADAPTER_CONFIG_FILE
from trainer.rollouts.balance import balance, digest, opening_key
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.errors import ContextLimitError, SamplerError
from trainer.rollouts.reading import RolloutReader, Sampled
from trainer.rollouts.rendering import renderer_of
from trainer.rollouts.server_prompts import ServerPrompts
from trainer.rollouts.template_mismatch import TemplateMismatch
from trainer.rollouts.vllm_endpoint import (
    Adapter,
    EndpointLimits,
    EndpointUnavailableError,
    Json,
    RequestRefusedError,
    VllmEndpoint,
)
from trainer.rollouts.vllm_requests import (
    CHAT_PATH,
    TOKENS_PATH,
    chat_fields,
    num_asked,
    prompt_ids,
    sampled,
    sampling_fields,
    token_fields,
)
from trainer.rollouts.vllm_server import VllmServer, VllmServerSettings
from trainer.rollouts.weights import ADAPTER_FILE

FAILOVER_AFTER_S = 5.0
"""With several servers, how long one may be away before its prompts go to another."""
MODEL_CONFIG_FILE = "config.json"
MESSAGES_REFUSED = frozenset({400, 422, 500})
"""Statuses by which a server says that it does not take these messages."""


class RenderedBy(StrEnum):
    """Who turns messages into token ids."""

    SERVER = "server"
    """The server's chat endpoint; a prompt it refuses is sent as token ids."""
    TRAINER = "trainer"
    """The policy's own tokenizer; the server gets token ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmSettings:
    """Which servers, and how to use them."""

    urls: tuple[str, ...] = ()
    """Servers that run already, started with `--logprobs-mode processed_logprobs`."""
    server: VllmServerSettings | None = None
    """A server to start instead."""
    model_name: str = "policy"
    """What the servers call the base model; adapters are served as `<model_name>@<policy version>`."""
    rendered_by: RenderedBy = RenderedBy.SERVER
    concurrent_requests_max: int = 64
    """Groups asked for at a time, over all servers."""
    limits: EndpointLimits = EndpointLimits()

    def __post_init__(self) -> None:
        """Refuse settings that name no server, or two kinds."""
        if bool(self.urls) == (self.server is not None):
            raise ValueError("vllm: give the urls of running servers or the settings of one to start, one of the two")
        if self.concurrent_requests_max < 1:
            raise ValueError(f"vllm: concurrent_requests_max {self.concurrent_requests_max}; use 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One prompt on its way to a server."""

    prompt: Prompt
    token_ids: tuple[int, ...]
    max_tokens: int
    seed: int
    endpoints: tuple[VllmEndpoint, ...]
    """In the order to try them."""


class VllmSampler:
    """A `Sampler` over vLLM servers."""

    def __init__(self, settings: VllmSettings, tokenizer: PreTrainedTokenizerBase, *, policy_version: int = 0) -> None:
        """Connect to the servers, or start one and wait for it; raises SamplerError where that fails."""
        self._settings = settings
        self._tokenizer = tokenizer
        self.policy_version = policy_version
        self._reader = RolloutReader(tokenizer)
        self._prompts = ServerPrompts(tokenizer)
        self._asleep = False
        self._context_max: int | None = None
        servers: list[VllmServer | str] = list(settings.urls)
        if settings.server is not None:
            server = VllmServer(settings.server)
            server.start()
            servers.append(server)
        name = settings.model_name if settings.server is None else settings.server.model_name
        limits = settings.limits if len(servers) == 1 else replace(settings.limits, recover_timeout_s=FAILOVER_AFTER_S)
        self._endpoints = [VllmEndpoint(server, model_name=name, limits=limits) for server in servers]
        self._model_name = name

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the servers listen now."""
        return tuple(endpoint.url for endpoint in self._endpoints)

    @property
    def template_mismatches(self) -> Mapping[TemplateMismatch, int]:
        """How many distinct prompts the server rendered otherwise than the trainer, by kind."""
        return self._prompts.mismatches

    def sample(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[tuple[Rollout, ...]]:
        """One group of `params.num_samples` rollouts per prompt, in the order of the prompts.

        Equal seeds ask for equal noise; a server in half precision may still answer otherwise in other company.

        Raises:
            ContextLimitError: prompts fill the context; it names all of them, and nothing was sampled.
            RenderingError: the chat template refuses a prompt.
            SamplerError: no server answered within the attempts.

        """
        if params.top_p < 1:
            raise SamplerError(
                f"vllm: top_p {params.top_p}; the server reports log-probabilities of what top-p leaves, not of the "
                "policy; use top_p 1"
            )
        if self._asleep:
            self.wake()
        jobs = self._jobs(prompts, params)
        with ThreadPoolExecutor(min(self._settings.concurrent_requests_max, len(jobs)) or 1) as pool:
            groups = list(pool.map(lambda job: self._group(job, params), jobs))
        self._prompts.report()
        return groups

    def _jobs(self, prompts: Sequence[Prompt], params: SamplingParams) -> list[_Job]:
        rendered = [renderer_of(self._tokenizer).token_ids(prompt.messages, prompt.tools) for prompt in prompts]
        limit = self._context_limit()
        pairs = list(zip(prompts, rendered, strict=True))
        too_long = [(prompt.prompt_id, len(ids)) for prompt, ids in pairs if len(ids) >= limit]
        if too_long:
            raise ContextLimitError(too_long, limit)
        seed = secrets.randbits(31) if params.seed is None else params.seed
        choices = balance([opening_key(prompt) for prompt in prompts], len(self._endpoints))
        return [
            _Job(
                prompt=prompt,
                token_ids=ids,
                max_tokens=min(params.max_tokens, limit - len(ids)),
                seed=digest(f"{seed}\0{prompt.prompt_id}") >> 34,
                endpoints=tuple(self._endpoints[number] for number in order),
            )
            for (prompt, ids), order in zip(pairs, choices, strict=True)
        ]

    def _context_limit(self) -> int:
        if self._context_max is None:
            self._context_max = min(endpoint.context_tokens_max() for endpoint in self._endpoints)
        return self._context_max

    def _group(self, job: _Job, params: SamplingParams) -> tuple[Rollout, ...]:
        """The group of one prompt, from the first of its servers that answers."""
        for last, endpoint in ((position == len(job.endpoints) - 1, e) for position, e in enumerate(job.endpoints)):
            try:
                return self._ask(endpoint, job, params)
            except EndpointUnavailableError:
                if last:
                    raise
        raise AssertionError("a job has at least one server")

    def _ask(self, endpoint: VllmEndpoint, job: _Job, params: SamplingParams) -> tuple[Rollout, ...]:
        fields = sampling_fields(params, max_tokens=job.max_tokens, seed=job.seed, stop_ids=self._reader.stop_ids)
        if self._settings.rendered_by is RenderedBy.SERVER:
            try:
                answer = endpoint.post(CHAT_PATH, {**fields, **chat_fields(job.prompt)}, for_policy=True)
            except RequestRefusedError as error:
                if error.status not in MESSAGES_REFUSED:
                    raise
                self._prompts.note(job.token_ids, TemplateMismatch.REFUSED)
            else:
                self._prompts.compare(job.prompt, job.token_ids, prompt_ids(endpoint.url, answer, answer))
                return self._rollouts(endpoint, answer, job, params)
        answer = endpoint.post(TOKENS_PATH, {**fields, **token_fields(job.token_ids)}, for_policy=True)
        return self._rollouts(endpoint, answer, job, params)

    def _rollouts(self, endpoint: VllmEndpoint, answer: Json, job: _Job, params: SamplingParams) -> tuple[Rollout, ...]:
        """The group in a server's answer. Raises SamplerError where it is not what was asked for."""
        choices = sorted(cast("list[Json]", answer.get("choices", [])), key=lambda choice: cast("int", choice["index"]))
        if len(choices) != num_asked(params):
            raise SamplerError(f"vLLM {endpoint.url}: {len(choices)} answers instead of {num_asked(params)}")
        answers = [Sampled(*sampled(endpoint.url, choice)) for choice in choices]
        ids = prompt_ids(endpoint.url, answer, choices[0])
        return self._reader.group(job.prompt.prompt_id, ids, answers, params, self.policy_version)

    def load_policy(self, checkpoint: Path, policy_version: int) -> None:
        """Answer with this checkpoint from now on: an adapter is loaded into the running servers, the old one unloaded.

        Full weights restart the server with them, which only a server that the trainer started allows.

        Raises:
            SamplerError: a server does not take the checkpoint, or cannot see its directory.

        """
        if self._asleep:
            self.wake()
        directory = checkpoint.resolve()
        is_adapter = (directory / ADAPTER_CONFIG_FILE).is_file()
        weights = directory / (ADAPTER_FILE if is_adapter else MODEL_CONFIG_FILE)
        if not weights.is_file():
            raise SamplerError(f"vllm: {directory} holds no {weights.name}; point to a checkpoint of this policy")
        for endpoint in self._endpoints:
            if is_adapter:
                endpoint.serve(Adapter(f"{self._model_name}@{policy_version}", directory))
            else:
                endpoint.serve_model(directory)
        self.policy_version = policy_version

    def sleep(self) -> None:
        """Give the servers' memory back until the next `sample`; needs `sleep_mode`."""
        for endpoint in self._endpoints:
            endpoint.sleep()
        self._asleep = True

    def wake(self) -> None:
        """Take the memory again."""
        for endpoint in self._endpoints:
            endpoint.wake()
        self._asleep = False

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Within the block the GPU belongs to the learner."""
        self.sleep()
        try:
            yield
        finally:
            self.wake()

    def close(self) -> None:
        """Stop the server that was started here; safe to call twice."""
        for endpoint in self._endpoints:
            endpoint.close()
