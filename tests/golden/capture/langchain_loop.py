"""A LangGraph agent that several captures share: one tool, a checkpointer that remembers the thread, two questions."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain.agents.middleware import wrap_tool_call
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM


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


def make_agent(*, claude: bool = False) -> object:
    """The agent, over OpenAI's model or over Anthropic's."""
    return create_agent(
        claude_model() if claude else openai_model(),
        [get_weather],
        system_prompt=SYSTEM,
        middleware=[tell_errors],
        name="weather",
        checkpointer=InMemorySaver(),
    )


def openai_model() -> object:
    """OpenAI's model."""
    address = f"{model_server.start()}/v1"
    return ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=address, temperature=0.2, stream_usage=True)


def claude_model() -> object:
    """Anthropic's model."""
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model="claude-sonnet-4", api_key="none", base_url=model_server.start(), max_tokens=100)


def run(agent: object, config: dict[str, object], *, stream: bool = False) -> None:
    """Ask both questions of one thread, each a run of its own."""
    for question in model_server.QUESTIONS:
        asked = {"messages": [{"role": "user", "content": question}]}
        if not stream:
            agent.invoke(asked, config)
            continue
        for _ in agent.stream(asked, config, stream_mode="messages"):
            pass
