"""Logfire's own OpenAI instrumentation: logfire 5.2.0, openai. First plain, then streamed; no root span."""

import logfire
from openai import OpenAI
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    capture = Capture("logfire_openai")
    processor = SimpleSpanProcessor(capture.exporter)
    logfire.configure(
        send_to_logfire=False, console=False, service_name="logfire_openai", additional_span_processors=[processor]
    )
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    logfire.instrument_openai(client)
    openai_loop.run(client)
    openai_loop.run(client, stream=True)
    logfire.force_flush()
    capture.write()
