"""One export request and its answer, whatever the transport: authentication, admission, intake, errors to codes.

The code decides what a Collector does: it drops a batch for good on INTERNAL, UNKNOWN and INVALID_ARGUMENT, and keeps
and resends it on UNAVAILABLE. So anything unexpected of ours is UNAVAILABLE.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from google.protobuf.message import Message
from google.rpc import (  # type: ignore[import-untyped]  # generated code that is shipped without stubs
    code_pb2,
    error_details_pb2,
    status_pb2,
)

from otel_receiver.config import LimitsConfig
from otel_receiver.errors import MalformedRequest, Overloaded, RequestTooLarge, RetryableError
from otel_receiver.ingest_log import Signal
from otel_receiver.intake import Intake
from otel_receiver.otlp import Checked, answer, answer_metrics
from otel_receiver.server.admission import Admission
from otel_receiver.server.auth import Tokens
from otel_receiver.telemetry import Telemetry

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request was refused, as google.rpc has it."""

    code: int
    message: str
    cause: str
    """For the counter; a closed choice."""
    retry_after_s: float | None = None
    """Set for everything that may be sent again."""

    def status(self) -> status_pb2.Status:
        """The body OTLP demands of an error."""
        status = status_pb2.Status(code=self.code, message=self.message)
        if self.retry_after_s is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromNanoseconds(int(self.retry_after_s * 1e9))
            status.details.add().Pack(info)
        return status


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What both servers need to answer a request."""

    intake: Intake
    admission: Admission
    tokens: Tokens
    limits: LimitsConfig
    telemetry: Telemetry

    def export(self, signal: Signal | None, body: bytes, protocol: str, *, is_json: bool = False) -> Message | Refusal:
        """OTLP's answer to a request of a signal (None: metrics); never raises."""
        try:
            with self.admission.admit(len(body)):
                response = self._take(signal, body, is_json=is_json)
        # The boundary: an exception that escapes here would make a Collector drop the batch for good.
        except Exception as error:  # noqa: BLE001
            return self.refuse(error, signal)
        self.telemetry.requests.add(1, {"signal": _name(signal), "protocol": protocol})
        return response

    def authorise(self, authorization: str | None, signal: Signal | None) -> Refusal | None:
        """A refusal unless the `authorization` header carries a token that is let in."""
        if self.tokens.allow(authorization):
            return None
        message = "no valid bearer token; send the header 'authorization: Bearer TOKEN'"
        return self.count(Refusal(code=code_pb2.UNAUTHENTICATED, message=message, cause="unauthenticated"), signal)

    def refuse(self, error: Exception, signal: Signal | None) -> Refusal:
        """The refusal an error asks for, counted; an unexpected one is logged without any content of the request."""
        if isinstance(error, MalformedRequest):
            refusal = Refusal(code=code_pb2.INVALID_ARGUMENT, message=self._cut(error), cause="malformed")
        elif isinstance(error, RequestTooLarge):
            refusal = Refusal(code=code_pb2.RESOURCE_EXHAUSTED, message=self._cut(error), cause="too_large")
        elif isinstance(error, RetryableError):
            cause = "overloaded" if isinstance(error, Overloaded) else "log"
            refusal = self._retryable(self._cut(error), cause)
        else:
            logger.error("request failed signal=%s error=%s", _name(signal), type(error).__name__)
            refusal = self._retryable("the receiver failed unexpectedly; send again", "unexpected")
        return self.count(refusal, signal)

    def count(self, refusal: Refusal, signal: Signal | None) -> Refusal:
        """The refusal, counted."""
        self.telemetry.refusals.add(1, {"signal": _name(signal), "cause": refusal.cause})
        return refusal

    def _take(self, signal: Signal | None, body: bytes, *, is_json: bool) -> Message:
        if signal is None:
            self.intake.count_metrics(body, is_json=is_json)
            return answer_metrics()
        checked: Checked = self.intake.receive(signal, body, is_json=is_json)
        return answer(signal, checked, self.limits)

    def _retryable(self, message: str, cause: str) -> Refusal:
        delay = self.admission.retry_delay_s()
        return Refusal(code=code_pb2.UNAVAILABLE, message=message, cause=cause, retry_after_s=delay)

    def _cut(self, error: Exception) -> str:
        return str(error)[: self.limits.error_message_bytes_max]


def _name(signal: Signal | None) -> str:
    return str(signal) if signal else "metrics"
