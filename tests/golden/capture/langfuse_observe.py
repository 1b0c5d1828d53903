"""Langfuse's `@observe` around another instrumentation: langfuse 5.0.4, openinference-instrumentation-anthropic 3.1.0.

Each question is an observed agent's trace; the tool is observed too.
"""

import anthropic
from langfuse import Langfuse, get_client, observe, propagate_attributes
from openinference.instrumentation.anthropic import AnthropicInstrumentor

from tests.golden.capture import anthropic_loop, model_server
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    capture = Capture("langfuse_oi_anthropic")
    Langfuse(public_key="pk-none", secret_key="none", tracer_provider=capture.provider, host="http://127.0.0.1:9")
    AnthropicInstrumentor().instrument(tracer_provider=capture.provider)
    model_server.weather = observe(as_type="tool", name="get_weather")(model_server.weather)
    client = anthropic.Anthropic(api_key="none", base_url=model_server.start())
    messages: list[dict[str, object]] = []

    @observe(as_type="agent", name="weather-agent")
    def answer(question: str) -> str:
        """The agent's answer."""
        return anthropic_loop.turn(client, messages, question)

    with propagate_attributes(session_id="sess-o", user_id="u-o"):
        for question in model_server.QUESTIONS:
            answer(question)
    get_client().flush()
    capture.write()
