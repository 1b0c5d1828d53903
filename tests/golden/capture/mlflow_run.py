"""MLflow: mlflow-tracing 3.17.2, sqlparse, pyyaml, openai, opentelemetry-exporter-otlp-proto-http.

The agent and the tool are traced functions. First plain, then streamed; in each run the second request fails and the
application asks again. The session and the user it names are not exported. `mlflow_run FOLDER genai` captures the same
as MLflow translates it to OpenTelemetry's GenAI conventions.
"""

import os
import sys

import mlflow
from openai import OpenAI

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.http_sink import HttpSink

if __name__ == "__main__":
    tag = "mlflow_genai" if sys.argv[2:] == ["genai"] else "mlflow"
    os.environ["MLFLOW_ENABLE_OTEL_GENAI_SEMCONV"] = str(tag == "mlflow_genai").lower()
    sink = HttpSink(tag)
    mlflow.openai.autolog()
    openai_loop.weather = mlflow.trace(model_server.weather, name="get_weather", span_type="TOOL")
    url = f"{model_server.start(failing=frozenset({2, 8}))}/v1"
    client = openai_loop.asking_again(OpenAI(api_key="none", base_url=url, max_retries=0))
    for stream in (False, True):
        with mlflow.start_span("weather-agent", span_type="AGENT") as span:
            metadata = {"mlflow.trace.session": f"sess-{stream}", "mlflow.trace.user": "u-m"}
            mlflow.update_current_trace(metadata=metadata)
            span.set_inputs({"questions": model_server.QUESTIONS})
            openai_loop.run(client, stream=stream)
    mlflow.flush_trace_async_logging()
    mlflow.tracing.provider.provider.get().force_flush()
    sink.write()
