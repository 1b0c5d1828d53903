"""OpenInference's google-genai flavour: openinference-instrumentation-google-genai, google-genai.

`python -m tests.golden.capture.openinference_genai FOLDER TAG`. The words in the tag choose: `chat` uses the client's
chat, which keeps the history and calls the tool itself; else the loop and its history are written by hand. `streamed`
streams.
"""

import sys

from google import genai
from google.genai import types
from openinference.instrumentation import using_attributes
from openinference.instrumentation.google_genai import GoogleGenAIInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
STREAMED = "streamed" in TAG
FUNCTION = TOOL["function"]
DECLARED = types.FunctionDeclaration(
    name="get_weather", description=FUNCTION["description"], parameters_json_schema=FUNCTION["parameters"]
)


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def result_part(call: types.FunctionCall) -> types.Part:
    """The tool's result as a part."""
    try:
        told = {"result": model_server.weather(**call.args)}
    except ValueError as error:
        told = {"error": str(error)}
    return types.Part.from_function_response(name=call.name, response=told)


def ask(client: genai.Client, contents: list[types.Content]) -> types.Content:
    """The model's content, put together from chunks when it is streamed."""
    config = types.GenerateContentConfig(
        system_instruction=SYSTEM, temperature=0.2, tools=[types.Tool(function_declarations=[DECLARED])]
    )
    asked = {"model": "gemini-2.5-flash", "contents": contents, "config": config}
    if not STREAMED:
        return client.models.generate_content(**asked).candidates[0].content
    chunks = client.models.generate_content_stream(**asked)
    parts = [part for chunk in chunks for part in chunk.candidates[0].content.parts]
    text = "".join(part.text for part in parts if part.text)
    calls = [part for part in parts if part.function_call]
    return types.Content(role="model", parts=[*([types.Part(text=text)] if text else []), *calls])


def run(client: genai.Client) -> None:
    """Ask both questions; the second continues the first's history."""
    contents: list[types.Content] = []
    for question in model_server.QUESTIONS:
        contents.append(types.Content(role="user", parts=[types.Part(text=question)]))
        while True:
            answer = ask(client, contents)
            contents.append(answer)
            calls = [part.function_call for part in answer.parts if part.function_call]
            if not calls:
                break
            contents.append(types.Content(role="user", parts=[result_part(call) for call in calls]))


def run_chat(client: genai.Client) -> None:
    """Ask both questions of the client's chat."""
    config = types.GenerateContentConfig(system_instruction=SYSTEM, temperature=0.2, tools=[get_weather])
    chat = client.chats.create(model="gemini-2.5-flash", config=config)
    for question in model_server.QUESTIONS:
        if STREAMED:
            list(chat.send_message_stream(question))
        else:
            chat.send_message(question)


if __name__ == "__main__":
    capture = Capture(TAG)
    GoogleGenAIInstrumentor().instrument(tracer_provider=capture.provider)
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=model_server.start()))
    with using_attributes(session_id="sess-g", user_id="u-g"):
        (run_chat if "chat" in TAG else run)(client)
    capture.write()
