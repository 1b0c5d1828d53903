"""Haystack: haystack-ai, openinference-instrumentation-haystack, opentelemetry-haystack. An agent with one tool.

`python -m tests.golden.capture.haystack_run FOLDER TAG`, where the words in the tag choose what runs: `oi` with
OpenInference, `tracer` with Haystack's own tracer (which enables itself up to 2.31), `content` with its content
tracing, `streamed` streamed.
"""

import os
import sys

from opentelemetry import trace

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture


def switch_on(tracer: bool, content: bool) -> None:
    """Haystack's own tracer, which up to 2.31 looks for a global provider while Haystack is imported."""
    os.environ["HAYSTACK_CONTENT_TRACING_ENABLED"] = str(content).lower()
    if tracer:
        trace.set_tracer_provider(capture.provider)
    from haystack import tracing

    if tracer and not tracing.is_tracing_enabled():
        from haystack_integrations.tracing.opentelemetry import OpenTelemetryTracer

        tracing.enable_tracing(OpenTelemetryTracer(trace.get_tracer("haystack")))


def ask(streamed: bool, instrumented: bool) -> None:
    """Ask both questions; the second continues the first's messages."""
    from haystack.components.agents import Agent
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.tools import Tool
    from haystack.utils import Secret

    if instrumented:
        from openinference.instrumentation.haystack import HaystackInstrumentor

        HaystackInstrumentor().instrument(tracer_provider=capture.provider)
    function = TOOL["function"]
    tool = Tool(function["name"], function["description"], function["parameters"], model_server.weather)
    url = f"{model_server.start()}/v1"
    generator = OpenAIChatGenerator(api_key=Secret.from_token("none"), model="gpt-4o-mini", api_base_url=url)
    streaming = print if streamed else None
    agent = Agent(chat_generator=generator, tools=[tool], system_prompt=SYSTEM, streaming_callback=streaming)
    messages = []
    for question in model_server.QUESTIONS:
        messages = [*messages, ChatMessage.from_user(question)]
        messages = agent.run(messages=messages)["messages"]
        messages = [message for message in messages if not message.is_from("system")]


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    switch_on(tracer="tracer" in tag, content="content" in tag)
    ask(streamed="streamed" in tag, instrumented=tag.startswith("oi"))
    capture.write()
