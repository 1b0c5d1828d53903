"""OpenInference's span processors, which rewrite spans of other conventions before they are exported.

`python -m tests.golden.capture.openinference_processors FOLDER TAG`: `oi_pydantic_ai` (pydantic-ai), `oi_strands`
(strands-agents), `oi_openllmetry` (opentelemetry-instrumentation-openai), `oi_openlit` (openlit), each with its
openinference-instrumentation package. A tag that ends with `streamed` streams.
"""

import sys
from collections.abc import Callable

from openinference.instrumentation import using_attributes
from opentelemetry import trace

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
STREAMED = TAG.endswith("streamed")


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def get_weather_or_error(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:
        return f"error: {error}"


def pydantic_ai(url: str) -> None:
    """Pydantic-AI's agent."""
    from openinference.instrumentation.pydantic_ai import OpenInferenceSpanProcessor
    from pydantic_ai import Agent, Tool
    from pydantic_ai.models.instrumented import InstrumentationSettings
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    capture = Capture(TAG, before=[OpenInferenceSpanProcessor()])
    trace.set_tracer_provider(capture.provider)
    Agent.instrument_all(InstrumentationSettings(version=2))
    model = OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(base_url=f"{url}/v1", api_key="none"))
    told = Tool(get_weather_or_error, name="get_weather")
    agent = Agent(model, system_prompt=SYSTEM, tools=[told], name="weather")
    history: list[object] = []
    for question in model_server.QUESTIONS:
        history = agent.run_sync(question, message_history=history).all_messages()
    capture.write()


def strands(url: str) -> None:
    """Strands' agent."""
    from openinference.instrumentation.strands_agents import StrandsAgentsToOpenInferenceProcessor
    from strands import Agent, tool
    from strands.models.openai import OpenAIModel

    capture = Capture(TAG, before=[StrandsAgentsToOpenInferenceProcessor()])
    trace.set_tracer_provider(capture.provider)
    model = OpenAIModel(client_args={"api_key": "none", "base_url": f"{url}/v1"}, model_id="gpt-4o-mini")
    told = {"session.id": "sess-3", "user.id": "u-3"}
    agent = Agent(
        name="weather",
        model=model,
        tools=[tool(get_weather)],
        system_prompt=SYSTEM,
        callback_handler=None,
        trace_attributes=told,
    )
    for question in model_server.QUESTIONS:
        agent(question)
    capture.write()


def openllmetry(url: str) -> None:
    """OpenLLMetry's instrumentation of OpenAI's client."""
    from openai import OpenAI
    from openinference.instrumentation.openllmetry import OpenInferenceSpanProcessor
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    capture = Capture(TAG, before=[OpenInferenceSpanProcessor()])
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-1", user_id="u-1"):
        openai_loop.run(OpenAI(api_key="none", base_url=f"{url}/v1"), stream=STREAMED)
    capture.write()


def openlit(url: str) -> None:
    """OpenLIT's instrumentation of OpenAI's client."""
    import openlit as library
    from openai import OpenAI
    from openinference.instrumentation.openlit import OpenInferenceSpanProcessor

    capture = Capture(TAG, before=[OpenInferenceSpanProcessor()])
    trace.set_tracer_provider(capture.provider)
    library.init(tracer=capture.provider.get_tracer("openlit"), disable_metrics=True)
    openai_loop.run(OpenAI(api_key="none", base_url=f"{url}/v1"), stream=STREAMED)
    capture.write()


RUNS: dict[str, Callable[[str], None]] = {
    "oi_pydantic_ai": pydantic_ai,
    "oi_strands": strands,
    "oi_openllmetry": openllmetry,
    "oi_openlit": openlit,
}

if __name__ == "__main__":
    next(run for word, run in RUNS.items() if TAG.startswith(word))(model_server.start())
