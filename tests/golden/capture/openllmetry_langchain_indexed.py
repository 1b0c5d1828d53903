"""OpenLLMetry for LangChain in the indexed form: opentelemetry-instrumentation-langchain 0.40.14, langchain-openai 0.3.

A runnable loops over the model and the tool; each question is a run of it and a trace of its own. The thread and the
user are the run's metadata.
"""

import sys

from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import ToolException, tool
from langchain_openai import ChatOpenAI
from opentelemetry.instrumentation.langchain import LangchainInstrumentor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

CONFIG = {"configurable": {"thread_id": "thread-7"}, "metadata": {"user_id": "u-7"}}


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:
        raise ToolException(f"error: {error}") from error


get_weather.handle_tool_error = True

if __name__ == "__main__":
    capture = Capture(sys.argv[2])
    LangchainInstrumentor().instrument(tracer_provider=capture.provider)
    model = ChatOpenAI(model="gpt-4o-mini", api_key="none", base_url=f"{model_server.start()}/v1", temperature=0.2)
    bound = model.bind_tools([get_weather])
    messages: list[object] = openai_loop.opening()

    def answer(question: str, config: RunnableConfig) -> str:
        """The agent's answer, which goes on from all messages before."""
        messages.append({"role": "user", "content": question})
        while True:
            said = bound.invoke(messages, config)
            messages.append(said)
            if not said.tool_calls:
                return said.content
            messages.extend(get_weather.invoke({**call, "type": "tool_call"}, config) for call in said.tool_calls)

    agent = RunnableLambda(answer, name="weather-agent")
    for question in model_server.QUESTIONS:
        agent.invoke(question, CONFIG)
    capture.write()
