"""OpenInference's smolagents flavour: smolagents with its OpenAI model, openinference-instrumentation-smolagents."""

from openinference.instrumentation.smolagents import SmolagentsInstrumentor
from smolagents import OpenAIServerModel, Tool, ToolCallingAgent

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture


class Weather(Tool):
    """The script's tool."""

    name = "get_weather"
    description = "The weather in a city."
    inputs = {"city": {"type": "string", "description": "The city."}}  # noqa: RUF012  # the framework wants a plain dict
    output_type = "string"

    def forward(self, city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)


if __name__ == "__main__":
    capture = Capture("oi_smolagents")
    SmolagentsInstrumentor().instrument(tracer_provider=capture.provider)
    model = OpenAIServerModel("gpt-4o-mini", api_base=f"{model_server.start()}/v1", api_key="none")
    agent = ToolCallingAgent(tools=[Weather()], model=model, max_steps=6)
    for number, question in enumerate(model_server.QUESTIONS):
        agent.run(question, reset=number == 0)
    capture.write()
