"""Answers from an ART model's own endpoint: real HTTP servers, a real policy, and what servers leave out."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from trainer.backends.trajectories import ScoredRollout, to_choice, to_trajectory_group  # isort: skip  # first

import art

from spanloop.convert import messages_from_chat
from spanloop.records import Message, Role, TextPart
from tests.unit.trainer.grpo.factories import save_tiny_base
from trainer.backends.art_sampler import ArtSampler, EndpointSettings
from trainer.backends.background import Background
from trainer.backends.torch_backend import TorchBackend
from trainer.grpo.policy import Policy, load_policy
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.errors import ContextLimitError, SamplerError
from trainer.rollouts.in_process import InProcessSampler
from trainer.rollouts.rendering import render_prompt

pytestmark = pytest.mark.filterwarnings("ignore")  # ART and litellm use what their dependencies have deprecated

GREEDY = SamplingParams(num_samples=2, temperature=0, max_tokens=6)


def prompt(text: str, prompt_id: str = "p") -> Prompt:
    """A user's message."""
    return Prompt(prompt_id=prompt_id, messages=(Message(role=Role.USER, parts=(TextPart(text=text),)),))


@pytest.fixture
def background() -> Iterator[Background]:
    """A loop for the client."""
    loop = Background("test")
    yield loop
    loop.close()


def test_a_backends_own_endpoint_answers_as_the_policy_and_follows_its_updates(tmp_path, background):
    """Token for token what the policy says in process, log-probabilities included; after an update the new policy's."""
    base = save_tiny_base(tmp_path / "base")
    policy = load_policy(base, device="cpu")
    backend = TorchBackend(path=tmp_path / ".art", policy=policy)
    model = art.TrainableModel(name="cook", project="meals", base_model=str(base), report_metrics=[])
    background.run(model.register(backend))
    sampler = ArtSampler(model, policy.tokenizer, background)
    expected, answers = InProcessSampler(policy), []
    for version in (0, 1):
        for params in (GREEDY, SamplingParams(num_samples=3, max_tokens=5, seed=7)):
            groups = sampler.sample([prompt("w9 w10", "a"), prompt("w11 w12 w13", "b")], params)
            assert [("a", params.num_samples), ("b", params.num_samples)] == [(g[0].prompt_id, len(g)) for g in groups]
            assert {version} == {rollout.policy_version for group in groups for rollout in group}
        (asked,) = sampler.sample([prompt("w9 w10")], GREEDY)
        (own,) = expected.sample([prompt("w9 w10")], GREEDY)
        for mine, theirs in zip(asked, own, strict=True):
            assert (theirs.token_ids, theirs.prompt_token_ids) == (mine.token_ids, mine.prompt_token_ids)
            assert (theirs.message, theirs.finish_reason) == (mine.message, mine.finish_reason)
            assert pytest.approx(theirs.logprobs, abs=1e-5) == mine.logprobs
        answers.append(asked[0].logprobs)
        if version == 0:
            scored = [ScoredRollout(rollout=r, reward=v) for r, v in zip(groups[0], (0.0, 1.0, 0.5), strict=True)]
            group = to_trajectory_group(prompt("w9 w10").messages, (), scored)
            background.run(backend.train(model, [group], loss_type="dapo", optim="sgd", learning_rate=1.0))
            sampler.advance(1)
    assert answers[0] != answers[1]
    assert {} == sampler.template_mismatches
    background.run(backend.close())


class Plain:
    """An endpoint of OpenAI's chat form and nothing beyond: tokens are named by their text, unknown fields refused."""

    def __init__(self, policy: Policy, *, logprobs: bool = True, context: int = 10**6) -> None:
        self.policy, self.logprobs, self.context = policy, logprobs, context
        self.asked: list[dict[str, object]] = []
        plain = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                """List no models."""
                self.reply(404, {"error": {"message": "no such path"}})

            def do_POST(self):
                """Answer."""
                self.reply(*plain.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

            def reply(self, status, body):
                """Send JSON."""
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                """Nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.model = art.Model(
            name="plain", project="p", inference_api_key="k", report_metrics=[],
            inference_base_url=f"http://127.0.0.1:{self.http.server_address[1]}/v1",
        )  # fmt: skip

    def answer(self, request):
        """The status and the body."""
        self.asked.append(request)
        if "return_token_ids" in request:
            return 422, {"error": {"message": "return_token_ids: extra inputs are not permitted"}}
        messages = messages_from_chat(request["messages"])
        if len(render_prompt(self.policy.tokenizer, messages)) >= self.context:
            return 400, {"error": {"message": "This model's maximum context length is short.", "code": None}}
        params = SamplingParams(
            num_samples=request["n"], temperature=request["temperature"], max_tokens=request["max_tokens"]
        )
        (group,) = InProcessSampler(self.policy).sample([Prompt(prompt_id="p", messages=messages)], params)
        choices = [to_choice(rollout).to_dict() for rollout in group]
        for choice, rollout in zip(choices, group, strict=True):
            for name in ("token_ids", "prompt_token_ids", "temperature"):
                choice.pop(name)
            for token, token_id in zip(choice["logprobs"]["content"], rollout.token_ids, strict=True):
                token["token"] = self.policy.tokenizer.decode([token_id], clean_up_tokenization_spaces=False)
            if not self.logprobs:
                choice["logprobs"] = None
        return 200, {"id": "c", "object": "chat.completion", "created": 0, "model": "plain", "choices": choices}


@pytest.fixture
def policy() -> Policy:
    """A model over words, whose tokens have a text each."""
    import torch

    from tests.unit.trainer.grpo.factories import tiny_model, tiny_tokenizer

    return Policy(module=tiny_model(), tokenizer=tiny_tokenizer(), device=torch.device("cpu"))


def test_a_server_without_token_ids_is_understood_by_its_tokens_texts(policy, background):
    """What it refuses is left out from then on; ids and log-probabilities are the policy's all the same."""
    plain = Plain(policy)
    sampler = ArtSampler(plain.model, policy.tokenizer, background)
    (found,) = sampler.sample([prompt("w9 w10")], GREEDY)
    (expected,) = InProcessSampler(policy).sample([prompt("w9 w10")], GREEDY)
    assert [(r.token_ids, r.prompt_token_ids, r.message) for r in expected] == [
        (r.token_ids, r.prompt_token_ids, r.message) for r in found
    ]
    assert 1 == plain.asked[0]["n"], "greedy answers are all the same: one is asked for"
    sampler.sample([prompt("w9 w11")], GREEDY)
    assert [True, False, False] == ["return_token_ids" in request for request in plain.asked]


def test_a_server_without_log_probabilities_is_refused(policy, background):
    """Nothing can be trained on such answers, and the message says so."""
    sampler = ArtSampler(Plain(policy, logprobs=False).model, policy.tokenizer, background)
    with pytest.raises(SamplerError, match="without a log-probability per token"):
        sampler.sample([prompt("w9 w10")], GREEDY)


def test_prompts_the_server_finds_too_long_are_all_named(policy, background):
    """So that the loop can leave them out and ask the others again."""
    sampler = ArtSampler(Plain(policy, context=12).model, policy.tokenizer, background)
    prompts = [prompt("w9 " * 20, "long"), prompt("w9", "short"), prompt("w8 " * 30, "longer")]
    with pytest.raises(ContextLimitError) as error:
        sampler.sample(prompts, GREEDY)
    assert ("long", "longer") == error.value.prompt_ids


def test_an_endpoint_that_is_away_is_named_with_its_reason(policy, background):
    """After the client's own attempts; the prompt is not quoted."""
    plain = Plain(policy)
    plain.http.shutdown()
    plain.http.server_close()
    sampler = ArtSampler(plain.model, policy.tokenizer, background, EndpointSettings(request_timeout_s=0.5))
    with pytest.raises(SamplerError, match="does not answer: APIConnectionError") as error:
        sampler.sample([prompt("w9 w77")], GREEDY)
    assert "w77" not in str(error.value)


def test_what_is_asked_is_prepared_first(policy, background):
    """A service that must load a version is told which, once per change."""
    told: list[int] = []
    model = SimpleNamespace(get_inference_name=lambda step: f"m@{step}")
    sampler = ArtSampler(model, policy.tokenizer, background, prepare=told.append, policy_version=0)
    sampler.load_policy(None, 3)
    assert [0, 3] == told
    assert 3 == sampler.policy_version


def test_the_background_loop_goes_on_between_calls(background):
    """What was started on it runs while nobody waits, and an error comes to the caller."""

    async def later() -> asyncio.Event:
        event = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, event.set)
        return event

    event = background.run(later())
    background.run(asyncio.wait_for(event.wait(), 5))

    async def fails() -> None:
        raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        background.run(fails())
