"""OpenInference's LlamaIndex flavour: llama-index-core and -llms-openai, openinference-instrumentation-llama-index.

The workflow's context does not carry the memory, so the second question starts afresh. `llama_index_run FOLDER stream`
captures streamed answers with a memory and with the session and the user that the application names.
"""

import asyncio
import sys

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.tools import FunctionTool
from llama_index.core.workflow import Context
from llama_index.llms.openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def run(address: str, *, stream: bool) -> None:
    """Ask both questions of one agent."""
    model = OpenAI(model="gpt-4o-mini", api_base=f"{address}/v1", api_key="none")
    tools = [FunctionTool.from_defaults(get_weather)]
    agent = FunctionAgent(name="weather", tools=tools, llm=model, system_prompt=SYSTEM, streaming=stream)
    context = Context(agent)
    held = {"memory": ChatMemoryBuffer.from_defaults(token_limit=4000)} if stream else {}
    for question in model_server.QUESTIONS:
        await agent.run(question, ctx=context, **held)


if __name__ == "__main__":
    stream = sys.argv[2:] == ["stream"]
    capture = Capture("oi_llama_index_stream" if stream else "oi_llama_index")
    LlamaIndexInstrumentor().instrument(tracer_provider=capture.provider)
    named = {"session_id": "sess-li", "user_id": "u-li"} if stream else {}
    with using_attributes(**named):
        asyncio.run(run(model_server.start(), stream=stream))
    capture.write()
