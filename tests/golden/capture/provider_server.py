"""The script of the model server in the HTTP APIs of Anthropic, Gemini, Bedrock, Mistral, Ollama and Cohere.

The replies are told by the place in the conversation: how many answers follow its last question. So a provider whose
calls have no ids is answered as well as one whose calls have.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.golden.capture.event_stream import frame
from tests.golden.capture.model_server import QUESTIONS, SCRIPT, openai_answer
from tests.golden.capture.responses_api import Reply

Body = dict[str, object]
THOUGHT = {"type": "thinking", "thinking": "The tool knows.", "signature": "c2lnbmVk"}
"""What Anthropic's model thinks before its first answer to each question, when it is asked to think."""


def reply_at(messages: list[Body]) -> tuple[int, Reply]:
    """How many answers follow the last question, and the script's reply there."""
    last = max(index for index, message in enumerate(messages) if any(q in json.dumps(message) for q in QUESTIONS))
    asked = max(index for index, question in enumerate(QUESTIONS) if question in json.dumps(messages[last]))
    turn = sum(message["role"] in ("assistant", "model") for message in messages[last:])
    return turn, SCRIPT[asked][turn]


def anthropic(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Anthropic's message, whole (one event without a name) or as the events of a stream."""
    turn, (text, calls) = reply_at(request["messages"])
    content: list[Body] = [THOUGHT] if request.get("thinking") and not turn else []
    content += [{"type": "text", "text": text}] if text else []
    content += [{"type": "tool_use", "id": name, "name": "get_weather", "input": {"city": c}} for name, c in calls]
    usage = {"input_tokens": 40 + 10 * number, "output_tokens": 9, "cache_read_input_tokens": 3}
    whole = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-sonnet-4-0"}
    whole |= {"content": content, "stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    whole |= {"usage": {**usage, "cache_creation_input_tokens": 0}}
    if not request.get("stream") and "response-stream" not in path:
        yield "", whole
        return
    begun = {**whole["usage"], "output_tokens": 1}
    yield "message_start", {"message": {**whole, "content": [], "stop_reason": None, "usage": begun}}
    for index, block in enumerate(content):
        yield from ((name, {"index": index, **event}) for name, event in _anthropic_block(block))
    done = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield "message_delta", {"delta": done, "usage": {"output_tokens": 9}}
    yield "message_stop", {}


def _anthropic_block(block: Body) -> Iterator[tuple[str, Body]]:
    if block["type"] == "thinking":
        yield "content_block_start", {"content_block": {"type": "thinking", "thinking": "", "signature": ""}}
        yield "content_block_delta", {"delta": {"type": "thinking_delta", "thinking": block["thinking"]}}
        yield "content_block_delta", {"delta": {"type": "signature_delta", "signature": block["signature"]}}
    elif block["type"] == "text":
        yield "content_block_start", {"content_block": {"type": "text", "text": ""}}
        for piece in _pieces(block["text"]):
            yield "content_block_delta", {"delta": {"type": "text_delta", "text": piece}}
    else:
        yield "content_block_start", {"content_block": {**block, "input": {}}}
        for piece in _pieces(json.dumps(block["input"])):
            yield "content_block_delta", {"delta": {"type": "input_json_delta", "partial_json": piece}}
    yield "content_block_stop", {}


def gemini(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Gemini's response, whole or as the chunks of a stream; its calls have no ids."""
    _, (text, calls) = reply_at(request["contents"])
    usage = {"promptTokenCount": 40 + 10 * number, "candidatesTokenCount": 9, "totalTokenCount": 49 + 10 * number}
    about = {"modelVersion": "gemini-2.5-flash-001", "responseId": f"gem-{number}"}
    parts: list[Body] = [{"text": text}] if text else []
    parts += [{"functionCall": {"name": "get_weather", "args": {"city": city}}} for _, city in calls]
    streams = "stream" in path
    chunks = [[{"text": piece}] for piece in _pieces(text)] if streams and text and not calls else [parts]
    for index, chunk in enumerate(chunks):
        candidate: Body = {"content": {"role": "model", "parts": chunk}, "index": 0}
        is_last = index == len(chunks) - 1
        candidate |= {"finishReason": "STOP"} if is_last else {}
        yield ("data" if streams else ""), {"candidates": [candidate], "usageMetadata": usage, **about}


def converse(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Bedrock's Converse answer, whole or as the events of a stream."""
    _, (text, calls) = reply_at(request["messages"])
    reason = "tool_use" if calls else "end_turn"
    usage = {"inputTokens": 40 + 10 * number, "outputTokens": 9, "totalTokens": 49 + 10 * number}
    uses = [{"toolUseId": name, "name": "get_weather", "input": {"city": city}} for name, city in calls]
    if not path.endswith("stream"):
        content: list[Body] = [{"text": text}] if text else []
        content += [{"toolUse": use} for use in uses]
        message = {"role": "assistant", "content": content}
        yield "", {"output": {"message": message}, "stopReason": reason, "usage": usage, "metrics": {"latencyMs": 1}}
        return
    yield "messageStart", {"role": "assistant"}
    for piece in _pieces(text) if text else ():
        yield "contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}
    if text:
        yield "contentBlockStop", {"contentBlockIndex": 0}
    for index, use in enumerate(uses, 1 if text else 0):
        start = {key: use[key] for key in ("toolUseId", "name")}
        yield "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": start}}
        for piece in _pieces(json.dumps(use["input"])):
            yield "contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": piece}}}
        yield "contentBlockStop", {"contentBlockIndex": index}
    yield "messageStop", {"stopReason": reason}
    yield "metadata", {"usage": usage, "metrics": {"latencyMs": 1}}


def mistral(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Mistral's completion, whole or as the chunks of a stream, whose calls are never cut."""
    del path
    answer = openai_answer(request, number)
    if not request.get("stream"):
        yield "", answer
        return
    choice = answer["choices"][0]
    calls = choice["message"].get("tool_calls", ())
    deltas = [{"role": "assistant", "content": piece} for piece in _pieces(choice["message"]["content"] or "")]
    if calls:
        deltas.append({"content": "", "tool_calls": [{**call, "index": index} for index, call in enumerate(calls)]})
    for index, delta in enumerate(deltas):
        is_last = index == len(deltas) - 1
        told = {"index": 0, "delta": delta, "finish_reason": choice["finish_reason"] if is_last else None}
        usage = {"usage": answer["usage"]} if is_last else {}
        yield "data", {**answer, "object": "chat.completion.chunk", "choices": [told], "usage": None, **usage}
    yield "done", {}


def ollama(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Ollama's answer, whole or as the lines of a stream; its calls have no ids."""
    del path
    _, (text, calls) = reply_at(request["messages"])
    about = {"model": "llama3.2", "created_at": "2026-01-01T00:00:00Z"}
    ended = {"done": True, "done_reason": "stop", "prompt_eval_count": 40 + 10 * number, "eval_count": 9}
    uses = [{"function": {"name": "get_weather", "arguments": {"city": city}}} for _, city in calls]
    message = {"role": "assistant", "content": text or "", **({"tool_calls": uses} if uses else {})}
    if request.get("stream") is False:
        yield "", {**about, "message": message, **ended}
        return
    for piece in _pieces(text) if text else ():
        yield "line", {**about, "message": {"role": "assistant", "content": piece}, "done": False}
    if uses:
        yield "line", {**about, "message": {**message, "content": ""}, "done": False}
    yield "line", {**about, "message": {"role": "assistant", "content": ""}, **ended}


def cohere(path: str, request: Body, number: int) -> Iterator[tuple[str, Body]]:
    """Cohere's answer in version 2 of its API, whole or as the events of a stream."""
    del path
    _, (text, calls) = reply_at(request["messages"])
    counts = {"input_tokens": 40 + 10 * number, "output_tokens": 9}
    usage = {"billed_units": counts, "tokens": counts}
    reason = "TOOL_CALL" if calls else "COMPLETE"
    uses = [_function(name, json.dumps({"city": city})) for name, city in calls]
    if not request.get("stream"):
        said = (
            {"tool_plan": text or "I ask.", "tool_calls": uses}
            if uses
            else {"content": [{"type": "text", "text": text}]}
        )
        message = {"role": "assistant", **said}
        yield "", {"id": f"co-{number}", "message": message, "finish_reason": reason, "usage": usage}
        return
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield "message-start", {"id": f"co-{number}", "delta": {"message": start}}
    if uses:
        yield "tool-plan-delta", {"delta": {"message": {"tool_plan": text or "I ask."}}}
    else:
        yield "content-start", {"index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}}
        for piece in _pieces(text or ""):
            yield "content-delta", {"index": 0, "delta": {"message": {"content": {"text": piece}}}}
        yield "content-end", {"index": 0}
    for index, use in enumerate(uses):
        whole = use["function"]
        begun = {**use, "function": {**whole, "arguments": ""}}
        yield "tool-call-start", {"index": index, "delta": {"message": {"tool_calls": begun}}}
        for piece in _pieces(whole["arguments"]):
            told = {"function": {"arguments": piece}}
            yield "tool-call-delta", {"index": index, "delta": {"message": {"tool_calls": told}}}
        yield "tool-call-end", {"index": index}
    yield "message-end", {"id": f"co-{number}", "delta": {"finish_reason": reason, "usage": usage}}


def _function(name: str, arguments: str) -> Body:
    return {"id": name, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}


def _pieces(text: str) -> list[str]:
    """A text in two pieces, as streams cut it."""
    return [text[:5], text[5:]]


Provider = Callable[[str, Body, int], Iterator[tuple[str, Body]]]
PROVIDERS: Mapping[str, Provider] = {
    "/messages": anthropic,
    "/invoke": anthropic,
    "/invoke-with-response-stream": anthropic,
    ":generateContent": gemini,
    ":streamGenerateContent": gemini,
    "/converse": converse,
    "/converse-stream": converse,
    "/v1/chat/completions": mistral,
    "/api/chat": ollama,
    "/v2/chat": cohere,
}
"""Who answers a request, by how its path ends."""


class Handler(BaseHTTPRequestHandler):
    """Answers a request in the words of the provider that its path tells."""

    number = 0

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""

    def do_POST(self) -> None:
        """One model call."""
        request = json.loads(self._body())
        Handler.number += 1
        path = self.path.partition("?")[0]
        provider = next(provider for end, provider in PROVIDERS.items() if path.endswith(end))
        events = list(provider(path, request, Handler.number))
        if events[0][0] == "":
            self._send("application/json", json.dumps(events[0][1]).encode())
        elif path.endswith("-stream"):
            self._send("application/vnd.amazon.eventstream", b"".join(_frames(path, events)))
        elif events[0][0] == "line":
            self._send("application/x-ndjson", b"".join(json.dumps(event).encode() + b"\n" for _, event in events))
        else:
            self._send("text/event-stream", b"".join(_server_event(name, event) for name, event in events))

    def _body(self) -> bytes:
        """The request's body, which some clients send in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, kind: str, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _server_event(name: str, event: Body) -> bytes:
    """An event of a stream; the provider's name of it stands in the event as well."""
    if name == "done":
        return b"data: [DONE]\n\n"
    if name == "data":
        return f"data: {json.dumps(event)}\r\n\r\n".encode()
    return f"event: {name}\ndata: {json.dumps({'type': name, **event})}\n\n".encode()


def _frames(path: str, events: list[tuple[str, Body]]) -> Iterator[bytes]:
    """Events as Amazon frames them: Converse's as they are, another provider's wrapped in chunks."""
    for name, event in events:
        yield frame(name, event) if "converse" in path else frame("chunk", {"type": name, **event}, wrapped=True)


def start() -> str:
    """The address of a server that runs until the program ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
