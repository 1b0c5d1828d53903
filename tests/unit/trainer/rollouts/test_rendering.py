"""Prompts through the chat template, and answers back to messages."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spanloop.convert import compact_json, tools_to_chat
from spanloop.records import Message, Part, ReasoningPart, Role, TextPart, ToolCall, ToolDefinition, ToolResult
from tests.unit.trainer.rollouts.models import byte_tokenizer
from trainer.rollouts.rendering import (
    PromptRenderer,
    RenderingError,
    end_of_turn_ids,
    opens_reasoning,
    parse_answer,
    parse_text,
    render_prompt,
    to_chat,
)

TOKENIZER = byte_tokenizer()
SEARCH = ToolDefinition(
    name="search", description="Find.", parameters='{"type":"object","properties":{"q":{"type":"string"}}}'
)


def message(role: Role, *parts: Part) -> Message:
    """A message of these parts."""
    return Message(role=role, parts=parts)


def calls_of(text: str) -> list[tuple[str, str]]:
    """Names and arguments of the calls in an answer."""
    return [(call.name, call.arguments) for call in parse_text(text).tool_calls]


def encode(text: str) -> list[int]:
    """Token ids of a text."""
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


def test_prompt_is_written_out_by_the_template() -> None:
    """A history with tools, calls and results becomes exactly the text the template says, ready for an answer."""
    history = (
        message(Role.SYSTEM, TextPart(text="Plan.")),
        message(Role.USER, TextPart(text="Dinner?")),
        message(Role.ASSISTANT, ToolCall(id="c1", name="search", arguments='{"q":"fish"}')),
        message(Role.TOOL, ToolResult(call_id="c1", content="cod")),
    )
    expected = (
        "<|im_start|>system\nPlan.\n\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "search", "description": "Find.", "parameters": '
        '{"type": "object", "properties": {"q": {"type": "string"}}}}}\n</tools><|im_end|>\n'
        "<|im_start|>user\nDinner?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>\n{"name": "search", "arguments": {"q": "fish"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\ncod\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    assert expected == PromptRenderer(TOKENIZER).text(history, (SEARCH,))
    assert tuple(encode(expected)) == render_prompt(TOKENIZER, history, (SEARCH,))


def test_special_tokens_are_single_tokens() -> None:
    """The template's own special tokens are one token each, and none is added at the front."""
    ids = render_prompt(TOKENIZER, (message(Role.USER, TextPart(text="a")),))
    assert [TOKENIZER.convert_tokens_to_ids("<|im_start|>")] == list(ids[:1])
    assert 2 == ids.count(TOKENIZER.convert_tokens_to_ids("<|im_start|>"))


def test_arguments_reach_the_template_as_objects() -> None:
    """Call arguments are objects for the template, as a server hands them over; what is no object stays text."""
    called = message(
        Role.ASSISTANT,
        ToolCall(id="1", name="a", arguments='{"x":1}'),
        ToolCall(id="2", name="b", arguments="{broken"),
        ToolCall(id="3", name="c", arguments="[1]"),
        ToolCall(id="4", name="d", arguments='{"x":1e999}'),
    )
    calls = to_chat([called])[0]["tool_calls"]
    assert [{"x": 1}, "{broken", "[1]", '{"x":1e999}'] == [call["function"]["arguments"] for call in calls]


def test_rendering_is_remembered_within_its_limit() -> None:
    """A prompt asked again is not rendered again; the cache forgets the oldest past its limit."""
    renderer = PromptRenderer(TOKENIZER, cached_prompts_max=1)
    one, two = (message(Role.USER, TextPart(text="1")),), (message(Role.USER, TextPart(text="2")),)
    first = renderer.token_ids(one)
    assert first is renderer.token_ids(one)
    renderer.token_ids(two)
    again = renderer.token_ids(one)
    assert first == again
    assert first is not again


def test_another_template_is_another_prompt() -> None:
    """A template changed on the tokenizer shows at once, cache or not."""
    tokenizer = byte_tokenizer()
    hello = (message(Role.USER, TextPart(text="a")),)
    before = render_prompt(tokenizer, hello)
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert tuple(encode("a")) == render_prompt(tokenizer, hello) != before


def test_a_refusing_template_is_named() -> None:
    """A template that raises, and a tokenizer without one, give an error with the roles and the remedy."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    twice = (message(Role.USER, TextPart(text="secret")),) * 2
    with pytest.raises(RenderingError, match=r"roles \[user user\].*must alternate.*drop these points") as caught:
        render_prompt(tokenizer, twice)
    assert "secret" not in str(caught.value)
    tokenizer.chat_template = None
    with pytest.raises(RenderingError, match="has no chat template"):
        render_prompt(tokenizer, twice)


def test_end_of_turn_tokens_are_those_the_tokenizer_has() -> None:
    """Known end-of-turn tokens the tokenizer lacks are not among the stops."""
    expected = {TOKENIZER.convert_tokens_to_ids(token) for token in ("<|im_end|>", "<|endoftext|>")}
    assert expected | {7} == end_of_turn_ids(TOKENIZER, [7])


def test_plain_answer() -> None:
    """Text up to the end-of-turn token is the message; the reason is stop, or length without that token."""
    ids = encode("All done.\n<|im_end|>")
    done = message(Role.ASSISTANT, TextPart(text="All done.\n"))
    assert (done, "stop") == parse_answer(TOKENIZER, ids)
    assert (done, "length") == parse_answer(TOKENIZER, ids[:-1])
    assert (message(Role.ASSISTANT), "stop") == parse_answer(TOKENIZER, ids[-1:])
    assert (message(Role.ASSISTANT), "length") == parse_answer(TOKENIZER, [])


def test_answer_with_reasoning_text_and_calls() -> None:
    """Reasoning, text and two calls come apart in canonical order, arguments as compact JSON."""
    text = (
        "<think>\nFish first.\n</think>\n\nLet me look.\n"
        '<tool_call>\n{"name": "search", "arguments": {"q": "cod", "n": 1.50}}\n</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call><|im_end|>'
    )
    parsed, reason = parse_answer(TOKENIZER, encode(text))
    assert "tool_calls" == reason
    assert ("Fish first.", "Let me look.") == (parsed.reasoning, parsed.text)
    assert [("search", '{"q":"cod","n":1.5}'), ("now", "{}")] == [(c.name, c.arguments) for c in parsed.tool_calls]
    assert 2 == len({call.id for call in parsed.tool_calls})


def test_call_cut_off_by_length_is_no_call() -> None:
    """A call without its closing tag stays text."""
    text = '<tool_call>\n{"name": "now", "arguments": {}}'
    assert message(Role.ASSISTANT, TextPart(text=text)) == parse_text(text)


@pytest.mark.parametrize(
    "block",
    [
        "{broken",
        "[]",
        '"now"',
        "",
        '{"name": "now"}',
        '{"name": "", "arguments": {}}',
        '{"name": 3, "arguments": {}}',
        '{"arguments": {}}',
        '{"name": "now", "arguments": "{}"}',
        '{"name": "now", "arguments": [1]}',
        '{"name": "now", "arguments": {"x": NaN}}',
        '{"name": "now", "arguments": {"x": 1e999}}',
        '{"name": "now", "arguments": {"x": "\\ud800"}}',
        '{"name": "now", "arguments": {}} extra',
        '{"name": "now", "arguments": ' + '{"x":' * 5000 + "1" + "}" * 5001,
    ],
)
def test_malformed_call_stays_text(block: str) -> None:
    """A malformed call stays in the text, tags included, and its well-formed neighbour is still a call."""
    bad = f"<tool_call>\n{block}\n</tool_call>"
    good = '<tool_call>\n{"name": "good", "arguments": {"a": null}}\n</tool_call>'
    assert message(Role.ASSISTANT, TextPart(text=bad)) == parse_text(bad)
    mixed = parse_text(f"{good}\n{bad}\n{good}")
    assert bad == mixed.text
    assert [("good", '{"a":null}')] * 2 == [(call.name, call.arguments) for call in mixed.tool_calls]


def test_reasoning_that_never_closes() -> None:
    """An unclosed reasoning block is reasoning to its end; calls inside reasoning are no calls."""
    text = '<think>\nhm <tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
    parsed = parse_text(text)
    assert ("", ()) == (parsed.text, parsed.tool_calls)
    assert parsed.reasoning.startswith("hm <tool_call>")


def test_empty_reasoning_block_is_none() -> None:
    """The empty block that non-thinking templates write is no reasoning."""
    assert message(Role.ASSISTANT, TextPart(text="Hi")) == parse_text("<think>\n\n</think>\n\nHi")


def test_reasoning_opened_by_the_prompt() -> None:
    """Where the prompt ends inside a block, the answer begins with reasoning; elsewhere a stray close tag is text."""
    assert opens_reasoning("<|im_start|>assistant\n<think>\n")
    assert not opens_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    expected = message(Role.ASSISTANT, ReasoningPart(text="hm"), TextPart(text="Hi"))
    assert expected == parse_text("hm\n</think>\n\nHi", in_reasoning=True)
    assert message(Role.ASSISTANT, TextPart(text="hm\n</think>\n\nHi")) == parse_text("hm\n</think>\n\nHi")


def test_call_ids_depend_on_the_answer_alone() -> None:
    """Equal tokens give equal ids; another position or another answer gives another id."""
    block = '<tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>'
    first, second = parse_text(block + block).tool_calls
    assert (first, second) == parse_text(block + block).tool_calls
    assert 3 == len({first.id, second.id, parse_text(block).tool_calls[0].id})


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="<>\r"), max_size=30)
said = words.map(str.strip).map(lambda text: text.strip("\n")).filter(bool)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(words, values, max_size=3)
called = st.lists(st.tuples(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), objects), max_size=3)


@given(reasoning=st.none() | said, text=st.none() | said, calls=called)
@settings(max_examples=150, deadline=None)
def test_what_the_template_writes_is_read_back(
    reasoning: str | None, text: str | None, calls: list[tuple[str, dict[str, object]]]
) -> None:
    """Any message the template can write as an assistant turn, tokenised and parsed, is that message again."""
    parts: list[Part] = [] if reasoning is None else [ReasoningPart(text=reasoning)]
    parts += [] if text is None else [TextPart(text=text)]
    parts += [ToolCall(id=f"c{i}", name=name, arguments=compact_json(args)) for i, (name, args) in enumerate(calls)]
    question, answer = message(Role.USER, TextPart(text="q")), message(Role.ASSISTANT, *parts)
    prompt = PromptRenderer(TOKENIZER).text((question,))
    whole = TOKENIZER.apply_chat_template(to_chat([question, answer]), tokenize=False)
    assert whole.startswith(prompt)
    parsed, reason = parse_answer(TOKENIZER, encode(whole.removeprefix(prompt).removesuffix("\n")))
    assert ("tool_calls" if calls else "stop") == reason
    assert (answer.reasoning, answer.text) == (parsed.reasoning, parsed.text)
    assert [(c.name, c.arguments) for c in answer.tool_calls] == [(c.name, c.arguments) for c in parsed.tool_calls]


@given(text=st.text(max_size=80), ids=st.lists(st.integers(0, 264), max_size=40))
@settings(max_examples=150, deadline=None)
def test_anything_sampled_is_a_message(text: str, ids: list[int]) -> None:
    """No answer, however wild, fails to parse, and what is kept can be stored as UTF-8."""
    for parsed in (parse_text(f"<tool_call>{text}</tool_call>"), parse_answer(TOKENIZER, ids).message):
        assert Role.ASSISTANT is parsed.role
        for call in parsed.tool_calls:
            call.arguments.encode()


def test_tools_are_in_chat_form() -> None:
    """The template gets each tool as the OpenAI chat form has it, the schema an object."""
    [tool] = tools_to_chat([SEARCH])
    assert "object" == tool["function"]["parameters"]["type"]
