"""The model server with Anthropic's stream and Gemini's form, for the clients that Logfire instruments."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

from tests.golden.capture import model_server
from tests.golden.capture.model_server import QUESTIONS, SCRIPT, anthropic_answer
from tests.golden.capture.responses_api import Reply

Json = dict[str, object]


def anthropic_events(answer: Json) -> Iterator[Json]:
    """A message as the events of a stream: text by words, each call's input in two pieces."""
    usage = answer["usage"]
    yield {"type": "message_start", "message": {**answer, "content": [], "stop_reason": None}}
    for index, block in enumerate(answer["content"]):
        is_text = block["type"] == "text"
        empty = {"text": ""} if is_text else {"input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": {**block, **empty}}
        for delta in _text_deltas(block["text"]) if is_text else _input_deltas(json.dumps(block["input"])):
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    delta = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": delta, "usage": {"output_tokens": usage["output_tokens"]}}
    yield {"type": "message_stop"}


def _text_deltas(text: str) -> Iterator[Json]:
    for word in text.split(" "):
        yield {"type": "text_delta", "text": f"{word} "}


def _input_deltas(written: str) -> Iterator[Json]:
    for piece in (written[:5], written[5:]):
        yield {"type": "input_json_delta", "partial_json": piece}


def gemini_reply(contents: list[Json]) -> Reply:
    """The script's reply, by how many turns the model took since the last question: Gemini's calls have no ids."""
    asked = [(at, QUESTIONS.index(text)) for at, item in enumerate(contents) if (text := _text(item)) in QUESTIONS]
    at, question = asked[-1]
    return SCRIPT[question][sum(item.get("role") == "model" for item in contents[at:])]


def _text(content: Json) -> str:
    return "".join(part.get("text", "") for part in content["parts"])


def gemini_answer(reply: Reply, number: int) -> Json:
    """The reply as a response with one candidate."""
    text, calls = reply
    parts: list[Json] = [{"text": text}] if text else []
    parts += [{"functionCall": {"name": "get_weather", "args": {"city": city}}} for _, city in calls]
    usage = {"promptTokenCount": 40 + 10 * number, "candidatesTokenCount": 9, "totalTokenCount": 49 + 10 * number}
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {**usage, "cachedContentTokenCount": 3},
        "modelVersion": "gemini-2.5-flash-001",
        "responseId": f"gem-{number}",
    }


def gemini_chunks(answer: Json) -> Iterator[Json]:
    """A response in chunks, one part each; the last says why it ended and what it cost."""
    parts = answer["candidates"][0]["content"]["parts"]
    head = {key: answer[key] for key in ("modelVersion", "responseId")}
    for number, part in enumerate(parts, 1):
        candidate = {"content": {"role": "model", "parts": [part]}, "index": 0}
        if number < len(parts):
            yield {**head, "candidates": [candidate]}
        else:
            yield {**answer, "candidates": [{**candidate, "finishReason": "STOP"}]}


class Handler(model_server.Handler):
    """Answers Anthropic's streams and Gemini's requests as well."""

    def do_POST(self) -> None:  # noqa: N802  # the standard library's name
        """One model call."""
        if "enerateContent" in self.path:
            self._answer_gemini(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        elif self.path.endswith("/messages"):
            self._answer_anthropic(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        else:
            super().do_POST()

    def _answer_gemini(self, request: Json) -> None:
        model_server.Handler.number += 1
        answer = gemini_answer(gemini_reply(request["contents"]), model_server.Handler.number)
        self._reply(answer, gemini_chunks(answer) if "streamGenerateContent" in self.path else None)

    def _answer_anthropic(self, request: Json) -> None:
        model_server.Handler.number += 1
        answer = anthropic_answer(request, model_server.Handler.number)
        self._reply(answer, anthropic_events(answer) if request.get("stream") else None)

    def _reply(self, answer: Json, events: Iterator[Json] | None) -> None:
        if events is None:
            self._send("application/json", json.dumps(answer))
            return
        named = ((f"event: {event['type']}\n" if "type" in event else "", event) for event in events)
        self._send("text/event-stream", "".join(f"{name}data: {json.dumps(event)}\n\n" for name, event in named))


def start() -> str:
    """The address of a server that runs until the program ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
