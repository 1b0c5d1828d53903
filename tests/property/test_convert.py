"""Round trips of the contract's forms over arbitrary records."""

import json
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from spanloop import records, wire
from spanloop.convert import compact_json, message_from_chat, message_to_chat, tool_from_chat, tool_to_chat
from spanloop.hashing import canonical_json, exact_hash, message_hash, state_hash
from spanloop.records import MediaPart, Message, ReasoningPart, Role, TextPart, ToolCall, ToolDefinition, ToolResult

UTF8 = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ANY_TEXT = st.text(st.characters(), max_size=12)
HEX = "0123456789abcdef"
TIMES = st.none() | st.integers(0, 2**63 - 1)
COUNTS = st.none() | st.integers(0, 2**40)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | UTF8,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UTF8, inner, max_size=3),
    max_leaves=8,
)
FLAGS = st.frozensets(st.sampled_from(records.QualityFlag), max_size=3)


def media(text: st.SearchStrategy[str]) -> st.SearchStrategy[MediaPart]:
    """Media parts with any of their fields."""
    return st.builds(
        MediaPart,
        kind=st.sampled_from(records.MediaKind),
        mime_type=st.none() | text,
        sha256=st.none() | st.text(HEX, min_size=64, max_size=64),
        uri=st.none() | text,
    )


def spoken(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[TextPart | MediaPart]]:
    """What any role can say."""
    return st.lists(st.builds(TextPart, text=text) | media(text), max_size=3)


def tool_messages(text: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    """A message with one tool's result."""
    result = st.builds(
        ToolResult, call_id=text, content=text, name=st.none() | text, status=st.sampled_from(records.ToolStatus)
    )
    return st.builds(Message, role=st.just(Role.TOOL), parts=st.tuples(result), name=st.none() | text)


def answers(text: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    """An assistant's message with any of its parts."""
    reasoning = st.lists(st.builds(ReasoningPart, text=text, signature=st.none() | text), max_size=2)
    calls = st.lists(
        st.builds(ToolCall, id=text.filter(bool), name=text, arguments=text | VALUES.map(json.dumps)), max_size=2
    )
    parts = st.tuples(reasoning, spoken(text), calls).map(lambda groups: (*groups[0], *groups[1], *groups[2]))
    return st.builds(Message, role=st.just(Role.ASSISTANT), parts=parts, name=st.none() | text)


def messages(text: st.SearchStrategy[str]) -> st.SearchStrategy[Message]:
    """Any valid message."""
    others = st.sampled_from([Role.SYSTEM, Role.DEVELOPER, Role.USER])
    said = st.builds(Message, role=others, parts=spoken(text).map(tuple), name=st.none() | text)
    return st.one_of(said, tool_messages(text), answers(text))


TOOLS = st.builds(
    ToolDefinition,
    name=UTF8.filter(bool),
    description=st.none() | UTF8,
    parameters=st.none() | UTF8 | VALUES.map(compact_json),
)
USAGES = st.builds(records.Usage, **dict.fromkeys(records.Usage.__slots__, COUNTS))


@st.composite
def steps(draw: st.DrawFn, index: int) -> records.Step:
    """A step with any of its fields."""
    said = draw(st.lists(messages(UTF8), max_size=4))
    words = {
        name: draw(st.none() | UTF8) for name in ("finish_reason", "model", "response_model", "response_id", "error")
    }
    return records.Step(
        step_index=index,
        messages=tuple(said),
        tools=draw(st.none() | st.lists(TOOLS, max_size=2).map(tuple)),
        action=draw(st.none() | answers(UTF8)),
        observations=tuple(draw(st.lists(tool_messages(UTF8), max_size=2))),
        usage=draw(USAGES),
        dialect=draw(UTF8),
        trace_id=draw(st.text(HEX, min_size=32, max_size=32)),
        span_id=draw(st.text(HEX, min_size=16, max_size=16)),
        merged_span_ids=tuple(draw(st.lists(st.text(HEX, min_size=16, max_size=16), max_size=2))),
        started_at=draw(TIMES),
        ended_at=draw(TIMES),
        quality_flags=draw(FLAGS),
        **words,
    )


@st.composite
def episodes(draw: st.DrawFn) -> records.Episode:
    """An episode of one to three steps with any of its fields."""
    optional = (
        "conversation_id",
        "user_id",
        "agent_name",
        "service_name",
        "model",
        "parent_episode_id",
        "parent_call_id",
    )
    return records.Episode(
        episode_id=draw(UTF8),
        dialect=draw(UTF8),
        started_at=draw(TIMES),
        ended_at=draw(TIMES),
        status=draw(st.sampled_from(records.EpisodeStatus)),
        end_reason=draw(st.sampled_from(records.EndReason)),
        steps=tuple(draw(steps(index)) for index in range(draw(st.integers(1, 3)))),
        quality_flags=draw(FLAGS),
        **{name: draw(st.none() | UTF8) for name in optional},
    )


@settings(max_examples=60, deadline=None)
@given(episodes())
def test_episodes_survive_the_wire(episode: records.Episode):
    """Protobuf bytes give back an equal episode, whatever its fields."""
    assert episode == wire.episode_from_bytes(wire.episode_to_bytes(episode))


@settings(deadline=None)
@given(messages(UTF8))
def test_messages_survive_the_wire(message: Message):
    """Protobuf bytes give back an equal message."""
    assert message == wire.message_from_bytes(wire.message_to_bytes(message))


@settings(deadline=None)
@given(st.lists(TOOLS, max_size=3).map(tuple))
def test_tools_survive_the_wire(tools: tuple[ToolDefinition, ...]):
    """Protobuf bytes give back equal tools."""
    assert tools == wire.tools_from_bytes(wire.tools_to_bytes(tools))


@settings(deadline=None)
@given(messages(ANY_TEXT))
def test_messages_survive_the_chat_form(message: Message):
    """The chat form gives back every word: what it cannot tell is how text was cut, signatures and tool status."""
    chat = json.loads(json.dumps(message_to_chat(message)))
    status = message.tool_result.status if message.tool_result else records.ToolStatus.UNKNOWN
    back = message_from_chat(chat, tool_status=status)
    assert (message.role, message.text, message.reasoning) == (back.role, back.text, back.reasoning)
    assert message.tool_calls == back.tool_calls
    assert message_to_chat(message) == message_to_chat(back)


@settings(deadline=None)
@given(messages(UTF8).filter(lambda message: len(message.parts) == 1 and message.role is not Role.TOOL))
def test_single_parts_survive_the_chat_form(message: Message):
    """A message of one unsigned part comes back equal; an address that is empty counts as none."""
    part = message.parts[0]
    if isinstance(part, ReasoningPart) and part.signature is not None:
        message = replace(message, parts=(replace(part, signature=None),))
    if isinstance(part, MediaPart) and part.uri in ("", f"sha256:{part.sha256}"):
        message = replace(message, parts=(replace(part, uri=None),))
    assert message == message_from_chat(message_to_chat(message))


@settings(deadline=None)
@example(ToolDefinition(name="t", parameters="null"))
@given(TOOLS)
def test_tools_survive_the_chat_form(tool: ToolDefinition):
    """The chat form gives back the same tool, its schema as an equal JSON value."""
    back = tool_from_chat(json.loads(json.dumps(tool_to_chat(tool))))
    assert (tool.name, tool.description) == (back.name, back.description)
    assert tool_to_chat(tool) == tool_to_chat(back)


@settings(deadline=None)
@given(messages(ANY_TEXT), messages(ANY_TEXT))
def test_exact_hashes_are_equal_only_for_equal_messages(one: Message, other: Message):
    """Two messages have one exact hash if and only if they are equal."""
    assert (one == other) == (exact_hash(one) == exact_hash(other))


@given(VALUES)
def test_canonical_json_ignores_spaces_and_key_order(value: object):
    """Two spellings of one JSON value have one canonical form, which still is that value."""
    shuffled = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert canonical_json(json.dumps(value, indent=1)) == canonical_json(json.dumps(shuffled, ensure_ascii=False))
    assert value == json.loads(canonical_json(json.dumps(value)))


@settings(deadline=None)
@given(st.lists(messages(ANY_TEXT), max_size=3), st.none() | st.lists(TOOLS, max_size=2))
def test_state_hashes_ignore_how_arguments_are_spelled(said: list[Message], tools: list[ToolDefinition] | None):
    """Arguments with other spaces leave the state the same; one more message makes it another."""

    def respelled(message: Message) -> Message:
        calls = [
            replace(p, arguments=canonical_json(p.arguments)) if isinstance(p, ToolCall) else p for p in message.parts
        ]
        return replace(message, parts=tuple(calls))

    assert state_hash(said, tools) == state_hash([respelled(message) for message in said], tools)
    assert state_hash(said, tools) != state_hash([*said, said[0] if said else Message(role=Role.USER)], tools)
    assert [message_hash(message) for message in said] == [message_hash(respelled(message)) for message in said]
