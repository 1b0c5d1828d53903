"""The hand-written loop that several captures share: an OpenAI client, one tool, two questions of one conversation."""

from __future__ import annotations

import json

from tests.golden.capture.model_server import QUESTIONS, weather

SYSTEM = "You are a weather service."
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def result_of(call: dict[str, object]) -> str:
    """What the tool returns, or the error it raises, as text."""
    try:
        return weather(**json.loads(call["function"]["arguments"]))
    except ValueError as error:
        return f"error: {error}"


def asking_again(client: object) -> object:
    """The client, made to ask once more when a request fails, as an application would."""
    create = client.chat.completions.create

    def persistent(**arguments: object) -> object:
        try:
            return create(**arguments)
        except Exception as error:  # noqa: BLE001  # each SDK version has its own class for a failed request
            print("asking again after", type(error).__name__)
            return create(**arguments)

    client.chat.completions.create = persistent
    return client


def run(client: object, *, stream: bool = False) -> None:
    """Ask both questions; the second continues the first's history."""
    messages = opening()
    for question in QUESTIONS:
        turn(client, messages, question, stream=stream)


def opening() -> list[dict[str, object]]:
    """The messages of a conversation that has not begun."""
    return [{"role": "system", "content": SYSTEM}]


def turn(client: object, messages: list[dict[str, object]], question: str, *, stream: bool) -> str:
    """The answer to a question, which goes on from the messages and is added to them with all that led to it."""
    messages.append({"role": "user", "content": question})
    while True:
        answer = _ask(client, messages, stream=stream)
        messages.append(answer)
        if not answer.get("tool_calls"):
            return answer["content"]
        for call in answer["tool_calls"]:
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result_of(call)})


def _ask(client: object, messages: list[dict[str, object]], *, stream: bool) -> dict[str, object]:
    """The model's message, put together from chunks when it is streamed."""
    arguments = {"model": "gpt-4o-mini", "messages": messages, "tools": [TOOL], "temperature": 0.2}
    if not stream:
        answer = client.chat.completions.create(**arguments).choices[0].message
        return json.loads(answer.model_dump_json(include={"role", "content", "tool_calls"}, exclude_none=True))
    text, calls = "", {}
    for chunk in client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True}):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(piece.index, {"type": "function", "function": {"name": "", "arguments": ""}})
                call["id"] = piece.id or call.get("id")
                call["function"]["name"] += piece.function.name or ""
                call["function"]["arguments"] += piece.function.arguments or ""
    answer = {"role": "assistant", "content": text or None}
    return {**answer, "tool_calls": list(calls.values())} if calls else answer
