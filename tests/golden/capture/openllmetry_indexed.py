"""OpenLLMetry's indexed form: opentelemetry-instrumentation-openai 0.53.3, openai, opentelemetry-sdk.

No root span: every call is a trace of its own. First plain, then streamed.
"""

from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    capture = Capture("tl_indexed")
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    openai_loop.run(client)
    openai_loop.run(client, stream=True)
    capture.write()
