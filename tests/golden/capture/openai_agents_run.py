"""OpenAI Agents SDK on the Responses API: openinference-instrumentation-openai-agents 2.6.0, openai-agents 0.24.0.

`python -m tests.golden.capture.openai_agents_run FOLDER oai_agents_responses` runs plain, with
`oai_agents_responses_streamed` streamed. Both questions are runs of one session, which repeats the items of the first
in the second; each run is a trace of its own. The SDK itself tells the model that a tool failed.
"""

import asyncio
import sys

from agents import Agent, ModelSettings, OpenAIResponsesModel, RunConfig, Runner, SQLiteSession, function_tool
from openai import AsyncOpenAI
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def main(*, stream: bool) -> None:
    """Ask both questions in one session."""
    client = AsyncOpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    model = OpenAIResponsesModel(model="gpt-4o-mini", openai_client=client)
    agent = Agent(
        name="weather-agent",
        instructions=SYSTEM,
        tools=[get_weather],
        model=model,
        model_settings=ModelSettings(temperature=0.2),
    )
    session = SQLiteSession("sess-9")
    config = RunConfig(workflow_name="weather", group_id="sess-9")
    for question in model_server.QUESTIONS:
        if stream:
            running = Runner.run_streamed(agent, question, session=session, run_config=config)
            async for _ in running.stream_events():
                pass
        else:
            await Runner.run(agent, question, session=session, run_config=config)


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    OpenAIAgentsInstrumentor().instrument(tracer_provider=capture.provider)
    asyncio.run(main(stream=tag.endswith("streamed")))
    capture.write()
