"""The OpenAI chat form, field by field."""

import pytest

from spanloop.convert import ChatFormError, message_from_chat, message_to_chat, tool_from_chat, tool_to_chat
from spanloop.records import MediaKind, MediaPart, ReasoningPart, Role, TextPart, ToolDefinition, ToolStatus
from tests.unit.spanloop.factories import assistant, call, result, says, user

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def test_text_is_a_plain_string():
    """A message with nothing but text has it as a string, several parts on lines of their own."""
    assert {"role": "user", "content": "one\ntwo"} == message_to_chat(says(Role.USER, "one", "two"))


def test_assistant_message_has_every_field_of_the_chat_form():
    """Reasoning, text and calls land in their fields; arguments stay the JSON text the model wrote."""
    message = assistant(ReasoningPart(text="hm"), "Let me look.", call(1, '{"city": "Bern"}'))
    function = {"name": "weather", "arguments": '{"city": "Bern"}'}
    expected = {
        "role": "assistant",
        "content": "Let me look.",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
    }
    assert expected == message_to_chat(message)


def test_calls_without_text_have_null_content():
    """Nothing said is `None`, not an empty string: the sender wrote no text."""
    assert message_to_chat(assistant(call(1)))["content"] is None
    assert message_to_chat(assistant(""))["content"] == ""


def test_tool_message_names_the_call_it_answers():
    """A result carries the call's id; its status has no place in the form."""
    assert {"role": "tool", "content": "rain", "tool_call_id": "call_1"} == message_to_chat(result(1, "rain"))


def test_media_turn_the_content_into_blocks():
    """Beside an image, text is a block too; bytes are named by their hash, an address stays an address."""
    stored = MediaPart(kind=MediaKind.IMAGE, mime_type="image/png", sha256=DIGEST)
    remote = MediaPart(kind=MediaKind.AUDIO, uri="https://media.example/a.wav")
    expected = [
        {"type": "text", "text": "Look"},
        {
            "type": "image_url",
            "image_url": {"url": f"sha256:{DIGEST}"},
            "mime_type": "image/png",
            "sha256": DIGEST,
        },
        {"type": "audio_url", "audio_url": {"url": "https://media.example/a.wav"}},
    ]
    message = says(Role.USER, "Look", stored, remote)
    assert expected == message_to_chat(message)["content"]
    assert message == message_from_chat(message_to_chat(message))


def test_arguments_given_as_an_object_become_json():
    """Servers that send parsed arguments are understood."""
    chat = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {"a": "é"}}}]}
    assert '{"a":"é"}' == message_from_chat(chat).tool_calls[0].arguments


def test_content_blocks_of_text_become_parts():
    """A list of text blocks is read part by part."""
    chat = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert (TextPart(text="a"), TextPart(text="b")) == message_from_chat(chat).parts


def test_reasoning_is_read_under_its_newer_name_too():
    """Servers call the field `reasoning` or `reasoning_content`."""
    assert message_from_chat({"role": "assistant", "content": "x", "reasoning": "hm"}).reasoning == "hm"


def test_tool_status_is_handed_in():
    """A tool message's status is not in the form; who knows it says so."""
    chat = {"role": "tool", "content": "no", "tool_call_id": "c"}
    read = message_from_chat(chat, tool_status=ToolStatus.ERROR).tool_result
    assert read is not None
    assert read.status is ToolStatus.ERROR


@pytest.mark.parametrize(
    ("chat", "complaint"),
    [
        ({"role": "narrator", "content": "x"}, "'narrator'"),
        ({"role": "user", "content": [{"type": "hologram"}]}, "'hologram'"),
        ({"role": "user", "content": 5}, "content is int"),
        ({"role": "user", "content": ["x"]}, "list of objects"),
        ({"role": "assistant", "content": "x", "audio": {"id": "a"}}, "audio"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {}}]}, "no `function`"),
    ],
)
def test_what_has_no_place_in_a_record_is_refused(chat: dict[str, object], complaint: str):
    """Nothing is dropped unseen: the error names what cannot be kept."""
    with pytest.raises(ChatFormError, match=complaint):
        message_from_chat(chat)


def test_empty_fields_that_servers_add_are_ignored():
    """Null and empty fields say nothing, so they are no reason to refuse."""
    chat = {"role": "assistant", "content": "x", "refusal": None, "annotations": [], "audio": None}
    assert assistant("x") == message_from_chat(chat)


def test_tool_schema_is_an_object():
    """The schema is parsed; a tool without one has none, and text that is no JSON stays text."""
    full = ToolDefinition(name="f", description="d", parameters='{"type":"object"}')
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert {"type": "function", "function": function} == tool_to_chat(full)
    assert {"type": "function", "function": {"name": "f"}} == tool_to_chat(ToolDefinition(name="f"))
    broken = ToolDefinition(name="f", parameters="{cut")
    assert broken == tool_from_chat(tool_to_chat(broken))


def test_flat_tools_are_understood():
    """The Responses API does not nest the function."""
    assert ToolDefinition(name="f", parameters="{}") == tool_from_chat(
        {"type": "function", "name": "f", "parameters": {}, "strict": True}
    )


@pytest.mark.parametrize("parameters", ["[" * 100_000, "1" * 5_000, "1e999", "NaN"])
def test_schemas_that_cannot_be_parsed_stay_text(parameters: str):
    """Nesting, numbers and constants beyond JSON's reach cost nothing but the parsing."""
    tool = ToolDefinition(name="f", parameters=parameters)
    assert tool == tool_from_chat(tool_to_chat(tool))


def test_a_question_survives():
    """The form of a user's question, there and back."""
    assert user("Rain?") == message_from_chat(message_to_chat(user("Rain?")))
