"""Pydantic Evals around an agent: logfire 5.4.0, pydantic-evals 2.62.0, pydantic-ai-slim[openai] 2.62.0.

`python -m tests.golden.capture.pydantic_evals_run FOLDER`. Each question is a case; its answer is judged by a function,
by a number, by a label and by a model, which is a function that always passes.
"""

from dataclasses import dataclass

import logfire
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EvaluationReason, Evaluator, EvaluatorContext, LLMJudge

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM
from tests.golden.capture.pydantic_ai_run import get_weather, model
from tests.golden.capture.sink import Capture


def verdict(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What the judge's model says."""
    del history
    told = {"reason": "It is about weather.", "pass": True, "score": 0.9}
    return ModelResponse(parts=[ToolCallPart(info.output_tools[0].name, told, tool_call_id="call_j")])


@dataclass
class Sunny(Evaluator[str, str]):
    """An assertion with a reason, a number and a label."""

    def evaluate(self, ctx: EvaluatorContext[str, str]) -> dict[str, object]:
        """What the answer is worth."""
        sunny = "sunny" in ctx.output
        why = EvaluationReason(value=sunny, reason=None if sunny else "No sun in it.")
        return {"sunny": why, "length": len(ctx.output) / 100, "mood": "good" if sunny else "bad"}


if __name__ == "__main__":
    capture = Capture("pyd_evals")
    processor = SimpleSpanProcessor(capture.exporter)
    logfire.configure(
        send_to_logfire=False, console=False, service_name="pyd_evals", additional_span_processors=[processor]
    )
    logfire.instrument_pydantic_ai()
    chat = model(f"{model_server.start()}/v1")
    agent = Agent(chat, name="weather-agent", system_prompt=SYSTEM, tools=[get_weather])

    async def ask(question: str) -> str:
        """The task that is judged."""
        return (await agent.run(question)).output

    cases = [Case(name=name, inputs=text) for name, text in zip(("one", "two"), model_server.QUESTIONS, strict=True)]
    judge = LLMJudge(rubric="Is it about weather?", model=FunctionModel(verdict))
    Dataset(name="weather", cases=cases, evaluators=[Sunny(), judge]).evaluate_sync(
        ask, progress=False, max_concurrency=1
    )
    capture.write()
