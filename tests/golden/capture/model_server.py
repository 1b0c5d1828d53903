"""A model server that answers by a script, in the forms of OpenAI (chat, Responses), Anthropic, Gemini and Bedrock.

The script, told by the conversation so far: asked for the weather, the model says a sentence and calls `get_weather`
for Paris and for Atlantis, which fails; then calls it for Rome; then answers. Asked about tomorrow, it calls once and
answers. So a run of both questions is two episodes of three and two model calls, with one failing tool.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.golden.capture import provider_apis as apis
from tests.golden.capture.bedrock_api import converse_answer, converse_events, encoded, invoke_events
from tests.golden.capture.responses_api import Reply, responses_answer, responses_events, responses_input

QUESTIONS = ("What is the weather in Paris and Atlantis?", "And tomorrow in Rome?")
SCRIPT = (
    (
        ("Let me check.", (("call_p1", "Paris"), ("call_a1", "Atlantis"))),
        (None, (("call_r1", "Rome"),)),
        ("Paris is sunny, Rome rainy; Atlantis is unknown.", ()),
    ),
    ((None, (("call_r2", "Rome"),)), ("Tomorrow Rome is rainy.", ())),
)


ANSWER_TOOLS = ("final_answer", "final_result")
"""Tools by which smolagents and Pydantic-AI want the answer."""


def weather(city: str) -> str:
    """The tool all scripts offer; it fails for one city."""
    if city == "Atlantis":
        raise ValueError("no such city: Atlantis")
    return {"Paris": "sunny, 21 degrees", "Rome": "rainy"}[city]


def reply_to(messages: list[dict[str, object]]) -> Reply:
    """The script's reply: the first of the last question's replies whose calls the conversation does not hold yet."""
    text = json.dumps(messages)
    asked = max((index for index, question in enumerate(QUESTIONS) if question in text), default=0)
    told = SCRIPT[asked]
    return next(reply for reply in told if not reply[1] or not _is_told(reply, text))


def _is_told(reply: Reply, text: str) -> bool:
    """Whether the conversation holds this reply: its call ids, or (smolagents drops those) the failing call's error."""
    return all(name in text or (city == "Atlantis" and "no such city" in text) for name, city in reply[1][-1:])


def tool_name(request: dict[str, object]) -> str:
    """The name under which the script's tool is offered: some frameworks put a plugin's name before it."""
    names = (tool.get("function", {}).get("name", "") for tool in request.get("tools", ()))
    return next((name for name in names if name.endswith("get_weather")), "get_weather")


def hands_over(request: dict[str, object]) -> bool:
    """Whether the request's only tool is the one by which an agent hands over to another."""
    tools = json.dumps(request.get("tools", ()))
    return "transfer_to_agent" in tools and "get_weather" not in tools


def transfer(number: int) -> dict[str, object]:
    """The tool call by which an agent hands over to the weather's."""
    function = {"name": "transfer_to_agent", "arguments": json.dumps({"agent_name": "weather"})}
    return {"id": f"call_t{number}", "type": "function", "function": function}


HANDING_ON = ("delegate_task_to_member", "transfer_task_to_member")
"""The tools by which agno's team leader hands a task to a member."""


def handing_call(request: dict[str, object], number: int) -> dict[str, object] | None:
    """The call by which a team leader hands the last question on; `None` when it is no leader or has done so."""
    offered = {tool["function"]["name"]: tool["function"] for tool in request.get("tools", ())}
    name = next((name for name in HANDING_ON if name in offered), None)
    messages = request["messages"]
    if name is None or messages[-1]["role"] == "tool":
        return None
    asked = messages[-1]["content"]
    wanted = offered[name]["parameters"]["properties"]
    told = {key: "weather-agent" if key.endswith("_id") else asked for key in wanted if key != "expected_output"}
    told |= {"expected_output": "A sentence."} if "expected_output" in wanted else {}
    return {"id": f"call_h{number}", "type": "function", "function": {"name": name, "arguments": json.dumps(told)}}


def openai_answer(request: dict[str, object], number: int) -> dict[str, object]:
    """The reply as OpenAI's chat completion."""
    text, calls = reply_to(request["messages"])
    if "[[ ## answer ## ]]" in (prompt := json.dumps(request["messages"])):  # DSPy wants its fields marked
        text, calls = "[[ ## answer ## ]]\nSunny.\n\n[[ ## completed ## ]]", ()
    if "[[ ## reasoning ## ]]" in prompt:
        text, calls = _fields({"reasoning": "The tools told it.", "answer": "Rome is rainy."}), ()
    if "[[ ## next_tool_name ## ]]" in prompt:
        text, calls = react_step(prompt), ()
    message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
    told = json.dumps(request.get("tools", ()))
    by_tool = next((name for name in ANSWER_TOOLS if name in told), None)
    if not calls and by_tool is not None:
        message["tool_calls"] = [final_answer(text or "", number, by_tool)]
    elif hands_over(request):
        message |= {"content": None, "tool_calls": [transfer(number)]}
    elif handing := handing_call(request, number):
        message |= {"content": None, "tool_calls": [handing]}
    elif any(name in told for name in HANDING_ON):
        message["content"] = SCRIPT[QUESTIONS[1] in prompt][-1][0]
    elif calls:
        message["tool_calls"] = [
            {
                "id": name,
                "type": "function",
                "function": {"name": tool_name(request), "arguments": json.dumps({"city": city})},
            }
            for name, city in calls
        ]
    reason = "tool_calls" if "tool_calls" in message else "stop"
    usage = {"prompt_tokens": 40 + 10 * number, "completion_tokens": 9, "total_tokens": 49 + 10 * number}
    choice = {"index": 0, "finish_reason": reason, "message": message, "logprobs": None}
    head = {"id": f"chatcmpl-{number}", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2025"}
    return {**head, "choices": [choice], "usage": usage}


def react_step(prompt: str) -> str:
    """DSPy's ReAct: the city whose weather the trajectory in the prompt lacks, asked first, then the end."""
    asked = QUESTIONS[1] in prompt
    cities = ("Rome",) if asked else ("Atlantis", "Rome")
    for city in cities:
        if f'\\"city\\": \\"{city}\\"' not in prompt:
            return _next(f"I look at {city}.", "get_weather", {"city": city})
    return _next("I know enough.", "finish", {})


def _next(thought: str, tool: str, arguments: dict[str, str]) -> str:
    return _fields({"next_thought": thought, "next_tool_name": tool, "next_tool_args": json.dumps(arguments)})


def _fields(told: dict[str, str]) -> str:
    return "".join(f"[[ ## {name} ## ]]\n{value}\n\n" for name, value in told.items()) + "[[ ## completed ## ]]"


def final_answer(text: str, number: int, name: str) -> dict[str, object]:
    """An answer as the tool call that the framework takes for one."""
    function = {"name": name, "arguments": json.dumps({"answer": text})}
    return {"id": f"call_f{number}", "type": "function", "function": function}


def openai_chunks(answer: dict[str, object]) -> Iterator[dict[str, object]]:
    """A completion as the chunks of a stream: text by words, each call's arguments in two pieces."""
    head = {"id": answer["id"], "object": "chat.completion.chunk", "created": 1, "model": answer["model"]}
    choice = answer["choices"][0]
    message = choice["message"]

    def chunk(delta: dict[str, object], reason: str | None = None) -> dict[str, object]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for word in (message["content"] or "").split(" "):
        if word:
            yield chunk({"content": word + " "})
    for index, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        if Handler.whole_calls:
            yield chunk({"tool_calls": [{"index": index, **call}]})
            continue
        function = {"name": call["function"]["name"], "arguments": ""}
        yield chunk({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]})
        for piece in (arguments[:5], arguments[5:]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, choice["finish_reason"])
    yield {**head, "choices": [], "usage": answer["usage"]}


def anthropic_answer(request: dict[str, object], number: int) -> dict[str, object]:
    """The reply as Anthropic's message."""
    text, calls = reply_to(request["messages"])
    content: list[dict[str, object]] = [{"type": "text", "text": text}] if text else []
    content += [
        {"type": "tool_use", "id": name, "name": "get_weather", "input": {"city": city}} for name, city in calls
    ]
    return {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-0",
        "content": content,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 40 + 10 * number, "output_tokens": 9, "cache_read_input_tokens": 3},
    }


class Handler(BaseHTTPRequestHandler):
    """Answers a request by the script."""

    number = 0
    failing: frozenset[int] = frozenset()
    """Requests, counted from one, that are answered with an overload for the client to try again."""
    whole_calls = False
    """Streamed chat completions have each call in one chunk, as Mistral sends them."""

    def log_message(self, *_: object) -> None:
        """Say nothing on the terminal."""

    def do_POST(self) -> None:
        """One model call."""
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.number += 1
        if Handler.number in Handler.failing:
            self._send("application/json", json.dumps({"error": {"message": "overloaded", "code": "busy"}}), status=503)
            return
        if self.path.endswith("/messages"):
            self._answer_anthropic(anthropic_answer(request, Handler.number), stream=request.get("stream"))
            return
        if "enerateContent" in self.path:
            names = [name for reply in (*SCRIPT[0], *SCRIPT[1]) for name, _ in reply[1]]
            reply = reply_to(apis.gemini_messages(request["contents"], names))
            self._answer_gemini(apis.gemini_answer(reply, Handler.number, with_ids="noids" not in self.path))
            return
        if self.path.startswith("/model/"):
            self._answer_bedrock(request)
            return
        if self.path.endswith("/responses"):
            reply = reply_to(responses_input(request))
            self._answer_responses(responses_answer(request, reply, Handler.number), stream=request.get("stream"))
            return
        answer = openai_answer(request, Handler.number)
        if not request.get("stream"):
            self._send("application/json", json.dumps(answer))
            return
        lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in openai_chunks(answer)]
        self._send("text/event-stream", "".join([*lines, "data: [DONE]\n\n"]))

    def _answer_anthropic(self, answer: dict[str, object], *, stream: object) -> None:
        if not stream:
            self._send("application/json", json.dumps(answer))
            return
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in apis.anthropic_events(answer)]
        self._send("text/event-stream", "".join(lines))

    def _answer_gemini(self, answer: dict[str, object]) -> None:
        if "streamGenerateContent" not in self.path:
            self._send("application/json", json.dumps(answer))
            return
        lines = [f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in apis.gemini_chunks(answer)]
        self._send("text/event-stream", "".join(lines))

    def _answer_bedrock(self, request: dict[str, object]) -> None:
        reply = reply_to(request["messages"])
        streamed = {"converse-stream": converse_events, "invoke-with-response-stream": invoke_events}
        kind = self.path.rpartition("/")[2]
        is_converse = kind.startswith("converse")
        answer = converse_answer(reply, Handler.number) if is_converse else anthropic_answer(request, Handler.number)
        if kind in streamed:
            self._send("application/vnd.amazon.eventstream", encoded(streamed[kind](answer)))
        else:
            self._send("application/json", json.dumps(answer))

    def _answer_responses(self, answer: dict[str, object], *, stream: object) -> None:
        if not stream:
            self._send("application/json", json.dumps(answer))
            return
        numbered = ({**event, "sequence_number": index} for index, event in enumerate(responses_events(answer)))
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in numbered]
        self._send("text/event-stream", "".join(lines))

    def _send(self, kind: str, body: str | bytes, *, status: int = 200) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def start(failing: frozenset[int] = frozenset()) -> str:
    """The address of a server that runs until the program ends; the requests numbered in `failing` fail."""
    Handler.failing = failing
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
