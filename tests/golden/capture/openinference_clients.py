"""OpenInference's flavours of OpenAI-like clients, each with the hand-written loop.

`python -m tests.golden.capture.openinference_clients FOLDER TAG`: the word after `oi_` in the tag names the client
(openai, litellm, groq, mistral, portkey); a tag that ends with `streamed` streams. Session and user are set by
`using_attributes`.
"""

import os
import sys
from collections.abc import Callable
from importlib import import_module
from types import SimpleNamespace

from openinference.instrumentation import using_attributes

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture


def openai(url: str) -> object:
    """OpenAI's own client."""
    from openai import OpenAI

    return OpenAI(api_key="none", base_url=f"{url}/v1")


def litellm(url: str) -> object:
    """LiteLLM's function in the place of a client's method."""
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import litellm as library

    def create(*, model: str, **arguments: object) -> object:
        return library.completion(model=f"openai/{model}", api_base=f"{url}/v1", api_key="none", **arguments)

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def groq(url: str) -> object:
    """Groq's client, which knows no stream options."""
    from groq import Groq

    client = Groq(api_key="none", base_url=url)
    create = client.chat.completions.create

    def without_options(*, stream_options: object = None, **arguments: object) -> object:
        del stream_options
        return create(**arguments)

    client.chat.completions.create = without_options
    return client


def mistral(url: str) -> object:
    """Mistral's client, whose methods have other names."""
    from mistralai.client import Mistral

    model_server.Handler.whole_calls = True
    client = Mistral(api_key="none", server_url=url)

    def create(*, stream: bool = False, stream_options: object = None, **arguments: object) -> object:
        del stream_options
        if not stream:
            return client.chat.complete(**arguments)
        return (event.data for event in client.chat.stream(**arguments))

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


def portkey(url: str) -> object:
    """Portkey's client, pointed at the model server as its gateway."""
    from portkey_ai import Portkey

    return Portkey(api_key="none", base_url=f"{url}/v1", provider="openai")


CLIENTS: dict[str, tuple[Callable[[str], object], str, str]] = {
    "openai": (openai, "openai", "OpenAIInstrumentor"),
    "litellm": (litellm, "litellm", "LiteLLMInstrumentor"),
    "groq": (groq, "groq", "GroqInstrumentor"),
    "mistral": (mistral, "mistralai", "MistralAIInstrumentor"),
    "portkey": (portkey, "portkey", "PortkeyInstrumentor"),
}

if __name__ == "__main__":
    tag = sys.argv[2]
    make, module, name = next(client for word, client in CLIENTS.items() if tag.startswith(f"oi_{word}"))
    capture = Capture(tag)
    instrumentor = getattr(import_module(f"openinference.instrumentation.{module}"), name)()
    instrumentor.instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-1", user_id="u-1"):
        openai_loop.run(make(model_server.start()), stream=tag.endswith("streamed"))
    capture.write()
