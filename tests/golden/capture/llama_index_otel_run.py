"""LlamaIndex's own OpenTelemetry package: llama-index-observability-otel, llama-index-core, -llms-openai.

`python -m tests.golden.capture.llama_index_otel_run FOLDER TAG`; a tag that ends with `stream` runs streamed.
"""

import asyncio
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI
from llama_index.observability.otel import LlamaIndexOpenTelemetry
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def main(*, streamed: bool) -> None:
    """Ask both questions in one context."""
    llm = OpenAI(model="gpt-4o-mini", api_base=f"{model_server.start()}/v1", api_key="none")
    agent = FunctionAgent(name="weather", tools=[get_weather], llm=llm, system_prompt=SYSTEM, streaming=streamed)
    context, memory = Context(agent), ChatMemoryBuffer.from_defaults(token_limit=4000)
    for question in model_server.QUESTIONS:
        await agent.run(question, ctx=context, memory=memory)


if __name__ == "__main__":
    capture = Capture(sys.argv[2])
    LlamaIndexOpenTelemetry(
        span_exporter=InMemorySpanExporter(), tracer_provider=capture.provider, span_processor="simple"
    ).start_registering()
    asyncio.run(main(streamed=sys.argv[2].endswith("stream")))
    capture.write()
