"""Strands Agents with its OpenAI model: strands-agents[openai] 1.x, traced by the SDK itself.

`strands_run FOLDER` captures span events with Bedrock's content blocks; `strands_run FOLDER new` what the newest
conventions give, which the SDK reads from an environment variable.
"""

import os
import sys

if sys.argv[2:] == ["new"]:
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental,gen_ai_tool_definitions"

from opentelemetry import trace
from strands import Agent, tool
from strands.models.openai import OpenAIModel

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


if __name__ == "__main__":
    capture = Capture("strands_new" if sys.argv[2:] == ["new"] else "strands")
    trace.set_tracer_provider(capture.provider)
    model = OpenAIModel(
        client_args={"api_key": "none", "base_url": f"{model_server.start()}/v1"}, model_id="gpt-4o-mini"
    )
    agent = Agent(
        name="weather",
        model=model,
        tools=[get_weather],
        system_prompt=SYSTEM,
        callback_handler=None,
        trace_attributes={"session.id": "sess-3", "user.id": "u-3"},
    )
    for question in model_server.QUESTIONS:
        agent(question)
    capture.write()
