"""LiteLLM's OpenTelemetry callback: litellm 1.106.2, opentelemetry-sdk, opentelemetry-exporter-otlp-proto-common.

`python -m tests.golden.capture.litellm_run FOLDER litellm` runs plain, with `litellm_streamed` streamed. No root span:
each call is a trace of its own, a `litellm_request` with a `raw_gen_ai_request` below it. The second request fails and
the application asks again.
"""

import sys
import time
from types import SimpleNamespace

import litellm
from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

SETTLING_S = 1.0
"""How long after a call its callback, which runs in a thread, may take."""


def client(url: str) -> object:
    """LiteLLM's function in the place of a client's method."""

    def create(*, model: str, **arguments: object) -> object:
        answer = litellm.completion(
            model=f"openai/{model}", api_base=url, api_key="none", user="u-x", num_retries=0, max_retries=0, **arguments
        )
        if not arguments.get("stream"):
            time.sleep(SETTLING_S)
        return answer

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    config = OpenTelemetryConfig(exporter=capture.exporter, service_name=tag, skip_set_global=True)
    litellm.callbacks = [OpenTelemetry(config=config, tracer_provider=capture.provider)]
    asking = openai_loop.asking_again(client(f"{model_server.start(failing=frozenset({2}))}/v1"))
    openai_loop.run(asking, stream=tag.endswith("streamed"))
    time.sleep(3 * SETTLING_S)
    capture.write()
