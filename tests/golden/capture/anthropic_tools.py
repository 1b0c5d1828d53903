"""The script's tool in Anthropic's words, and its results as content blocks."""

from __future__ import annotations

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import TOOL

FUNCTION = TOOL["function"]
TOOLS = [{"name": "get_weather", "description": FUNCTION["description"], "input_schema": FUNCTION["parameters"]}]


def result_of(block: object) -> dict[str, object]:
    """The tool's result as a content block."""
    try:
        content, failed = model_server.weather(**block.input), False
    except ValueError as error:
        content, failed = str(error), True
    result = {"type": "tool_result", "tool_use_id": block.id, "content": content}
    return {**result, "is_error": True} if failed else result
