"""OpenInference's Anthropic flavour: openinference-instrumentation-anthropic 3.1.0, anthropic 2.12.0.

Two questions of one conversation, told by the session and user ids. The failing tool's result is marked `is_error`.
"""

import anthropic
from openinference.instrumentation import using_attributes
from openinference.instrumentation.anthropic import AnthropicInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

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


def run(client: anthropic.Anthropic) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            answer = client.messages.create(
                model="claude-sonnet-4", max_tokens=100, system=SYSTEM, tools=TOOLS, messages=messages
            )
            messages.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(block) for block in uses]})


if __name__ == "__main__":
    capture = Capture("oi_anthropic")
    AnthropicInstrumentor().instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-a", user_id="u-a"):
        run(anthropic.Anthropic(api_key="none", base_url=model_server.start()))
    capture.write()
