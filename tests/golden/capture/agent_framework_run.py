"""Microsoft Agent Framework with its OpenAI chat client: agent-framework-core, agent-framework-openai.

`agent_framework_run FOLDER [TAG]`: `agent_framework` (the default) runs plain, `agent_framework_streamed` streamed;
`agent_framework_private` runs plain with sensitive data off.
"""

import asyncio
import sys

from agent_framework.observability import enable_instrumentation
from agent_framework.openai import OpenAIChatCompletionClient
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


TAG = (sys.argv[2:] or ["agent_framework"])[0]


async def main() -> None:
    """Ask both questions in one session."""
    client = OpenAIChatCompletionClient(model="gpt-4o-mini", api_key="none", base_url=f"{model_server.start()}/v1")
    agent = client.as_agent(name="weather", instructions=SYSTEM, tools=[get_weather])
    session = agent.create_session()
    for question in model_server.QUESTIONS:
        if not TAG.endswith("_streamed"):
            await agent.run(question, session=session)
            continue
        async for _ in agent.run(question, session=session, stream=True):
            pass


if __name__ == "__main__":
    capture, logs = Capture(TAG), LogCapture(TAG)
    trace.set_tracer_provider(capture.provider)
    set_logger_provider(logs.provider)
    logs.listen_to("agent_framework")
    enable_instrumentation(enable_sensitive_data=not TAG.endswith("_private"))
    asyncio.run(main())
    capture.write()
    logs.write()
