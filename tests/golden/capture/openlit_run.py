"""OpenLIT's instrumentation of openai: openlit 1.45.0, openai 3.54.0, opentelemetry-exporter-otlp-proto-http.

`python -m tests.golden.capture.openlit_run FOLDER openlit` runs plain, with `openlit_streamed` streamed. No root span:
each call is a trace of its own. The second request fails and the application asks again.
"""

import sys

import openlit
from openai import OpenAI
from opentelemetry import _logs, trace

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.http_sink import HttpSink

if __name__ == "__main__":
    tag = sys.argv[2]
    sink = HttpSink(tag)
    openlit.init(service_name=tag, otlp_endpoint=sink.url, disable_metrics=True, disabled_instrumentors=["httpx"])
    url = f"{model_server.start(failing=frozenset({2}))}/v1"
    client = openai_loop.asking_again(OpenAI(api_key="none", base_url=url, max_retries=0))
    openai_loop.run(client, stream=tag.endswith("streamed"))
    trace.get_tracer_provider().force_flush()
    _logs.get_logger_provider().force_flush()
    sink.write()
