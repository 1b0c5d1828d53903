"""Which dialect reads a span: one table, in the order of identification.

The order merges what trace back ends of the field do, with corrections: a dialect that says its own kind comes before
one that only shares OTel's keys, because half of the field writes `gen_ai.operation.name` beside its own words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from otel_receiver.dialects.ag2 import AG2
from otel_receiver.dialects.agent_lightning import AgentLightning
from otel_receiver.dialects.autogen import AutoGen
from otel_receiver.dialects.azure_langchain import AzureLangChain
from otel_receiver.dialects.azure_projects import AzureProjects
from otel_receiver.dialects.base import Dialect, Reading
from otel_receiver.dialects.feedback import read_log_feedback, read_span_feedback
from otel_receiver.dialects.fields import context_around
from otel_receiver.dialects.genai import BareGenAI, GenAI
from otel_receiver.dialects.google_adk import GoogleADK
from otel_receiver.dialects.google_genai import GoogleGenAI
from otel_receiver.dialects.haystack import Haystack
from otel_receiver.dialects.langfuse import Langfuse
from otel_receiver.dialects.langsmith import LangSmith
from otel_receiver.dialects.litellm import LiteLLM
from otel_receiver.dialects.llama_index import LlamaIndex
from otel_receiver.dialects.logfire import Logfire, PendingSpans
from otel_receiver.dialects.logfire_agents import LogfireAgents
from otel_receiver.dialects.loose_records import owners
from otel_receiver.dialects.mlflow import MLflow
from otel_receiver.dialects.openai_agents_v2 import OpenAIAgentsV2
from otel_receiver.dialects.openinference import OpenInference
from otel_receiver.dialects.openlit import OpenLIT
from otel_receiver.dialects.openllmetry import OpenLLMetry
from otel_receiver.dialects.pydantic_ai import PydanticAI
from otel_receiver.dialects.pydantic_evals import PydanticEvals
from otel_receiver.dialects.quotient import Quotient
from otel_receiver.dialects.references import ReferenceRoot, resolve
from otel_receiver.dialects.retrieval import VectorStore
from otel_receiver.dialects.semantic_kernel import SemanticKernel
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.strands import Strands
from otel_receiver.dialects.vercel import VercelAI
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Feedback

DIALECTS: tuple[Dialect, ...] = (
    PendingSpans(),
    Langfuse(),
    OpenInference(),
    VercelAI(),
    LangSmith(),
    Quotient(),
    AgentLightning(),
    PydanticAI(),
    PydanticEvals(),
    LogfireAgents(),
    Logfire(),
    Strands(),
    GoogleADK(),
    SemanticKernel(),
    AutoGen(),
    AG2(),
    LiteLLM(),
    OpenLIT(),
    OpenLLMetry(),
    MLflow(),
    Haystack(),
    AzureLangChain(),
    AzureProjects(),
    GoogleGenAI(),
    OpenAIAgentsV2(),
    LlamaIndex(),
    GenAI(),
    VectorStore(),
    BareGenAI(),
)
"""In the order of identification; the first that claims a span reads it."""


def read_span(span: Span, logs: Sequence[LogRecord] = (), root: ReferenceRoot | None = None) -> Reading:
    """All the span and its log records say; of an unknown span only where it stands and for whom. Never raises.

    `root` is where content that the sender uploaded may be read; without it such content is flagged.
    """
    span, records = resolve(span, tuple(logs), root)
    dialect = next((dialect for dialect in DIALECTS if dialect.claims(span, records)), None)
    try:
        reading = _of_no_dialect(span) if dialect is None else dialect.read(span, records)
    except RecursionError:  # structures nested beyond the interpreter's stack: nothing of them can be read
        reading = Reading(span=span_ref(span))
    feedback = (*read_span_feedback(span), *read_log_feedback(records))
    return replace(reading, feedback=(*reading.feedback, *feedback)) if feedback else reading


def _of_no_dialect(span: Span) -> Reading:
    return Reading(span=span_ref(span), context=context_around(span))


def read_spans(
    spans: Iterable[Span], logs: Iterable[LogRecord], root: ReferenceRoot | None = None
) -> tuple[Reading, ...]:
    """The reading of each span with its log records: those that carry its ids, and those that name its answer.

    Records are read in the order of their times; of equal times the order in which they are given is kept.
    """
    spans = tuple(spans)
    by_span: dict[tuple[str, str], list[LogRecord]] = defaultdict(list)
    for record in sorted(logs, key=lambda record: record.time_unix_nano or record.observed_time_unix_nano):
        by_span[record.trace_id, record.span_id].append(record)
    readings = [read_span(span, by_span.get((span.trace_id, span.span_id), ()), root) for span in spans]
    told = owners(readings, by_span.get(("", ""), ()))
    for index, span in enumerate(spans):
        key = (span.trace_id, span.span_id)
        if key in told:
            readings[index] = read_span(span, (*by_span.get(key, ()), *told[key]), root)
    return tuple(readings)


def read_logs_alone(records: Sequence[LogRecord]) -> tuple[Feedback, ...]:
    """The feedback among log records that came without their span."""
    return read_log_feedback(records)
