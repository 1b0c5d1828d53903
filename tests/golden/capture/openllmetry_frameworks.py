"""OpenLLMetry's instrumentations of frameworks, each driving its own loop with the script's tool.

`python -m tests.golden.capture.openllmetry_frameworks FOLDER TAG`, where the tag names the framework (`tl_agents`,
`tl_crewai`, `tl_llamaindex`, `tl_agno`, `tl_haystack`) and the words after it choose what runs: `client` with
the instrumentation of the OpenAI client beside it, `streamed` streamed, `chat` on the chat API instead of the
Responses API.
"""

import asyncio
import sys
from collections.abc import Callable

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def agents(address: str, capture: Capture, words: list[str]) -> None:
    """OpenAI's Agents SDK: both questions are runs of one session."""
    from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, SQLiteSession, function_tool
    from openai import AsyncOpenAI
    from opentelemetry.instrumentation.openai_agents import OpenAIAgentsInstrumentor

    OpenAIAgentsInstrumentor().instrument(tracer_provider=capture.provider)
    made = OpenAIChatCompletionsModel if "chat" in words else OpenAIResponsesModel
    model = made(model="gpt-4o-mini", openai_client=AsyncOpenAI(api_key="none", base_url=address))
    agent = Agent(name="weather-agent", instructions=SYSTEM, tools=[function_tool(get_weather)], model=model)
    session = SQLiteSession("sess-9")

    async def ask(question: str) -> None:
        if "streamed" not in words:
            await Runner.run(agent, question, session=session)
            return
        async for _ in Runner.run_streamed(agent, question, session=session).stream_events():
            pass

    async def both() -> None:
        for question in model_server.QUESTIONS:
            await ask(question)

    asyncio.run(both())


def crewai(address: str, capture: Capture, words: list[str]) -> None:
    """CrewAI: a crew of one agent for each question."""
    from crewai import LLM, Agent, Crew, Task
    from crewai.tools import tool
    from opentelemetry.instrumentation.crewai import CrewAIInstrumentor

    CrewAIInstrumentor().instrument(tracer_provider=capture.provider)
    litellm = {"is_litellm": True} if "litellm" in words else {}
    model = LLM(model="openai/gpt-4o-mini", base_url=address, api_key="none", stream="streamed" in words, **litellm)
    tools = [tool("get_weather")(get_weather)]
    for question in model_server.QUESTIONS:
        agent = Agent(role="weather", goal="Tell the weather.", backstory="A service.", tools=tools, llm=model)
        task = Task(description=question, expected_output="A sentence.", agent=agent)
        print(Crew(agents=[agent], tasks=[task]).kickoff())


def llamaindex(address: str, capture: Capture, words: list[str]) -> None:
    """LlamaIndex: a function agent with a memory; its OpenAI-like model has no instrumentation of its own."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.memory import ChatMemoryBuffer
    from llama_index.core.tools import FunctionTool
    from llama_index.core.workflow import Context
    from llama_index.llms.openai_like import OpenAILike
    from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor

    LlamaIndexInstrumentor().instrument(tracer_provider=capture.provider)
    asked = {"is_chat_model": True, "is_function_calling_model": True}
    model = OpenAILike(model="gpt-4o-mini", api_base=address, api_key="none", **asked)
    tools = [FunctionTool.from_defaults(get_weather)]
    streams = "streamed" in words
    agent = FunctionAgent(name="weather", tools=tools, llm=model, system_prompt=SYSTEM, streaming=streams)
    memory = ChatMemoryBuffer.from_defaults(token_limit=4000)

    async def both() -> None:
        context = Context(agent)
        for question in model_server.QUESTIONS:
            await agent.run(question, ctx=context, memory=memory)

    asyncio.run(both())


def agno(address: str, capture: Capture, words: list[str]) -> None:
    """Agno: an agent that keeps its session in memory."""
    from agno.agent import Agent
    from agno.db.in_memory import InMemoryDb
    from agno.models.openai import OpenAIChat
    from opentelemetry.instrumentation.agno import AgnoInstrumentor

    AgnoInstrumentor().instrument(tracer_provider=capture.provider)
    model = OpenAIChat(id="gpt-4o-mini", api_key="none", base_url=address)
    kept = {"db": InMemoryDb(), "add_history_to_context": True, "session_id": "sess-g", "user_id": "u-g"}
    agent = Agent(name="weather-agent", model=model, tools=[get_weather], system_message=SYSTEM, **kept)
    for question in model_server.QUESTIONS:
        if "streamed" in words:
            for _ in agent.run(question, stream=True):
                pass
        else:
            agent.run(question)


def haystack(address: str, capture: Capture, words: list[str]) -> None:
    """Haystack: a pipeline with an agent; the second question goes on from the messages of the first."""
    from haystack import Pipeline
    from haystack.components.agents import Agent
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.dataclasses import ChatMessage
    from haystack.tools import Tool
    from haystack.utils import Secret
    from opentelemetry.instrumentation.haystack import HaystackInstrumentor

    HaystackInstrumentor().instrument(tracer_provider=capture.provider)
    function = TOOL["function"]
    tool = Tool(function["name"], function["description"], function["parameters"], get_weather)
    generator = OpenAIChatGenerator(api_key=Secret.from_token("none"), model="gpt-4o-mini", api_base_url=address)
    callback = print if "streamed" in words else None
    agent = Agent(chat_generator=generator, tools=[tool], system_prompt=SYSTEM, streaming_callback=callback)
    pipeline = Pipeline()
    pipeline.add_component("agent", agent)
    messages: list[object] = []
    for question in model_server.QUESTIONS:
        asked = {"agent": {"messages": [*messages, ChatMessage.from_user(question)]}}
        told = pipeline.run(asked)["agent"]["messages"]
        messages = [message for message in told if not message.is_from("system")]


FRAMEWORKS: dict[str, Callable[[str, Capture, list[str]], None]] = {
    "agents": agents,
    "crewai": crewai,
    "llamaindex": llamaindex,
    "agno": agno,
    "haystack": haystack,
}

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    _, name, *words = tag.split("_")
    if "client" in words:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    FRAMEWORKS[name](f"{model_server.start()}/v1", capture, words)
    capture.write()
