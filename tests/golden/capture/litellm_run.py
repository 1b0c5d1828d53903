"""LiteLLM's OpenTelemetry callback: litellm 1.106.2, opentelemetry-sdk, opentelemetry-exporter-otlp-proto-common.

`python -m tests.golden.capture.litellm_run FOLDER TAG`: `litellm` runs plain, `litellm_streamed` streamed,
`litellm_private` with message logging turned off. No root span: each call is a trace of its own, a `litellm_request`
with a `raw_gen_ai_request` below it. The second request fails and the application asks again. `litellm_v2` (and
`_streamed`) is the second version of the callback (`LITELLM_OTEL_V2`), which closes its spans for asynchronous calls
only.
"""

import asyncio
import os
import sys
import threading
import time
from types import SimpleNamespace

if {"litellm_v2", "litellm_v2_streamed"} & set(sys.argv):
    os.environ["LITELLM_OTEL_V2"] = "true"
    os.environ["OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"] = "span_only"

import litellm

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
IS_V2 = TAG.startswith("litellm_v2")
SETTLING_S = 1.0
"""How long after a call its callback, which runs in a thread, may take."""


def client(url: str) -> object:
    """LiteLLM's function in the place of a client's method."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def create(*, model: str, **arguments: object) -> object:
        asked = {"model": f"openai/{model}", "api_base": url, "api_key": "none", "user": "u-x", **arguments}
        asked |= {"num_retries": 0, "max_retries": 0}
        if IS_V2:
            asked["metadata"] = {"session_id": "sess-v2"}
            answer = asyncio.run_coroutine_threadsafe(_gathered(asked), loop).result()
        else:
            answer = litellm.completion(**asked)
        if IS_V2 or not arguments.get("stream"):
            time.sleep(SETTLING_S)
        return answer

    return SimpleNamespace(chat=SimpleNamespace(completions=SimpleNamespace(create=create)))


async def _gathered(asked: dict[str, object]) -> object:
    """The answer; a streamed one's chunks as a list."""
    answer = await litellm.acompletion(**asked)
    return [chunk async for chunk in answer] if asked.get("stream") else answer


def callback(capture: Capture) -> object:
    """The callback that writes to the capture."""
    if IS_V2:
        from litellm.integrations.otel.logger import OpenTelemetryV2

        return OpenTelemetryV2(tracer_provider=capture.provider)
    from litellm.integrations.opentelemetry import OpenTelemetry, OpenTelemetryConfig

    config = OpenTelemetryConfig(exporter=capture.exporter, service_name=TAG, skip_set_global=True)
    return OpenTelemetry(config=config, tracer_provider=capture.provider)


if __name__ == "__main__":
    capture = Capture(TAG)
    litellm.callbacks = [callback(capture)]
    litellm.turn_off_message_logging = TAG.endswith("_private")
    asking = openai_loop.asking_again(client(f"{model_server.start(failing=frozenset({2}))}/v1"))
    openai_loop.run(asking, stream=TAG.endswith("streamed"))
    time.sleep(3 * SETTLING_S)
    capture.write()
