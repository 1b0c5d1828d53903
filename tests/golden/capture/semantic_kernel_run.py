"""Semantic Kernel with its OpenAI chat completion and a plugin: semantic-kernel, which logs messages when asked to."""

import asyncio
import os

os.environ["SEMANTICKERNEL_EXPERIMENTAL_GENAI_ENABLE_OTEL_DIAGNOSTICS_SENSITIVE"] = "true"

from openai import AsyncOpenAI
from opentelemetry import trace
from semantic_kernel.agents import ChatCompletionAgent, ChatHistoryAgentThread
from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion
from semantic_kernel.functions import kernel_function

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


class Weather:
    """The script's plugin, whose name stands before the function's."""

    @kernel_function(description="The weather in a city.")
    def get_weather(self, city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)


async def main() -> None:
    """Ask both questions in one thread."""
    client = AsyncOpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    service = OpenAIChatCompletion(ai_model_id="gpt-4o-mini", async_client=client)
    agent = ChatCompletionAgent(name="weather", instructions=SYSTEM, service=service, plugins=[Weather()])
    thread = ChatHistoryAgentThread(thread_id="thread-3")
    for question in model_server.QUESTIONS:
        await agent.get_response(messages=question, thread=thread)


if __name__ == "__main__":
    capture, logs = Capture("semantic_kernel"), LogCapture("semantic_kernel")
    trace.set_tracer_provider(capture.provider)
    logs.listen_to("semantic_kernel")
    asyncio.run(main())
    capture.write()
    logs.write()
