"""LangChain's agent under Azure's own tracer: langchain-azure-ai, langchain, langchain-openai.

`python -m tests.golden.capture.azure_langchain_run FOLDER TAG`; a tag with `streamed` streams. Both questions go to one
agent, whose checkpointer remembers the thread.
"""

import sys

from langchain import agents
from langchain.agents.middleware import wrap_tool_call
from langchain_azure_ai.callbacks.tracers import AzureAIOpenTelemetryTracer
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry import trace

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


@wrap_tool_call
def tell_errors(request: object, handler: object) -> object:
    """A failed tool as a message that the model can read."""
    try:
        return handler(request)
    except ValueError as error:
        return ToolMessage(content=f"error: {error}", tool_call_id=request.tool_call["id"], status="error")


def run(tracer: AzureAIOpenTelemetryTracer, *, stream: bool) -> None:
    """Ask both questions."""
    url = f"{model_server.start()}/v1"
    model = ChatOpenAI(
        model="gpt-4o-mini", api_key="none", base_url=url, temperature=0.2, streaming=stream, stream_usage=True
    )
    agent = agents.create_agent(
        model,
        [get_weather],
        system_prompt=SYSTEM,
        middleware=[tell_errors],
        checkpointer=InMemorySaver(),
        name="weather-agent",
    )
    about = {"user_id": "u-g", "session_id": "sess-g", "thread_id": "sess-g"}
    config = {"configurable": {"thread_id": "sess-g"}, "metadata": about, "callbacks": [tracer]}
    for question in model_server.QUESTIONS:
        agent.invoke({"messages": [{"role": "user", "content": question}]}, config)


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    run(AzureAIOpenTelemetryTracer(enable_content_recording=True, name="weather-agent"), stream="streamed" in tag)
    capture.write()
