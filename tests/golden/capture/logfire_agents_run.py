"""Logfire around agent frameworks: logfire 5.4.0, openai-agents 0.24.0, pydantic-ai-slim[openai] 2.68.0.

`python -m tests.golden.capture.logfire_agents_run FOLDER TAG`, TAG one of `logfire_agents` (OpenAI Agents SDK on the
Responses API), `logfire_agents_chat` (on the chat API), `logfire_agents_streamed`, `logfire_pydantic_ai`;
`logfire4_agents` is what logfire 4.10.0 wrote of openai-agents 0.3.3.
"""

import asyncio
import sys

import logfire
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def weather_agent(tag: str) -> object:
    """An agent of the OpenAI Agents SDK."""
    from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, OpenAIResponsesModel, function_tool
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    kind = OpenAIChatCompletionsModel if "chat" in tag else OpenAIResponsesModel

    @function_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)

    return Agent(
        name="weather-agent",
        instructions=SYSTEM,
        tools=[get_weather],
        model=kind(model="gpt-4o-mini", openai_client=client),
        model_settings=ModelSettings(temperature=0.2),
    )


async def openai_agents(tag: str) -> None:
    """Both questions in one session of the OpenAI Agents SDK."""
    from agents import RunConfig, Runner, SQLiteSession

    logfire.instrument_openai_agents()
    agent, session = weather_agent(tag), SQLiteSession("sess-9")
    config = RunConfig(workflow_name="weather", group_id="sess-9")
    for question in model_server.QUESTIONS:
        if tag.endswith("streamed"):
            running = Runner.run_streamed(agent, question, session=session, run_config=config)
            async for _ in running.stream_events():
                pass
        else:
            await Runner.run(agent, question, session=session, run_config=config)


async def pydantic_ai(tag: str) -> None:
    """Both questions as runs of a Pydantic-AI agent."""
    from pydantic_ai import Agent

    from tests.golden.capture.pydantic_ai_run import get_weather, model, plain

    logfire.instrument_pydantic_ai()
    chat = model(f"{model_server.start()}/v1")
    await plain(Agent(chat, name="weather-agent", system_prompt=SYSTEM, tools=[get_weather]))


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    processor = SimpleSpanProcessor(capture.exporter)
    logfire.configure(send_to_logfire=False, console=False, service_name=tag, additional_span_processors=[processor])
    with logfire.set_baggage(session_id="sess-l", user_id="u-l"):
        asyncio.run(pydantic_ai(tag) if "pydantic" in tag else openai_agents(tag))
    logfire.force_flush()
    capture.write()
