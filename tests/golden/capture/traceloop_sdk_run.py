"""The Traceloop SDK around an OpenAI client: traceloop-sdk, openai. Decorated workflow, agent, task and tool.

`python -m tests.golden.capture.traceloop_sdk_run FOLDER traceloop` runs plain, with `traceloop_streamed` streamed. The
session and the user are association properties. Each question is a trace of its own.
"""

import os
import sys

os.environ.update(TRACELOOP_TELEMETRY="false", TRACELOOP_METRICS_ENABLED="false", TRACELOOP_TRACE_CONTENT="true")

from openai import OpenAI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import agent, task, tool, workflow
from traceloop.sdk.instruments import Instruments

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    Traceloop.init(
        app_name=tag, processor=SimpleSpanProcessor(capture.exporter), instruments={Instruments.OPENAI}, api_key="none"
    )
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    messages = openai_loop.opening()

    @tool(name="get_weather")
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)

    openai_loop.weather = get_weather

    @task(name="remember")
    def remember(question: str) -> str:
        """A step that calls no model."""
        return question.strip()

    @agent(name="weather-agent")
    def answer(question: str) -> str:
        """The agent's answer."""
        return openai_loop.turn(client, messages, question, stream=tag.endswith("streamed"))

    @workflow(name="weather")
    def serve(question: str) -> str:
        """One request."""
        Traceloop.set_association_properties({"session_id": "sess-t", "user_id": "u-t"})
        return answer(remember(question))

    for question in model_server.QUESTIONS:
        serve(question)
    capture.write()
