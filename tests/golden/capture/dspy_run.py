"""OpenInference's DSPy flavour: dspy, openinference-instrumentation-dspy. A ReAct module: its calls are text."""

import dspy
from openinference.instrumentation.dspy import DSPyInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


if __name__ == "__main__":
    capture = Capture("oi_dspy")
    DSPyInstrumentor().instrument(tracer_provider=capture.provider)
    dspy.configure(lm=dspy.LM("openai/gpt-4o-mini", api_base=f"{model_server.start()}/v1", api_key="none", cache=False))
    dspy.Predict("question -> answer")(question=model_server.QUESTIONS[0])
    capture.write()
