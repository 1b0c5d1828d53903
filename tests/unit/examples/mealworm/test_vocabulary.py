"""The tokenizer loses nothing, and a history reads as the policy wrote it."""

import random

import pytest
from transformers import PreTrainedTokenizerFast

from examples.mealworm.domain import TITLES, WEEKS, Kind, Split, draw_request, profiles_of
from examples.mealworm.supervised import render
from examples.mealworm.teacher import Trace, clean_trace, imperfect_trace
from examples.mealworm.tools import TOOLS, make_world
from examples.mealworm.vocabulary import build_tokenizer
from spanloop.convert import message_to_chat, tools_to_chat
from tests.unit.examples.mealworm.scenes import SAVED, calls
from trainer.rollouts.rendering import parse_answer, render_prompt


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """A freshly built tokenizer."""
    return build_tokenizer()


def trace(seed: int, *, clean: bool) -> Trace:
    """One trace, reproducible."""
    rng = random.Random(seed)
    request = draw_request(rng, rng.choice(profiles_of(Split.TRAIN)))
    world = make_world(rng, request)
    return clean_trace(rng, request, world) if clean else imperfect_trace(rng, request, world)


@pytest.mark.parametrize("seed", range(12))
def test_every_history_survives_a_round_trip(tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Decoding the tokens of a rendered history gives its text, character by character, without unknown tokens."""
    ids = render(tokenizer, trace(seed, clean=seed % 2 == 0).messages)
    text = tokenizer.decode(ids)
    assert tokenizer.unk_token_id not in ids
    assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_text_outside_the_vocabulary_survives_too(tokenizer: PreTrainedTokenizerFast) -> None:
    """Any ASCII text falls back to characters and comes back as it was."""
    text = '{"query": "vegan  lasagne"}\n~ [x] \\n <tool_call'
    assert text == tokenizer.decode(tokenizer(text)["input_ids"])


def test_dishes_and_weeks_are_single_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """What the policy copies is one token."""
    words = [*TITLES[Kind.FISH], *TITLES[Kind.CHICKEN], *WEEKS, "<tool_call>", "</tool_call>"]
    assert [1] * len(words) == [len(tokenizer(word)["input_ids"]) for word in words]


def test_an_episode_is_short(tokenizer: PreTrainedTokenizerFast) -> None:
    """A whole clean episode, tools and all, is at most 250 tokens."""
    assert all(len(render(tokenizer, trace(seed, clean=True).messages)) <= 250 for seed in range(20))


def test_compact_and_spaced_arguments_render_alike(tokenizer: PreTrainedTokenizerFast) -> None:
    """However a sender prints JSON, the history shows the policy its own form."""
    spaced = message_to_chat(calls("write_file", path="2026-11-29.md", meals=["cod pie", "tuna pie"]))
    compact = message_to_chat(calls("write_file", path="2026-11-29.md", meals=["cod pie", "tuna pie"]))
    compact["tool_calls"][0]["function"]["arguments"] = '{"path":"2026-11-29.md","meals":["cod pie","tuna pie"]}'
    texts = [tokenizer.apply_chat_template([message], tokenize=False) for message in (spaced, compact)]
    assert texts[0] == texts[1]
    assert '{"path": "2026-11-29.md", "meals": ["cod pie", "tuna pie"]}}' in texts[0]


def test_training_text_is_what_the_sampler_renders(tokenizer: PreTrainedTokenizerFast) -> None:
    """The prompt the trainer renders is a prefix of the trace the base policy was trained on."""
    prompt = list(render_prompt(tokenizer, SAVED[:-2], TOOLS))
    assert prompt == render(tokenizer, SAVED)[: len(prompt)]


def test_an_action_is_parsed_back_from_its_own_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """The tokens after the prompt say the call that was rendered."""
    prompt, full = render_prompt(tokenizer, SAVED[:-2], TOOLS), render(tokenizer, SAVED[:-1])
    answer = parse_answer(tokenizer, full[len(prompt) : -1])
    call, expected = answer.message.tool_calls[0], SAVED[-2].tool_calls[0]
    assert "tool_calls" == answer.finish_reason
    assert (expected.name, expected.arguments.replace(": ", ":").replace(", ", ",")) == (call.name, call.arguments)


def test_tools_are_in_the_system_part(tokenizer: PreTrainedTokenizerFast) -> None:
    """The template shows the policy each tool's schema."""
    chat = [message_to_chat(message) for message in SAVED[:2]]
    text = tokenizer.apply_chat_template(chat, tools=tools_to_chat(TOOLS), tokenize=False)
    system = text.split("<|im_end|>")[0]
    assert all(f'"name": "{tool.name}"' in system for tool in TOOLS)
    assert '"required": ["path", "meals"]' in system
