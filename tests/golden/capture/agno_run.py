"""OpenInference's agno flavour: agno, openinference-instrumentation-agno, with the models of OpenAI and Anthropic.

`python -m tests.golden.capture.agno_run FOLDER TAG`, where the words in the tag choose what runs: `claude` asks
Anthropic's model, `streamed` streams, `team` puts the agent into a team whose leader has no tool of its own and hands
the questions on. Agno 1 and 2 differ in how they are told to send the history.
"""

import asyncio
import sys
from importlib.metadata import version

from agno.agent import Agent
from agno.models.anthropic import Claude
from agno.models.openai import OpenAIChat
from agno.team import Team
from openinference.instrumentation.agno import AgnoInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
IS_ONE = version("agno").startswith("1.")


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def model(url: str) -> object:
    """The model that the tag asks for."""
    if "claude" in TAG:
        return Claude(id="claude-sonnet-4-0", api_key="none", client_params={"base_url": url})
    return OpenAIChat(id="gpt-4o-mini", api_key="none", base_url=f"{url}/v1")


def remembering() -> dict[str, object]:
    """What makes an agent send the history."""
    if IS_ONE:
        return {"add_history_to_messages": True, "num_history_runs": 3}
    from agno.db.in_memory import InMemoryDb  # agno 1 has none

    return {"add_history_to_context": True, "db": InMemoryDb()}


def agent(url: str) -> Agent | Team:
    """The agent, or the team around it."""
    kept = {**remembering(), "session_id": "sess-o", "user_id": "u-o"}  # agno 2.0 asks the agent itself at the end
    if "team" not in TAG:
        return Agent(name="weather-agent", model=model(url), tools=[get_weather], system_message=SYSTEM, **kept)
    member = Agent(name="weather-agent", role="Tells the weather.", model=model(url), tools=[get_weather])
    return Team(name="weather-team", members=[member], model=model(url), **kept)


async def run_streamed(asked: Agent | Team) -> None:
    """Ask both questions and read the answers as they come."""
    for question in model_server.QUESTIONS:
        running = asked.arun(question, stream=True, session_id="sess-o", user_id="u-o")
        async for _ in await running if asyncio.iscoroutine(running) else running:
            pass


def run(asked: Agent | Team) -> None:
    """Ask both questions."""
    for question in model_server.QUESTIONS:
        print(asked.run(question, session_id="sess-o", user_id="u-o").content)


if __name__ == "__main__":
    capture = Capture(TAG)
    AgnoInstrumentor().instrument(tracer_provider=capture.provider)
    asked = agent(model_server.start())
    if "streamed" in TAG:
        asyncio.run(run_streamed(asked))
    else:
        run(asked)
    capture.write()
