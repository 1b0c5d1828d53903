"""Agent frameworks under the OpenTelemetry project's instrumentations: genai-agno, genai-llama-index 1.3b0.

`python -m tests.golden.capture.genai_frameworks_run FOLDER TAG`, where the tag names the framework; one with `streamed`
streams. Both questions are asked in one session. These report agents and tools; the model calls are genai-openai's.
"""

import asyncio
import importlib
import sys
from collections.abc import Callable

from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def run_agno(url: str, *, stream: bool) -> None:
    """Ask both questions of an agent that keeps its history."""
    from agno.agent import Agent  # each framework has an environment of its own
    from agno.db.in_memory import InMemoryDb
    from agno.models.openai import OpenAIChat

    agent = Agent(
        name="weather-agent",
        model=OpenAIChat(id="gpt-4o-mini", api_key="none", base_url=url, temperature=0.2),
        tools=[get_weather],
        system_message=SYSTEM,
        db=InMemoryDb(),
        add_history_to_context=True,
        telemetry=False,
    )
    for question in model_server.QUESTIONS:
        answer = agent.run(question, session_id="sess-g", user_id="u-g", stream=stream)
        if stream:
            list(answer)


async def run_llama_index(url: str, *, stream: bool) -> None:
    """Ask both questions of an agent with a memory."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.memory import ChatMemoryBuffer
    from llama_index.core.tools import FunctionTool
    from llama_index.core.workflow import Context
    from llama_index.llms.openai import OpenAI

    model = OpenAI(model="gpt-4o-mini", api_base=url, api_key="none")
    tools = [FunctionTool.from_defaults(get_weather)]
    agent = FunctionAgent(name="weather-agent", tools=tools, llm=model, system_prompt=SYSTEM, streaming=stream)
    context, memory = Context(agent), ChatMemoryBuffer.from_defaults(token_limit=4000)
    for question in model_server.QUESTIONS:
        await agent.run(question, ctx=context, memory=memory)


FRAMEWORKS: dict[str, tuple[str, str, Callable[..., object]]] = {
    "agno": ("agno", "AgnoInstrumentor", run_agno),
    "llama_index": ("llama_index", "LlamaIndexInstrumentor", run_llama_index),
}

if __name__ == "__main__":
    tag = sys.argv[2]
    package, instrumentor, run = next(found for name, found in FRAMEWORKS.items() if name in tag)
    module = importlib.import_module(f"opentelemetry.instrumentation.genai.{package}")
    capture, logs = Capture(tag), LogCapture(tag)
    for instrumented in (OpenAIInstrumentor(), getattr(module, instrumentor)()):
        instrumented.instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        asyncio.run(run(f"{model_server.start()}/v1", stream="streamed" in tag))
    capture.write()
    logs.write()
