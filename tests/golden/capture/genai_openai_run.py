"""The OpenTelemetry project's own instrumentations of openai: genai-openai 1.3b0, openai-v2 2.0b0 to 2.4b0.

`python -m tests.golden.capture.genai_openai_run FOLDER TAG`. A tag with `responses` asks the Responses API, one with
`streamed` streams. The content mode is the environment's: OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT and
OTEL_SEMCONV_STABILITY_OPT_IN. The application's span around both questions carries the session and the user.
"""

import sys

from openai import OpenAI

from tests.golden.capture import model_server, openai_loop, responses_loop
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.sink import Capture

try:
    from opentelemetry.sdk._events import EventLoggerProvider
except ImportError:  # SDKs from 1.40 on have none
    EventLoggerProvider = None

try:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
except ImportError:
    from opentelemetry.instrumentation.openai_v2 import OpenAIInstrumentor

if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    providers = {"tracer_provider": capture.provider, "logger_provider": logs.provider}
    if EventLoggerProvider is not None:
        providers["event_logger_provider"] = EventLoggerProvider(logs.provider)
    OpenAIInstrumentor().instrument(**providers)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1", max_retries=0)
    run = responses_loop.run if "responses" in tag else openai_loop.run
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        run(client, stream="streamed" in tag)
    capture.write()
    logs.write()
