"""The loop on Gemini's API, plain or streamed: both questions of one conversation; calls and results have no ids."""

from __future__ import annotations

from google.genai import types

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL

FUNCTION = TOOL["function"]
CONFIG = types.GenerateContentConfig(
    system_instruction=SYSTEM,
    temperature=0.2,
    tools=[
        types.Tool(
            function_declarations=[
                types.FunctionDeclaration(
                    name="get_weather",
                    description=FUNCTION["description"],
                    parameters_json_schema=FUNCTION["parameters"],
                )
            ]
        )
    ],
)


def run(client: object, *, stream: bool = False) -> None:
    """Ask both questions; the second continues the first's history."""
    contents: list[types.Content] = []
    for question in model_server.QUESTIONS:
        contents.append(types.Content(role="user", parts=[types.Part(text=question)]))
        while True:
            parts = _ask(client, contents, stream=stream)
            contents.append(types.Content(role="model", parts=parts))
            calls = [part.function_call for part in parts if part.function_call]
            if not calls:
                break
            contents.append(types.Content(role="user", parts=[_result(call) for call in calls]))


def _result(call: types.FunctionCall) -> types.Part:
    try:
        told = {"result": model_server.weather(**call.args)}
    except ValueError as error:
        told = {"error": str(error)}
    return types.Part.from_function_response(name=call.name, response=told)


def _ask(client: object, contents: list[types.Content], *, stream: bool) -> list[types.Part]:
    """The parts of the answer."""
    arguments = {"model": "gemini-2.5-flash", "contents": contents, "config": CONFIG}
    if not stream:
        return client.models.generate_content(**arguments).candidates[0].content.parts
    chunks = client.models.generate_content_stream(**arguments)
    return [part for chunk in chunks for part in chunk.candidates[0].content.parts]
