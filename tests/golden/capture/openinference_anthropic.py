"""OpenInference's Anthropic flavour: openinference-instrumentation-anthropic, anthropic.

`python -m tests.golden.capture.openinference_anthropic FOLDER [TAG]`. Two questions of one conversation, told by the
session and user ids. The failing tool's result is marked `is_error`. A tag that ends with `streamed` streams.
"""

import json
import sys
from collections.abc import Iterable

import anthropic
from openinference.instrumentation import using_attributes
from openinference.instrumentation.anthropic import AnthropicInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.anthropic_tools import TOOLS, result_of
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = (sys.argv[2:] or ["oi_anthropic"])[0]


def ask(client: anthropic.Anthropic, messages: list[dict[str, object]]) -> anthropic.types.Message:
    """The model's message."""
    asked = {"model": "claude-sonnet-4", "max_tokens": 100, "system": SYSTEM, "tools": TOOLS, "messages": messages}
    if not TAG.endswith("streamed"):
        return client.messages.create(**asked)
    if "0118" in TAG:  # it wraps the client's helper in a stream that the helper's users do not know
        return put_together(client.messages.create(**asked, stream=True))
    with client.messages.stream(**asked) as stream:
        return stream.get_final_message()


def put_together(events: Iterable[object]) -> anthropic.types.Message:
    """The message that a stream's events tell."""
    message, pieces = None, ""
    for event in events:
        if event.type == "message_start":
            message = event.message
        elif event.type == "content_block_start":
            message.content.append(event.content_block)
            pieces = ""
        elif event.type == "content_block_delta":
            pieces += getattr(event.delta, "text", "") or getattr(event.delta, "partial_json", "")
        elif event.type == "content_block_stop" and message.content[-1].type == "text":
            message.content[-1].text = pieces
        elif event.type == "content_block_stop":
            message.content[-1].input = json.loads(pieces)
    return message


def run(client: anthropic.Anthropic) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            answer = ask(client, messages)
            messages.append({"role": "assistant", "content": [block.model_dump() for block in answer.content]})
            uses = [block for block in answer.content if block.type == "tool_use"]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(block) for block in uses]})


if __name__ == "__main__":
    capture = Capture(TAG)
    AnthropicInstrumentor().instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-a", user_id="u-a"):
        run(anthropic.Anthropic(api_key="none", base_url=model_server.start()))
    capture.write()
