"""OpenLLMetry for clients of OpenAI-like servers: Groq, Mistral, Together. The loop is the one of the OpenAI captures.

`python -m tests.golden.capture.openllmetry_openai_like FOLDER TAG`, where the tag names the client, with `streamed` for
streamed answers. No root span: every call is a trace of its own.
"""

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

from tests.golden.capture import model_server, openai_loop, provider_server
from tests.golden.capture.sink import Capture


def as_openai(create: Callable[..., object]) -> object:
    """A client for the loop, which asks through `create`."""
    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def groq(address: str, capture: Capture) -> object:
    """Groq's client, whose streams need not be asked for usage."""
    from groq import Groq
    from opentelemetry.instrumentation.groq import GroqInstrumentor

    GroqInstrumentor().instrument(tracer_provider=capture.provider)
    client = Groq(api_key="none", base_url=address)
    return as_openai(lambda stream_options=None, **arguments: client.chat.completions.create(**arguments))


def together(address: str, capture: Capture) -> object:
    """Together's client."""
    from opentelemetry.instrumentation.together import TogetherAiInstrumentor
    from together import Together

    TogetherAiInstrumentor().instrument(tracer_provider=capture.provider)
    client = Together(api_key="none", base_url=f"{address}/v1")
    return as_openai(lambda stream_options=None, **arguments: client.chat.completions.create(**arguments))


def mistral(address: str, capture: Capture) -> object:
    """Mistral's client, whose chunks lie in events; its server never cuts a call in two.

    Messages are read off the SDK's classes only: plain, the application passes dictionaries, streamed, it does not.
    """
    from mistralai import AssistantMessage, Mistral, SystemMessage, ToolMessage, UserMessage
    from opentelemetry.instrumentation.mistralai import MistralAiInstrumentor

    MistralAiInstrumentor().instrument(tracer_provider=capture.provider)
    del address
    client = Mistral(api_key="none", server_url=provider_server.start())

    classes = {"system": SystemMessage, "user": UserMessage, "assistant": AssistantMessage, "tool": ToolMessage}

    def create(*, messages: list[dict[str, object]], stream: bool = False, **arguments: object) -> object:
        arguments.pop("stream_options", None)
        if not stream:
            return client.chat.complete(messages=messages, **arguments)
        held = [classes[message["role"]](**message) for message in messages]
        return _chunks(client.chat.stream(messages=held, **arguments))

    return as_openai(create)


def _chunks(events: object) -> Iterator[object]:
    yield from (event.data for event in events)


CLIENTS = {"groq": groq, "mistral": mistral, "together": together}

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    client = CLIENTS[tag.split("_")[1]](model_server.start(), capture)
    openai_loop.run(client, stream=tag.endswith("streamed"))
    capture.write()
