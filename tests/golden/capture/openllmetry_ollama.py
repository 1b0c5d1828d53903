"""OpenLLMetry for Ollama and Cohere, whose releases still write indexed attributes, and whose clients are alike.

`python -m tests.golden.capture.openllmetry_ollama FOLDER TAG`, where the tag names the client, with `streamed` for
streamed answers. Ollama's calls have no ids. No root span: every call is a trace of its own.
"""

import json
import sys

from tests.golden.capture import model_server, provider_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL, result_of
from tests.golden.capture.sink import Capture

Message = dict[str, object]


class Ollama:
    """Ollama's client."""

    def __init__(self, address: str, capture: Capture) -> None:
        from ollama import Client
        from opentelemetry.instrumentation.ollama import OllamaInstrumentor

        OllamaInstrumentor().instrument(tracer_provider=capture.provider)
        self._client = Client(host=address)

    def ask(self, messages: list[Message], *, stream: bool) -> Message:
        """The model's message."""
        answer = self._client.chat(model="llama3.2", messages=messages, tools=[TOOL], stream=stream)
        pieces = [piece.message for piece in answer] if stream else [answer.message]
        calls = [call.model_dump() for piece in pieces for call in piece.tool_calls or ()]
        said = {"role": "assistant", "content": "".join(piece.content or "" for piece in pieces)}
        return {**said, "tool_calls": calls} if calls else said

    @staticmethod
    def result(call: Message) -> Message:
        """The result of a call, named by the tool."""
        function = call["function"]
        told = result_of({"function": {"arguments": json.dumps(function["arguments"])}})
        return {"role": "tool", "tool_name": function["name"], "content": told}


class Cohere:
    """Cohere's client for version 2 of its API."""

    def __init__(self, address: str, capture: Capture) -> None:
        from cohere import ClientV2
        from opentelemetry.instrumentation.cohere import CohereInstrumentor

        CohereInstrumentor().instrument(tracer_provider=capture.provider)
        self._client = ClientV2(api_key="none", base_url=address)

    def ask(self, messages: list[Message], *, stream: bool) -> Message:
        """The model's message."""
        asked = {"model": "command-r", "messages": messages, "tools": [TOOL]}
        if not stream:
            message = json.loads(self._client.chat(**asked).message.model_dump_json(exclude_none=True))
            return {key: value for key, value in message.items() if value}
        return _gathered(list(self._client.chat_stream(**asked)))

    @staticmethod
    def result(call: Message) -> Message:
        """The result of a call, named by its id."""
        return {"role": "tool", "tool_call_id": call["id"], "content": result_of(call)}


def _gathered(events: list[object]) -> Message:
    """The message that the events of Cohere's stream tell."""
    message: Message = {"role": "assistant"}
    for event in events:
        if event.type == "tool-plan-delta":
            message["tool_plan"] = event.delta.message.tool_plan
        elif event.type == "content-delta":
            message["content"] = str(message.get("content", "")) + event.delta.message.content.text
        elif event.type == "tool-call-start":
            call = event.delta.message.tool_calls
            function = {"name": call.function.name, "arguments": ""}
            message.setdefault("tool_calls", []).append({"id": call.id, "type": "function", "function": function})
        elif event.type == "tool-call-delta":
            message["tool_calls"][-1]["function"]["arguments"] += event.delta.message.tool_calls.function.arguments
    return message


def run(client: Ollama | Cohere, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[Message] = [{"role": "system", "content": SYSTEM}]
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": question})
        while True:
            answer = client.ask(messages, stream=stream)
            messages.append(answer)
            if not answer.get("tool_calls"):
                break
            messages += [client.result(call) for call in answer["tool_calls"]]


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    made = {"ollama": Ollama, "cohere": Cohere}[tag.split("_")[1]]
    run(made(provider_server.start(), capture), stream=tag.endswith("streamed"))
    capture.write()
