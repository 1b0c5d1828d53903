"""Differences between renderings, classified."""

from __future__ import annotations

import pytest

from spanloop.records import Message, Part, ReasoningPart, Role, TextPart, ToolCall, ToolDefinition, ToolResult
from tests.unit.trainer.rollouts.models import byte_tokenizer
from trainer.rollouts.rendering import PromptRenderer
from trainer.rollouts.template_mismatch import TemplateMismatch, classify_mismatch, recorded_state_faults

SYSTEM = "<|im_start|>system\nPlan dinners.<|im_end|>\n"
TOOLS = (
    "# Tools\n<tools>\n"
    '{"type": "function", "function": {"name": "a", "description": "A.", "parameters": {"type": "object"}}}\n'
    '{"type": "function", "function": {"name": "b", "parameters": {}}}\n</tools>\n'
)
TURNS = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\nhm\n</think>\n\nYes.<|im_end|>\n"
PROMPT = SYSTEM + TOOLS + TURNS


@pytest.mark.parametrize(
    ("rendered", "expected"),
    [
        (PROMPT, None),
        (PROMPT.replace("\n\nYes.", "\nYes."), TemplateMismatch.WHITESPACE),
        (PROMPT.replace('": ', '":'), TemplateMismatch.WHITESPACE),
        (
            PROMPT.replace('"name": "a", "description": "A."', '"description": "A.", "name": "a"'),
            TemplateMismatch.TOOL_SCHEMA_ORDER,
        ),
        (PROMPT.replace('"name": "b", ', '"name": "b", "description": null, '), TemplateMismatch.TOOL_SCHEMA_ORDER),
        (
            "\n".join([*PROMPT.split("\n")[:4], *PROMPT.split("\n")[5:3:-1], *PROMPT.split("\n")[6:]]),
            TemplateMismatch.TOOL_SCHEMA_ORDER,
        ),
        (PROMPT.replace("<think>\nhm\n</think>\n\n", ""), TemplateMismatch.REASONING_DROPPED),
        (PROMPT.replace("<think>\nhm\n</think>\n\n", "").replace(": ", ":"), TemplateMismatch.REASONING_DROPPED),
        (PROMPT.replace("Plan dinners.", "You are Qwen."), TemplateMismatch.SYSTEM_PROMPT),
        (PROMPT.removeprefix(SYSTEM), TemplateMismatch.SYSTEM_PROMPT),
        (PROMPT.replace("Hi", "Ho"), TemplateMismatch.OTHER),
        (PROMPT.replace('"name": "a"', '"name": "c"'), TemplateMismatch.OTHER),
        (PROMPT.replace("Hi", "Ho").replace("Plan", "Make"), TemplateMismatch.OTHER),
        ("", TemplateMismatch.OTHER),
    ],
)
def test_the_mildest_difference_that_explains_it_is_named(rendered: str, expected: TemplateMismatch | None) -> None:
    """One rendering against the same with one thing changed names that thing, from either side."""
    assert expected == classify_mismatch(PROMPT, rendered)
    assert expected == classify_mismatch(rendered, PROMPT)


def test_text_with_braces_is_no_tool() -> None:
    """Braces that are no JSON, and JSON nested past reading, are compared as text."""
    assert TemplateMismatch.WHITESPACE is classify_mismatch("f{x} {", "f{x}  {")
    assert TemplateMismatch.OTHER is classify_mismatch("f{x} {", "f{y} {")
    deep = "{" * 3000
    assert TemplateMismatch.OTHER is classify_mismatch(deep, deep + "}")


def message(role: Role, *parts: Part) -> Message:
    """A message of these parts."""
    return Message(role=role, parts=parts)


HISTORY = (
    message(Role.SYSTEM, TextPart(text="Plan dinners.")),
    message(Role.USER, TextPart(text="Fish?\n\nPlease.")),
    message(Role.ASSISTANT, ReasoningPart(text="Look first."), ToolCall(id="1", name="search", arguments="{}")),
    message(Role.TOOL, ToolResult(call_id="1", content="cod")),
)
SEARCH = ToolDefinition(name="search", description="Find.", parameters='{"type":"object","properties":{}}')


def test_a_faithful_rendering_has_no_faults() -> None:
    """Everything that was recorded, tools included, is found in the rendering of a template that keeps it all."""
    rendered = PromptRenderer(byte_tokenizer()).text(HISTORY, (SEARCH,))
    assert frozenset() == recorded_state_faults(HISTORY, (SEARCH,), rendered)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<think>\nLook first.\n</think>\n\n", "", TemplateMismatch.REASONING_DROPPED),
        ("Plan dinners.", "You are helpful.", TemplateMismatch.SYSTEM_PROMPT),
        ("Fish?\n\nPlease.", "Fish?\nPlease.", TemplateMismatch.WHITESPACE),
        ("cod", "", TemplateMismatch.OTHER),
        (
            '"name": "search", "description": "Find."',
            '"description": "Find.", "name": "search"',
            TemplateMismatch.TOOL_SCHEMA_ORDER,
        ),
        ('"description": "Find."', '"description": "Seek."', TemplateMismatch.OTHER),
    ],
)
def test_what_a_template_changes_is_named(old: str, new: str, expected: TemplateMismatch) -> None:
    """A rendering that lost or changed one recorded thing names exactly that."""
    rendered = PromptRenderer(byte_tokenizer()).text(HISTORY, (SEARCH,))
    assert old in rendered
    assert {expected} == recorded_state_faults(HISTORY, (SEARCH,), rendered.replace(old, new))


def test_an_added_system_prompt_is_a_fault() -> None:
    """A template that puts a system prompt where none was recorded is found out."""
    question = (message(Role.USER, TextPart(text="Hi")),)
    tokenizer = byte_tokenizer()
    assert frozenset() == recorded_state_faults(question, (), PromptRenderer(tokenizer).text(question))
    tokenizer.chat_template = "<|im_start|>system\nYou are Qwen.<|im_end|>\n" + tokenizer.chat_template
    rendered = PromptRenderer(tokenizer).text(question)
    assert {TemplateMismatch.SYSTEM_PROMPT} == recorded_state_faults(question, (), rendered)
