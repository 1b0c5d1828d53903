"""OpenAI Agents SDK under OpenTelemetry's instrumentations: genai-openai-agents 1.3b0, openai-agents-v2 0.1.0.

`python -m tests.golden.capture.genai_agents_run FOLDER TAG`; a tag with `chat` asks the chat API, any other the
Responses API; one with `streamed` streams. Both questions are runs of one session. The newer one reports no model
calls: the client's instrumentation beside it does.
"""

import asyncio
import sys

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
)
from openai import AsyncOpenAI

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

try:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
    from opentelemetry.instrumentation.genai.openai_agents import OpenAIAgentsInstrumentor

    INSTRUMENTORS = (OpenAIInstrumentor, OpenAIAgentsInstrumentor)
except ImportError:
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    INSTRUMENTORS = (OpenAIAgentsInstrumentor,)


@function_tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def main(*, chat: bool, stream: bool) -> None:
    """Ask both questions in one session."""
    client = AsyncOpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    kind = OpenAIChatCompletionsModel if chat else OpenAIResponsesModel
    agent = Agent(
        name="weather-agent",
        instructions=SYSTEM,
        tools=[get_weather],
        model=kind(model="gpt-4o-mini", openai_client=client),
        model_settings=ModelSettings(temperature=0.2, include_usage=True),
    )
    session = SQLiteSession("sess-g")
    config = RunConfig(workflow_name="weather", group_id="sess-g")
    for question in model_server.QUESTIONS:
        if stream:
            running = Runner.run_streamed(agent, question, session=session, run_config=config)
            async for _ in running.stream_events():
                pass
        else:
            await Runner.run(agent, question, session=session, run_config=config)


if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    for instrumentor in INSTRUMENTORS:
        instrumentor().instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    asyncio.run(main(chat="chat" in tag, stream="streamed" in tag))
    capture.write()
    logs.write()
