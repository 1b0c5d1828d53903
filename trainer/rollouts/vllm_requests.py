"""What a vLLM server is asked, and how its answers are read: the fields of its two OpenAI-compatible endpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from spanloop.convert import messages_to_chat, tools_to_chat
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.errors import SamplerError
from trainer.rollouts.vllm_endpoint import Json

CHAT_PATH = "/v1/chat/completions"
TOKENS_PATH = "/v1/completions"


def chat_fields(prompt: Prompt) -> Json:
    """Messages and tools for the server to render, in the chat form."""
    tools = {"tools": tools_to_chat(prompt.tools)} if prompt.tools else {}
    return {"messages": messages_to_chat(prompt.messages), "logprobs": True, "top_logprobs": 0, **tools}


def token_fields(token_ids: Sequence[int]) -> Json:
    """A prompt that is rendered already."""
    return {"prompt": list(token_ids), "logprobs": 0}


def num_asked(params: SamplingParams) -> int:
    """Greedy answers of one prompt are all the same, and the server computes only one."""
    return params.num_samples if params.temperature > 0 else 1


def sampling_fields(params: SamplingParams, *, max_tokens: int, seed: int, stop_ids: Iterable[int]) -> Json:
    """What both endpoints take. Every default that a server may have is written out, so that none applies."""
    return {
        "n": num_asked(params),
        "max_tokens": max_tokens,
        "temperature": params.temperature,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": seed,
        "stop_token_ids": sorted(stop_ids),
        "return_token_ids": True,
        "skip_special_tokens": False,
        "add_special_tokens": False,
    }


def prompt_ids(url: str, answer: Json, choice: Json) -> tuple[int, ...]:
    """The prompt as the server had it: beside the choices in the chat form, in each choice in the other."""
    ids = answer.get("prompt_token_ids") or choice.get("prompt_token_ids")
    if not isinstance(ids, list):
        raise SamplerError(
            f"vLLM {url}: the answer has no prompt_token_ids; this needs a server that knows return_token_ids "
            "(vLLM 0.11 or later)"
        )
    return tuple(ids)


def sampled(url: str, choice: Json) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Token ids and their log-probabilities, one by one."""
    ids, report = choice.get("token_ids"), choice.get("logprobs")
    values: list[float] = []
    if isinstance(report, dict):
        entries = report.get("content")
        values = [entry["logprob"] for entry in entries] if isinstance(entries, list) else report["token_logprobs"]
    if not isinstance(ids, list) or len(ids) != len(values):
        raise SamplerError(
            f"vLLM {url}: {len(values)} log-probabilities for the tokens of an answer; "
            "this needs a server that knows return_token_ids (vLLM 0.11 or later)"
        )
    return tuple(ids), tuple(float(value) for value in values)
