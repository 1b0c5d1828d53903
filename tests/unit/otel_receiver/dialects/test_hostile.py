"""Hostile spans cost bounded time and memory, and never an exception."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from otel_receiver.dialects.registry import read_span
from spanloop.records import QualityFlag
from tests.unit.otel_receiver.dialects.factories import make_event, make_log, make_span

MIB = 1024 * 1024
OI = {"openinference.span.kind": "LLM", "llm.model_name": "m"}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
DEEP = '{"a":' * 40 + "1" + "}" * 40
BOTTOMLESS = "[" * 200_000


def many_keys(prefix, rest):
    """A hundred thousand indexed attributes."""
    return {f"{prefix}.{index}.{rest}": "x" for index in range(100_000)}


HOSTILE = {
    "an index of a thousand million": {**OI, "llm.input_messages.999999999.message.role": "user"},
    "an index of a thousand digits": {**OI, f"llm.input_messages.{'9' * 1000}.message.role": "user"},
    "an index in other digits": {**OI, "llm.input_messages.٣.message.role": "user"},
    "a hundred thousand messages": {**OI, **many_keys("llm.input_messages", "message.content")},
    "a hundred thousand calls": {**OI, **many_keys("llm.output_messages.0.message.tool_calls", "tool_call.id")},
    "a hundred thousand unknown keys": {**CHAT, **many_keys("app", "x")},
    "a hundred thousand annotations": many_keys("annotations", "annotation.label"),
    "JSON forty levels deep": {**CHAT, "gen_ai.input.messages": f'[{{"role":"user","content":{DEEP}}}]'},
    "JSON without bottom": {**CHAT, "gen_ai.input.messages": BOTTOMLESS, "gen_ai.tool.definitions": BOTTOMLESS},
    "a repr without bottom": {**OI, "input.value": json.dumps({"messages": ["Message(" * 100_000]})},
    "sixty MiB of text": {
        **OI,
        "llm.input_messages.0.message.content": "x" * (60 * MIB),
        "input.value": "x" * (60 * MIB),
    },
    "sixty MiB of JSON": {**CHAT, "gen_ai.input.messages": json.dumps([{"role": "user", "content": "x" * (60 * MIB)}])},
    "sixty MiB of brackets": {**CHAT, "gen_ai.input.messages": "[" * (60 * MIB)},
    "sixty MiB of open quotes": {**OI, "output.value": "ModelResponse(content='" + "\\" * (60 * MIB)},
    "a hundred thousand outputs of one turn": {**OI, **many_keys("llm.output_messages", "message.content")},
    "calls and results by the ten thousand": {
        **CHAT,
        "gen_ai.input.messages": json.dumps(
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": f"c{i}", "name": "f", "args": "{}"} for i in range(50_000)],
                },
                *({"role": "tool", "tool_call_id": f"c{i}", "content": "x"} for i in range(10_000)),
                *({"role": "tool", "name": "g", "content": "x"} for _ in range(10_000)),
            ]
        ),
    },
    "a text in two places, in pieces": {
        **CHAT,
        "gen_ai.input.messages": json.dumps(
            [{"role": "user", "parts": [str(i) for i in range(50_000)], "content": [f"x{i}" for i in range(50_000)]}]
        ),
    },
    "fifty thousand turns of one message": {
        **CHAT,
        "gen_ai.input.messages": json.dumps(
            [{"role": "assistant", "parts": [{"type": "reasoning", "content": "r"}]}] * 50_000
        ),
    },
    "structures in every place": {
        **CHAT,
        "gen_ai.input.messages": ({"role": ("user",), "parts": {"type": 7}}, None, 5, ()),
        "gen_ai.output.messages": {"role": {}},
        "gen_ai.tool.definitions": ({"function": 3}, ({},)),
        "gen_ai.usage.input_tokens": -(2**70),
        "session.id": b"\xff",
    },
}


LARGE = (
    "an index of a thousand million",
    "sixty MiB of text",
    "sixty MiB of JSON",
    "sixty MiB of brackets",
    "sixty MiB of open quotes",
)


@pytest.mark.parametrize("attributes", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_span_is_read_in_bounded_time(attributes):
    """Ten seconds of one core at most, on a machine that others share (measured: two for 100,000 messages)."""
    span = make_span(attributes, events=(make_event("gen_ai.choice", {"message": DEEP}),))
    started = time.process_time()
    reading = read_span(span, (make_log("gen_ai.user.message", {"content": ()}),))
    assert time.process_time() - started < 10.0
    assert span.span_id == reading.span.span_id


@pytest.mark.parametrize("name", LARGE)
def test_a_large_span_costs_a_few_times_its_size(name):
    """Four times the size of its largest value at most, counted from what the span itself holds."""
    span = make_span(HOSTILE[name])
    tracemalloc.start()
    read_span(span)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 60 * MIB


def test_sparse_indexes_are_flagged_as_lost_messages():
    """An index far beyond the others means that the ones between are lost."""
    attributes = {
        **OI,
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "Hi",
        "llm.input_messages.999999999.message.role": "user",
        "llm.input_messages.999999999.message.content": "Ho",
    }
    (call,) = read_span(make_span(attributes)).model_calls
    assert (2, {QualityFlag.PROMPT_TRUNCATED}) == (len(call.messages), call.flags)


FRAMEWORKS = {
    "strands": (CHAT, "strands.telemetry.tracer", (), (make_event("gen_ai.choice", {"message": BOTTOMLESS}),)),
    "strands tool": (
        {"gen_ai.operation.name": "execute_tool"},
        "strands.telemetry.tracer",
        (),
        (
            make_event("gen_ai.choice", {"message": "[" + DEEP + "]"}),
            make_event("gen_ai.tool.message", {"content": ()}),
        ),
    ),
    "adk request": ({"gcp.vertex.agent.llm_request": BOTTOMLESS}, "gcp.vertex.agent", (), ()),
    "adk schema": (
        {
            "gcp.vertex.agent.llm_request": json.dumps(
                {"config": {"tools": [{"function_declarations": [{"name": "f"}]}]}}
            ).replace('{"name": "f"}', '{"name": "f", "parameters": ' + '{"a":' * 400 + "1" + "}" * 400 + "}"),
            "gen_ai.operation.name": "chat",
        },
        "gcp.vertex.agent",
        (),
        (),
    ),
    "adk chunks": (
        {
            **CHAT,
            "gen_ai.output.messages": json.dumps([{"role": "x", "parts": [{"type": "text", "content": "a"}]}] * 50_000),
        },
        "gcp.vertex.agent",
        (),
        (),
    ),
    "autogen": (
        {"gen_ai.operation.name": "invoke_agent"},
        "autogen-core",
        tuple(
            make_log("", '{"type":"LLMCall","messages":' + BOTTOMLESS, scope_name="autogen_core.events")
            for _ in range(20)
        ),
        (),
    ),
    "semantic kernel": (CHAT, "semantic_kernel.x", (make_log("gen_ai.user.message", BOTTOMLESS),), ()),
    "ag2": ({**CHAT, "ag2.span.type": 7, "gen_ai.input.messages": BOTTOMLESS}, "", (), ()),
}


@pytest.mark.parametrize(("attributes", "scope", "logs", "events"), FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_hostile_content_of_agent_frameworks_is_read_in_bounded_time(attributes, scope, logs, events):
    """Content without bottom, end or shape costs time in proportion to its size and loses no other span."""
    span = make_span(
        attributes, name="call_llm" if scope.startswith("gcp") else "chat", scope_name=scope, events=events
    )
    started = time.process_time()
    reading = read_span(span, logs)
    assert time.process_time() - started < 10.0
    assert span.span_id == reading.span.span_id
    assert reading.context.dialect is not None
