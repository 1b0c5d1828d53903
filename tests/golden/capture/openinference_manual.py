"""Spans of an application's own code: the decorators of openinference-instrumentation. No model is asked.

`python -m tests.golden.capture.openinference_manual FOLDER oi_manual`. The agent, its chain, its tool and its model
are decorated functions; the model's messages, tools and counts are given by `get_llm_attributes`.
"""

import json

from openinference.instrumentation import (
    Message,
    TokenCount,
    Tool,
    ToolCall,
    ToolCallFunction,
    TracerProvider,
    get_llm_attributes,
    using_session,
    using_user,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL, result_of
from tests.golden.capture.sink import Capture

capture = Capture("oi_manual")
capture.provider = TracerProvider(resource=Resource.create({"service.name": "oi_manual"}))
capture.provider.add_span_processor(SimpleSpanProcessor(capture.exporter))
tracer = capture.provider.get_tracer("weather.app")


def as_message(chat: dict[str, object]) -> Message:
    """A chat message in the helper's form."""
    told: Message = {"role": chat["role"]}
    if chat.get("content"):
        told["content"] = chat["content"]
    if "tool_call_id" in chat:
        told["tool_call_id"] = chat["tool_call_id"]
    if "tool_calls" in chat:
        told["tool_calls"] = [
            ToolCall(id=call["id"], function=ToolCallFunction(**call["function"])) for call in chat["tool_calls"]
        ]
    return told


def described(messages: list[dict[str, object]], tools: list[object]) -> dict[str, object]:
    """The attributes of a model's input."""
    return dict(
        get_llm_attributes(
            model_name="weather-model",
            input_messages=[as_message(message) for message in messages],
            tools=[Tool(json_schema=tool) for tool in tools],
            invocation_parameters={"temperature": 0.2},
        )
    )


def answered(answer: dict[str, object]) -> dict[str, object]:
    """The attributes of a model's output."""
    count = TokenCount(prompt=40, completion=9, total=49)
    return dict(get_llm_attributes(output_messages=[as_message(answer)], token_count=count))


@tracer.llm(process_input=described, process_output=answered)
def ask(messages: list[dict[str, object]], tools: list[object]) -> dict[str, object]:
    """The script's reply to the messages."""
    answer = model_server.openai_answer({"messages": messages, "tools": tools}, 1)["choices"][0]["message"]
    return {key: value for key, value in answer.items() if value is not None}


@tracer.tool(name="get_weather", description="The weather in a city.")
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def result(call: dict[str, object]) -> dict[str, object]:
    """The tool message for a call."""
    try:
        told = get_weather(**json.loads(call["function"]["arguments"]))
    except ValueError:
        told = result_of(call)
    return {"role": "tool", "tool_call_id": call["id"], "content": told}


@tracer.agent(name="weather-agent")
def answer(question: str, messages: list[dict[str, object]]) -> str:
    """The agent's answer to a question."""
    messages.append({"role": "user", "content": question})
    while True:
        said = ask(list(messages), [TOOL])
        messages.append(said)
        if not said.get("tool_calls"):
            return said["content"]
        messages.extend(result(call) for call in said["tool_calls"])


if __name__ == "__main__":
    conversation: list[dict[str, object]] = [{"role": "system", "content": SYSTEM}]
    for question in model_server.QUESTIONS:
        with using_session("sess-m"), using_user("u-m"):
            answer(question, conversation)
    capture.write()
