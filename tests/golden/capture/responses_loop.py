"""The loop on OpenAI's Responses API: instructions, one tool, both questions of one conversation as a list of items."""

from __future__ import annotations

from tests.golden.capture import openai_loop
from tests.golden.capture.model_server import QUESTIONS

TOOL = {"type": "function", **openai_loop.TOOL["function"]}


def run(client: object, *, stream: bool = False) -> None:
    """Ask both questions; the second is sent with the items of the first."""
    items: list[dict[str, object]] = []
    for question in QUESTIONS:
        items.append({"role": "user", "content": question})
        while True:
            output = _ask(client, items, stream=stream)
            items.extend(output)
            calls = [item for item in output if item["type"] == "function_call"]
            if not calls:
                break
            items.extend(_result(call) for call in calls)


def _result(call: dict[str, object]) -> dict[str, object]:
    told = openai_loop.result_of({"function": call})
    return {"type": "function_call_output", "call_id": call["call_id"], "output": told}


def _ask(client: object, items: list[dict[str, object]], *, stream: bool) -> list[dict[str, object]]:
    """The items of the answer."""
    arguments = {"model": "gpt-4o-mini", "instructions": openai_loop.SYSTEM, "tools": [TOOL], "temperature": 0.2}
    answer = client.responses.create(**arguments, input=items, stream=stream)
    if stream:
        answer = [event.response for event in answer if event.type == "response.completed"][-1]
    return [item.model_dump(exclude_none=True) for item in answer.output]
