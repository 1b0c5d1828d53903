"""Google's SDK under the OpenTelemetry project's instrumentation: opentelemetry-instrumentation-google-genai.

`python -m tests.golden.capture.google_genai_run FOLDER TAG`; a tag with `auto` lets the SDK call the tool itself, one
with `streamed` streams, and with `noids` the model's calls carry no ids, as on Vertex, and the tool has a schema in
Gemini's words. The application's span around both questions carries the session and the user.
"""

import sys

from google import genai
from google.genai import types
from opentelemetry.instrumentation.google_genai import GoogleGenAiSdkInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

try:
    from opentelemetry.sdk._events import EventLoggerProvider
except ImportError:  # later SDKs have none
    EventLoggerProvider = None

FUNCTION = TOOL["function"]
MODEL = "gemini-2.5-flash"
TAG = sys.argv[2]


def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


def declared() -> types.Tool:
    """The tool by its declaration."""
    city = types.Schema(type=types.Type.STRING)
    schema = types.Schema(type=types.Type.OBJECT, properties={"city": city}, required=["city"])
    written = {"parameters": schema} if "noids" in TAG else {"parameters_json_schema": FUNCTION["parameters"]}
    declaration = types.FunctionDeclaration(name=FUNCTION["name"], description=FUNCTION["description"], **written)
    return types.Tool(function_declarations=[declaration])


def result_of(call: types.FunctionCall) -> types.Part:
    """The tool's result as a part."""
    try:
        told = {"result": get_weather(**call.args)}
    except ValueError as error:
        told = {"error": str(error)}
    return types.Part(function_response=types.FunctionResponse(id=call.id, name=call.name, response=told))


def ask(client: genai.Client, contents: list[types.Content], *, stream: bool) -> types.Content:
    """The model's content, put together from chunks when it is streamed."""
    config = types.GenerateContentConfig(system_instruction=SYSTEM, tools=[declared()], temperature=0.2)
    if not stream:
        return client.models.generate_content(model=MODEL, contents=contents, config=config).candidates[0].content
    text, parts = "", []
    for chunk in client.models.generate_content_stream(model=MODEL, contents=contents, config=config):
        for part in chunk.candidates[0].content.parts:
            text += part.text or ""
            parts += [part] if part.function_call else []
    return types.Content(role="model", parts=[*([types.Part(text=text)] if text else []), *parts])


def run(client: genai.Client, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    contents: list[types.Content] = []
    for question in model_server.QUESTIONS:
        contents.append(types.Content(role="user", parts=[types.Part(text=question)]))
        while True:
            contents.append(ask(client, contents, stream=stream))
            calls = [part.function_call for part in contents[-1].parts if part.function_call]
            if not calls:
                break
            contents.append(types.Content(role="user", parts=[result_of(call) for call in calls]))


def run_auto(client: genai.Client, *, stream: bool) -> None:
    """Ask both questions in a chat that calls the tool by itself."""
    config = types.GenerateContentConfig(system_instruction=SYSTEM, tools=[get_weather], temperature=0.2)
    chat = client.chats.create(model=MODEL, config=config)
    for question in model_server.QUESTIONS:
        if stream:
            list(chat.send_message_stream(question))
        else:
            chat.send_message(question)


if __name__ == "__main__":
    capture, logs = Capture(TAG), LogCapture(TAG)
    providers = {"tracer_provider": capture.provider, "logger_provider": logs.provider}
    if EventLoggerProvider is not None:
        providers["event_logger_provider"] = EventLoggerProvider(logs.provider)
    GoogleGenAiSdkInstrumentor().instrument(**providers)
    url = f"{model_server.start()}/noids" if "noids" in TAG else model_server.start()
    client = genai.Client(api_key="none", http_options=types.HttpOptions(base_url=url))
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        (run_auto if "auto" in TAG else run)(client, stream="streamed" in TAG)
    capture.write()
    logs.write()
