"""Langfuse SDK: langfuse 5.0.4, openai. Its OpenAI wrapper inside observed agent and tool functions.

`langfuse_run FOLDER [TAG]`: `langfuse` (the default), `langfuse_4` with langfuse 4.18.0, `langfuse_3` with 3.15.0;
`langfuse_32` with 3.2.8, which has neither typed observations nor propagated attributes. First plain, then streamed; in
each run the second request fails and the application asks again.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from langfuse import Langfuse, get_client, observe
from langfuse.openai import OpenAI

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

TAG = (sys.argv[2:] or ["langfuse"])[0]


@contextmanager
def agent(session_id: str) -> Iterator[None]:
    """The agent's observation, with the session and the user named by the means of the release."""
    named = {"session_id": session_id, "user_id": "u-l", "metadata": {"team": "weather"}, "tags": ["t"]}
    if TAG == "langfuse_32":
        with get_client().start_as_current_span(name="weather-agent") as span:
            span.update_trace(**named)
            yield
        return
    from langfuse import propagate_attributes  # not in 3.2

    with (
        get_client().start_as_current_observation(name="weather-agent", as_type="agent"),
        propagate_attributes(**named),
    ):
        yield


if __name__ == "__main__":
    capture = Capture(TAG)
    Langfuse(public_key="pk-none", secret_key="none", tracer_provider=capture.provider, host="http://127.0.0.1:9")
    kind = {} if TAG == "langfuse_32" else {"as_type": "tool"}
    openai_loop.weather = observe(name="get_weather", **kind)(model_server.weather)
    url = f"{model_server.start(failing=frozenset({2, 8}))}/v1"
    client = openai_loop.asking_again(OpenAI(api_key="none", base_url=url, max_retries=0))
    for stream in (False, True):
        with agent(f"sess-{stream}"):
            openai_loop.run(client, stream=stream)
    capture.write()
