"""OpenInference's CrewAI flavour: crewai, litellm, openinference-instrumentation-crewai, -openai 0.1.66. A crew of one.

`python -m tests.golden.capture.crewai_run FOLDER TAG`, where the words in the tag choose what runs: `alone` without
the instrumentation of the client, `events` with the event listener, `streamed` streamed, `litellm` over LiteLLM with
openinference-instrumentation-litellm in the place of the client's.
"""

import sys

from crewai import LLM, Agent, Crew, Task
from crewai.events.event_bus import crewai_event_bus
from crewai.tools import BaseTool
from openinference.instrumentation import using_attributes
from openinference.instrumentation.crewai import CrewAIInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture


class Weather(BaseTool):
    """The script's tool."""

    name: str = "get_weather"
    description: str = "The weather in a city."

    def _run(self, city: str) -> str:
        """The weather in a city."""
        return model_server.weather(city)


def crew(model: LLM, question: str) -> Crew:
    """A crew of one agent with one task, the question."""
    agent = Agent(role="weather", goal="Tell the weather.", backstory="A service.", tools=[Weather()], llm=model)
    return Crew(agents=[agent], tasks=[Task(description=question, expected_output="A sentence.", agent=agent)])


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    CrewAIInstrumentor().instrument(tracer_provider=capture.provider, use_event_listener="events" in tag)
    if "litellm" in tag:
        from openinference.instrumentation.litellm import LiteLLMInstrumentor

        LiteLLMInstrumentor().instrument(tracer_provider=capture.provider)
    elif "alone" not in tag:
        from openinference.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    url = f"{model_server.start()}/v1"
    litellm = {"is_litellm": True} if "litellm" in tag else {}
    model = LLM(model="openai/gpt-4o-mini", base_url=url, api_key="none", stream="streamed" in tag, **litellm)
    for question in model_server.QUESTIONS:
        with using_attributes(session_id="sess-c", user_id="u-c"):
            print(crew(model, question).kickoff())
            crewai_event_bus.flush()  # listeners run in threads
    capture.write()
