"""Langfuse SDK: langfuse 5.0.4, openai. Its OpenAI wrapper inside observed agent and tool functions.

First plain, then streamed; in each run the second request fails and the application asks again.
"""

from langfuse import Langfuse, get_client, observe, propagate_attributes
from langfuse.openai import OpenAI

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    capture = Capture("langfuse")
    Langfuse(public_key="pk-none", secret_key="none", tracer_provider=capture.provider, host="http://127.0.0.1:9")
    openai_loop.weather = observe(as_type="tool", name="get_weather")(model_server.weather)
    url = f"{model_server.start(failing=frozenset({2, 8}))}/v1"
    client = openai_loop.asking_again(OpenAI(api_key="none", base_url=url, max_retries=0))
    for stream in (False, True):
        with (
            get_client().start_as_current_observation(name="weather-agent", as_type="agent"),
            propagate_attributes(session_id=f"sess-{stream}", user_id="u-l", metadata={"team": "weather"}, tags=["t"]),
        ):
            openai_loop.run(client, stream=stream)
    capture.write()
