"""Pydantic Evals: a data set's cases, the task of each, and the evaluators that judge it.

Source: pydantic-evals, `dataset.py`. What the evaluators found stands on the case's span, by kind; a judge's own model
calls run inside its evaluator's span.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_receiver.dialects.base import AgentRun, Reading
from otel_receiver.dialects.feedback import judgement
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.json_text import read_structured
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.values import as_mapping, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Feedback

SCOPE = "pydantic-evals"
KINDS = {"assertions": "score", "scores": "score", "labels": "label"}
"""The case's attributes that hold findings, and what their values are: an assertion that holds scores 1."""
_EVALUATOR = "evaluator: "


class PydanticEvals:
    """Spans of Pydantic Evals."""

    name = "pydantic_ai"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether Pydantic Evals wrote the span."""
        del logs
        return span.scope_name == SCOPE

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """A step around the task's calls, or around a judge's, which are not the policy's."""
        del logs
        return Reading(
            span=span_ref(span),
            context=context_of(span, self.name),
            agent=AgentRun(is_agent=False, auxiliary=span.name.startswith(_EVALUATOR)),
            feedback=tuple(_findings(span)),
        )


def _findings(span: Span) -> Iterator[Feedback]:
    """What the evaluators found about the task of the case, whose span this is."""
    for kind, field in KINDS.items():
        for name, finding in (as_mapping(read_structured(span.attributes.get(kind)).value) or {}).items():
            found = as_mapping(finding) or {}
            told = {
                "name": name,
                field: found.get("value"),
                "explanation": found.get("reason"),
                "annotator_kind": first_word(as_mapping(found.get("source")) or {}, "name"),
            }
            key = f"{span.trace_id}{span.span_id}{kind}{name}"
            target = {"trace_id": span.trace_id, "span_id": span.span_id}
            feedback = judgement(key, told, target, span.end_time_unix_nano or None)
            if feedback is not None:
                yield feedback
