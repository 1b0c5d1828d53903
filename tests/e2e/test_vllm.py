"""Rollouts from a real vLLM server on the CPU, held against the learner's own computation."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from spanloop.records import Message, Part, ReasoningPart, Role, TextPart, ToolCall, ToolDefinition, ToolResult
from tests.unit.trainer.rollouts.models import byte_tokenizer, small_model
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.errors import ContextLimitError, SamplerError
from trainer.rollouts.rendering import render_prompt
from trainer.rollouts.template_mismatch import TemplateMismatch
from trainer.rollouts.vllm import RenderedBy, VllmSampler, VllmSettings
from trainer.rollouts.vllm_endpoint import EndpointLimits
from trainer.rollouts.vllm_server import VllmServerSettings

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    # peft 0.21 asks transformers 5 for a property under its old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.skipif(os.environ.get("SPANLOOP_NO_VLLM") == "1", reason="SPANLOOP_NO_VLLM=1: asked to leave vLLM out"),
]

ROOT = Path(__file__).parents[2]
CONTEXT = 768
SERVER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # serves /sleep and /wake_up
}
BF16_MEAN, BF16_WORST = 0.05, 0.4
"""Nats by which two bfloat16 computations of this model may differ: over all tokens, and on one."""

SEARCH = ToolDefinition(
    name="search_recipes",
    description="Recipes that match a query.",
    parameters='{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer"}},"required":["query"]}',
)
SAVE = ToolDefinition(name="save_plan", description="Keep a plan.", parameters='{"type":"object","properties":{}}')


def message(role: Role, *parts: Part) -> Message:
    """A message of these parts."""
    return Message(role=role, parts=parts)


def recorded_points() -> list[Prompt]:
    """The decision points of one recorded episode: after the question, after one result, after another."""
    history = (
        message(Role.SYSTEM, TextPart(text="You plan dinners.")),
        message(Role.USER, TextPart(text="Two fish dinners, no garlic. Größe: für zwei.")),
        message(Role.ASSISTANT, ToolCall(id="c1", name="search_recipes", arguments='{"query":"fish","limit":3}')),
        message(Role.TOOL, ToolResult(call_id="c1", name="search_recipes", content='["cod", "plaice"]')),
        message(Role.ASSISTANT, TextPart(text="Saving."), ToolCall(id="c2", name="save_plan", arguments="{}")),
        message(Role.TOOL, ToolResult(call_id="c2", name="save_plan", content="saved")),
    )
    states = (history[:2], history[:4], history)
    return [Prompt(prompt_id=f"e1:{i}", messages=state, tools=(SEARCH, SAVE)) for i, state in enumerate(states)]


@pytest.fixture(scope="module")
def vllm_python() -> Path:
    """The interpreter vLLM is installed for; a missing one fails the tests rather than passing them over."""
    python = Path(os.environ.get("SPANLOOP_VLLM_PYTHON", ROOT / ".venv-vllm" / "bin" / "python"))
    if not python.exists():
        pytest.fail(f"{python} is missing: run `make setup-vllm`, or set SPANLOOP_NO_VLLM=1 to leave vLLM out")
    return python


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Qwen3-shaped model with its tokenizer, saved as a server loads it."""
    directory = tmp_path_factory.mktemp("base")
    small_model(hidden=128, context=CONTEXT).save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two LoRA adapters that change the model much, each in another way."""
    directories = []
    for seed in (1, 2):
        module = get_peft_model(load(base), LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for name, parameter in module.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter, 0, 0.1)
        directories.append(tmp_path_factory.mktemp(f"adapter{seed}"))
        module.save_pretrained(directories[-1])
    return directories[0], directories[1]


@pytest.fixture(scope="module")
def settings(base: Path, vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> VllmServerSettings:
    """A server on the CPU."""
    return VllmServerSettings(
        python=vllm_python,
        model=base,
        log_file=tmp_path_factory.mktemp("log") / "vllm.log",
        on_cpu=True,
        environment=SERVER_ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def started(settings: VllmServerSettings) -> Iterator[VllmSampler]:
    """A sampler with a server of its own; nothing of it is left afterwards."""
    sampler = VllmSampler(VllmSettings(server=settings), byte_tokenizer())
    server = sampler._endpoints[0]._server
    yield sampler
    group = server.pid
    sampler.close()
    sampler.close()
    deadline = time.monotonic() + 30
    while living(group):
        assert time.monotonic() < deadline, f"processes {living(group)} outlive their server"
        time.sleep(0.05)


def living(group: int) -> list[str]:
    """Processes of a group that still run; killed ones that nobody has collected do not."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, state, _, process_group = re.match(r"(\d+) \(.*\) (\w) (\d+) (\d+)", status.read_text(), re.S).groups()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(process_group) == group and state != "Z":
            found.append(pid)
    return found


@pytest.fixture
def sampler(started: VllmSampler, adapters: tuple[Path, Path]) -> VllmSampler:
    """The sampler with the first adapter loaded, as version 1."""
    if started.policy_version != 1:
        started.load_policy(adapters[0], 1)
    return started


def load(base: Path, adapter: Path | None = None, dtype: torch.dtype = torch.bfloat16) -> torch.nn.Module:
    """The learner: the saved model in the server's precision, with an adapter or without."""
    module = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    if adapter is not None:
        from peft import PeftModel

        module = PeftModel.from_pretrained(module, adapter)
    return module.eval()


def differences(module: torch.nn.Module, groups: list[tuple[Rollout, ...]], temperature: float = 1.0) -> torch.Tensor:
    """Absolute differences of all reported log-probabilities to a plain forward of the learner."""
    parts = []
    for rollout in (rollout for group in groups for rollout in group):
        ids = torch.tensor([rollout.prompt_token_ids + rollout.token_ids])
        with torch.no_grad():
            logits = module(input_ids=ids).logits[0, len(rollout.prompt_token_ids) - 1 : -1].float() / temperature
        picked = logits.log_softmax(-1).gather(-1, torch.tensor(rollout.token_ids)[:, None]).squeeze(-1)
        parts.append((picked - torch.tensor(rollout.logprobs)).abs())
    return torch.cat(parts)


def tokens(groups: list[tuple[Rollout, ...]]) -> list[list[tuple[int, ...]]]:
    """The sampled tokens alone."""
    return [[rollout.token_ids for rollout in group] for group in groups]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_logprobs_at_recorded_points_are_the_learners(
    sampler: VllmSampler, base: Path, adapters: tuple[Path, Path], temperature: float
) -> None:
    """At recorded points with tools, ids and log-probabilities are the learner's at the sampling temperature."""
    params = SamplingParams(num_samples=4, max_tokens=24, seed=3, temperature=temperature)
    groups = sampler.sample(recorded_points(), params)
    for prompt, group in zip(recorded_points(), groups, strict=True):
        assert [0, 1, 2, 3] == [rollout.rollout_index for rollout in group]
        for rollout in group:
            assert render_prompt(byte_tokenizer(), prompt.messages, prompt.tools) == rollout.prompt_token_ids
            assert (prompt.prompt_id, 1, temperature) == (
                rollout.prompt_id,
                rollout.policy_version,
                rollout.temperature,
            )
    learner = load(base, adapters[0])
    found = differences(learner, groups, temperature or 1.0)
    assert found.mean() < BF16_MEAN
    assert found.max() < BF16_WORST
    if temperature == 0.6:
        assert differences(learner, groups, 1.0).mean() > 4 * BF16_MEAN


def test_samples_differ_and_seeds_repeat(sampler: VllmSampler) -> None:
    """The samples of a group differ, one seed gives the same tokens again, greedy samples are one answer."""
    params = SamplingParams(num_samples=4, max_tokens=12, seed=5)
    first = tokens(sampler.sample(recorded_points(), params))
    assert [4, 4, 4] == [len(set(group)) for group in first]
    assert first == tokens(sampler.sample(recorded_points(), params))
    greedy = tokens(sampler.sample(recorded_points(), SamplingParams(num_samples=3, max_tokens=12, temperature=0)))
    assert [1, 1, 1] == [len(set(group)) for group in greedy]


def test_both_ways_of_rendering_ask_the_same(
    sampler: VllmSampler, started: VllmSampler, settings: VllmServerSettings
) -> None:
    """Messages rendered by the server and token ids rendered here give the same prompts and the same samples."""
    params = SamplingParams(num_samples=2, max_tokens=12, seed=7)
    ids = VllmSampler(
        VllmSettings(urls=started.urls, model_name="policy@1", rendered_by=RenderedBy.TRAINER), byte_tokenizer()
    )
    assert tokens(sampler.sample(recorded_points(), params)) == tokens(ids.sample(recorded_points(), params))
    ids.close()


def test_what_the_server_renders_otherwise_is_named(sampler: VllmSampler, caplog: pytest.LogCaptureFixture) -> None:
    """A history the server rewrites and one it refuses are answered all the same, counted by kind and logged once."""
    broken = message(Role.ASSISTANT, ToolCall(id="c", name="save_plan", arguments='{"titles": ["secret'))
    result = message(Role.TOOL, ToolResult(call_id="c", content="error"))
    question = message(Role.USER, TextPart(text="Plan."))
    prompts = [
        Prompt(prompt_id="rewritten", messages=(question, broken, result)),
        Prompt(prompt_id="null added", messages=(question,), tools=(ToolDefinition(name="now", parameters="{}"),)),
        Prompt(prompt_id="refused", messages=(question, message(Role.USER))),
    ]
    before = dict(sampler.template_mismatches)
    for _ in range(2):
        groups = sampler.sample(prompts, SamplingParams(num_samples=2, max_tokens=4, seed=1))
    assert [2, 2, 2] == [len(group) for group in groups]
    after = sampler.template_mismatches
    for kind in (TemplateMismatch.OTHER, TemplateMismatch.REFUSED, TemplateMismatch.TOOL_SCHEMA_ORDER):
        assert 1 == after[kind] - before.get(kind, 0)
    warnings = [record.getMessage() for record in caplog.records if "renders prompts otherwise" in record.getMessage()]
    assert 1 == len(warnings)
    assert "other=1" in warnings[0]
    assert "secret" not in caplog.text


def test_an_adapter_is_loaded_hot_and_the_old_one_unloaded(
    sampler: VllmSampler, base: Path, adapters: tuple[Path, Path]
) -> None:
    """After loading, answers are the new adapter's under its version; the server holds no older one."""
    params = SamplingParams(num_samples=2, max_tokens=24, seed=3)
    sampler.load_policy(adapters[1], 2)
    groups = sampler.sample(recorded_points(), params)
    assert {2} == {rollout.policy_version for group in groups for rollout in group}
    assert differences(load(base, adapters[1]), groups).mean() < BF16_MEAN
    assert differences(load(base, adapters[0]), groups).mean() > 4 * BF16_MEAN
    assert differences(load(base), groups).mean() > 4 * BF16_MEAN
    assert {"policy", "policy@2"} == served(sampler)


def test_a_name_the_server_holds_already_gets_the_new_weights(
    started: VllmSampler, base: Path, adapters: tuple[Path, Path]
) -> None:
    """A version loaded again from another directory, as after a resumed run, is not answered with stale weights."""
    started.load_policy(adapters[1], 5)
    started.load_policy(adapters[0], 5)
    groups = started.sample(recorded_points(), SamplingParams(num_samples=2, max_tokens=24, seed=3))
    assert differences(load(base, adapters[0]), groups).mean() < BF16_MEAN


def served(sampler: VllmSampler) -> set[str]:
    """The names the server answers to."""
    return {model["id"] for model in httpx.get(f"{sampler.urls[0]}/v1/models").json()["data"]}


def test_a_server_killed_in_the_middle_loses_no_group(
    sampler: VllmSampler, base: Path, adapters: tuple[Path, Path]
) -> None:
    """Kill -9 while groups are sampled: the server is started again, its adapter reloaded, every group answered."""
    server = sampler._endpoints[0]._server
    [api_server] = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    killed = threading.Thread(target=kill_when_busy, args=(sampler, int(api_server)))
    killed.start()
    points = [
        Prompt(prompt_id=f"{prompt.prompt_id}/{i}", messages=prompt.messages, tools=prompt.tools)
        for i in range(8)
        for prompt in recorded_points()
    ]
    groups = sampler.sample(points, SamplingParams(num_samples=4, max_tokens=64, seed=9))
    killed.join()
    assert 1 == server.restarts
    assert [point.prompt_id for point in points] == [group[0].prompt_id for group in groups]
    assert {4} == {len(group) for group in groups}
    assert differences(load(base, adapters[0]), groups[::6]).mean() < BF16_MEAN
    assert {"policy", "policy@1"} == served(sampler)


def kill_when_busy(sampler: VllmSampler, pid: int) -> None:
    """Kill the server as soon as it says that requests are running."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for line in httpx.get(f"{sampler.urls[0]}/metrics").text.splitlines():
            if line.startswith("vllm:num_requests_running") and float(line.rsplit(" ", 1)[1]) > 0:
                os.kill(pid, signal.SIGKILL)
                return


def test_a_sleeping_server_is_woken_to_answer(sampler: VllmSampler) -> None:
    """The server sleeps while the learner works, and wakes at the block's end or when it is asked."""
    params = SamplingParams(num_samples=1, max_tokens=4, seed=1)
    expected = tokens(sampler.sample(recorded_points(), params))
    with sampler.asleep():
        assert httpx.get(f"{sampler.urls[0]}/is_sleeping").json() == {"is_sleeping": True}
    assert httpx.get(f"{sampler.urls[0]}/is_sleeping").json() == {"is_sleeping": False}
    sampler.sleep()
    assert expected == tokens(sampler.sample(recorded_points(), params))


def test_prompts_without_room_are_named(sampler: VllmSampler) -> None:
    """A prompt that fills the server's context is refused by name; one that nearly does gets what is left."""
    long = Prompt(prompt_id="long", messages=(message(Role.USER, TextPart(text="y" * 2 * CONTEXT)),))
    with pytest.raises(ContextLimitError, match=rf"prompt long .* context of {CONTEXT} tokens") as caught:
        sampler.sample([*recorded_points(), long], SamplingParams(num_samples=1, max_tokens=4))
    assert ("long",) == caught.value.prompt_ids
    near = Prompt(prompt_id="near", messages=(message(Role.USER, TextPart(text="y" * (CONTEXT - 40))),))
    room = CONTEXT - len(render_prompt(byte_tokenizer(), near.messages))
    [[rollout]] = sampler.sample([near], SamplingParams(num_samples=1, max_tokens=200, temperature=0))
    assert 0 < len(rollout.token_ids) <= room < 40


def test_reasoning_of_earlier_turns_reaches_the_server(sampler: VllmSampler) -> None:
    """Reasoning in the history is rendered by the server as by the trainer."""
    thought = message(Role.ASSISTANT, ReasoningPart(text="Fish is quick."), TextPart(text="Fish."))
    history = (message(Role.USER, TextPart(text="Dinner?")), thought, message(Role.USER, TextPart(text="Why?")))
    [[rollout]] = sampler.sample([Prompt(prompt_id="p", messages=history)], SamplingParams(num_samples=1, max_tokens=2))
    assert render_prompt(byte_tokenizer(), history) == rollout.prompt_token_ids
    assert "Fish is quick." in byte_tokenizer().decode(rollout.prompt_token_ids)


def test_a_dead_server_among_several_is_passed_over(sampler: VllmSampler) -> None:
    """With two servers of which one is gone, every group still arrives, from the other."""
    limits = EndpointLimits(attempts_max=2, backoff_s=0.05)
    dead = "http://127.0.0.1:9"
    both = VllmSampler(VllmSettings(urls=(dead, *sampler.urls), model_name="policy@1", limits=limits), byte_tokenizer())
    both._context_max = CONTEXT  # the dead server cannot be asked for it
    groups = both.sample(recorded_points(), SamplingParams(num_samples=2, max_tokens=4, seed=1))
    both.close()
    assert [2, 2, 2] == [len(group) for group in groups]


def test_requests_that_cannot_be_served_say_why(sampler: VllmSampler, base: Path, tmp_path: Path) -> None:
    """Errors name the server, the status and the remedy: an unknown model, full weights, no weights, top-p."""
    stranger = VllmSampler(VllmSettings(urls=sampler.urls, model_name="nobody"), byte_tokenizer())
    params = SamplingParams(num_samples=1, max_tokens=2)
    with pytest.raises(SamplerError, match=rf"{sampler.urls[0]}.*status 404.*check the model name"):
        stranger.sample(recorded_points(), params)
    with pytest.raises(SamplerError, match=r"full weights.*somebody else runs; train a LoRA adapter"):
        stranger.load_policy(base, 3)
    with pytest.raises(SamplerError, match=r"holds no config\.json; point to a checkpoint"):
        sampler.load_policy(tmp_path, 3)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SamplerError, match=r"holds no adapter_model\.safetensors; point to a checkpoint"):
        sampler.load_policy(tmp_path, 3)
    assert 1 == sampler.policy_version
    with pytest.raises(SamplerError, match="use top_p 1"):
        sampler.sample(recorded_points(), SamplingParams(top_p=0.9))
    stranger.close()


def test_full_weights_restart_the_server_with_them(
    started: VllmSampler, base: Path, tmp_path: Path, adapters: tuple[Path, Path]
) -> None:
    """A checkpoint of full weights is served by the server that was started here; an adapter can follow."""
    other = small_model(hidden=128, context=CONTEXT, seed=4)
    other.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    started.load_policy(tmp_path, 7)
    groups = started.sample(recorded_points(), SamplingParams(num_samples=2, max_tokens=16, seed=1))
    assert {7} == {rollout.policy_version for group in groups for rollout in group}
    assert differences(load(tmp_path), groups).mean() < BF16_MEAN
    assert differences(load(base), groups).mean() > 4 * BF16_MEAN
    started.load_policy(base, 8)
