"""Every kind of part in Pydantic-AI's messages: pydantic-ai-slim 2.68.0 (`pyd6_parts`), 1.0.18 (`pyd10_1_parts`).

`python -m tests.golden.capture.pydantic_ai_parts_run FOLDER TAG`. The model is a function: it thinks, has its provider
search the web (no part of version 1), and calls a tool that returns a structure or a picture; the answer is two texts
around a thought. The second question is answered by a search alone.
"""

import sys

from pydantic_ai import Agent, BinaryContent, DocumentUrl, ImageUrl, messages
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ThinkingPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.instrumented import InstrumentationSettings

from tests.golden.capture.sink import Capture

VERSIONS = {"pyd6_parts": 6, "pyd10_1_parts": 1}
PROMPT = [
    "What is this?",
    ImageUrl(url="https://pictures.test/a.png"),
    BinaryContent(data=b"abc", media_type="image/png"),
    DocumentUrl(url="https://pictures.test/d.pdf"),
    BinaryContent(data=b"abd", media_type="audio/wav"),
]


def search(call_id: str) -> list[object]:
    """A search that the provider ran: its call and its result."""
    call = getattr(messages, "NativeToolCallPart", None) or messages.BuiltinToolCallPart
    result = getattr(messages, "NativeToolReturnPart", None) or messages.BuiltinToolReturnPart
    about = {"tool_name": "web_search", "tool_call_id": call_id, "provider_name": "openai"}
    return [call(args={"q": "x"}, **about), result(content={"found": 1}, **about)]


def answer(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """The model's script, by how often it has spoken."""
    del info
    said = sum(isinstance(message, ModelResponse) for message in history)
    calls = [ToolCallPart(tool_name="look", args={"which": number}, tool_call_id=f"c{number}") for number in (1, 2)]
    script = (
        [ThinkingPart(content="Let me think."), *search("b1"), TextPart(content="I look."), *calls],
        [TextPart(content="A cat"), ThinkingPart(content="Surely."), TextPart(content=" and a dog.")],
        [*search("b2"), TextPart(content="Still a cat.")],
    )
    return ModelResponse(parts=script[said])


def look(which: int) -> object:
    """Look at something."""
    return {"seen": ["cat", 1], "sure": True} if which == 1 else BinaryContent(data=b"hello", media_type="image/png")


def eye(settings: InstrumentationSettings) -> Agent:
    """The agent; how it is instrumented changed with version 2."""
    try:
        from pydantic_ai.capabilities import Instrumentation
    except ImportError:
        how: dict[str, object] = {"instrument": settings}
    else:
        how = {"capabilities": [Instrumentation(settings=settings)]}
    return Agent(FunctionModel(answer), name="eye", instructions="Look well.", tools=[look], **how)


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    agent = eye(InstrumentationSettings(tracer_provider=capture.provider, version=VERSIONS[tag]))
    first = agent.run_sync(PROMPT)
    agent.run_sync("And now?", message_history=first.all_messages())
    capture.write()
