"""What single instrumentations of OpenLLMetry write otherwise than the others, brought into the common form.

Known by the scope, which is the instrumentation's module. Source: openllmetry, the packages
`opentelemetry-instrumentation-anthropic`, `-bedrock`, `-haystack`, `-openai`, `-openai-agents`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile

from otel_receiver.dialects.base import ModelCall
from otel_receiver.dialects.genai_parts import OUTPUT
from otel_receiver.dialects.indexed import Entry, read_indexed
from otel_receiver.dialects.json_text import looks_like_json, read_json, read_structured
from otel_receiver.dialects.openllmetry_reprs import crewai_parts, gemini_blocks
from otel_receiver.dialects.values import as_items, as_mapping, as_text
from otel_receiver.spans import Span
from spanloop.records import Message, QualityFlag, Role

Source = Mapping[str, object]

SCOPE = "opentelemetry.instrumentation."
AGENTS = f"{SCOPE}openai_agents"
BEDROCK = f"{SCOPE}bedrock"
CREWAI = f"{SCOPE}crewai"
GOOGLE = f"{SCOPE}google_generativeai"
HAYSTACK = f"{SCOPE}haystack"
LANGCHAIN = f"{SCOPE}langchain"
LLAMA_INDEX = f"{SCOPE}llamaindex"
COPIED_MODELS = (GOOGLE, f"{SCOPE}vertexai", CREWAI)
"""Instrumentations that write the request's model as the response's."""

REASONLESS = (f"{SCOPE}ollama", f"{SCOPE}together", f"{SCOPE}replicate")
"""Instrumentations that never tell why an answer ended; they end a stream's span when all of it was read."""
LOSSY = tuple(
    f"{SCOPE}{name}"
    for name in ("anthropic", "bedrock", "cohere", "google_generativeai", "mistralai", "ollama", "together")
)
"""Instrumentations that lose calls, arguments or text of an answer, or of histories, in one form or another."""
_OWN = frozenset(
    {
        "agno",
        "alephalpha",
        "bedrock",
        "cohere",
        "crewai",
        "google_generativeai",
        "groq",
        "haystack",
        "llamaindex",
        "mcp",
        "mistralai",
        "ollama",
        "replicate",
        "sagemaker",
        "together",
        "transformers",
        "voyageai",
        "watsonx",
        "writer",
    }
)
"""Modules of this name are OpenLLMetry's alone."""
_SHARED = {"anthropic": "anthropic.", "openai": "openai.", "openai_agents": "openai.", "vertexai": "vertexai."}
"""OpenTelemetry's own instrumentations have modules of these names too, but name their spans by the operation."""
AGENTS_TELL_SYSTEM = (0, 61)
"""The first version of the Agents SDK's instrumentation that tells an agent's instructions."""
RESPONSES = "openai.response"
"""The name of spans of OpenAI's Responses API."""
_PROMPT = "gen_ai.prompt"
_COMPLETION = "gen_ai.completion"
_FINISH = "gen_ai.response.finish_reasons"
_CALLED = frozenset({"tool_call", "tool_calls"})
_THINKING = "thinking"
_QUOTED_NOTHING = '""'
"""What the LangChain instrumentation writes for an answer without text: its JSON."""


def is_of_family(span: Span) -> bool:
    """Whether one of OpenLLMetry's instrumentations wrote the span, by its scope and its name."""
    if not span.scope_name.startswith(SCOPE):
        return False
    module = span.scope_name[len(SCOPE) :].partition(".")[0]
    return module in _OWN or (module in _SHARED and span.name.startswith(_SHARED[module]))


def in_common_form(span: Span) -> Span:
    """The span of a model call as the family's other instrumentations would have written it."""
    source: Source = span.attributes
    restore = next((restore for scope, restore in _RESTORERS if span.scope_name.startswith(scope)), None)
    told = restore(source) if restore is not None else source
    if any(f"{_COMPLETION}.0.{key}" in told for key in ("role", "content", "finish_reason")):
        told = _with_one_answer(span, told)
    return span if told is source else replace(span, attributes=told)  # type: ignore[arg-type]  # holds structures


def _with_one_answer(span: Span, source: Source) -> Source:
    """The indexed completions as one answer, where they are parts of one; none of an answer that tells nothing."""
    entries = read_indexed(source, _COMPLETION).entries
    if len(entries) > 1 and _is_one_turn(span, entries):
        return {**_without_answer(source), **_joined(entries)}
    if set(entries[0]) <= {"role", "finish_reason"}:
        return {**_without_answer(source), _FINISH: source.get(_FINISH) or entries[0].get("finish_reason")}
    if entries[0].get("content") == _QUOTED_NOTHING:
        return {**source, f"{_COMPLETION}.0.content": ""}
    if "reasoning" in entries[0]:
        return {**source, f"{_COMPLETION}.0.reasoning_content": _summary(entries[0]["reasoning"])}
    return source


def with_doubts(span: Span, call: ModelCall) -> ModelCall:
    """The call with what is known of this instrumentation's losses: an answer in which nothing stands was lost."""
    output = call.output if call.output is not None and call.output.parts else None
    told = output.tool_calls if output is not None else ()
    lacks_calls = call.finish_reason == "tool_calls" and output is not None and not told
    # The text of a streamed call's arguments is not gathered on Bedrock's older API.
    lacks_arguments = span.scope_name.startswith(BEDROCK) and any(part.arguments == "{}" for part in told)
    flags = {QualityFlag.OUTPUT_TRUNCATED} if lacks_calls or lacks_arguments else set()
    return replace(
        call,
        output=output,
        streamed=None if span.scope_name.startswith(REASONLESS) and call.finish_reason is None else call.streamed,
        tail_only=span.scope_name.startswith(GOOGLE),
        lossy_answer=span.scope_name.startswith(LOSSY) and span.name != RESPONSES,
        flags=call.flags | flags | _lost_before(span, call),
    )


def drops_text(span: Span) -> bool:
    """Whether a history lacks the text beside its tool calls: LangChain's, up to 0.54."""
    return span.scope_name.startswith(LANGCHAIN) and f"{_PROMPT}.0.role" in span.attributes


def _lost_before(span: Span, call: ModelCall) -> set[QualityFlag]:
    """What is known to be lost of a prompt: calls and results on the Responses API, system prompts elsewhere."""
    is_indexed = f"{_PROMPT}.0.role" in span.attributes
    flags: set[QualityFlag] = set()
    if is_indexed and span.name == RESPONSES and span.scope_name.startswith(f"{SCOPE}openai.") and call.tools:
        flags.add(QualityFlag.PROMPT_TRUNCATED)
    is_silent = is_indexed and span.scope_name.startswith((GOOGLE, BEDROCK))
    is_silent = is_silent or (span.scope_name.startswith(AGENTS) and _version(span) < AGENTS_TELL_SYSTEM)
    if is_silent and not any(message.role is Role.SYSTEM for message in call.messages):
        flags.add(QualityFlag.SYSTEM_MISSING)
    return flags


def _version(span: Span) -> tuple[int, ...]:
    """The instrumentation's version; the newest, where it is none of numbers."""
    numbers = span.scope_version.split(".")[:2]
    return tuple(map(int, numbers)) if all(number.isdecimal() for number in numbers) else AGENTS_TELL_SYSTEM


def with_item_ids(span: Span, call: ModelCall) -> ModelCall:
    """The call with its history's results under the ids of the calls they answer, in order.

    On OpenAI's Responses API calls are written with the id of their item and results with the id of the call.
    """
    if span.name != RESPONSES:
        return call
    messages = list(call.messages)
    for start, message in enumerate(messages):
        told = [part.id for part in message.tool_calls]
        results = list(takewhile(lambda later: later.tool_result is not None, messages[start + 1 :]))
        if told and len(results) == len(told) and not {_answered(result) for result in results} & set(told):
            renamed = (_renamed(result, call_id) for result, call_id in zip(results, told, strict=True))
            messages[start + 1 : start + 1 + len(told)] = renamed
    return replace(call, messages=tuple(messages))


def _answered(message: Message) -> str:
    return message.tool_result.call_id if message.tool_result is not None else ""


def _renamed(message: Message, call_id: str) -> Message:
    result = message.tool_result
    return message if result is None else replace(message, parts=(replace(result, call_id=call_id),))


def _without_answer(source: Source) -> Source:
    return {key: value for key, value in source.items() if not key.startswith(f"{_COMPLETION}.")}


def _converse_prompts(source: Source) -> Source:
    """Converse's content blocks, which stand as JSON text and name no type."""
    return {**source, **{key: blocks for key, text in _prompts(source) if (blocks := _blocks(text)) is not None}}


def _gemini_prompts(source: Source) -> Source:
    """Gemini's function calls and responses, which stand as reprs among the text blocks."""
    return {**source, **{key: parts for key, text in _prompts(source) if (parts := gemini_blocks(text)) is not None}}


def _prompts(source: Source) -> Iterator[tuple[str, object]]:
    """The contents of the indexed prompts."""
    return (item for item in source.items() if item[0].startswith(f"{_PROMPT}.") and item[0].endswith(".content"))


def _blocks(value: object) -> tuple[object, ...] | None:
    text = as_text(value)
    return as_items(read_json(text).value) if text is not None and looks_like_json(text) else None


def _called(source: Source) -> Source:
    """The answer's tool calls, which stand as the repr of a list."""
    message = as_mapping(next(iter(as_items(read_structured(source.get(OUTPUT)).value) or ()), None)) or {}
    part = as_mapping(next(iter(as_items(message.get("parts")) or ()), None)) or {}
    calls = crewai_parts(part.get("content"))
    return source if calls is None else {**source, OUTPUT: [{"role": "assistant", "parts": calls}]}


def _whole_answer(source: Source) -> Source:
    """One message for the answer's items, each of which stands as a message of its own."""
    told = [held for item in as_items(read_structured(source.get(OUTPUT)).value) or () if (held := as_mapping(item))]
    parts = [part for message in told for part in as_items(message.get("parts")) or ()]
    called = [reason for reason in as_items(source.get(_FINISH)) or () if reason in _CALLED]
    changed: dict[str, object] = {OUTPUT: [{"role": "assistant", "parts": parts}]} if len(told) > 1 else {}
    return {**source, **changed, **({_FINISH: called} if called else {})}


_RESTORERS: tuple[tuple[str, Callable[[Source], Source]], ...] = (
    (AGENTS, _whole_answer),
    (BEDROCK, _converse_prompts),
    (CREWAI, _called),
    (GOOGLE, _gemini_prompts),
    (HAYSTACK, _without_answer),
)
"""What is done to the spans of a scope; Haystack's completions are the names of a generator's outputs."""


def _is_one_turn(span: Span, entries: Iterable[Entry]) -> bool:
    """Whether the completions are the parts of one answer rather than several answers to choose from."""
    if span.scope_name.startswith((AGENTS, BEDROCK)):
        return True
    return any(entry.get("role") == _THINKING for entry in entries)


def _joined(entries: Iterable[Entry]) -> dict[str, object]:
    """The entries as the first and only completion."""
    texts: list[str] = []
    thoughts: list[str] = []
    joined: dict[str, object] = {"role": "assistant"}
    position = 0
    for entry in entries:
        text = as_text(entry.get("content"))
        if text:
            (thoughts if entry.get("role") == _THINKING else texts).append(text)
        for call in read_indexed(entry, "tool_calls").entries:
            joined |= {f"tool_calls.{position}.{key}": value for key, value in call.items()}
            position += 1
        if entry.get("finish_reason") and joined.get("finish_reason") not in _CALLED:
            joined["finish_reason"] = entry["finish_reason"]
    if texts or not position:
        joined["content"] = "".join(texts)
    if thoughts:
        joined["reasoning_content"] = "\n".join(thoughts)
    return {f"{_COMPLETION}.0.{key}": value for key, value in joined.items()}


def _summary(value: object) -> object:
    """The text of a reasoning summary, which OpenAI's items tell in parts."""
    items = _blocks(value)
    if items is None:
        return value
    return "\n".join(text for item in items if (text := as_text((as_mapping(item) or {}).get("text"))))
