"""Azure's inference client under its own tracing: azure-ai-inference, azure-core-tracing-opentelemetry.

`python -m tests.golden.capture.azure_inference_run FOLDER TAG`; a tag with `streamed` streams. The application's span
around both questions carries the session and the user.
"""

import json
import sys

from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.tracing import AIInferenceInstrumentor
from azure.core.credentials import AzureKeyCredential
from azure.core.settings import settings
from opentelemetry import trace

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture


def ask(client: ChatCompletionsClient, messages: list[dict[str, object]], *, stream: bool) -> dict[str, object]:
    """The model's message, put together from updates when it is streamed."""
    arguments = {"model": "gpt-4o-mini", "messages": messages, "tools": [openai_loop.TOOL], "temperature": 0.2}
    if not stream:
        message = client.complete(**arguments).choices[0].message.as_dict()
        return {key: value for key, value in message.items() if value is not None and key != "refusal"}
    text, calls = "", []
    for update in client.complete(**arguments, stream=True):
        for choice in update.choices or ():
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                if piece.id:
                    calls.append({"id": piece.id, "type": "function", "function": {"name": "", "arguments": ""}})
                calls[-1]["function"]["name"] += piece.function.name or ""
                calls[-1]["function"]["arguments"] += piece.function.arguments or ""
    answer: dict[str, object] = {"role": "assistant", "content": text or None}
    return {**answer, "tool_calls": calls} if calls else answer


def run(client: ChatCompletionsClient, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages = openai_loop.opening()
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            messages.append(ask(client, messages, stream=stream))
            calls = messages[-1].get("tool_calls", ())
            if not calls:
                break
            for call in json.loads(json.dumps(calls)):
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": openai_loop.result_of(call)})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    trace.set_tracer_provider(capture.provider)
    settings.tracing_implementation = "opentelemetry"
    AIInferenceInstrumentor().instrument(enable_content_recording=True)
    client = ChatCompletionsClient(endpoint=model_server.start(), credential=AzureKeyCredential("none"))
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        run(client, stream="streamed" in tag)
    capture.write()
