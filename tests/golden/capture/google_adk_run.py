"""Google's Agent Development Kit with a model by LiteLLM: google-adk, litellm.

`google_adk_run FOLDER [TAG]`. `google_adk` (the default) is what version 2 does when content is asked for, which stands
in log records only; `google_adk_stream` its streamed answers with content on spans as well. google-adk 1.39.1 (litellm
1.80.0) is `google_adk_1` and `google_adk_1_stream`, with no setting of content at all, and `google_adk_1_logs`, with
content in log records too; google-adk 1.5.0 is `google_adk_1_old`. In `google_adk_sub` a coordinator hands over to a
sub-agent that has the tool; both answer in one session.
"""

import asyncio
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
if not {"google_adk_1", "google_adk_1_stream", "google_adk_1_old"} & set(sys.argv):
    os.environ["ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS"] = "true"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "true"
if "google_adk_stream" in sys.argv:
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "SPAN_AND_EVENT"
    os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "gen_ai_latest_experimental"

from google.adk.agents import LlmAgent
from google.adk.agents.run_config import RunConfig, StreamingMode
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.genai import types
from opentelemetry import trace
from opentelemetry._logs import set_logger_provider

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.sink import Capture

TAG = (sys.argv[2:] or ["google_adk"])[0]
STREAMED = TAG.endswith("_stream")


def get_weather(city: str) -> str:
    """The weather in a city."""
    try:
        return model_server.weather(city)
    except ValueError as error:  # the kit ends the run at an exception
        return f"error: {error}"


async def main() -> None:
    """Ask both questions in one session."""
    model = LiteLlm(model="openai/gpt-4o-mini", api_key="none", api_base=f"{model_server.start()}/v1")
    agent = LlmAgent(name="weather", model=model, instruction=SYSTEM, tools=[get_weather])
    if TAG == "google_adk_sub":
        agent.description = "Tells the weather."
        agent = LlmAgent(name="coordinator", model=model, instruction="You hand over.", sub_agents=[agent])
    runner = InMemoryRunner(agent=agent, app_name="weather_app")
    await runner.session_service.create_session(app_name="weather_app", user_id="u-3", session_id="sess-3")
    run = RunConfig(streaming_mode=StreamingMode.SSE if STREAMED else StreamingMode.NONE)
    for question in model_server.QUESTIONS:
        message = types.Content(role="user", parts=[types.Part(text=question)])
        async for _ in runner.run_async(user_id="u-3", session_id="sess-3", new_message=message, run_config=run):
            pass


if __name__ == "__main__":
    capture, logs = Capture(TAG), LogCapture(TAG)
    trace.set_tracer_provider(capture.provider)
    set_logger_provider(logs.provider)
    asyncio.run(main())
    capture.write()
    if TAG != "google_adk_1_old":  # it writes no log records
        logs.write()
