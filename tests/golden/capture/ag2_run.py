"""AG2 with its OpenAI client and telemetry middleware: ag2[openai,tracing]. The second question follows the reply."""

import asyncio

from ag2 import Agent
from ag2.config import OpenAIConfig
from ag2.middleware import TelemetryMiddleware

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:  # of an exception the model is told the whole stack trace, with the machine's paths
        return f"error: {error}"


async def main(capture: Capture) -> None:
    """Ask both questions of one agent."""
    config = OpenAIConfig(model="gpt-4o-mini", api_key="none", base_url=f"{model_server.start()}/v1")
    telemetry = TelemetryMiddleware(tracer_provider=capture.provider, agent_name="weather")
    agent = Agent("weather", prompt=SYSTEM, config=config, tools=[get_weather], middleware=[telemetry])
    reply = None
    for question in model_server.QUESTIONS:
        reply = await (agent if reply is None else reply).ask(question)


if __name__ == "__main__":
    capture = Capture("ag2")
    asyncio.run(main(capture))
    capture.write()
