"""OpenInference's langchain flavour: openinference-instrumentation-langchain, langchain, langchain-openai.

`python -m tests.golden.capture.openinference_langchain FOLDER TAG`. The words in the tag choose what runs: `executor`
the AgentExecutor of LangChain up to 0.3, whose history is given by hand; `chain` a prompt, a model with tools and a
hand-written loop; else `create_agent` with a checkpointer. `streamed` streams, `claude` asks Anthropic's model.
"""

import sys

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.langchain import LangChainInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
STREAMED = "streamed" in TAG


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:
        raise ToolException(f"error: {error}") from error


get_weather.handle_tool_error = True


def chat_model() -> object:
    """The model that the tag asks for."""
    url = model_server.start()
    if "claude" in TAG:
        from langchain_anthropic import ChatAnthropic

        return ChatAnthropic(model="claude-sonnet-4", api_key="none", base_url=url, temperature=0.2)
    return ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=f"{url}/v1", temperature=0.2, stream_usage=True)


def run_agent() -> None:
    """Ask both questions of an agent that remembers."""
    from langchain.agents import create_agent
    from langgraph.checkpoint.memory import InMemorySaver

    agent = create_agent(
        chat_model(), [get_weather], system_prompt=SYSTEM, checkpointer=InMemorySaver(), name="weather-agent"
    )
    config = {"configurable": {"thread_id": "thread-7"}, "metadata": {"user_id": "u-7"}}
    for question in model_server.QUESTIONS:
        asked = {"messages": [{"role": "user", "content": question}]}
        if STREAMED:
            list(agent.stream(asked, config, stream_mode="messages"))
        else:
            agent.invoke(asked, config)


def run_executor() -> None:
    """Ask both questions of the executor of LangChain up to 0.3."""
    from langchain.agents import AgentExecutor, create_tool_calling_agent

    slots = (("human", "{input}"), MessagesPlaceholder("agent_scratchpad"))
    prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), MessagesPlaceholder("chat_history"), *slots])
    agent = create_tool_calling_agent(chat_model(), [get_weather], prompt)
    executor = AgentExecutor(agent=agent, tools=[get_weather], stream_runnable=STREAMED)
    history: list[object] = []
    for question in model_server.QUESTIONS:
        answer = executor.invoke({"input": question, "chat_history": history})["output"]
        history += [HumanMessage(question), AIMessage(answer)]


def run_chain() -> None:
    """Ask both questions of a prompt and a model with tools, in a loop of our own."""
    prompt = ChatPromptTemplate.from_messages([("system", SYSTEM), MessagesPlaceholder("history")])
    chain = prompt | chat_model().bind_tools([get_weather])
    history: list[object] = []
    for question in model_server.QUESTIONS:
        history.append(HumanMessage(question))
        while True:
            answer = _said(chain, history)
            history.append(answer)
            if not answer.tool_calls:
                break
            history += [get_weather.invoke(call) for call in answer.tool_calls]


def _said(chain: object, history: list[object]) -> AIMessage:
    if not STREAMED:
        return chain.invoke({"history": history})
    first, *others = chain.stream({"history": history})
    for chunk in others:
        first += chunk
    return AIMessage(content=first.content, tool_calls=first.tool_calls)


if __name__ == "__main__":
    capture = Capture(TAG)
    LangChainInstrumentor().instrument(tracer_provider=capture.provider)
    runners = {"executor": run_executor, "chain": run_chain}
    runner = next((held for word, held in runners.items() if f"_{word}" in TAG), run_agent)
    with using_attributes(session_id="sess-7", user_id="u-7"):
        runner()
    capture.write()
