"""OpenLLMetry for Google's GenAI client: opentelemetry-instrumentation-google-generativeai, google-genai.

`python -m tests.golden.capture.openllmetry_google FOLDER tl_google` runs plain, with `tl_google_streamed` streamed. The
calls have no ids. No root span: every call is a trace of its own.
"""

import sys

from google import genai
from google.genai import types
from opentelemetry.instrumentation.google_generativeai import GoogleGenerativeAiInstrumentor

from tests.golden.capture import model_server, provider_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

FUNCTION = TOOL["function"]
DECLARED = types.FunctionDeclaration(
    name=FUNCTION["name"], description=FUNCTION["description"], parameters_json_schema=FUNCTION["parameters"]
)
CONFIG = types.GenerateContentConfig(
    system_instruction=SYSTEM, tools=[types.Tool(function_declarations=[DECLARED])], temperature=0.2
)


def result_of(call: types.FunctionCall) -> types.Part:
    """The tool's result, or the error it raises, as Gemini wants them told."""
    try:
        response = {"result": model_server.weather(**call.args)}
    except ValueError as error:
        response = {"error": str(error)}
    return types.Part.from_function_response(name=call.name, response=response)


def ask(client: genai.Client, contents: list[types.Content], *, stream: bool) -> types.Content:
    """The model's content, put together from chunks when it is streamed."""
    asked = {"model": "gemini-2.5-flash", "contents": contents, "config": CONFIG}
    if not stream:
        return client.models.generate_content(**asked).candidates[0].content
    chunks = [chunk.candidates[0].content for chunk in client.models.generate_content_stream(**asked)]
    parts = [part for chunk in chunks for part in chunk.parts]
    if not parts[0].function_call and len(chunks) > 1:
        parts = [types.Part.from_text(text="".join(part.text for part in parts))]
    return types.Content(role="model", parts=parts)


def run(client: genai.Client, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    contents: list[types.Content] = []
    for question in model_server.QUESTIONS:
        contents.append(types.Content(role="user", parts=[types.Part.from_text(text=question)]))
        while True:
            answer = ask(client, contents, stream=stream)
            contents.append(answer)
            calls = [part.function_call for part in answer.parts if part.function_call]
            if not calls:
                break
            contents.append(types.Content(role="user", parts=[result_of(call) for call in calls]))


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    GoogleGenerativeAiInstrumentor().instrument(tracer_provider=capture.provider)
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=provider_server.start()))
    run(client, stream=tag.endswith("streamed"))
    capture.write()
