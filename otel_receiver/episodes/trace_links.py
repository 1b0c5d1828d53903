"""The loose ends of a trace: where another trace may go on, or may have begun.

A sender without a root makes one trace per model call; a session makes one per request. Each end is a hash that is the
same in every process, so a store can join them. Two ends belong together when the earlier one's `after_hash` equals the
later one's `before_hash`, the service is the same, and the conversation ids are equal or one is unknown. Joined traces
are then assembled together, which decides; a hash only proposes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from otel_receiver.episodes.calls import Call, is_made_id
from otel_receiver.episodes.keys import DIGEST_BYTES, PrefixTree, squeezed
from otel_receiver.episodes.links import Link
from otel_receiver.episodes.tree import SpanTree
from spanloop.records import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLink:
    """One loose end of one call; a call may have several."""

    trace_id: str
    span_id: str
    service_name: str | None
    before_hash: str | None = None
    """What the call continues, where that is not in its own trace."""
    after_hash: str | None = None
    """What a call that continues this one has for its `before_hash`."""
    conversation_id: str | None = None
    started_at: int | None = None


def call_links(calls: Sequence[Call], links: Mapping[Call, Link], prefixes: PrefixTree) -> tuple[CallLink, ...]:
    """The loose ends, in the order of the calls."""
    continued = {link.earlier for link in links.values() if _same_trace(link)}
    inside = {call for call, link in links.items() if _same_trace(link)}
    found: list[CallLink] = []
    for call in sorted(calls, key=lambda call: call.order):
        befores = () if call in inside else set(_befores(call, prefixes))
        ends = set() if call in continued and not call.report.detached else set(_afters(call, prefixes))
        afters = {*_record_ends(call), *_response_ends(call), *ends}
        found.extend(_end(call, before=before) for before in sorted(befores))
        found.extend(_end(call, after=after) for after in sorted(afters))
    return tuple(found)


def execution_links(tree: SpanTree) -> tuple[CallLink, ...]:
    """The loose ends of traces that hold executed tools and no model call: they belong to the call they carried out."""
    traces = {place.reading.span.trace_id for place in tree.places if place.reading.model_calls}
    return tuple(
        CallLink(
            trace_id=place.reading.span.trace_id,
            span_id=place.reading.span.span_id,
            service_name=tree.context(place).service_name,
            before_hash=_labelled("call", report.call_id),
            conversation_id=tree.context(place).conversation_id,
            started_at=place.reading.span.started_at,
        )
        for place in tree.places
        if place.reading.span.trace_id not in traces
        for report in place.reading.tool_executions
        if report.call_id
    )


def record_link(home: str, service_name: str | None, response_id: str) -> CallLink:
    """The loose end of log records that name only the answer they tell of; `home` is what they are kept under."""
    before = _labelled("record", response_id)
    return CallLink(trace_id=home, span_id="", service_name=service_name, before_hash=before)


def _same_trace(link: Link) -> bool:
    return link.earlier.ref.trace_id == link.later.ref.trace_id


def _end(call: Call, *, before: str | None = None, after: str | None = None) -> CallLink:
    return CallLink(
        trace_id=call.ref.trace_id,
        span_id=call.ref.span_id,
        service_name=call.context.service_name,
        before_hash=before,
        after_hash=after,
        conversation_id=call.context.conversation_id,
        started_at=call.ref.started_at,
    )


def _befores(call: Call, prefixes: PrefixTree) -> Iterator[str]:
    """Hashes of what the call may continue."""
    if call.report.response_id and not call.report.messages:
        yield _labelled("response", call.report.response_id)
    if call.report.continues_response_id:
        yield _labelled("response", call.report.continues_response_id)
    yield from _kept_conversation(call)
    if _is_rootless(call) and call.report.messages:
        yield _labelled("retry", prefixes.digest(prefixes.end(call.body)))
    answer = next((i for i in reversed(range(len(call.body))) if call.body[i].role is Role.ASSISTANT), None)
    if answer is not None and _needs_predecessor(call, answer):
        yield prefixes.digest(prefixes.end(call.body[: answer + 1]))
        yield _labelled("asked", prefixes.digest(prefixes.end(call.body[:answer])))
    if answer and _is_rootless(call):
        asked = prefixes.digest(prefixes.end(call.body[:answer]))
        yield from {_open(asked, text) for text in ("", call.body[answer].text)}
    yield from (_labelled("call", call_id) for call_id in _orphans(call))


def _afters(call: Call, prefixes: PrefixTree) -> Iterator[str]:
    """Hashes by which another call may continue this one."""
    yield from _kept_conversation(call)
    end = prefixes.end(call.body)
    asks_again = (_is_rootless(call) and call.attempt_failed) or call.report.detached
    if asks_again and call.report.messages:
        yield _labelled("retry", prefixes.digest(end))
    if _is_rootless(call) and call.report.messages and _is_open(call):
        yield _open(prefixes.digest(end), call.output.text if call.output is not None else "")
    is_untold = call.output is None and not call.ref.failed
    if call.report.messages and (is_untold or call.report.lossy_answer):
        yield _labelled("asked", prefixes.digest(end))
    if call.output is None or not call.report.messages:
        return
    yield prefixes.digest(prefixes.child(end, prefixes.key(call.output)))
    yield from (_labelled("call", part.id) for part in call.output.tool_calls if not is_made_id(part.id))


def _kept_conversation(call: Call) -> Iterator[str]:
    """Hash of the conversation that the provider keeps: each call goes on from the one before it."""
    if call.report.continues_conversation and call.context.conversation_id:
        yield _labelled("conversation", call.context.conversation_id)


def _is_open(call: Call) -> bool:
    return call.broken_off or (call.output is None and not call.ref.failed)


def _open(asked: str, text: str) -> str:
    """Hash of a prompt whose answer is not known to be whole: a history that goes on from it has the rest."""
    return _labelled("open", f"{asked} {squeezed(text)}")


def _response_ends(call: Call) -> Iterator[str]:
    """Hash by which the client's own span of the call finds it, whether or not another call continues it."""
    if call.report.response_id:
        yield _labelled("response", call.report.response_id)


def _record_ends(call: Call) -> Iterator[str]:
    """Hash by which log records without ids find the call, whether or not another call continues it."""
    if call.report.records_apart and call.report.response_id:
        yield _labelled("record", call.report.response_id)


def _needs_predecessor(call: Call, answer: int) -> bool:
    """Whether the earlier trace changes anything here: a known conversation's new request stands by itself.

    It does not where the sender's histories lose what earlier answers said, or have calls whose ids were made here.
    """
    if call.report.lossy_history or _has_made_ids(call):
        return True
    new_request = any(message.role is Role.USER for message in call.body[answer + 1 :])
    return not (new_request and not call.body[answer].tool_calls and call.context.conversation_id is not None)


def _orphans(call: Call) -> Iterator[str]:
    """Ids of the calls that tool results answer and the history lacks."""
    known: set[str] = set()
    for message in call.body:
        known.update(part.id for part in message.tool_calls)
        result = message.tool_result
        if result is not None and result.call_id and result.call_id not in known and not is_made_id(result.call_id):
            yield result.call_id


def _is_rootless(call: Call) -> bool:
    return call.place.reading.span.parent_span_id is None


def _labelled(label: str, text: str) -> str:
    return hashlib.blake2b(f"{label}:{text}".encode(), digest_size=DIGEST_BYTES).hexdigest()


def _has_made_ids(call: Call) -> bool:
    """Whether its history's calls came without ids: those made for them are named after the calls' own spans."""
    return any(is_made_id(part.id) for message in call.body for part in message.tool_calls)
