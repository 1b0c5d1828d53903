"""OpenLIT's instrumentation of openai: openlit 1.45.0, openai 3.54.0, opentelemetry-exporter-otlp-proto-http.

`python -m tests.golden.capture.openlit_run FOLDER openlit` runs plain, with `openlit_streamed` streamed. No root span:
each call is a trace of its own. The second request fails and the application asks again. `openlit_anthropic` (and
`_streamed`) is its instrumentation of anthropic, `openlit_langchain` that of langchain, over a LangGraph agent.
"""

import sys

import openlit
from opentelemetry import _logs, trace

from tests.golden.capture import model_server
from tests.golden.capture.http_sink import HttpSink


def openai(*, stream: bool) -> None:
    """The loop over an OpenAI client."""
    from openai import OpenAI

    from tests.golden.capture import openai_loop

    url = f"{model_server.start(failing=frozenset({2}))}/v1"
    client = openai_loop.asking_again(OpenAI(api_key="none", base_url=url, max_retries=0))
    openai_loop.run(client, stream=stream)


def anthropic(*, stream: bool) -> None:
    """The loop over an Anthropic client."""
    from anthropic import Anthropic

    from tests.golden.capture import anthropic_loop

    anthropic_loop.run(Anthropic(api_key="none", base_url=model_server.start()), stream=stream)


def langchain(*, stream: bool) -> None:
    """A LangGraph agent."""
    from tests.golden.capture import langchain_loop

    langchain_loop.run(langchain_loop.make_agent(), {"configurable": {"thread_id": "thread-l"}}, stream=stream)


RUNS = {"openlit": openai, "openlit_anthropic": anthropic, "openlit_langchain": langchain}

if __name__ == "__main__":
    tag = sys.argv[2]
    sink = HttpSink(tag)
    openlit.init(service_name=tag, otlp_endpoint=sink.url, disable_metrics=True, disabled_instrumentors=["httpx"])
    RUNS[tag.removesuffix("_streamed")](stream=tag.endswith("_streamed"))
    trace.get_tracer_provider().force_flush()
    _logs.get_logger_provider().force_flush()
    sink.write()
