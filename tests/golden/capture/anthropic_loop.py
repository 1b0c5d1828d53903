"""The hand-written loop over an Anthropic client that several captures share: one tool, two questions."""

from __future__ import annotations

import json

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL

FUNCTION = TOOL["function"]
TOOLS = [{"name": "get_weather", "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}]


def result_of(block: dict[str, object]) -> dict[str, object]:
    """The tool's result as a content block; a failed tool's says so."""
    result = {"type": "tool_result", "tool_use_id": block["id"]}
    try:
        return {**result, "content": model_server.weather(**block["input"])}
    except ValueError as error:
        return {**result, "content": str(error), "is_error": True}


def run(client: object, *, stream: bool = False) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        turn(client, messages, question, stream=stream)


def turn(client: object, messages: list[dict[str, object]], question: str, *, stream: bool = False) -> str:
    """The answer to a question, which goes on from the messages and is added to them with all that led to it."""
    messages.append({"role": "user", "content": question})
    while True:
        content = _ask(client, messages, stream=stream)
        messages.append({"role": "assistant", "content": content})
        uses = [block for block in content if block["type"] == "tool_use"]
        if not uses:
            return content[0]["text"]
        messages.append({"role": "user", "content": [result_of(block) for block in uses]})


def _ask(client: object, messages: list[dict[str, object]], *, stream: bool) -> list[dict[str, object]]:
    """The blocks of the model's message, put together from events when it is streamed."""
    asked = {"model": "claude-sonnet-4", "max_tokens": 100, "system": SYSTEM, "tools": TOOLS, "messages": messages}
    if not stream:
        answer = client.messages.create(**asked)
        return [block.model_dump(include={"type", "text", "id", "name", "input"}) for block in answer.content]
    blocks: list[dict[str, object]] = []
    for event in client.messages.create(**asked, stream=True):
        if event.type == "content_block_start":
            blocks.append({**event.content_block.model_dump(include={"type", "text", "id", "name"}), "told": ""})
        elif event.type == "content_block_delta":
            delta = event.delta
            blocks[-1]["told"] += delta.text if delta.type == "text_delta" else delta.partial_json
    return [_whole(block) for block in blocks]


def _whole(block: dict[str, object]) -> dict[str, object]:
    """A streamed block with what its deltas told."""
    told = block.pop("told")
    return {**block, "text": told} if block["type"] == "text" else {**block, "input": json.loads(told)}
