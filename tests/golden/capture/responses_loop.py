"""The hand-written loop on OpenAI's Responses API: the shared script, the whole history sent with each request."""

from __future__ import annotations

import json

from tests.golden.capture import model_server, openai_loop

FUNCTION = openai_loop.TOOL["function"]
RESPONSES_TOOL = {"type": "function", **FUNCTION, "strict": False}


def ask(client: object, items: list[dict[str, object]], *, stream: bool) -> list[dict[str, object]]:
    """The output items of one response."""
    arguments = {"model": "gpt-4o-mini", "instructions": openai_loop.SYSTEM, "input": items, "tools": [RESPONSES_TOOL]}
    if not stream:
        answer = client.responses.create(**arguments)
    else:
        events = list(client.responses.create(**arguments, stream=True))
        answer = events[-1].response
    return [json.loads(item.model_dump_json(exclude_none=True)) for item in answer.output]


def run(client: object, *, stream: bool) -> None:
    """Ask both questions; each request sends the whole history."""
    items: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        items.append({"role": "user", "content": question})
        while True:
            output = ask(client, items, stream=stream)
            items += output
            calls = [item for item in output if item["type"] == "function_call"]
            if not calls:
                break
            items += [output_of(call) for call in calls]


def output_of(call: dict[str, object]) -> dict[str, object]:
    """The item that answers a function call."""
    result = openai_loop.result_of({"function": call})
    return {"type": "function_call_output", "call_id": call["call_id"], "output": result}


def run_kept(client: object, *, by_conversation: bool, stream: bool = False) -> None:
    """Ask both questions, each request with what is new alone: the provider keeps the rest, by either means."""
    arguments = {"model": "gpt-4o-mini", "instructions": openai_loop.SYSTEM, "tools": [RESPONSES_TOOL]}
    kept = {"conversation": "conv_g"} if by_conversation else {}
    for question in model_server.QUESTIONS:
        new: object = question
        while new:
            answer = client.responses.create(**arguments, **kept, input=new, stream=stream)
            answer = list(answer)[-1].response if stream else answer
            kept = kept if by_conversation else {"previous_response_id": answer.id}
            new = [output_of(item.model_dump()) for item in answer.output if item.type == "function_call"]
