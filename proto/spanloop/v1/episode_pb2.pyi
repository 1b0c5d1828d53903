from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Role(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ROLE_UNSPECIFIED: _ClassVar[Role]
    ROLE_SYSTEM: _ClassVar[Role]
    ROLE_DEVELOPER: _ClassVar[Role]
    ROLE_USER: _ClassVar[Role]
    ROLE_ASSISTANT: _ClassVar[Role]
    ROLE_TOOL: _ClassVar[Role]

class MediaKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MEDIA_KIND_UNSPECIFIED: _ClassVar[MediaKind]
    MEDIA_KIND_IMAGE: _ClassVar[MediaKind]
    MEDIA_KIND_AUDIO: _ClassVar[MediaKind]
    MEDIA_KIND_VIDEO: _ClassVar[MediaKind]
    MEDIA_KIND_DOCUMENT: _ClassVar[MediaKind]
    MEDIA_KIND_FILE: _ClassVar[MediaKind]

class ToolStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TOOL_STATUS_UNSPECIFIED: _ClassVar[ToolStatus]
    TOOL_STATUS_OK: _ClassVar[ToolStatus]
    TOOL_STATUS_ERROR: _ClassVar[ToolStatus]
    TOOL_STATUS_UNKNOWN: _ClassVar[ToolStatus]
    TOOL_STATUS_MISSING: _ClassVar[ToolStatus]

class EpisodeStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EPISODE_STATUS_UNSPECIFIED: _ClassVar[EpisodeStatus]
    EPISODE_STATUS_OK: _ClassVar[EpisodeStatus]
    EPISODE_STATUS_ERROR: _ClassVar[EpisodeStatus]
    EPISODE_STATUS_INCOMPLETE: _ClassVar[EpisodeStatus]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_ROOT_ENDED: _ClassVar[EndReason]
    END_REASON_END_MARKER: _ClassVar[EndReason]
    END_REASON_IDLE_TIMEOUT: _ClassVar[EndReason]
    END_REASON_IMPORTED: _ClassVar[EndReason]
    END_REASON_LIMIT: _ClassVar[EndReason]

class QualityFlag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUALITY_FLAG_UNSPECIFIED: _ClassVar[QualityFlag]
    QUALITY_FLAG_PROMPT_TRUNCATED: _ClassVar[QualityFlag]
    QUALITY_FLAG_CONTENT_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_CONTENT_REDACTED: _ClassVar[QualityFlag]
    QUALITY_FLAG_CONTENT_REFERENCED: _ClassVar[QualityFlag]
    QUALITY_FLAG_MEDIA_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_MESSAGE_UNPARSED: _ClassVar[QualityFlag]
    QUALITY_FLAG_TOOLS_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_TOOLS_INFERRED: _ClassVar[QualityFlag]
    QUALITY_FLAG_TOOLS_INCOMPLETE: _ClassVar[QualityFlag]
    QUALITY_FLAG_IDS_SYNTHESISED: _ClassVar[QualityFlag]
    QUALITY_FLAG_TOOL_RESULT_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_AMBIGUOUS_MATCH: _ClassVar[QualityFlag]
    QUALITY_FLAG_ARGUMENTS_ALTERED: _ClassVar[QualityFlag]
    QUALITY_FLAG_OUTPUT_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_OUTPUT_TRUNCATED: _ClassVar[QualityFlag]
    QUALITY_FLAG_MODEL_CALL_FAILED: _ClassVar[QualityFlag]
    QUALITY_FLAG_RETRIED: _ClassVar[QualityFlag]
    QUALITY_FLAG_HISTORY_REPAIRED: _ClassVar[QualityFlag]
    QUALITY_FLAG_HISTORY_INCONSISTENT: _ClassVar[QualityFlag]
    QUALITY_FLAG_ROOT_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_CONVERSATION_INFERRED: _ClassVar[QualityFlag]
    QUALITY_FLAG_CLOCK_SKEW: _ClassVar[QualityFlag]
    QUALITY_FLAG_TIME_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_DUPLICATE_MERGED: _ClassVar[QualityFlag]
    QUALITY_FLAG_NOT_POLICY: _ClassVar[QualityFlag]
    QUALITY_FLAG_TRACE_TRUNCATED: _ClassVar[QualityFlag]
    QUALITY_FLAG_SYSTEM_MISSING: _ClassVar[QualityFlag]
    QUALITY_FLAG_TEXT_DROPPED: _ClassVar[QualityFlag]
ROLE_UNSPECIFIED: Role
ROLE_SYSTEM: Role
ROLE_DEVELOPER: Role
ROLE_USER: Role
ROLE_ASSISTANT: Role
ROLE_TOOL: Role
MEDIA_KIND_UNSPECIFIED: MediaKind
MEDIA_KIND_IMAGE: MediaKind
MEDIA_KIND_AUDIO: MediaKind
MEDIA_KIND_VIDEO: MediaKind
MEDIA_KIND_DOCUMENT: MediaKind
MEDIA_KIND_FILE: MediaKind
TOOL_STATUS_UNSPECIFIED: ToolStatus
TOOL_STATUS_OK: ToolStatus
TOOL_STATUS_ERROR: ToolStatus
TOOL_STATUS_UNKNOWN: ToolStatus
TOOL_STATUS_MISSING: ToolStatus
EPISODE_STATUS_UNSPECIFIED: EpisodeStatus
EPISODE_STATUS_OK: EpisodeStatus
EPISODE_STATUS_ERROR: EpisodeStatus
EPISODE_STATUS_INCOMPLETE: EpisodeStatus
END_REASON_UNSPECIFIED: EndReason
END_REASON_ROOT_ENDED: EndReason
END_REASON_END_MARKER: EndReason
END_REASON_IDLE_TIMEOUT: EndReason
END_REASON_IMPORTED: EndReason
END_REASON_LIMIT: EndReason
QUALITY_FLAG_UNSPECIFIED: QualityFlag
QUALITY_FLAG_PROMPT_TRUNCATED: QualityFlag
QUALITY_FLAG_CONTENT_MISSING: QualityFlag
QUALITY_FLAG_CONTENT_REDACTED: QualityFlag
QUALITY_FLAG_CONTENT_REFERENCED: QualityFlag
QUALITY_FLAG_MEDIA_MISSING: QualityFlag
QUALITY_FLAG_MESSAGE_UNPARSED: QualityFlag
QUALITY_FLAG_TOOLS_MISSING: QualityFlag
QUALITY_FLAG_TOOLS_INFERRED: QualityFlag
QUALITY_FLAG_TOOLS_INCOMPLETE: QualityFlag
QUALITY_FLAG_IDS_SYNTHESISED: QualityFlag
QUALITY_FLAG_TOOL_RESULT_MISSING: QualityFlag
QUALITY_FLAG_AMBIGUOUS_MATCH: QualityFlag
QUALITY_FLAG_ARGUMENTS_ALTERED: QualityFlag
QUALITY_FLAG_OUTPUT_MISSING: QualityFlag
QUALITY_FLAG_OUTPUT_TRUNCATED: QualityFlag
QUALITY_FLAG_MODEL_CALL_FAILED: QualityFlag
QUALITY_FLAG_RETRIED: QualityFlag
QUALITY_FLAG_HISTORY_REPAIRED: QualityFlag
QUALITY_FLAG_HISTORY_INCONSISTENT: QualityFlag
QUALITY_FLAG_ROOT_MISSING: QualityFlag
QUALITY_FLAG_CONVERSATION_INFERRED: QualityFlag
QUALITY_FLAG_CLOCK_SKEW: QualityFlag
QUALITY_FLAG_TIME_MISSING: QualityFlag
QUALITY_FLAG_DUPLICATE_MERGED: QualityFlag
QUALITY_FLAG_NOT_POLICY: QualityFlag
QUALITY_FLAG_TRACE_TRUNCATED: QualityFlag
QUALITY_FLAG_SYSTEM_MISSING: QualityFlag
QUALITY_FLAG_TEXT_DROPPED: QualityFlag

class Episode(_message.Message):
    __slots__ = ("episode_id", "conversation_id", "user_id", "agent_name", "service_name", "model", "dialect", "started_at", "ended_at", "status", "end_reason", "parent_episode_id", "parent_call_id", "steps", "quality_flags", "message_table", "tools_table")
    EPISODE_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    SERVICE_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    PARENT_EPISODE_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_CALL_ID_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAGS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TABLE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_TABLE_FIELD_NUMBER: _ClassVar[int]
    episode_id: str
    conversation_id: str
    user_id: str
    agent_name: str
    service_name: str
    model: str
    dialect: str
    started_at: int
    ended_at: int
    status: EpisodeStatus
    end_reason: EndReason
    parent_episode_id: str
    parent_call_id: str
    steps: _containers.RepeatedCompositeFieldContainer[Step]
    quality_flags: _containers.RepeatedScalarFieldContainer[QualityFlag]
    message_table: _containers.RepeatedCompositeFieldContainer[Message]
    tools_table: _containers.RepeatedCompositeFieldContainer[ToolList]
    def __init__(self, episode_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., agent_name: _Optional[str] = ..., service_name: _Optional[str] = ..., model: _Optional[str] = ..., dialect: _Optional[str] = ..., started_at: _Optional[int] = ..., ended_at: _Optional[int] = ..., status: _Optional[_Union[EpisodeStatus, str]] = ..., end_reason: _Optional[_Union[EndReason, str]] = ..., parent_episode_id: _Optional[str] = ..., parent_call_id: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[Step, _Mapping]]] = ..., quality_flags: _Optional[_Iterable[_Union[QualityFlag, str]]] = ..., message_table: _Optional[_Iterable[_Union[Message, _Mapping]]] = ..., tools_table: _Optional[_Iterable[_Union[ToolList, _Mapping]]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step_index", "messages", "tools", "action", "observations", "finish_reason", "model", "response_model", "response_id", "usage", "dialect", "trace_id", "span_id", "merged_span_ids", "started_at", "ended_at", "error", "quality_flags")
    STEP_INDEX_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OBSERVATIONS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    MERGED_SPAN_IDS_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    QUALITY_FLAGS_FIELD_NUMBER: _ClassVar[int]
    step_index: int
    messages: _containers.RepeatedScalarFieldContainer[int]
    tools: int
    action: int
    observations: _containers.RepeatedScalarFieldContainer[int]
    finish_reason: str
    model: str
    response_model: str
    response_id: str
    usage: Usage
    dialect: str
    trace_id: str
    span_id: str
    merged_span_ids: _containers.RepeatedScalarFieldContainer[str]
    started_at: int
    ended_at: int
    error: str
    quality_flags: _containers.RepeatedScalarFieldContainer[QualityFlag]
    def __init__(self, step_index: _Optional[int] = ..., messages: _Optional[_Iterable[int]] = ..., tools: _Optional[int] = ..., action: _Optional[int] = ..., observations: _Optional[_Iterable[int]] = ..., finish_reason: _Optional[str] = ..., model: _Optional[str] = ..., response_model: _Optional[str] = ..., response_id: _Optional[str] = ..., usage: _Optional[_Union[Usage, _Mapping]] = ..., dialect: _Optional[str] = ..., trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., merged_span_ids: _Optional[_Iterable[str]] = ..., started_at: _Optional[int] = ..., ended_at: _Optional[int] = ..., error: _Optional[str] = ..., quality_flags: _Optional[_Iterable[_Union[QualityFlag, str]]] = ...) -> None: ...

class Message(_message.Message):
    __slots__ = ("role", "parts", "name")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    role: Role
    parts: _containers.RepeatedCompositeFieldContainer[Part]
    name: str
    def __init__(self, role: _Optional[_Union[Role, str]] = ..., parts: _Optional[_Iterable[_Union[Part, _Mapping]]] = ..., name: _Optional[str] = ...) -> None: ...

class Part(_message.Message):
    __slots__ = ("text", "reasoning", "media", "tool_call", "tool_result")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FIELD_NUMBER: _ClassVar[int]
    MEDIA_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALL_FIELD_NUMBER: _ClassVar[int]
    TOOL_RESULT_FIELD_NUMBER: _ClassVar[int]
    text: TextPart
    reasoning: ReasoningPart
    media: MediaPart
    tool_call: ToolCall
    tool_result: ToolResult
    def __init__(self, text: _Optional[_Union[TextPart, _Mapping]] = ..., reasoning: _Optional[_Union[ReasoningPart, _Mapping]] = ..., media: _Optional[_Union[MediaPart, _Mapping]] = ..., tool_call: _Optional[_Union[ToolCall, _Mapping]] = ..., tool_result: _Optional[_Union[ToolResult, _Mapping]] = ...) -> None: ...

class TextPart(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: _Optional[str] = ...) -> None: ...

class ReasoningPart(_message.Message):
    __slots__ = ("text", "signature")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    text: str
    signature: str
    def __init__(self, text: _Optional[str] = ..., signature: _Optional[str] = ...) -> None: ...

class MediaPart(_message.Message):
    __slots__ = ("kind", "mime_type", "sha256", "uri")
    KIND_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    URI_FIELD_NUMBER: _ClassVar[int]
    kind: MediaKind
    mime_type: str
    sha256: str
    uri: str
    def __init__(self, kind: _Optional[_Union[MediaKind, str]] = ..., mime_type: _Optional[str] = ..., sha256: _Optional[str] = ..., uri: _Optional[str] = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("id", "name", "arguments")
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    arguments: str
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[str] = ...) -> None: ...

class ToolResult(_message.Message):
    __slots__ = ("call_id", "content", "name", "status")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    call_id: str
    content: str
    name: str
    status: ToolStatus
    def __init__(self, call_id: _Optional[str] = ..., content: _Optional[str] = ..., name: _Optional[str] = ..., status: _Optional[_Union[ToolStatus, str]] = ...) -> None: ...

class ToolDefinition(_message.Message):
    __slots__ = ("name", "description", "parameters")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters: _Optional[str] = ...) -> None: ...

class ToolList(_message.Message):
    __slots__ = ("tools",)
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    tools: _containers.RepeatedCompositeFieldContainer[ToolDefinition]
    def __init__(self, tools: _Optional[_Iterable[_Union[ToolDefinition, _Mapping]]] = ...) -> None: ...

class Usage(_message.Message):
    __slots__ = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_READ_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    REASONING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., cache_read_tokens: _Optional[int] = ..., cache_write_tokens: _Optional[int] = ..., reasoning_tokens: _Optional[int] = ...) -> None: ...

class Feedback(_message.Message):
    __slots__ = ("feedback_id", "name", "score", "label", "comment", "source", "trace_id", "span_id", "response_id", "conversation_id", "received_at")
    FEEDBACK_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    TRACE_ID_FIELD_NUMBER: _ClassVar[int]
    SPAN_ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_ID_FIELD_NUMBER: _ClassVar[int]
    CONVERSATION_ID_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_FIELD_NUMBER: _ClassVar[int]
    feedback_id: str
    name: str
    score: float
    label: str
    comment: str
    source: str
    trace_id: str
    span_id: str
    response_id: str
    conversation_id: str
    received_at: int
    def __init__(self, feedback_id: _Optional[str] = ..., name: _Optional[str] = ..., score: _Optional[float] = ..., label: _Optional[str] = ..., comment: _Optional[str] = ..., source: _Optional[str] = ..., trace_id: _Optional[str] = ..., span_id: _Optional[str] = ..., response_id: _Optional[str] = ..., conversation_id: _Optional[str] = ..., received_at: _Optional[int] = ...) -> None: ...
