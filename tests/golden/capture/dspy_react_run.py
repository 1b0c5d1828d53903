"""OpenInference's DSPy flavour with ReAct: dspy 3.4.1, openinference-instrumentation-dspy 0.1.48.

Every call is a prompt of its own with the trajectory so far as text; tool calls, too, are text. Both questions of the
scenario, each a run of its own: the weather of Atlantis fails. The session is the application's.
"""

import dspy
from openinference.instrumentation import using_attributes
from openinference.instrumentation.dspy import DSPyInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


if __name__ == "__main__":
    capture = Capture("oi_dspy_react")
    DSPyInstrumentor().instrument(tracer_provider=capture.provider)
    dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_base=f"{model_server.start()}/v1", api_key="none", cache=False))
    agent = dspy.ReAct("question -> answer", tools=[get_weather])
    with using_attributes(session_id="sess-d", user_id="u-d"):
        for question in model_server.QUESTIONS:
            agent(question=question)
    capture.write()
