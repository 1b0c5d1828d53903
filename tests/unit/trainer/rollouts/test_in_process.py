"""Sampling from the policy's own module."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from spanloop.records import Message, Role, TextPart, ToolDefinition
from tests.unit.trainer.rollouts.models import byte_tokenizer, small_model, small_policy
from trainer.grpo.policy import Policy, PolicyError
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.errors import ContextLimitError
from trainer.rollouts.in_process import BatchLimits, InProcessSampler
from trainer.rollouts.rendering import end_of_turn_ids, render_prompt

# peft 0.21 asks transformers 5 for a property under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOOLS = (ToolDefinition(name="search", description="Find.", parameters='{"type":"object"}'),)
QUESTIONS = ("Hi", "A much longer question, with a comma.", "Three?", "Hi there", "x" * 70)


def user(text: str) -> tuple[Message, ...]:
    """A conversation of one user message."""
    return (Message(role=Role.USER, parts=(TextPart(text=text),)),)


def prompts(questions: tuple[str, ...] = QUESTIONS) -> list[Prompt]:
    """One prompt per question, named p0, p1 and so on."""
    return [Prompt(prompt_id=f"p{i}", messages=user(text), tools=TOOLS) for i, text in enumerate(questions)]


def with_adapter(policy: Policy, *, seed: int = 3) -> Policy:
    """The policy with a LoRA adapter that changes it much."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = get_peft_model(policy.module, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear"))
        for name, parameter in module.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, 0, 0.2)
    return Policy(module=module.eval(), tokenizer=policy.tokenizer, device=policy.device)


def learner_logprobs(policy: Policy, rollout: Rollout, *, temperature: float = 1.0) -> torch.Tensor:
    """The log-probabilities of a rollout's tokens by one plain forward over prompt and answer."""
    ids = torch.tensor([rollout.prompt_token_ids + rollout.token_ids])
    with torch.no_grad():
        logits = policy.module(input_ids=ids).logits[0].float() / temperature
    start = len(rollout.prompt_token_ids) - 1
    picked = torch.tensor(rollout.token_ids)[:, None]
    return logits[start:-1].log_softmax(-1).gather(-1, picked).squeeze(-1)


def generate_greedy(policy: Policy, prompt_ids: tuple[int, ...], max_tokens: int) -> tuple[int, ...]:
    """What transformers generates greedily for one prompt."""
    stops = sorted(end_of_turn_ids(policy.tokenizer))
    output = policy.module.generate(
        input_ids=torch.tensor([prompt_ids]),
        attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=stops,
        pad_token_id=0,
    )
    return tuple(output[0, len(prompt_ids) :].tolist())


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama"])
def test_greedy_equals_generate(kind: str, general: bool) -> None:
    """Greedy answers to prompts of unequal length are token for token those of transformers' generate."""
    policy = small_policy(kind)
    groups = InProcessSampler(policy, general_decoder=general).sample(
        prompts(), SamplingParams(num_samples=2, temperature=0, max_tokens=24)
    )
    for group in groups:
        expected = generate_greedy(policy, group[0].prompt_token_ids, 24)
        assert [expected, expected] == [rollout.token_ids for rollout in group]


@pytest.mark.parametrize("general", [False, True])
@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("adapter", [False, True])
def test_logprobs_equal_the_learner(adapter: bool, temperature: float, general: bool) -> None:
    """Every reported log-probability is that of a plain forward at the sampling temperature, with and without LoRA."""
    policy = with_adapter(small_policy()) if adapter else small_policy()
    params = SamplingParams(num_samples=3, temperature=temperature, max_tokens=20, seed=5)
    for group in InProcessSampler(policy, general_decoder=general).sample(prompts(), params):
        for rollout in group:
            expected = learner_logprobs(policy, rollout, temperature=temperature)
            torch.testing.assert_close(torch.tensor(rollout.logprobs), expected, rtol=0, atol=1e-5)


def test_greedy_logprobs_are_at_temperature_one() -> None:
    """A greedy rollout reports the probabilities of the undivided logits."""
    policy = small_policy()
    [[rollout]] = InProcessSampler(policy).sample(
        prompts(("Hi",)), SamplingParams(num_samples=1, temperature=0, max_tokens=8)
    )
    torch.testing.assert_close(torch.tensor(rollout.logprobs), learner_logprobs(policy, rollout), rtol=0, atol=1e-5)


def test_seed_decides_the_tokens_whatever_the_batch() -> None:
    """A prompt's rollouts are the same alone, in company, in another order and in batches of another size."""
    policy = small_policy()
    params = SamplingParams(num_samples=4, max_tokens=16, seed=11)
    everything = InProcessSampler(policy).sample(prompts(), params)
    alone = [InProcessSampler(policy).sample([prompt], params)[0] for prompt in prompts()]
    reverse = InProcessSampler(policy).sample(prompts()[::-1], params)[::-1]
    tiny = InProcessSampler(policy, limits=BatchLimits(rows_max=5)).sample(prompts(), params)
    expected = [[rollout.token_ids for rollout in group] for group in everything]
    for other in (alone, reverse, tiny):
        assert expected == [[rollout.token_ids for rollout in group] for group in other]


def test_samples_of_a_group_differ() -> None:
    """Samples of one prompt, and a prompt asked again under the same or another id, draw their own noise."""
    question = user("Hi")
    same = [Prompt(prompt_id=name, messages=question) for name in ("a", "b", "a")]
    groups = InProcessSampler(small_policy()).sample(same, SamplingParams(num_samples=4, max_tokens=16, seed=2))
    answers = {rollout.token_ids for group in groups for rollout in group}
    assert 12 == len(answers)


def test_another_seed_gives_other_answers() -> None:
    """The seed decides, and without one every call draws anew."""
    sampler = InProcessSampler(small_policy())
    answers = [
        sampler.sample(prompts(("Hi",)), SamplingParams(num_samples=1, max_tokens=16, seed=seed))[0][0].token_ids
        for seed in (1, 2, None, None)
    ]
    assert 4 == len(set(answers))


@pytest.mark.parametrize("general", [False, True])
def test_stops_at_the_end_of_turn(general: bool) -> None:
    """An answer ends with its first end-of-turn token, which is among its tokens; without one the reason is length."""
    policy = small_policy()
    stops = end_of_turn_ids(policy.tokenizer)
    sampler = InProcessSampler(policy, general_decoder=general)
    groups = sampler.sample(prompts(), SamplingParams(num_samples=16, max_tokens=40, seed=0, temperature=1.5))
    rollouts = [rollout for group in groups for rollout in group]
    assert {"stop", "length"} == {rollout.finish_reason for rollout in rollouts}
    for rollout in rollouts:
        assert not stops & set(rollout.token_ids[:-1])
        assert (rollout.finish_reason == "stop") == (rollout.token_ids[-1] in stops)
        assert rollout.finish_reason == "stop" or len(rollout.token_ids) == 40


def test_extra_stop_token_ends_answers() -> None:
    """A stop token of the caller ends an answer too."""
    policy = small_policy()
    params = SamplingParams(num_samples=1, temperature=0, max_tokens=10)
    [[free]] = InProcessSampler(policy).sample(prompts(("Hi",)), params)
    stop = free.token_ids[4]
    [[stopped]] = InProcessSampler(policy, stop_token_ids=[stop]).sample(prompts(("Hi",)), params)
    assert free.token_ids[: free.token_ids.index(stop) + 1] == stopped.token_ids
    assert "stop" == stopped.finish_reason


def test_prompt_tokens_are_the_chat_template() -> None:
    """The prompt of a rollout is what the tokenizer's own template renders, tools included."""
    policy = small_policy()
    [[rollout]] = InProcessSampler(policy).sample(prompts(("Hi",)), SamplingParams(num_samples=1, max_tokens=1))
    expected = policy.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}],
        tools=[
            {
                "type": "function",
                "function": {"name": "search", "description": "Find.", "parameters": {"type": "object"}},
            }
        ],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert tuple(expected) == rollout.prompt_token_ids
    assert "search" in policy.tokenizer.decode(rollout.prompt_token_ids)


def test_answers_are_cut_where_the_context_ends() -> None:
    """A prompt close to the limit gets the tokens that are left, its neighbours all of theirs."""
    policy = small_policy()
    length = len(render_prompt(policy.tokenizer, user("Hi"), TOOLS))
    sampler = InProcessSampler(policy, context_tokens_max=length + 3)
    [[cut]] = sampler.sample(prompts(("Hi",)), SamplingParams(num_samples=1, temperature=0, max_tokens=9))
    assert (3, "length") == (len(cut.token_ids), cut.finish_reason)


def test_prompts_that_fill_the_context_are_all_named() -> None:
    """Prompts without room are refused by name before anything is sampled."""
    sampler = InProcessSampler(small_policy(), context_tokens_max=240)
    long = prompts(("Hi", "y" * 200, "z" * 300))
    with pytest.raises(ContextLimitError, match=r"p1 \(\d+ tokens\), p2 .* context of 240 tokens; drop") as caught:
        sampler.sample(long, SamplingParams(num_samples=1, max_tokens=4))
    assert ("p1", "p2") == caught.value.prompt_ids


def test_no_prompts_no_groups() -> None:
    """Nothing asked, nothing answered."""
    assert [] == InProcessSampler(small_policy()).sample([], SamplingParams())


def test_training_mode_is_restored() -> None:
    """Parts that were training train again afterwards, parts that were not stay so; no gradient is left behind."""
    policy = small_policy()
    policy.module.train()
    policy.module.model.layers[0].eval()
    before = [part.training for part in policy.module.modules()]
    InProcessSampler(policy).sample(prompts(("Hi",)), SamplingParams(num_samples=2, max_tokens=3))
    assert before == [part.training for part in policy.module.modules()]
    assert all(parameter.grad is None for parameter in policy.module.parameters())


@pytest.mark.parametrize("general", [False, True])
def test_dropout_does_not_reach_the_samples(general: bool) -> None:
    """A module in training mode with dropout samples as in evaluation mode."""
    policy = Policy(module=small_model(attention_dropout=0.5), tokenizer=byte_tokenizer(), device=torch.device("cpu"))
    params = SamplingParams(num_samples=2, max_tokens=12, seed=4)
    quiet = InProcessSampler(policy, general_decoder=general).sample(prompts(), params)
    policy.module.train()
    assert quiet == InProcessSampler(policy, general_decoder=general).sample(prompts(), params)


def test_weights_changed_in_place_count_at_once() -> None:
    """The sampler keeps no copy: an update of the module shows in the next call, and `advance` names the version."""
    policy = with_adapter(small_policy())
    sampler = InProcessSampler(policy)
    params = SamplingParams(num_samples=1, temperature=0, max_tokens=12)
    [[before]] = sampler.sample(prompts(("Hi",)), params)
    with torch.no_grad():
        for name, parameter in policy.module.named_parameters():
            if "lora_B" in name:
                parameter.neg_()
    sampler.advance(7)
    [[after]] = sampler.sample(prompts(("Hi",)), params)
    assert (0, 7) == (before.policy_version, after.policy_version)
    assert before.token_ids != after.token_ids
    torch.testing.assert_close(torch.tensor(after.logprobs), learner_logprobs(policy, after), rtol=0, atol=1e-5)


def test_disabled_adapter_samples_the_base() -> None:
    """With the adapter switched off the answers are the base model's."""
    base = small_policy()
    params = SamplingParams(num_samples=1, temperature=0, max_tokens=12)
    [[expected]] = InProcessSampler(base).sample(prompts(("Hi",)), params)
    policy = with_adapter(small_policy())
    with policy.reference():
        [[answer]] = InProcessSampler(policy).sample(prompts(("Hi",)), params)
    assert expected.token_ids == answer.token_ids
    assert expected != InProcessSampler(policy).sample(prompts(("Hi",)), params)[0][0]


def test_load_policy_takes_a_saved_adapter(tmp_path) -> None:
    """After loading a checkpoint the answers are those of the policy that saved it, under the new version."""
    other = with_adapter(small_policy(), seed=9)
    other.module.save_pretrained(tmp_path)
    params = SamplingParams(num_samples=2, max_tokens=12, seed=1)
    expected = InProcessSampler(other, policy_version=4).sample(prompts(), params)
    sampler = InProcessSampler(with_adapter(small_policy()))
    sampler.load_policy(tmp_path, 4)
    assert expected == sampler.sample(prompts(), params)


def test_load_policy_takes_full_weights(tmp_path) -> None:
    """A checkpoint of full weights replaces them all, tied embeddings included."""
    other = small_policy(seed=8)
    other.module.save_pretrained(tmp_path)
    params = SamplingParams(num_samples=2, max_tokens=12, seed=1)
    sampler = InProcessSampler(small_policy())
    sampler.load_policy(tmp_path, 1)
    assert InProcessSampler(other, policy_version=1).sample(prompts(), params) == sampler.sample(prompts(), params)


def test_load_policy_refuses_what_does_not_fit(tmp_path) -> None:
    """An empty directory, another shape and a partial checkpoint are refused with the path; the version stays."""
    sampler = InProcessSampler(small_policy())
    with pytest.raises(PolicyError, match=r"holds no model\.safetensors; point to a checkpoint"):
        sampler.load_policy(tmp_path, 1)
    small_model(hidden=64).save_pretrained(tmp_path)
    with pytest.raises(PolicyError, match="does not fit at"):
        sampler.load_policy(tmp_path, 1)
    save_file({"model.norm.weight": torch.ones(32)}, tmp_path / "model.safetensors")
    with pytest.raises(PolicyError, match=r"does not fit at .*; use a checkpoint of this policy"):
        sampler.load_policy(tmp_path, 1)
    assert 0 == sampler.policy_version


def test_equal_prompts_are_computed_once() -> None:
    """Points that share a state share its computation: the decoder sees each distinct prompt one time."""
    sampler = InProcessSampler(small_policy())
    seen: list[int] = []
    embed = sampler.policy.causal_lm.get_input_embeddings()
    hook = embed.register_forward_hook(lambda module, args, output: seen.append(args[0].numel()))
    same = [Prompt(prompt_id=f"p{i}", messages=user("Hi"), tools=TOOLS) for i in range(3)]
    groups = sampler.sample(same, SamplingParams(num_samples=4, max_tokens=3, seed=0))
    hook.remove()
    assert [len(groups[0][0].prompt_token_ids), 12, 12] == seen


def test_ended_rows_leave_the_batch() -> None:
    """The batch shrinks as answers end, so a long answer does not pay for its ended neighbours."""
    sampler = InProcessSampler(small_policy())
    sizes: list[int] = []
    embed = sampler.policy.causal_lm.get_input_embeddings()
    hook = embed.register_forward_hook(lambda module, args, output: sizes.append(args[0].numel()))
    sampler.sample(prompts(), SamplingParams(num_samples=16, max_tokens=60, seed=0, temperature=1.5))
    hook.remove()
    assert 80 == sizes[1]
    assert all(later <= earlier for earlier, later in pairwise(sizes[1:]))
    assert sizes[-1] < 70
