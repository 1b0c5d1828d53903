"""The OpenTelemetry project's instrumentation of anthropic: genai-anthropic 1.3b0.

`python -m tests.golden.capture.genai_anthropic_run FOLDER TAG`; a tag with `streamed` streams. The failing tool's
result is marked `is_error`. The application's span around both questions carries the session and the user.
"""

import sys

import anthropic
from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.anthropic_tools import TOOLS, result_of
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def ask(client: anthropic.Anthropic, messages: list[dict[str, object]], *, stream: bool) -> list[object]:
    """The blocks of one answer."""
    arguments = {"model": "claude-sonnet-4", "max_tokens": 100, "system": SYSTEM, "tools": TOOLS, "messages": messages}
    if not stream:
        return client.messages.create(**arguments).content
    with client.messages.stream(**arguments) as events:
        return events.get_final_message().content


def run(client: anthropic.Anthropic, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            content = ask(client, messages, stream=stream)
            messages.append({"role": "assistant", "content": [block.model_dump() for block in content]})
            uses = [block for block in content if block.type == "tool_use"]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(block) for block in uses]})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    AnthropicInstrumentor().instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        run(anthropic.Anthropic(api_key="none", base_url=model_server.start()), stream="streamed" in tag)
    capture.write()
    logs.write()
