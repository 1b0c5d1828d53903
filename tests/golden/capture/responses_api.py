"""The script in OpenAI's Responses form: a list of items in, a list of items out, whole or as events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator

Reply = tuple[str | None, tuple[tuple[str, str], ...]]

_told: dict[object, list[object]] = {}
"""What each answer given so far was told and said, for requests that name the answer before them or a conversation."""


def responses_input(request: dict[str, object]) -> list[object]:
    """All items the request stands for, those of the answers before it included."""
    given = request["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    return [*_told.get(request.get("previous_response_id") or request.get("conversation"), ()), *items]


def responses_answer(request: dict[str, object], reply: Reply, number: int) -> dict[str, object]:
    """The reply as a response: a message item, a function call item for each call."""
    text, calls = reply
    output: list[dict[str, object]] = []
    if text:
        said = {"type": "output_text", "text": text, "annotations": []}
        output.append({"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed"})
        output[-1]["content"] = [said]
    for name, city in calls:
        call = {"id": f"fc_{name}", "type": "function_call", "call_id": name, "name": "get_weather"}
        output.append({**call, "arguments": json.dumps({"city": city}), "status": "completed"})
    _told[f"resp_{number}"] = _told[request.get("conversation")] = [*responses_input(request), *output]
    usage = {
        "input_tokens": 40 + 10 * number,
        "input_tokens_details": {"cached_tokens": 3},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 49 + 10 * number,
    }
    asked = {key: request.get(key) for key in ("instructions", "temperature", "top_p", "previous_response_id")}
    offered = {"tools": request.get("tools", []), "tool_choice": request.get("tool_choice", "auto")}
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": "gpt-4o-mini-2025",
        "output": output,
        "parallel_tool_calls": True,
        "metadata": {},
        "usage": usage,
        **asked,
        **offered,
    }


def responses_events(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A response as the events of a stream: each item is added, told in pieces and done."""
    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    for index, item in enumerate(answer["output"]):
        place = {"output_index": index, "item_id": item["id"]}
        empty = {"content": []} if item["type"] == "message" else {"arguments": ""}
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **empty}}
        yield from _pieces(item, place)
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": answer}


def _pieces(item: dict[str, object], place: dict[str, object]) -> Iterator[dict[str, object]]:
    if item["type"] == "function_call":
        arguments = item["arguments"]
        for piece in (arguments[:5], arguments[5:]):
            yield {"type": "response.function_call_arguments.delta", **place, "delta": piece}
        yield {"type": "response.function_call_arguments.done", **place, "arguments": arguments, "name": item["name"]}
        return
    part = item["content"][0]
    place = {**place, "content_index": 0}
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    for word in part["text"].split(" "):
        yield {"type": "response.output_text.delta", **place, "delta": f"{word} ", "logprobs": []}
    yield {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}
