"""OpenInference's smolagents flavour: smolagents with its OpenAI model, openinference-instrumentation-smolagents.

`smolagents_run FOLDER [TAG]`: `oi_smolagents` (the default) is the tool-calling agent, `oi_smolagents_streamed` is it
streamed; `oi_smolagents_code` is the code agent, which calls tools in Python.
"""

import json
import sys
from contextlib import nullcontext

from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import CodeAgent, MultiStepAgent, OpenAIServerModel, Tool, ToolCallingAgent

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture

TAG = (sys.argv[2:] or ["oi_smolagents"])[0]


class Weather(Tool):
    """The script's tool."""

    name = "get_weather"
    description = "The weather in a city."
    inputs = {"city": {"type": "string", "description": "The city."}}  # noqa: RUF012  # the framework wants a plain dict
    output_type = "string"

    def forward(self, city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)


def coded(messages: list[dict[str, object]]) -> tuple[str, tuple[()]]:
    """The script's replies as code: Atlantis, which fails, then Rome, then the answer."""
    text = json.dumps(messages)
    asked = text.rpartition("New task:")[2]
    for city, sign in (("Atlantis", "no such city"), ("Rome", "rainy")):
        if sign not in asked and (city == "Rome" or model_server.QUESTIONS[1] not in asked):
            return f'Thought: I look at {city}.\n<code>\nprint(get_weather(city="{city}"))\n</code>', ()
    return 'Thought: I know it.\n<code>\nfinal_answer("Rome is rainy.")\n</code>', ()


def agent() -> MultiStepAgent:
    """The agent that the tag asks for."""
    model = OpenAIServerModel("gpt-4o-mini", api_base=f"{model_server.start()}/v1", api_key="none")
    if TAG == "oi_smolagents_code":
        model_server.reply_to = coded
        return CodeAgent(tools=[Weather()], model=model, max_steps=6)
    return ToolCallingAgent(tools=[Weather()], model=model, max_steps=6, stream_outputs=TAG.endswith("_streamed"))


if __name__ == "__main__":
    capture = Capture(TAG)
    SmolagentsInstrumentor().instrument(tracer_provider=capture.provider)
    weather = agent()
    # The code agent's history tells its answers otherwise than their spans, so the runs share a trace.
    around = capture.provider.get_tracer("app").start_as_current_span("app")
    with around if TAG == "oi_smolagents_code" else nullcontext():
        for number, question in enumerate(model_server.QUESTIONS):
            weather.run(question, reset=number == 0)
    capture.write()
