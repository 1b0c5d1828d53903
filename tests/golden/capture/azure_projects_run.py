"""OpenAI's Responses API under the tracing of azure-ai-projects, which traces any openai client; openai.

`python -m tests.golden.capture.azure_projects_run FOLDER TAG`; a tag with `streamed` streams, one with `events` tells
messages in span events. A conversation at the server holds the history: each request sends only what is new.
"""

import os
import sys

os.environ["AZURE_EXPERIMENTAL_ENABLE_GENAI_TRACING"] = "true"
if "events" in sys.argv[2]:
    os.environ["AZURE_TRACING_GEN_AI_USE_MESSAGE_EVENTS"] = "true"

from azure.ai.projects.telemetry import AIProjectInstrumentor
from azure.core.settings import settings
from openai import OpenAI
from opentelemetry import trace

from tests.golden.capture import model_server, responses_loop
from tests.golden.capture.sink import Capture


def run(client: OpenAI, *, stream: bool) -> None:
    """Ask both questions in one conversation."""
    arguments = {"model": "gpt-4o-mini", "tools": [responses_loop.RESPONSES_TOOL], "conversation": "conv_g"}
    for question in model_server.QUESTIONS:
        new: object = question
        while new:
            answer = client.responses.create(**arguments, input=new, stream=stream)
            answer = list(answer)[-1].response if stream else answer
            calls = [item for item in answer.output if item.type == "function_call"]
            new = [responses_loop.output_of(call.model_dump()) for call in calls]


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    settings.tracing_implementation = "opentelemetry"
    AIProjectInstrumentor().instrument(enable_content_recording=True)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1", max_retries=0)
    with capture.provider.get_tracer("app").start_as_current_span("weather-app"):
        run(client, stream="streamed" in tag)
    capture.write()
