"""OpenInference's Anthropic flavour: openinference-instrumentation-anthropic 3.1.0, anthropic 2.12.0.

Two questions of one conversation, told by the session and user ids. The failing tool's result is marked `is_error`.
"""

import anthropic
from openinference.instrumentation import using_attributes
from openinference.instrumentation.anthropic import AnthropicInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.anthropic_tools import TOOLS, result_of
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


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
