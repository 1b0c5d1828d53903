"""The script in Gemini's form: contents of parts in, a candidate out, whole or in chunks; calls have no ids."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tests.golden.capture.responses_api import Reply

Script = tuple[tuple[Reply, ...], ...]


def gemini_reply(request: dict[str, object], script: Script, questions: tuple[str, ...]) -> Reply:
    """The script's reply to the contents: told by how many turns the model has taken since the last question.

    A client's chat keeps a streamed turn as several contents.
    """
    contents = request["contents"]
    asked = {question: index for index, question in enumerate(questions)}
    places = [(at, asked[text]) for at, content in enumerate(contents) if (text := _text(content)) in asked]
    at, question = places[-1] if places else (0, 0)
    roles = [content.get("role") for content in contents[at:]]
    return script[question][sum(one == "model" != other for one, other in pairwise([*roles, None]))]


def _text(content: dict[str, object]) -> str:
    return "".join(part.get("text", "") for part in content["parts"])


def gemini_answer(reply: Reply, number: int) -> dict[str, object]:
    """The reply as a response with one candidate."""
    text, calls = reply
    parts: list[dict[str, object]] = [{"text": text}] if text else []
    parts += [{"functionCall": {"name": "get_weather", "args": {"city": city}}} for _, city in calls]
    usage = {
        "promptTokenCount": 40 + 10 * number,
        "candidatesTokenCount": 9,
        "thoughtsTokenCount": 2,
        "totalTokenCount": 51 + 10 * number,
    }
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": usage,
        "modelVersion": "gemini-2.5-flash-001",
        "responseId": f"gem-{number}",
    }


def gemini_chunks(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A response in chunks: the text by words, then each call; the last chunk says why it ended and what it cost."""
    parts = answer["candidates"][0]["content"]["parts"]
    pieces = [piece for part in parts for piece in _pieces(part)]
    head = {key: answer[key] for key in ("modelVersion", "responseId")}
    for number, piece in enumerate(pieces, 1):
        candidate = {"content": {"role": "model", "parts": [piece]}, "index": 0}
        if number == len(pieces):
            yield {
                **head,
                "candidates": [{**candidate, "finishReason": "STOP"}],
                "usageMetadata": answer["usageMetadata"],
            }
        else:
            yield {**head, "candidates": [candidate]}


def _pieces(part: dict[str, object]) -> list[dict[str, object]]:
    if "text" not in part:
        return [part]
    first, *words = part["text"].split(" ")
    return [{"text": word} for word in (first, *(f" {word}" for word in words))]
