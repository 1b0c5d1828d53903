"""The loop on Anthropic's messages API, plain or streamed: both questions of one conversation."""

from __future__ import annotations

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL

FUNCTION = TOOL["function"]
TOOLS = [{"name": "get_weather", "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}]


def result_of(block: object) -> dict[str, object]:
    """The tool's result as a content block."""
    result = {"type": "tool_result", "tool_use_id": block.id}
    try:
        return {**result, "content": model_server.weather(**block.input)}
    except ValueError as error:
        return {**result, "content": str(error), "is_error": True}


def run(client: object, *, stream: bool = False) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            answer = _ask(client, messages, stream=stream)
            told = [
                block.model_dump(exclude_none=True, exclude={"parsed_output", "caller"}) for block in answer.content
            ]
            messages.append({"role": "assistant", "content": told})
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(block) for block in uses]})


def _ask(client: object, messages: list[dict[str, object]], *, stream: bool) -> object:
    arguments = {"model": "claude-sonnet-4", "max_tokens": 100, "system": SYSTEM, "tools": TOOLS, "messages": messages}
    if not stream:
        return client.messages.create(**arguments)
    with client.messages.stream(**arguments) as events:
        return events.get_final_message()
