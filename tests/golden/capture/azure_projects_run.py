"""OpenAI's Responses API under the tracing of azure-ai-projects, which traces any openai client; openai.

`python -m tests.golden.capture.azure_projects_run FOLDER TAG`; a tag with `streamed` streams. The application's span
around both questions carries the session and the user.
"""

import os
import sys

os.environ["AZURE_EXPERIMENTAL_ENABLE_GENAI_TRACING"] = "true"

from azure.ai.projects.telemetry import AIProjectInstrumentor
from azure.core.settings import settings
from openai import OpenAI
from opentelemetry import trace

from tests.golden.capture import model_server, responses_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    settings.tracing_implementation = "opentelemetry"
    AIProjectInstrumentor().instrument(enable_content_recording=True)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1", max_retries=0)
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        responses_loop.run(client, stream="streamed" in tag)
    capture.write()
