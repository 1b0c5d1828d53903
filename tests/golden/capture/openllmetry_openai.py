"""OpenLLMetry for OpenAI: opentelemetry-instrumentation-openai, openai. The Responses API, and messages in log records.

`python -m tests.golden.capture.openllmetry_openai FOLDER TAG`, where the words in the tag choose what runs: `streamed`
streamed, `responses` on the Responses API, `events` with the messages in log records. No root span: every call is a
trace of its own.
"""

import sys

from openai import OpenAI
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

FLAT_TOOL = {"type": "function", **TOOL["function"], "strict": False}


def respond(client: OpenAI, items: list[object], *, stream: bool) -> list[object]:
    """The items of the model's answer."""
    arguments = {"model": "gpt-4o-mini", "instructions": SYSTEM, "input": items, "tools": [FLAT_TOOL]}
    if not stream:
        return client.responses.create(**arguments).output
    output: list[object] = []
    for event in client.responses.create(**arguments, stream=True):
        if event.type == "response.completed":
            output = event.response.output
    return output


def run_responses(client: OpenAI, *, stream: bool) -> None:
    """Ask both questions on the Responses API; each request repeats all items before it."""
    items: list[object] = []
    for question in model_server.QUESTIONS:
        items.append({"role": "user", "content": question})
        while True:
            output = respond(client, items, stream=stream)
            items += [item.model_dump(exclude_none=True) for item in output]
            calls = [item for item in output if item.type == "function_call"]
            if not calls:
                break
            for call in calls:
                result = openai_loop.result_of({"function": {"arguments": call.arguments}})
                items.append({"type": "function_call_output", "call_id": call.call_id, "output": result})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    if "events" in tag:
        from tests.golden.capture.log_sink import LogCapture

        logs = LogCapture(tag)
        instrumentor = OpenAIInstrumentor(use_attributes=False)
        instrumentor.instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    else:
        OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    run = run_responses if "responses" in tag else openai_loop.run
    run(client, stream="streamed" in tag)
    capture.write()
    if "events" in tag:
        logs.write()
