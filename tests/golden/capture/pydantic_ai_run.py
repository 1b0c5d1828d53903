"""Pydantic-AI's own loop: pydantic-ai-slim[openai], releases 0.2, 0.4, 1 and 2, opentelemetry-sdk.

`python -m tests.golden.capture.pydantic_ai_run FOLDER TAG`; TAGS says what each tag sets. Both questions are runs of
one conversation, the second with the message history of the first. The failing tool asks the model to try again
(`ModelRetry`). Where a tag says so: streamed runs (`iter`, then `run_stream`), a typed answer whose first form the
validator sends back, or the weather asked by a second agent inside a tool.
"""

import asyncio
import sys

from openai import AsyncOpenAI
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.instrumented import InstrumentationSettings

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAGS: dict[str, dict[str, object]] = {
    "pyd02": {},
    "pyd02_logs": {"event_mode": "logs"},
    "pyd04_streamed": {},
    "pyd10": {},
    "pyd10_1_logs": {"version": 1, "event_mode": "logs"},
    "pyd10_1_hidden": {"version": 1, "include_content": False},
    "pyd3": {"version": 3},
    "pyd6": {"version": 6},
    "pyd6_streamed": {"version": 6},
    "pyd6_retry": {"version": 6},
    "pyd6_output": {"version": 6},
    "pyd6_subagent": {"version": 6},
    "pyd6_hidden": {"version": 6, "include_content": False},
}


class Report(BaseModel):
    """The answer as a structure."""

    answer: str


def get_weather(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:
        raise ModelRetry(str(error)) from error


class Setup:
    """The model and the instrumentation of one run."""

    def __init__(self, tag: str, capture: Capture, logs: LogCapture | None) -> None:
        self._settings = InstrumentationSettings(tracer_provider=capture.provider, **_logging(logs), **TAGS[tag])
        self._model = model(f"{model_server.start()}/v1")

    def agent(self, **fields: object) -> Agent:
        """An instrumented agent."""
        try:
            from pydantic_ai.capabilities import Instrumentation
        except ImportError:
            fields["instrument"] = self._settings
        else:
            fields["capabilities"] = [Instrumentation(settings=self._settings)]
        return Agent(self._model, model_settings={"temperature": 0.2}, **fields)


def _logging(logs: LogCapture | None) -> dict[str, object]:
    """Where message events go that are log records."""
    if logs is None:
        return {}
    try:
        from opentelemetry.sdk._events import EventLoggerProvider
    except ImportError:
        return {"logger_provider": logs.provider}
    return {"event_logger_provider": EventLoggerProvider(logger_provider=logs.provider)}


def model(url: str) -> object:
    """OpenAI's chat model, whose class was renamed."""
    from pydantic_ai.models import openai
    from pydantic_ai.providers.openai import OpenAIProvider

    chat = getattr(openai, "OpenAIChatModel", None) or openai.OpenAIModel
    return chat("gpt-4o-mini", provider=OpenAIProvider(openai_client=AsyncOpenAI(api_key="none", base_url=url)))


async def plain(agent: Agent) -> None:
    """Both questions."""
    history = None
    for question in model_server.QUESTIONS:
        result = await agent.run(question, message_history=history)
        history = result.all_messages()


async def streamed(agent: Agent) -> None:
    """The first question walked node by node, the second as one streamed run."""
    async with agent.iter(model_server.QUESTIONS[0]) as run:
        async for node in run:
            if Agent.is_model_request_node(node):
                async with node.stream(run.ctx) as events:
                    async for _ in events:
                        pass
    async with agent.run_stream(model_server.QUESTIONS[1], message_history=run.result.all_messages()) as result:
        async for _ in result.stream_text():
            pass


def validated(agent: Agent) -> Agent:
    """The agent, whose first answer is sent back."""
    refused: list[object] = []

    @agent.output_validator
    def check(answer: object) -> object:
        if not refused:
            refused.append(answer)
            raise ModelRetry("Say it once more.")
        return answer

    return agent


async def with_subagent(setup: Setup) -> None:
    """The second question to an agent whose tool asks the first of another agent."""
    helper = setup.agent(name="weather-agent", system_prompt=SYSTEM, tools=[get_weather])

    async def ask_get_weather(ctx: RunContext[None], city: str) -> str:
        """Ask the weather agent."""
        return (await helper.run(model_server.QUESTIONS[0], usage=ctx.usage)).output

    planner = setup.agent(name="planner", instructions="You plan trips.", tools=[ask_get_weather])
    await planner.run(model_server.QUESTIONS[1])


async def main(tag: str, setup: Setup) -> None:
    """The run that the tag says."""
    if tag.endswith("subagent"):
        await with_subagent(setup)
    elif tag.endswith("output"):
        agent = setup.agent(name="weather-agent", instructions=SYSTEM, tools=[get_weather], output_type=Report)
        await plain(validated(agent))
    elif tag.endswith("retry"):
        await plain(validated(setup.agent(name="weather-agent", system_prompt=SYSTEM, tools=[get_weather])))
    else:
        agent = setup.agent(name="weather-agent", system_prompt=SYSTEM, tools=[get_weather])
        await (streamed(agent) if tag.endswith("streamed") else plain(agent))


if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag) if tag.endswith("logs") else None
    asyncio.run(main(tag, Setup(tag, capture, logs)))
    capture.write()
    if logs is not None:
        logs.write()
