"""OpenLLMetry for MCP beside the OpenAI client: opentelemetry-instrumentation-mcp, -openai, fastmcp, openai.

The loop of the OpenAI captures; its tool is an MCP server's, which a client calls within the program.
"""

import asyncio

from fastmcp import Client, FastMCP
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.instrumentation.mcp import McpInstrumentor
from opentelemetry.instrumentation.openai import OpenAIInstrumentor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture

server = FastMCP("weather")


@server.tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return model_server.weather(city)


async def over_mcp(city: str) -> str:
    """The tool's result, or the error the server tells."""
    async with Client(server) as client:
        result = await client.call_tool("get_weather", {"city": city}, raise_on_error=False)
    if result.is_error:
        raise ValueError(result.content[0].text)
    return result.content[0].text


def weather(city: str) -> str:
    """The tool for the loop."""
    return asyncio.run(over_mcp(city))


if __name__ == "__main__":
    capture = Capture("tl_mcp")
    trace.set_tracer_provider(capture.provider)
    McpInstrumentor().instrument(tracer_provider=capture.provider)
    OpenAIInstrumentor().instrument(tracer_provider=capture.provider)
    openai_loop.weather = weather
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    messages = openai_loop.opening()
    for question in model_server.QUESTIONS:
        with trace.get_tracer("app").start_as_current_span("question"):
            openai_loop.turn(client, messages, question, stream=False)
    capture.write()
