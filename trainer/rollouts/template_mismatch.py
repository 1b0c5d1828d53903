"""What differs between a prompt as recorded and as a sampler renders it, named, so that it can be counted and reported.

A policy answers the rendered prompt, not the recorded one. Where they differ, its answers are to another question than
production asked, and a server that renders otherwise than the trainer gives log-probabilities of another prompt.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

from spanloop.convert import tool_to_chat
from spanloop.records import Message, Role, ToolDefinition


class TemplateMismatch(StrEnum):
    """Kinds of difference between two renderings, mildest first; the first that explains it is reported."""

    TOKENISATION = "tokenisation"
    """The same text cut into other tokens."""
    WHITESPACE = "whitespace"
    """Nothing but white space differs."""
    TOOL_SCHEMA_ORDER = "tool_schema_order"
    """The same tools and schemas: keys or tools in another order, otherwise spaced, absent fields written as null."""
    REASONING_DROPPED = "reasoning_dropped"
    """One side shows reasoning of earlier turns that the other leaves out."""
    SYSTEM_PROMPT = "system_prompt"
    """Only the system prompt differs: absent, added by the template, or worded otherwise."""
    OTHER = "other"
    """None of these alone explains it."""
    REFUSED = "refused"
    """The server would not render the messages at all; the trainer's own rendering was sampled."""


_THINKING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_SYSTEM_TURNS = tuple(
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"<\|im_start\|>(?:system|developer)\n.*?<\|im_end\|>\n?",
        r"<\|start_header_id\|>(?:system|developer)<\|end_header_id\|>.*?<\|eot_id\|>",
        r"<<SYS>>.*?<</SYS>>\s*",
        r"<\|system\|>.*?(?=<\|user\|>)",
    )
)


def classify_mismatch(recorded: str, rendered: str) -> TemplateMismatch | None:
    """What differs between two renderings of one prompt; None where the texts are equal.

    Each kind is tried after the milder ones are levelled: two texts that differ in reasoning and in white space are
    `reasoning_dropped`.
    """
    levels: tuple[tuple[TemplateMismatch, Callable[[str], str]], ...] = (
        (TemplateMismatch.WHITESPACE, _without_space),
        (TemplateMismatch.TOOL_SCHEMA_ORDER, _with_sorted_json),
        (TemplateMismatch.REASONING_DROPPED, lambda text: _with_sorted_json(_THINKING.sub("", text))),
        (TemplateMismatch.SYSTEM_PROMPT, lambda text: _without_space(_THINKING.sub("", _without_system(text)))),
    )
    if recorded == rendered:
        return None
    return next((kind for kind, level in levels if level(recorded) == level(rendered)), TemplateMismatch.OTHER)


def _without_space(text: str) -> str:
    return "".join(text.split())


def _without_system(text: str) -> str:
    for pattern in _SYSTEM_TURNS:
        text = pattern.sub("", text)
    return text


def _with_sorted_json(text: str) -> str:
    """The text without white space, every JSON object in it in canonical form, neighbouring objects sorted."""
    pieces: list[str] = []
    objects: list[str] = []
    decoder, at = json.JSONDecoder(), 0
    while (start := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value, end = None, start + 1
        between = _without_space(text[at:start])
        if between:
            pieces += [*sorted(objects), between]
            objects = []
        objects.append(text[start] if value is None else _canonical(value))
        at = end
    return "".join([*pieces, *sorted(objects), _without_space(text[at:])])


def recorded_state_faults(
    messages: Sequence[Message], tools: Iterable[ToolDefinition], rendered: str
) -> frozenset[TemplateMismatch]:
    """Which parts of a recorded state a rendered prompt does not show as they were recorded; empty where all are there.

    Reports reasoning that the template leaves out, a system prompt that is missing or was added, tools whose schema is
    written in another order, text that differs in white space, and anything else that is missing (`other`).
    """
    faults = set[TemplateMismatch | None]()
    for message in messages:
        if message.reasoning and message.reasoning not in rendered:
            faults.add(TemplateMismatch.REASONING_DROPPED)
        missing = _missing(message.text, rendered)
        is_system = message.role in {Role.SYSTEM, Role.DEVELOPER}
        faults.add(TemplateMismatch.SYSTEM_PROMPT if missing is TemplateMismatch.OTHER and is_system else missing)
        faults.update(TemplateMismatch.OTHER for call in message.tool_calls if call.name not in rendered)
    faults.update(_tool_fault(tool, rendered) for tool in tools)
    if not any(message.role in {Role.SYSTEM, Role.DEVELOPER} for message in messages) and not list(tools):
        faults.update(TemplateMismatch.SYSTEM_PROMPT for pattern in _SYSTEM_TURNS if pattern.search(rendered))
    return frozenset(fault for fault in faults if fault is not None)


def _missing(text: str, rendered: str) -> TemplateMismatch | None:
    if text in rendered:
        return None
    return TemplateMismatch.WHITESPACE if _without_space(text) in _without_space(rendered) else TemplateMismatch.OTHER


def _tool_fault(tool: ToolDefinition, rendered: str) -> TemplateMismatch | None:
    """Templates write a tool as JSON, whole or its function alone; keys in the recorded order or not."""
    function = tool_to_chat(tool)["function"]
    written = _without_space(json.dumps(function, ensure_ascii=False))
    if written in _without_space(rendered):
        return None
    objects = _json_objects(rendered)
    if any(_canonical(function) in (_canonical(value), _canonical(value.get("function"))) for value in objects):
        return TemplateMismatch.TOOL_SCHEMA_ORDER
    return TemplateMismatch.OTHER


def _canonical(value: object) -> str:
    """JSON with sorted keys and without the keys whose value is null, which some servers write for absent fields."""
    return json.dumps(_without_nulls(value), sort_keys=True)


def _without_nulls(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _json_objects(text: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    decoder, at = json.JSONDecoder(), 0
    while (start := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
        else:
            found.append(value)
    return found
