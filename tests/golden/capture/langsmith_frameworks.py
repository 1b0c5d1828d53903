"""LangSmith in OTel mode over other clients and frameworks: langsmith with its `otel` extra, and the library.

`python -m tests.golden.capture.langsmith_frameworks FOLDER TAG`: `ls_anthropic` (and `_streamed`) is its wrapper of an
Anthropic client inside traced functions, `ls_langgraph_streamed` a LangGraph agent whose answers are streamed,
`ls_langgraph_claude` one over langchain-anthropic.
"""

import os
import sys
from functools import partial

os.environ.update(
    LANGSMITH_TRACING="true",
    LANGSMITH_OTEL_ENABLED="true",
    LANGSMITH_OTEL_ONLY="true",
    LANGSMITH_API_KEY="none",
    LANGSMITH_REVISION_ID="1",
)

from langsmith import Client, traceable
from opentelemetry import trace

from tests.golden.capture import model_server
from tests.golden.capture.sink import Capture


def anthropic(client: Client, *, stream: bool) -> None:
    """A traced function runs the loop once per question; the tool is a traced function too."""
    import anthropic as sdk
    from langsmith.wrappers import wrap_anthropic

    from tests.golden.capture import anthropic_loop

    model_server.weather = traceable(run_type="tool", name="get_weather", client=client)(model_server.weather)
    wrapped = wrap_anthropic(sdk.Anthropic(api_key="none", base_url=model_server.start()))
    messages: list[dict[str, object]] = []

    @traceable(name="weather-agent", metadata={"thread_id": "thread-8", "user_id": "u-s"}, client=client)
    def answer(question: str) -> str:
        """The agent's answer to a question."""
        return anthropic_loop.turn(wrapped, messages, question, stream=stream)

    for question in model_server.QUESTIONS:
        answer(question)


def langgraph(client: Client, *, stream: bool, claude: bool = False) -> None:
    """A LangGraph agent; the thread's id and the user's are in the run's configuration."""
    del client
    from langchain_core.tracers.langchain import wait_for_all_tracers

    from tests.golden.capture import langchain_loop

    config = {"configurable": {"thread_id": "thread-9"}, "metadata": {"user_id": "u-s"}}
    langchain_loop.run(langchain_loop.make_agent(claude=claude), config, stream=stream)
    wait_for_all_tracers()


RUNS = {"anthropic": anthropic, "langgraph": langgraph, "langgraph_claude": partial(langgraph, claude=True)}

if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    client = Client(api_key="none")
    RUNS[tag.removeprefix("ls_").removesuffix("_streamed")](client, stream=tag.endswith("_streamed"))
    client.flush()
    capture.write()
