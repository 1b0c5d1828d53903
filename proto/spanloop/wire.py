"""Records to protobuf and back, without loss: how episodes travel between processes.

Text that UTF-8 cannot hold (lone surrogates, which only JSON escapes can produce) becomes U+FFFD.
Generated messages stay behind these functions: they are mutable and check nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

from google.protobuf.message import DecodeError

from spanloop.records import (
    EndReason,
    Episode,
    EpisodeStatus,
    Feedback,
    MediaKind,
    MediaPart,
    Message,
    Part,
    QualityFlag,
    ReasoningPart,
    Role,
    Step,
    TextPart,
    ToolCall,
    ToolDefinition,
    ToolResult,
    ToolStatus,
    Usage,
)
from spanloop.v1 import episode_pb2 as pb

Item = TypeVar("Item", bound=Hashable)

_ROLES = {item: f"ROLE_{item.name}" for item in Role}
_MEDIA = {item: f"MEDIA_KIND_{item.name}" for item in MediaKind}
_TOOL_STATUSES = {item: f"TOOL_STATUS_{item.name}" for item in ToolStatus}
_EPISODE_STATUSES = {item: f"EPISODE_STATUS_{item.name}" for item in EpisodeStatus}
_END_REASONS = {item: f"END_REASON_{item.name}" for item in EndReason}
_FLAGS = {item: f"QUALITY_FLAG_{item.name}" for item in QualityFlag}
_ROLES_BACK = {int(pb.Role.Value(name)): item for item, name in _ROLES.items()}
_MEDIA_BACK = {int(pb.MediaKind.Value(name)): item for item, name in _MEDIA.items()}
_TOOL_STATUSES_BACK = {int(pb.ToolStatus.Value(name)): item for item, name in _TOOL_STATUSES.items()}
_EPISODE_STATUSES_BACK = {int(pb.EpisodeStatus.Value(name)): item for item, name in _EPISODE_STATUSES.items()}
_END_REASONS_BACK = {int(pb.EndReason.Value(name)): item for item, name in _END_REASONS.items()}
_FLAGS_BACK = {int(pb.QualityFlag.Value(name)): item for item, name in _FLAGS.items()}


class WireFormError(ValueError):
    """Bytes that are no record of this contract version."""


def utf8_text(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, so that it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        # UTF-16 joins two halves of one character that were escaped apart; what is left alone is replaced.
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def episode_to_bytes(episode: Episode) -> bytes:
    """The protobuf bytes of an episode; each message and tool list is in them once."""
    return episode_to_proto(episode).SerializeToString()


def episode_from_bytes(data: bytes) -> Episode:
    """The episode of `episode_to_bytes`; raises WireFormError on other bytes and on values of a newer contract."""
    try:
        return episode_from_proto(pb.Episode.FromString(data))
    except (DecodeError, KeyError, IndexError, ValueError) as error:
        raise WireFormError(f"episode bytes: {error!r}; update the reader if the writer is newer") from error


def message_to_bytes(message: Message) -> bytes:
    """The protobuf bytes of one message."""
    return _message_to_proto(message).SerializeToString()


def message_from_bytes(data: bytes) -> Message:
    """The message of `message_to_bytes`; raises WireFormError on other bytes."""
    try:
        return _message_from_proto(pb.Message.FromString(data))
    except (DecodeError, KeyError, ValueError) as error:
        raise WireFormError(f"message bytes: {error!r}; update the reader if the writer is newer") from error


def tools_to_bytes(tools: Sequence[ToolDefinition]) -> bytes:
    """The protobuf bytes of a tool list."""
    return _tools_to_proto(tools).SerializeToString()


def tools_from_bytes(data: bytes) -> tuple[ToolDefinition, ...]:
    """The tools of `tools_to_bytes`; raises WireFormError on other bytes."""
    try:
        return _tools_from_proto(pb.ToolList.FromString(data))
    except (DecodeError, ValueError) as error:
        raise WireFormError(f"tool list bytes: {error!r}; update the reader if the writer is newer") from error


def episode_to_proto(episode: Episode) -> pb.Episode:
    """The generated message of an episode."""
    messages: dict[Message, int] = {}
    tools: dict[tuple[ToolDefinition, ...], int] = {}
    steps = [_step_to_proto(step, messages, tools) for step in episode.steps]
    return pb.Episode(
        episode_id=utf8_text(episode.episode_id),
        conversation_id=_optional(episode.conversation_id),
        user_id=_optional(episode.user_id),
        agent_name=_optional(episode.agent_name),
        service_name=_optional(episode.service_name),
        model=_optional(episode.model),
        dialect=utf8_text(episode.dialect),
        started_at=episode.started_at,
        ended_at=episode.ended_at,
        status=_EPISODE_STATUSES[episode.status],
        end_reason=_END_REASONS[episode.end_reason],
        parent_episode_id=_optional(episode.parent_episode_id),
        parent_call_id=_optional(episode.parent_call_id),
        steps=steps,
        quality_flags=sorted(_FLAGS[flag] for flag in episode.quality_flags),
        message_table=map(_message_to_proto, messages),
        tools_table=map(_tools_to_proto, tools),
    )


def episode_from_proto(proto: pb.Episode) -> Episode:
    """The record of a generated message; raises KeyError, IndexError or ValueError where it is none."""
    messages = tuple(map(_message_from_proto, proto.message_table))
    tools = tuple(map(_tools_from_proto, proto.tools_table))
    return Episode(
        episode_id=proto.episode_id,
        conversation_id=proto.conversation_id if proto.HasField("conversation_id") else None,
        user_id=proto.user_id if proto.HasField("user_id") else None,
        agent_name=proto.agent_name if proto.HasField("agent_name") else None,
        service_name=proto.service_name if proto.HasField("service_name") else None,
        model=proto.model if proto.HasField("model") else None,
        dialect=proto.dialect,
        started_at=proto.started_at if proto.HasField("started_at") else None,
        ended_at=proto.ended_at if proto.HasField("ended_at") else None,
        status=_EPISODE_STATUSES_BACK[proto.status],
        end_reason=_END_REASONS_BACK[proto.end_reason],
        parent_episode_id=proto.parent_episode_id if proto.HasField("parent_episode_id") else None,
        parent_call_id=proto.parent_call_id if proto.HasField("parent_call_id") else None,
        steps=tuple(_step_from_proto(step, messages, tools) for step in proto.steps),
        quality_flags=frozenset(_FLAGS_BACK[flag] for flag in proto.quality_flags),
    )


def _optional(text: str | None) -> str | None:
    return None if text is None else utf8_text(text)


def _position(table: dict[Item, int], item: Item) -> int:
    """The place of an item in a table that lists each once, in order of first use."""
    return table.setdefault(item, len(table))


def _step_to_proto(step: Step, messages: dict[Message, int], tools: dict[tuple[ToolDefinition, ...], int]) -> pb.Step:
    return pb.Step(
        step_index=step.step_index,
        messages=[_position(messages, message) for message in step.messages],
        tools=None if step.tools is None else _position(tools, step.tools),
        action=None if step.action is None else _position(messages, step.action),
        observations=[_position(messages, message) for message in step.observations],
        finish_reason=_optional(step.finish_reason),
        model=_optional(step.model),
        response_model=_optional(step.response_model),
        response_id=_optional(step.response_id),
        usage=_usage_to_proto(step.usage),
        dialect=utf8_text(step.dialect),
        trace_id=step.trace_id,
        span_id=step.span_id,
        merged_span_ids=step.merged_span_ids,
        started_at=step.started_at,
        ended_at=step.ended_at,
        error=_optional(step.error),
        quality_flags=sorted(_FLAGS[flag] for flag in step.quality_flags),
    )


def _step_from_proto(proto: pb.Step, messages: Sequence[Message], tools: Sequence[tuple[ToolDefinition, ...]]) -> Step:
    return Step(
        step_index=proto.step_index,
        messages=tuple(messages[position] for position in proto.messages),
        tools=tools[proto.tools] if proto.HasField("tools") else None,
        action=messages[proto.action] if proto.HasField("action") else None,
        observations=tuple(messages[position] for position in proto.observations),
        finish_reason=proto.finish_reason if proto.HasField("finish_reason") else None,
        model=proto.model if proto.HasField("model") else None,
        response_model=proto.response_model if proto.HasField("response_model") else None,
        response_id=proto.response_id if proto.HasField("response_id") else None,
        usage=_usage_from_proto(proto.usage),
        dialect=proto.dialect,
        trace_id=proto.trace_id,
        span_id=proto.span_id,
        merged_span_ids=tuple(proto.merged_span_ids),
        started_at=proto.started_at if proto.HasField("started_at") else None,
        ended_at=proto.ended_at if proto.HasField("ended_at") else None,
        error=proto.error if proto.HasField("error") else None,
        quality_flags=frozenset(_FLAGS_BACK[flag] for flag in proto.quality_flags),
    )


def _usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
    )


def _usage_from_proto(proto: pb.Usage) -> Usage:
    return Usage(
        input_tokens=proto.input_tokens if proto.HasField("input_tokens") else None,
        output_tokens=proto.output_tokens if proto.HasField("output_tokens") else None,
        cache_read_tokens=proto.cache_read_tokens if proto.HasField("cache_read_tokens") else None,
        cache_write_tokens=proto.cache_write_tokens if proto.HasField("cache_write_tokens") else None,
        reasoning_tokens=proto.reasoning_tokens if proto.HasField("reasoning_tokens") else None,
    )


def _message_to_proto(message: Message) -> pb.Message:
    return pb.Message(role=_ROLES[message.role], parts=map(_part_to_proto, message.parts), name=_optional(message.name))


def _message_from_proto(proto: pb.Message) -> Message:
    return Message(
        role=_ROLES_BACK[proto.role],
        parts=tuple(map(_part_from_proto, proto.parts)),
        name=proto.name if proto.HasField("name") else None,
    )


def _part_to_proto(part: Part) -> pb.Part:
    if isinstance(part, TextPart):
        return pb.Part(text=pb.TextPart(text=utf8_text(part.text)))
    if isinstance(part, ReasoningPart):
        return pb.Part(reasoning=pb.ReasoningPart(text=utf8_text(part.text), signature=_optional(part.signature)))
    if isinstance(part, MediaPart):
        return pb.Part(
            media=pb.MediaPart(
                kind=_MEDIA[part.kind],
                mime_type=_optional(part.mime_type),
                sha256=part.sha256,
                uri=_optional(part.uri),
            )
        )
    if isinstance(part, ToolCall):
        return pb.Part(
            tool_call=pb.ToolCall(id=utf8_text(part.id), name=utf8_text(part.name), arguments=utf8_text(part.arguments))
        )
    return pb.Part(
        tool_result=pb.ToolResult(
            call_id=utf8_text(part.call_id),
            content=utf8_text(part.content),
            name=_optional(part.name),
            status=_TOOL_STATUSES[part.status],
        )
    )


def _part_from_proto(proto: pb.Part) -> Part:
    kind = proto.WhichOneof("part")
    if kind == "text":
        return TextPart(text=proto.text.text)
    if kind == "reasoning":
        reasoning = proto.reasoning
        return ReasoningPart(
            text=reasoning.text, signature=reasoning.signature if reasoning.HasField("signature") else None
        )
    if kind == "media":
        return _media_from_proto(proto.media)
    if kind == "tool_call":
        call = proto.tool_call
        return ToolCall(id=call.id, name=call.name, arguments=call.arguments)
    if kind == "tool_result":
        return _result_from_proto(proto.tool_result)
    raise ValueError("message part: none of the kinds this contract version knows")


def _media_from_proto(media: pb.MediaPart) -> MediaPart:
    return MediaPart(
        kind=_MEDIA_BACK[media.kind],
        mime_type=media.mime_type if media.HasField("mime_type") else None,
        sha256=media.sha256 if media.HasField("sha256") else None,
        uri=media.uri if media.HasField("uri") else None,
    )


def _result_from_proto(result: pb.ToolResult) -> ToolResult:
    return ToolResult(
        call_id=result.call_id,
        content=result.content,
        name=result.name if result.HasField("name") else None,
        status=_TOOL_STATUSES_BACK[result.status],
    )


def _tools_to_proto(tools: Sequence[ToolDefinition]) -> pb.ToolList:
    return pb.ToolList(
        tools=[
            pb.ToolDefinition(
                name=utf8_text(tool.name),
                description=_optional(tool.description),
                parameters=_optional(tool.parameters),
            )
            for tool in tools
        ]
    )


def _tools_from_proto(proto: pb.ToolList) -> tuple[ToolDefinition, ...]:
    return tuple(
        ToolDefinition(
            name=tool.name,
            description=tool.description if tool.HasField("description") else None,
            parameters=tool.parameters if tool.HasField("parameters") else None,
        )
        for tool in proto.tools
    )


def feedback_to_proto(feedback: Feedback) -> pb.Feedback:
    """The generated message of a judgement."""
    return pb.Feedback(
        feedback_id=utf8_text(feedback.feedback_id),
        name=utf8_text(feedback.name),
        score=feedback.score,
        label=_optional(feedback.label),
        comment=_optional(feedback.comment),
        source=_optional(feedback.source),
        trace_id=_optional(feedback.trace_id),
        span_id=_optional(feedback.span_id),
        response_id=_optional(feedback.response_id),
        conversation_id=_optional(feedback.conversation_id),
        received_at=feedback.received_at,
    )


def feedback_from_proto(proto: pb.Feedback) -> Feedback:
    """The record of a generated message; raises ValueError where it judges nothing."""
    return Feedback(
        feedback_id=proto.feedback_id,
        name=proto.name,
        score=proto.score if proto.HasField("score") else None,
        label=proto.label if proto.HasField("label") else None,
        comment=proto.comment if proto.HasField("comment") else None,
        source=proto.source if proto.HasField("source") else None,
        trace_id=proto.trace_id if proto.HasField("trace_id") else None,
        span_id=proto.span_id if proto.HasField("span_id") else None,
        response_id=proto.response_id if proto.HasField("response_id") else None,
        conversation_id=proto.conversation_id if proto.HasField("conversation_id") else None,
        received_at=proto.received_at if proto.HasField("received_at") else None,
    )
