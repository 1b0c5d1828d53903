"""MLflow's automatic tracing of frameworks and clients: mlflow-tracing and the library it traces.

`python -m tests.golden.capture.mlflow_frameworks FOLDER TAG`: `mlflow_langchain`, `mlflow_langchain_claude`,
`mlflow_anthropic`, `mlflow_litellm` (and each `_streamed`), `mlflow_pydantic_ai`; `mlflow_31_langchain` with
mlflow-tracing 3.1.4. The session and the user are named by the trace's metadata, where the library is called inside a
traced function.
"""

import sys
import time
from functools import partial

import mlflow

from tests.golden.capture import model_server
from tests.golden.capture.http_sink import HttpSink


def langchain(*, stream: bool, claude: bool = False) -> None:
    """A LangGraph agent."""
    from tests.golden.capture import langchain_loop

    mlflow.langchain.autolog()
    config = {"configurable": {"thread_id": "thread-m"}}
    langchain_loop.run(langchain_loop.make_agent(claude=claude), config, stream=stream)


def anthropic(*, stream: bool) -> None:
    """A traced function around the loop over an Anthropic client; the tool is traced by a decorator."""
    import anthropic as sdk

    from tests.golden.capture import anthropic_loop

    mlflow.anthropic.autolog()
    model_server.weather = mlflow.trace(model_server.weather, name="get_weather", span_type="TOOL")
    client = sdk.Anthropic(api_key="none", base_url=model_server.start())
    messages: list[dict[str, object]] = []

    @mlflow.trace(name="weather-agent", span_type="AGENT")
    def answer(question: str) -> str:
        """The agent's answer."""
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "sess-m", "mlflow.trace.user": "u-m"})
        return anthropic_loop.turn(client, messages, question, stream=stream)

    for question in model_server.QUESTIONS:
        answer(question)


def pydantic_ai(*, stream: bool) -> None:
    """A Pydantic-AI agent."""
    del stream
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    from tests.golden.capture.openai_loop import SYSTEM

    mlflow.pydantic_ai.autolog()
    provider = OpenAIProvider(base_url=f"{model_server.start()}/v1", api_key="none")
    agent = Agent(OpenAIChatModel("gpt-4o-mini", provider=provider), system_prompt=SYSTEM, name="weather")

    @agent.tool_plain
    def get_weather(city: str) -> str:
        """The weather in a city."""
        try:
            return model_server.weather(city)
        except ValueError as error:
            return f"error: {error}"

    history = None
    for question in model_server.QUESTIONS:
        history = agent.run_sync(question, message_history=history).all_messages()


def litellm(*, stream: bool) -> None:
    """A traced function around the loop over LiteLLM's functions."""
    from types import SimpleNamespace

    import litellm as sdk

    from tests.golden.capture import openai_loop

    mlflow.litellm.autolog()
    openai_loop.weather = mlflow.trace(model_server.weather, name="get_weather", span_type="TOOL")
    url = f"{model_server.start()}/v1"

    def create(*, model: str, **arguments: object) -> object:
        answer = sdk.completion(model=f"openai/{model}", api_base=url, api_key="none", user="u-x", **arguments)
        if not stream:
            time.sleep(1)  # its callback runs in a thread
        return answer

    client = SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))
    messages = openai_loop.opening()

    @mlflow.trace(name="weather-agent", span_type="AGENT")
    def answer(question: str) -> str:
        """The agent's answer."""
        mlflow.update_current_trace(metadata={"mlflow.trace.session": "sess-m", "mlflow.trace.user": "u-m"})
        told = openai_loop.turn(client, messages, question, stream=stream)
        time.sleep(2)
        return told

    for question in model_server.QUESTIONS:
        answer(question)


RUNS = {
    "langchain": langchain,
    "langchain_claude": partial(langchain, claude=True),
    "anthropic": anthropic,
    "pydantic_ai": pydantic_ai,
    "litellm": litellm,
}

if __name__ == "__main__":
    tag = sys.argv[2]
    sink = HttpSink(tag)
    run = tag.removeprefix("mlflow_").removeprefix("31_").removesuffix("_streamed")
    RUNS[run](stream=tag.endswith("_streamed"))
    mlflow.flush_trace_async_logging()
    held = mlflow.tracing.provider
    (held._MLFLOW_TRACER_PROVIDER if "31" in tag else held.provider.get()).force_flush()
    sink.write()
