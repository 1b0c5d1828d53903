"""Vector-store queries: database spans that an instrumentation of a store wrote. They are no tool of the model."""

from __future__ import annotations

from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.fields import context_of
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.spans import LogRecord, Span

_KEYS = ("db.query.retrieved_documents", "db.collection.name", "db.vector.query.top_k")


class VectorStore:
    """Queries of Chroma, Pinecone, Qdrant and their like."""

    name = "vector_store"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span is a query of a vector store."""
        del logs
        return any(key in span.attributes for key in _KEYS)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """Where the span stands: what was retrieved reaches the model in a message, and is read there."""
        del logs
        return Reading(span=span_ref(span), context=context_of(span, self.name))
