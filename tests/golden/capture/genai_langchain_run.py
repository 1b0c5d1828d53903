"""The OpenTelemetry project's instrumentation of LangChain: genai-langchain 1.3b0, langchain, langchain-openai.

`python -m tests.golden.capture.genai_langchain_run FOLDER TAG`; a tag with `streamed` streams. LangChain's own agent
drives the loop, both questions in one thread.
"""

import sys

from langchain import agents
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry.instrumentation.genai.langchain import LangChainInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


@wrap_tool_call
def told_failures(request, handler):
    """Tell the model that a tool failed."""
    try:
        return handler(request)
    except ValueError as error:
        content = f"error: {error}"
        return ToolMessage(content=content, tool_call_id=request.tool_call["id"], status="error")


def run(*, stream: bool) -> None:
    """Ask both questions in one thread."""
    url = f"{model_server.start()}/v1"
    model = ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=url, streaming=stream, temperature=0.2)
    agent = agents.create_agent(
        model,
        [get_weather],
        system_prompt=SYSTEM,
        middleware=[told_failures],
        checkpointer=InMemorySaver(),
        name="weather-agent",
    )
    config = {"configurable": {"thread_id": "sess-g"}, "metadata": {"user_id": "u-g"}}
    for question in model_server.QUESTIONS:
        agent.invoke({"messages": [{"role": "user", "content": question}]}, config)


if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    LangChainInstrumentor().instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    run(stream="streamed" in tag)
    capture.write()
    logs.write()
