"""Instrumentations of openai: OTel's genai-openai 1.3b0 and openai-v2 2.0b0, Elastic's 1.2.0.

`python -m tests.golden.capture.genai_openai_run FOLDER TAG`. A tag with `responses` asks the Responses API, one with
`streamed` streams, one with `previous` or `conversation` leaves the history to the provider. The content mode is the
environment's: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT and OTEL_SEMCONV_STABILITY_OPT_IN. The application's
span around both questions carries the session and the user.
"""

import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec

from openai import OpenAI
from opentelemetry._logs import set_logger_provider

from tests.golden.capture import model_server, openai_loop, responses_loop
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.sink import Capture

try:
    from opentelemetry._events import set_event_logger_provider
    from opentelemetry.sdk._events import EventLoggerProvider
except ImportError:  # SDKs from 1.40 on have none
    EventLoggerProvider = None

PLACES = ("opentelemetry.instrumentation." + name for name in ("genai.openai", "openai_v2", "openai"))
PLACE = next(name for name in PLACES if find_spec(name.rpartition(".")[0]) and find_spec(name))
OpenAIInstrumentor = import_module(PLACE).OpenAIInstrumentor

if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    set_logger_provider(logs.provider)
    if EventLoggerProvider is not None:
        set_event_logger_provider(EventLoggerProvider(logs.provider))
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1", max_retries=0)
    run = responses_loop.run if "responses" in tag else openai_loop.run
    if "previous" in tag or "conversation" in tag:
        run = partial(responses_loop.run_kept, by_conversation="conversation" in tag)
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        run(client, stream="streamed" in tag)
    capture.write()
    logs.write()
