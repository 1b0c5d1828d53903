"""OpenLLMetry for Anthropic: opentelemetry-instrumentation-anthropic, anthropic.

`python -m tests.golden.capture.openllmetry_anthropic FOLDER TAG`, where the words in the tag choose what runs:
`streamed` streamed, `events` with the messages in log records, `indexed` with a release that has no other form. The
model thinks before its first answer to each question. No root span: every call is a trace of its own.
"""

import sys

import anthropic
from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

from tests.golden.capture import provider_server
from tests.golden.capture.anthropic_tools import TOOLS, result_of
from tests.golden.capture.model_server import QUESTIONS
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def ask(client: anthropic.Anthropic, messages: list[dict[str, object]], *, stream: bool) -> object:
    """The model's message."""
    thinking = {"type": "enabled", "budget_tokens": 1024}
    arguments = {"model": "claude-sonnet-4", "max_tokens": 2000, "system": SYSTEM, "tools": TOOLS, "thinking": thinking}
    if not stream:
        return client.messages.create(messages=messages, **arguments)
    with client.messages.stream(messages=messages, **arguments) as running:
        for _ in running:
            pass
        return running.get_final_message()


def run(client: anthropic.Anthropic, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            answer = ask(client, messages, stream=stream)
            content = [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in answer.content]
            messages.append({"role": "assistant", "content": content})
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(block) for block in uses]})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    if "events" in tag:
        from tests.golden.capture.log_sink import LogCapture

        logs = LogCapture(tag)
        instrumentor = AnthropicInstrumentor(use_attributes=False)
        instrumentor.instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    else:
        AnthropicInstrumentor().instrument(tracer_provider=capture.provider)
    run(anthropic.Anthropic(api_key="none", base_url=provider_server.start()), stream="streamed" in tag)
    capture.write()
    if "events" in tag:
        logs.write()
