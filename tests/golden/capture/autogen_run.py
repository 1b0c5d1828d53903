"""AutoGen with its OpenAI model client: autogen-agentchat, autogen-ext[openai]. Model calls are log records only.

`autogen_run FOLDER [TAG]`: `autogen` (the default) runs plain, `autogen_streamed` streamed.
"""

import asyncio
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_core import EVENT_LOGGER_NAME
from autogen_core.models import ModelFamily
from autogen_ext.models.openai import OpenAIChatCompletionClient
from opentelemetry import trace

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = (sys.argv[2:] or ["autogen"])[0]


async def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def main() -> None:
    """Ask both questions of one agent, which keeps what was said."""
    able = {"vision": False, "function_calling": True, "json_output": True, "structured_output": True}
    client = OpenAIChatCompletionClient(
        model="gpt-4o-mini",
        api_key="none",
        base_url=f"{model_server.start()}/v1",
        model_info={**able, "family": ModelFamily.GPT_4O, "multiple_system_messages": False},
    )
    agent = AssistantAgent(
        "weather",
        model_client=client,
        tools=[get_weather],
        system_message=SYSTEM,
        max_tool_iterations=5,
        reflect_on_tool_use=False,
        model_client_stream=TAG.endswith("_streamed"),
    )
    for question in model_server.QUESTIONS:
        await agent.run(task=question)


if __name__ == "__main__":
    capture, logs = Capture(TAG), LogCapture(TAG)
    trace.set_tracer_provider(capture.provider)
    logs.listen_to(EVENT_LOGGER_NAME)
    asyncio.run(main())
    capture.write()
    logs.write()
