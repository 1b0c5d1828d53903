"""Messages of every provider's shape read to the same records; what cannot be read is flagged, never its neighbours."""

from __future__ import annotations

import base64
import hashlib

import pytest

from otel_receiver.dialects.messages import read_messages, with_system
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.raw import read_request, read_response
from spanloop.records import QualityFlag, Role, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief

ARGUMENTS = '{"city":"Paris"}'
TURN = [
    ("user", "Weather?"),
    ("assistant", "Let me check.", ("call_1", "get_weather", ARGUMENTS)),
    ("tool", ("call_1", "sunny")),
]

OPENAI = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": "Let me check.",
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
PARTS = [
    {"role": "user", "parts": [{"type": "text", "content": "Weather?"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"city": "Paris"}},
            {"type": "text", "content": "Let me check."},
        ],
    },
    {"role": "user", "parts": [{"type": "tool_call_response", "id": "call_1", "result": "sunny"}]},
]
ANTHROPIC = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me check."},
            {"type": "tool_use", "id": "call_1", "name": "get_weather", "input": {"city": "Paris"}},
        ],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
]
BEDROCK = [
    {"role": "user", "content": [{"text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [
            {"text": "Let me check."},
            {"toolUse": {"toolUseId": "call_1", "name": "get_weather", "input": {"city": "Paris"}}},
        ],
    },
    {
        "role": "user",
        "content": [{"toolResult": {"toolUseId": "call_1", "status": "success", "content": [{"text": "sunny"}]}}],
    },
]
GEMINI = [
    {"role": "user", "parts": [{"text": "Weather?"}]},
    {
        "role": "model",
        "parts": [
            {"text": "Let me check."},
            {"function_call": {"id": "call_1", "name": "get_weather", "args": {"city": "Paris"}}},
        ],
    },
    {"role": "user", "parts": [{"function_response": {"id": "call_1", "name": "get_weather", "response": "sunny"}}]},
]
LANGCHAIN = [
    [
        {"lc": 1, "type": "constructor", "id": ["langchain", "HumanMessage"], "kwargs": {"content": "Weather?"}},
        {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "AIMessage"],
            "kwargs": {
                "content": "Let me check.",
                "tool_calls": [{"name": "get_weather", "args": {"city": "Paris"}, "id": "call_1", "type": "tool_call"}],
            },
        },
        {"type": "tool", "data": {"content": "sunny", "tool_call_id": "call_1", "status": "success"}},
    ]
]
RESPONSES = [
    {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me check."}]},
    {"type": "function_call", "id": "fc_9", "call_id": "call_1", "name": "get_weather", "arguments": ARGUMENTS},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
]
AI_SDK = [
    {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "Let me check."},
            {"type": "tool-call", "toolCallId": "call_1", "toolName": "get_weather", "input": {"city": "Paris"}},
        ],
    },
    {
        "role": "tool",
        "content": [
            {
                "type": "tool-result",
                "toolCallId": "call_1",
                "toolName": "get_weather",
                "output": {"type": "text", "value": "sunny"},
            }
        ],
    },
]


@pytest.mark.parametrize("carried", [OPENAI, PARTS, ANTHROPIC, BEDROCK, GEMINI, LANGCHAIN, RESPONSES, AI_SDK])
def test_one_turn_reads_alike_in_every_shape(carried):
    """Eight shapes of the same turn give the same messages without a flag."""
    notes = Notes()
    assert (TURN, frozenset()) == (brief(read_messages(carried, notes)), notes.flags)


def test_several_results_in_one_message_become_messages_of_their_own():
    """Two results in a user message are two tool messages; the text beside them stays a user message after them."""
    carried = {
        "role": "user",
        "parts": [
            {"type": "tool_call_response", "id": "a", "result": "1"},
            {"type": "text", "content": "Go on."},
            {"type": "tool_call_response", "id": "b", "response": {"x": 1}},
        ],
    }
    assert [("tool", ("a", "1")), ("tool", ("b", '{"x":1}')), ("user", "Go on.")] == brief(
        read_messages([carried], Notes())
    )


def test_the_order_of_an_answers_parts_is_canonical():
    """Whatever the sender's order: reasoning, then text, then calls."""
    carried = [
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": "a", "name": "f", "arguments": "{}"},
                {"type": "text", "content": "Hm."},
                {"type": "thinking", "content": "think"},
            ],
        }
    ]
    assert [("assistant", {"reasoning": "think"}, "Hm.", ("a", "f", "{}"))] == brief(read_messages(carried, Notes()))


def test_a_malformed_message_never_drops_its_neighbours():
    """A number, a part of an unknown type and a call without a name are flagged; everything else stays."""
    notes = Notes()
    carried = [
        {"role": "user", "content": "a"},
        7,
        {"role": "user", "parts": [{"type": "hologram", "x": 1}, {"type": "text", "content": "b"}]},
        {
            "role": "assistant",
            "content": "c",
            "tool_calls": [{"id": "x"}, {"id": "y", "function": {"name": "f", "arguments": "{}"}}],
        },
    ]
    assert [("user", "a"), ("user", "b"), ("assistant", "c", ("y", "f", "{}"))] == brief(read_messages(carried, notes))
    assert QualityFlag.MESSAGE_UNPARSED in notes.flags


def test_a_call_told_twice_counts_once():
    """A call that stands in the content's blocks and in `tool_calls` is one call; a text in both places one text."""
    carried = [
        {
            "role": "assistant",
            "content": "Let me check.",
            "contents": [
                {"type": "text", "text": "Let me check."},
                {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            ],
            "tool_calls": [{"id": "a", "name": "f", "arguments": "{}"}],
        }
    ]
    assert [("assistant", "Let me check.", ("a", "f", "{}"))] == brief(read_messages(carried, Notes()))


@pytest.mark.parametrize(
    "carried",
    [{"role": "user"}, {"role": "user", "content": None}, {"role": "tool", "tool_call_id": "a"}, {"role": "assistant"}],
)
def test_a_message_without_its_content_is_flagged(carried):
    """Roles without text mean that content capture was off."""
    notes = Notes()
    read_messages([carried], notes)
    assert {QualityFlag.CONTENT_MISSING} == notes.flags


def test_an_answer_that_says_nothing_is_no_missing_content():
    """An assistant message with null content, or with empty text, is known to be empty."""
    notes = Notes()
    assert [("assistant",), ("assistant",)] == brief(
        read_messages([{"role": "assistant", "content": None}, {"role": "assistant", "content": ""}], notes)
    )
    assert frozenset() == notes.flags


def test_a_call_without_arguments_at_all_is_missing_content():
    """Capture that is off leaves calls without arguments: flagged, never taken for an empty call."""
    notes = Notes()
    read_messages([{"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}]}], notes)
    assert {QualityFlag.CONTENT_MISSING} == notes.flags


@pytest.mark.parametrize("place", ["content", "call", "result", "image"])
def test_redaction_markers_are_flagged_wherever_they_stand(place):
    """A marker in place of text, arguments, a result or an image blocks training."""
    notes = Notes()
    marker = "__REDACTED__"
    carried = {
        "content": {"role": "user", "content": marker},
        "call": {"role": "assistant", "tool_calls": [{"id": "a", "name": "f", "arguments": marker}]},
        "result": {"role": "tool", "tool_call_id": "a", "content": marker},
        "image": {"role": "user", "content": [{"type": "image_url", "image_url": {"url": marker}}]},
    }[place]
    read_messages([carried], notes)
    assert QualityFlag.CONTENT_REDACTED in notes.flags


def test_media_bytes_are_kept_once_under_their_hash():
    """Bytes in base64 or in a data address go to the blobs; an address alone stays an address."""
    data = b"\x89PNG fake"
    text = base64.b64encode(data).decode()
    digest = hashlib.sha256(data).hexdigest()
    notes = Notes()
    carried = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look:"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": text},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": text}},
                {"type": "uri", "modality": "image", "uri": "https://example.org/cat.png"},
            ],
        }
    ]
    kept = {"media": "image", "sha256": digest, "uri": None}
    linked = {"media": "image", "sha256": None, "uri": "https://example.org/cat.png"}
    assert [("user", "Look:", kept, kept, kept, linked)] == brief(read_messages(carried, notes))
    assert [(digest, "image/png", data)] == [(blob.sha256, blob.mime_type, blob.data) for blob in notes.blobs]


def test_media_without_bytes_or_address_is_flagged():
    """An image that is only mentioned is missing."""
    notes = Notes()
    read_messages([{"role": "user", "content": [{"type": "image"}]}], notes)
    assert {QualityFlag.MEDIA_MISSING} == notes.flags


def test_an_anthropic_error_result_is_an_error():
    """A result says itself whether the tool failed."""
    carried = [
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "boom", "is_error": True}]}
    ]
    (message,) = read_messages(carried, Notes())
    assert message.tool_result is not None
    assert (Role.TOOL, ToolStatus.ERROR) == (message.role, message.tool_result.status)


def test_instructions_stand_before_the_messages_once():
    """Instructions that stand apart come first, unless the messages begin with the same text."""
    notes = Notes()
    instructions = read_request({"system": "Be brief.", "messages": []}, notes)
    spoken = read_messages([{"role": "user", "content": "Hi"}], notes)
    assert [("system", "Be brief."), ("user", "Hi")] == brief(with_system(instructions, spoken))
    assert [("system", "Be brief."), ("user", "Hi")] == brief(
        with_system(instructions, with_system(instructions, spoken))
    )


@pytest.mark.parametrize(
    ("carried", "text", "reason", "identity", "usage"),
    [
        (
            {
                "id": "r1",
                "model": "m",
                "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 3}},
            },
            "Hi",
            "stop",
            "r1",
            Usage(input_tokens=5, output_tokens=2, cache_read_tokens=3),
        ),
        (
            {
                "id": "r2",
                "model": "m",
                "role": "assistant",
                "content": [{"type": "text", "text": "Hi"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 5, "output_tokens": 2, "cache_read_input_tokens": 3},
            },
            "Hi",
            "stop",
            "r2",
            Usage(input_tokens=8, output_tokens=2, cache_read_tokens=3),
        ),
        (
            {
                "id": "r3",
                "model": "m",
                "status": "completed",
                "output": [
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi"}]}
                ],
                "usage": {"input_tokens": 5, "output_tokens": 2, "output_tokens_details": {"reasoning_tokens": 1}},
            },
            "Hi",
            "stop",
            "r3",
            Usage(input_tokens=5, output_tokens=2, reasoning_tokens=1),
        ),
        (
            {
                "candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
                "modelVersion": "m",
                "responseId": "r4",
                "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2},
            },
            "Hi",
            "stop",
            "r4",
            Usage(input_tokens=5, output_tokens=2),
        ),
    ],
)
def test_raw_responses_of_four_providers(carried, text, reason, identity, usage):
    """OpenAI chat, Anthropic, OpenAI Responses, Gemini: answer, reason, id, model, and counts with cached tokens in."""
    response = read_response(carried, Notes())
    assert response.message is not None
    assert (text, reason, identity, "m", usage) == (
        response.message.text,
        response.finish_reason,
        response.response_id,
        response.model,
        response.usage,
    )
