"""OpenInference's openai flavour on the Responses API: openinference-instrumentation-openai, openai.

`python -m tests.golden.capture.openinference_responses FOLDER TAG`. Plain, every request holds all items so far, those
of the answers as the client has them; a tag that ends with `streamed` streams and names the answer before, so that it
sends only what is new.
"""

import sys

from openai import OpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai import OpenAIInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL, result_of
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
TOOLS = [{"type": "function", **TOOL["function"], "strict": False}]


def ask(client: OpenAI, items: list[object], before: str | None) -> object:
    """The response to the items."""
    asked = {"model": "gpt-4o-mini", "instructions": SYSTEM, "tools": TOOLS, "temperature": 0.2}
    if not TAG.endswith("streamed"):
        return client.responses.create(input=items, **asked)
    named = {"previous_response_id": before} if before else {}
    events = client.responses.create(input=items, stream=True, **named, **asked)
    *_, completed = events  # the last event holds the whole response
    return completed.response


def run(client: OpenAI) -> None:
    """Ask both questions; the second continues the first."""
    items: list[object] = []
    before: str | None = None
    for question in model_server.QUESTIONS:
        items.append({"role": "user", "content": question})
        while True:
            answer = ask(client, items, before)
            before = answer.id
            items = [] if TAG.endswith("streamed") else [*items, *answer.output]
            calls = [item for item in answer.output if item.type == "function_call"]
            if not calls:
                break
            items += [
                {
                    "type": "function_call_output",
                    "call_id": call.call_id,
                    "output": result_of({"function": {"arguments": call.arguments}}),
                }
                for call in calls
            ]


if __name__ == "__main__":
    capture = Capture(TAG)
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    with using_attributes(session_id="sess-1", user_id="u-1"):
        run(OpenAI(api_key="none", base_url=f"{model_server.start()}/v1"))
    capture.write()
