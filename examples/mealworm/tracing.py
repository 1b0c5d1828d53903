"""The agent's telemetry: OpenInference spans through the OpenTelemetry SDK, exported over OTLP gRPC.

An AGENT span per episode holds an LLM span per model call and a TOOL span per executed call. `session.id` is the user,
so that a user's episodes are one conversation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.util.types import AttributeValue

from examples.mealworm.domain import Request
from examples.mealworm.tools import TOOLS, Executed
from spanloop.convert import compact_json, tool_to_chat
from spanloop.records import Message, ToolCall, ToolStatus
from trainer.rollouts.base import Rollout

AGENT_NAME = "mealworm-meal-planner"
SERVICE_NAME = "mealworm"
MODEL_NAME = "mealworm-base"

MAX_SPAN_ATTRIBUTES = 10_000
"""The SDK's default of 128 silently drops the oldest attributes: the system prompt of a long history goes first."""
MAX_QUEUED_SPANS = 65_536
"""Spans waiting for export; the SDK drops what does not fit."""
EXPORT_TIMEOUT_S = 30


class ExportError(RuntimeError):
    """Spans did not reach the receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentTracer:
    """Exports episodes to one receiver."""

    provider: TracerProvider
    tracer: Tracer

    def episode(self, request: Request) -> EpisodeSpan:
        """A new AGENT span, the root of its trace."""
        user = request.profile.user_id
        context: dict[str, AttributeValue] = {"session.id": user, "user.id": user, "agent.name": AGENT_NAME}
        attributes = {**context, "openinference.span.kind": "AGENT", "input.value": request.text}
        span = self.tracer.start_span(f"{AGENT_NAME}.run", attributes=attributes)
        return EpisodeSpan(tracer=self.tracer, span=span, context=context)

    def flush(self) -> None:
        """Wait until every ended span was exported; raises ExportError when that takes too long."""
        if not self.provider.force_flush(EXPORT_TIMEOUT_S * 1000):
            raise ExportError(f"spans were not exported within {EXPORT_TIMEOUT_S} s; is the receiver still running?")

    def close(self) -> None:
        """Export what is left and stop the exporter."""
        self.provider.shutdown()


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeSpan:
    """The AGENT span of one episode, and the spans inside it."""

    tracer: Tracer
    span: Span
    context: dict[str, AttributeValue]
    """What OpenInference puts on every span: session, user and agent."""

    def model_call(self, messages: Sequence[Message], temperature: float) -> ModelCallSpan:
        """An LLM span that starts now with everything the model is shown."""
        attributes: dict[str, AttributeValue] = {
            **self.context,
            "openinference.span.kind": "LLM",
            "llm.model_name": MODEL_NAME,
            "llm.invocation_parameters": json.dumps({"temperature": temperature}),
            **_tool_attributes(),
        }
        for index, message in enumerate(messages):
            attributes |= _message_attributes(f"llm.input_messages.{index}.message", message)
        return ModelCallSpan(span=self._start(f"{MODEL_NAME}.chat", attributes))

    def tool_call(self, called: ToolCall, execute: Callable[[str, str], Executed]) -> Executed:
        """Execute a call inside a TOOL span."""
        attributes: dict[str, AttributeValue] = {
            **self.context,
            "openinference.span.kind": "TOOL",
            "tool.name": called.name,
            "tool.id": called.id,
            "input.value": called.arguments,
            "input.mime_type": "application/json",
        }
        span = self._start(called.name, attributes)
        executed = execute(called.name, called.arguments)
        span.set_attributes({"output.value": executed.content, "output.mime_type": "application/json"})
        failed = executed.status is ToolStatus.ERROR
        span.set_status(Status(StatusCode.ERROR, executed.content) if failed else Status(StatusCode.OK))
        span.end()
        return executed

    def end(self, answer: str | None) -> None:
        """End the episode; without an answer the agent gave up."""
        if answer is None:
            self.span.set_status(Status(StatusCode.ERROR, "the agent reached its step limit"))
        else:
            self.span.set_attribute("output.value", answer)
            self.span.set_status(Status(StatusCode.OK))
        self.span.end()

    def _start(self, name: str, attributes: dict[str, AttributeValue]) -> Span:
        return self.tracer.start_span(name, context=set_span_in_context(self.span), attributes=attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCallSpan:
    """An LLM span that waits for the model's answer."""

    span: Span

    def end(self, rollout: Rollout) -> None:
        """The model answered."""
        num_prompt, num_completion = len(rollout.prompt_token_ids), len(rollout.token_ids)
        self.span.set_attributes(
            {
                **_message_attributes("llm.output_messages.0.message", rollout.message),
                "llm.finish_reason": rollout.finish_reason,
                "llm.token_count.prompt": num_prompt,
                "llm.token_count.completion": num_completion,
                "llm.token_count.total": num_prompt + num_completion,
            }
        )
        self.span.set_status(Status(StatusCode.OK))
        self.span.end()


def connect(endpoint: str) -> AgentTracer:
    """A tracer that exports to an OTLP gRPC endpoint such as `http://127.0.0.1:4317`."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": SERVICE_NAME}),
        span_limits=SpanLimits(max_span_attributes=MAX_SPAN_ATTRIBUTES),
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=True, timeout=EXPORT_TIMEOUT_S)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=MAX_QUEUED_SPANS, schedule_delay_millis=500)
    )
    return AgentTracer(provider=provider, tracer=provider.get_tracer("examples.mealworm"))


def _tool_attributes() -> dict[str, AttributeValue]:
    return {f"llm.tools.{index}.tool.json_schema": compact_json(tool_to_chat(tool)) for index, tool in enumerate(TOOLS)}


def _message_attributes(prefix: str, message: Message) -> dict[str, AttributeValue]:
    attributes: dict[str, AttributeValue] = {f"{prefix}.role": message.role.value}
    if message.text:
        attributes[f"{prefix}.content"] = message.text
    for index, called in enumerate(message.tool_calls):
        call = f"{prefix}.tool_calls.{index}.tool_call"
        attributes[f"{call}.id"] = called.id
        attributes[f"{call}.function.name"] = called.name
        attributes[f"{call}.function.arguments"] = called.arguments
    if message.tool_result is not None:
        attributes[f"{prefix}.tool_call_id"] = message.tool_result.call_id
    return attributes
