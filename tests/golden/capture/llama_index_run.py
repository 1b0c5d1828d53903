"""OpenInference's LlamaIndex flavour: llama-index-core and -llms-openai, openinference-instrumentation-llama-index.

The workflow's context does not carry the memory, so the second question starts afresh.
"""

import asyncio

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def run(address: str) -> None:
    """Ask both questions of one agent."""
    model = OpenAI(model="gpt-4o-mini", api_base=f"{address}/v1", api_key="none")
    tools = [FunctionTool.from_defaults(get_weather)]
    agent = FunctionAgent(name="weather", tools=tools, llm=model, system_prompt=SYSTEM, streaming=False)
    context = Context(agent)
    for question in model_server.QUESTIONS:
        await agent.run(question, ctx=context)


if __name__ == "__main__":
    capture = Capture("oi_llama_index")
    LlamaIndexInstrumentor().instrument(tracer_provider=capture.provider)
    asyncio.run(run(model_server.start()))
    capture.write()
