"""OpenLLMetry for LangChain: opentelemetry-instrumentation-langchain 0.62.4, langchain, langgraph, langchain-openai.

`python -m tests.golden.capture.openllmetry_langchain FOLDER tl_langchain` runs plain, and a middleware tells the model
that the tool failed; with `tl_langchain_streamed` it runs streamed and asynchronously, and the tool tells it itself.
Both questions go to one agent, whose checkpointer remembers the thread; each is a trace of its own, and so is the
making of the agent.
"""

import asyncio
import sys

from langchain import agents
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import ToolMessage
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

CONFIG = {"configurable": {"thread_id": "thread-7"}, "metadata": {"user_id": "u-7"}}


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


@tool("get_weather")
def get_weather_or_tell(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:
        raise ToolException(f"error: {error}") from error


get_weather_or_tell.handle_tool_error = True


@wrap_tool_call
def tell_errors(request: object, handler: object) -> object:
    """A failed tool as a message that the model can read."""
    try:
        return handler(request)
    except ValueError as error:
        return ToolMessage(content=f"error: {error}", tool_call_id=request.tool_call["id"], status="error")


def make_agent(*, telling: bool) -> object:
    """The agent; with `telling` its tool tells errors itself."""
    model = ChatOpenAI(
        model="gpt-4o-mini", api_key="none", base_url=f"{model_server.start()}/v1", temperature=0.2, stream_usage=True
    )
    return agents.create_agent(
        model,
        [get_weather_or_tell if telling else get_weather],
        system_prompt=SYSTEM,
        middleware=[] if telling else [tell_errors],
        checkpointer=InMemorySaver(),
        name="weather-agent",
    )


def run(agent: object) -> None:
    """Ask both questions."""
    for question in model_server.QUESTIONS:
        agent.invoke({"messages": [{"role": "user", "content": question}]}, CONFIG)


async def run_streamed(agent: object) -> None:
    """Ask both questions and read the answers as they come."""
    for question in model_server.QUESTIONS:
        asked = {"messages": [{"role": "user", "content": question}]}
        async for _ in agent.astream(asked, CONFIG, stream_mode="messages"):
            pass


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    LangchainInstrumentor().instrument(tracer_provider=capture.provider)
    if tag.endswith("streamed"):
        asyncio.run(run_streamed(make_agent(telling=True)))
    else:
        run(make_agent(telling=False))
    capture.write()
