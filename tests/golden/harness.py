"""Run captured payloads through the receiver's own stages and show the episodes as the golden files write them.

A tag has any number of payloads, `payloads/<tag>.traces*.pb` and `payloads/<tag>.logs*.pb`, and one golden file,
`expected/<tag>.json`, written by hand from the scenario and from what the payload carries.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from otel_receiver.config import LimitsConfig
from otel_receiver.dialects.base import Reading
from otel_receiver.dialects.registry import read_logs_alone, read_spans
from otel_receiver.episodes.assemble import assemble
from otel_receiver.otlp import parse_logs, parse_traces
from otel_receiver.spans import LogRecord, Span
from spanloop.convert import messages_to_chat, tools_to_chat
from spanloop.records import EndReason, Episode, Feedback, QualityFlag, Step

HERE = Path(__file__).parent
PAYLOADS = HERE / "payloads"
EXPECTED = HERE / "expected"
EPISODE_KEYS = ("conversation_id", "user_id", "agent_name", "service_name", "dialect", "model")
USAGE_KEYS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


def tags() -> list[str]:
    """Every tag that has a payload."""
    return sorted({path.name.split(".")[0] for path in PAYLOADS.glob("*.pb")})


def load(tag: str) -> tuple[list[Span], list[LogRecord]]:
    """The spans and log records of a tag, in the order of the wire."""
    limits = LimitsConfig()
    traces, logs = sorted(PAYLOADS.glob(f"{tag}.traces*.pb")), sorted(PAYLOADS.glob(f"{tag}.logs*.pb"))
    spans = [span for path in traces for span in parse_traces(path.read_bytes(), limits).records]
    return spans, [record for path in logs for record in parse_logs(path.read_bytes(), limits).records]


def read(spans: list[Span], logs: list[LogRecord]) -> list[Reading]:
    """The readings of spans with their log records."""
    return list(read_spans(spans, logs))


def derive(tag: str) -> tuple[list[Episode], list[Feedback]]:
    """The episodes of a tag by time, and all its feedback."""
    spans, logs = load(tag)
    derivation = assemble(read(spans, logs), EndReason.IMPORTED)
    known = {(span.trace_id, span.span_id) for span in spans}
    alone = read_logs_alone([record for record in logs if (record.trace_id, record.span_id) not in known])
    return by_time(derivation.episodes), [*derivation.feedback, *alone]


def by_time(episodes: Iterable[Episode]) -> list[Episode]:
    """Episodes in the order of the golden files."""
    return sorted(episodes, key=lambda episode: (episode.started_at or 0, episode.episode_id))


def golden(tag: str) -> dict[str, object]:
    """What the receiver must make of a tag: its golden file without the words about the instrumentation."""
    return {key: value for key, value in expected(tag).items() if key != "instrumentation"}


def expected(tag: str) -> dict[str, object]:
    """The golden file of a tag; a long text stands once under `texts`, and as `$name` wherever it is repeated."""
    written = json.loads((EXPECTED / f"{tag}.json").read_text())
    return _filled(written, {f"${name}": text for name, text in written.pop("texts", {}).items()})


def _filled(value: object, texts: dict[str, str]) -> object:
    """The value with each `$name` as the text it stands for."""
    if isinstance(value, dict):
        return {key: _filled(inner, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, texts) for inner in value]
    return texts.get(value, value) if isinstance(value, str) else value


def show(tag: str) -> dict[str, object]:
    """What the receiver makes of a tag, in the form of its golden file."""
    return shown(*derive(tag))


def shown(episodes: list[Episode], feedback: list[Feedback]) -> dict[str, object]:
    """Episodes in their order, and feedback, in the form of a golden file."""
    form: dict[str, object] = {"episodes": [_episode(episode, episodes) for episode in episodes]}
    if feedback:
        form["feedback"] = sorted((_feedback(item) for item in feedback), key=json.dumps)
    return form


def _episode(episode: Episode, episodes: list[Episode]) -> dict[str, object]:
    shown: dict[str, object] = {key: getattr(episode, key) for key in EPISODE_KEYS}
    if QualityFlag.CONVERSATION_INFERRED in episode.quality_flags:
        made = list(dict.fromkeys(other.conversation_id for other in episodes))
        shown["conversation_id"] = f"inferred {made.index(episode.conversation_id)}"
    shown["status"] = str(episode.status)
    shown["quality_flags"] = sorted(episode.quality_flags)
    if episode.parent_episode_id is not None:
        ids = [other.episode_id for other in episodes]
        shown["parent"] = {"episode": ids.index(episode.parent_episode_id), "call_id": episode.parent_call_id}
    shown["steps"] = [_step(step) for step in episode.steps]
    return shown


def _step(step: Step) -> dict[str, object]:
    shown: dict[str, object] = {
        "messages": messages_to_chat(step.messages),
        "tools": None if step.tools is None else tools_to_chat(step.tools),
        "action": None if step.action is None else messages_to_chat([step.action])[0],
        "observations": messages_to_chat(step.observations),
        "finish_reason": step.finish_reason,
        "model": step.model,
        "response_model": step.response_model,
        "usage": {key: getattr(step.usage, key) for key in USAGE_KEYS},
        "trainable": step.trainable,
        "quality_flags": sorted(step.quality_flags),
    }
    if step.error is not None:
        shown["error"] = step.error
    return shown


def _feedback(item: Feedback) -> dict[str, object]:
    keys = ("name", "score", "label", "comment", "source", "trace_id", "span_id", "response_id", "conversation_id")
    return {key: getattr(item, key) for key in keys if getattr(item, key) is not None}
