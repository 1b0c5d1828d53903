"""Logfire's instrumentations of model clients: logfire[google-genai,litellm] 5.4, openai, anthropic, google-genai<3.

`python -m tests.golden.capture.logfire_models_run FOLDER TAG`; the tag names the client and how it answers, with
`logfire4_` what logfire 4.10.0 wrote (openai 1.109.1, anthropic 0.69.0, google-genai 1.39.1), with `logfire422_` and
`logfire437_` what 4.22.0 and 4.37.0 wrote (openai 2.29.0, anthropic 0.89.0). The session and the user are baggage,
which Logfire writes on every span; what looks like a session it scrubs in all but its own clients' spans.
"""

import os
import re
import sys
from types import SimpleNamespace

import logfire
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.golden.capture import anthropic_runs, gemini_loop, logfire_server, openai_loop, responses_loop
from tests.golden.capture.sink import Capture


def openai_responses(url: str, *, stream: bool) -> None:
    """OpenAI's client on the Responses API."""
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=f"{url}/v1")
    logfire.instrument_openai(client)
    responses_loop.run(client, stream=stream)


def openai_chat(url: str, *, stream: bool) -> None:
    """OpenAI's client on the chat API."""
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=f"{url}/v1")
    logfire.instrument_openai(client)
    openai_loop.run(client, stream=stream)


def anthropic(url: str, *, stream: bool) -> None:
    """Anthropic's client."""
    from anthropic import Anthropic

    client = Anthropic(api_key="none", base_url=url)
    logfire.instrument_anthropic(client)
    anthropic_runs.run(client, stream=stream)


def gemini(url: str, *, stream: bool) -> None:
    """Google's client."""
    from google import genai

    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
    logfire.instrument_google_genai()
    client = genai.Client(api_key="none", http_options={"base_url": url})
    gemini_loop.run(client, stream=stream)


def litellm(url: str, *, stream: bool) -> None:
    """LiteLLM's function in the place of a client's method."""
    import litellm

    logfire.instrument_litellm()

    def create(*, model: str, **arguments: object) -> object:
        return litellm.completion(model=f"openai/{model}", api_base=f"{url}/v1", api_key="none", **arguments)

    openai_loop.run(SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create))), stream=stream)


CLIENTS = {
    "logfire_responses": openai_responses,
    "logfire_chat": openai_chat,
    "logfire_anthropic": anthropic,
    "logfire_gemini": gemini,
    "logfire_litellm": litellm,
}

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    processor = SimpleSpanProcessor(capture.exporter)
    logfire.configure(send_to_logfire=False, console=False, service_name=tag, additional_span_processors=[processor])
    run = CLIENTS[re.sub(r"^logfire\d+", "logfire", tag.removesuffix("_streamed"))]
    with logfire.set_baggage(session_id="sess-l", user_id="u-l"):
        run(logfire_server.start(), stream=tag.endswith("streamed"))
    logfire.force_flush()
    capture.write()
