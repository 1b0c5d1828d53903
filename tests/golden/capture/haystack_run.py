"""OpenInference's Haystack flavour: haystack-ai, openinference-instrumentation-haystack. An agent with one tool."""

from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import Tool
from haystack.utils import Secret
from openinference.instrumentation.haystack import HaystackInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

if __name__ == "__main__":
    capture = Capture("oi_haystack")
    HaystackInstrumentor().instrument(tracer_provider=capture.provider)
    function = TOOL["function"]
    tool = Tool(function["name"], function["description"], function["parameters"], model_server.weather)
    generator = OpenAIChatGenerator(
        api_key=Secret.from_token("none"), model="gpt-4o-mini", api_base_url=f"{model_server.start()}/v1"
    )
    agent = Agent(chat_generator=generator, tools=[tool], system_prompt=SYSTEM)
    messages = []
    for question in model_server.QUESTIONS:
        messages = [*messages, ChatMessage.from_user(question)]
        messages = agent.run(messages=messages)["messages"]
        messages = [message for message in messages if not message.is_from("system")]
    capture.write()
