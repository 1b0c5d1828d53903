"""The Quotient SDK with OpenInference instrumentations, as an API server that streams uses it: quotientai 0.4.17.

`python -m tests.golden.capture.quotient_run FOLDER TAG`. `quotient_agno` is agno 2.0.7 over Claude with
openinference-instrumentation-agno 0.1.15: a span of the SDK's around each streamed run, current while it streams, its
end after the loop. `quotient_openai` is `@quotient.trace` around the loop over an OpenAI client, with the end marker.
"""

import asyncio
import os
import sys

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.http_sink import HttpSink

TAG = sys.argv[2]
SINK = HttpSink(TAG)
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"{SINK.url}/v1/traces"  # taken as it is
os.environ["QUOTIENT_API_KEY"] = "none"

from opentelemetry import trace
from quotientai import QuotientAI


async def agno(quotient: QuotientAI) -> None:
    """Each question is a request of its own: an agent is built for it and its answer is streamed."""
    from agno.agent import Agent  # noqa: PLC0415
    from agno.db.in_memory import InMemoryDb  # noqa: PLC0415
    from agno.models.anthropic import Claude  # noqa: PLC0415

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
    from openai import OpenAI  # noqa: PLC0415

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
        from openinference.instrumentation.agno import AgnoInstrumentor  # noqa: PLC0415

        return AgnoInstrumentor()
    from openinference.instrumentation.openai import OpenAIInstrumentor  # noqa: PLC0415

    return OpenAIInstrumentor()


if __name__ == "__main__":
    client = QuotientAI(api_key="none")
    client.tracer.init(app_name="mealworm", environment="development", instruments=[instrumentor(TAG)])
    asyncio.run((agno if TAG == "quotient_agno" else openai)(client))
    trace.get_tracer_provider().force_flush()
    SINK.write()
