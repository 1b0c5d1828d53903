"""agent-lightning's tracer and rewards: agentlightning 0.3.0, agentops 0.4.21, openai. AgentOps records the calls.

Each question is a rollout whose trace ends with a reward.
"""

import asyncio

import agentlightning as agl
from openai import OpenAI
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from tests.golden.capture import model_server, openai_loop
from tests.golden.capture.sink import Capture


async def main(capture: Capture) -> None:
    """Ask both questions, each in a trace of the tracer, and reward the answers."""
    client = OpenAI(api_key="none", base_url=f"{model_server.start()}/v1")
    messages = openai_loop.opening()
    tracer = agl.AgentOpsTracer()
    tracer.init()
    tracer.init_worker(0)
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(capture.exporter))
    for number, question in enumerate(model_server.QUESTIONS):
        async with tracer.trace_context(name=f"rollout-{number}"):
            openai_loop.turn(client, messages, question, stream=False)
            agl.emit_reward(1.0 - number)
        print(len(tracer.get_last_trace()))


if __name__ == "__main__":
    capture = Capture("agent_lightning")
    asyncio.run(main(capture))
    capture.write()
