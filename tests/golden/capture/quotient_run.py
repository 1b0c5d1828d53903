"""The Quotient SDK with OpenInference instrumentations, as an API server that streams uses it: quotientai 0.4.17.

`python -m tests.golden.capture.quotient_run FOLDER TAG`. `quotient_agno` is agno 2.0.7 over Claude with
openinference-instrumentation-agno 0.1.15: a span of the SDK's around each streamed run, current while it streams, its
end after the loop. `quotient_openai` is `@quotient.trace` around the loop over an OpenAI client, with the end marker.
"""

import asyncio
import os
import sys

from opentelemetry import trace
from quotientai import QuotientAI

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.http_sink import HttpSink


async def agno(quotient: QuotientAI) -> None:
    """Each question is a request of its own: an agent is built for it and its answer is streamed."""
    from agno.agent import Agent
    from agno.db.in_memory import InMemoryDb
    from agno.models.anthropic import Claude

    def get_weather(city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)

    db = InMemoryDb()
    url = model_server.start()
    for question in model_server.QUESTIONS:
        model = Claude(id="claude-sonnet-4-0", api_key="none", client_params={"base_url": url})
        agent = Agent(
            name="mealworm-meal-planner",
            model=model,
            tools=[get_weather],
            instructions=openai_loop.SYSTEM,
            db=db,
            session_id="sess-q",
            user_id="u-q",
            add_history_to_context=True,
            telemetry=False,
        )
        span = quotient.tracer.start_span("mealworm-meal-planner-run")
        with trace.use_span(span, end_on_exit=False):
            async for _ in agent.arun(question, stream=True):
                pass
            span.end()


async def openai(quotient: QuotientAI) -> None:
    """Each question is a decorated function's call."""
    from openai import OpenAI

    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    messages = openai_loop.opening()

    @quotient.trace("weather-agent")
    def answer(question: str) -> str:
        """The agent's answer."""
        return openai_loop.turn(client, messages, question, stream=False)

    for question in model_server.QUESTIONS:
        answer(question)


def instrumentor(tag: str) -> object:
    """The OpenInference instrumentor that the SDK is given."""
    if tag == "quotient_agno":
        from openinference.instrumentation.agno import AgnoInstrumentor

        return AgnoInstrumentor()
    from openinference.instrumentation.openai import OpenAIInstrumentor

    return OpenAIInstrumentor()


if __name__ == "__main__":
    tag = sys.argv[2]
    sink = HttpSink(tag)
    del os.environ["OTEL_SERVICE_NAME"]  # the SDK names its own attributes only
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{sink.url}/v1/traces"  # taken as it is
    client = QuotientAI(api_key="none")
    client.tracer.init(app_name="mealworm", environment="development", instruments=[instrumentor(tag)])
    asyncio.run((agno if tag == "quotient_agno" else openai)(client))
    trace.get_tracer_provider().force_flush()
    sink.write()
