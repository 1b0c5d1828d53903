"""LangSmith in OTel mode: langsmith 0.15.0 with its `otel` extra, openai. Its wrapper of an OpenAI client.

`python -m tests.golden.capture.langsmith_run FOLDER ls_openai` runs plain, with `ls_openai_streamed` streamed. A traced
function runs the loop once per question, with the thread's id in its metadata; the tool is a traced function too. The
second request fails and the application asks again.
"""

import os
import sys

os.environ.update(
    LANGSMITH_TRACING="true",
    LANGSMITH_OTEL_ENABLED="true",
    LANGSMITH_OTEL_ONLY="true",
    LANGSMITH_API_KEY="none",
    LANGSMITH_REVISION_ID="1",
)

from langsmith import Client, traceable
from langsmith.wrappers import wrap_openai
from openai import OpenAI
from opentelemetry import trace

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    client = Client(api_key="none")
    openai_loop.weather = traceable(run_type="tool", name="get_weather", client=client)(model_server.weather)
    url = f"{model_server.start(failing=frozenset({2}))}/v1"
    wrapped = openai_loop.asking_again(wrap_openai(OpenAI(api_key="none", base_url=url, max_retries=0)))
    messages = openai_loop.opening()

    @traceable(name="weather-agent", metadata={"thread_id": "thread-8", "user_id": "u-s"}, client=client)
    def answer(question: str) -> str:
        """The agent's answer to a question."""
        return openai_loop.turn(wrapped, messages, question, stream=tag.endswith("streamed"))

    for question in model_server.QUESTIONS:
        answer(question)
    client.flush()
    capture.write()
