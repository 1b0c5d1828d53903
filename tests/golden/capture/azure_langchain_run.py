"""LangChain's agent under Azure's own tracer: langchain-azure-ai 1.2.11, langchain 1.5.2; 0.1.8 with langgraph 0.6.11.

`python -m tests.golden.capture.azure_langchain_run FOLDER TAG`; a tag with `streamed` streams. Both questions go to one
agent, whose checkpointer remembers the thread. With the older packages the tool itself tells that it failed.
"""

import sys

from langchain_azure_ai.callbacks.tracers import AzureAIOpenTelemetryTracer
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from opentelemetry import trace

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

try:
    from langchain import agents
    from langchain.agents.middleware import wrap_tool_call
except ImportError:
    agents = None
    from langgraph.prebuilt import create_react_agent


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
        return f"error: {error}"


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
    kept = {"checkpointer": InMemorySaver(), "name": "weather-agent"}
    if agents is None:
        agent = create_react_agent(model, [get_weather_or_tell], prompt=SYSTEM, **kept)
    else:
        middleware = [wrap_tool_call(tell_errors)]
        agent = agents.create_agent(model, [get_weather], system_prompt=SYSTEM, middleware=middleware, **kept)
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
