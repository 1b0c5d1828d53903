"""Which records count as equal."""

from spanloop.hashing import canonical_json, content_hash, exact_hash, message_hash, state_hash, tools_hash
from spanloop.records import ToolDefinition, ToolStatus
from tests.unit.spanloop.factories import assistant, call, result, says, user


def test_hashes_are_the_same_everywhere():
    """Hashes are kept in files: these are the first half of `sha256sum` over the escaped, sorted JSON text."""
    assert content_hash(["x"]) == "cd65ea2c2ad99e94a85b1b6df72efef9"
    assert exact_hash(user("x")) == "890c8a763ee0b6d1d58b7bdf0f7df5e4"
    assert message_hash(user("x")) == "4df15c38b8085060d347df44ed3a3aad"


def test_arguments_count_as_json():
    """Spaces and key order of arguments change the exact hash only."""
    one, other = assistant(call(1, '{"a":1,"b":2}')), assistant(call(1, '{"b": 2, "a": 1}'))
    assert message_hash(one) == message_hash(other)
    assert exact_hash(one) != exact_hash(other)


def test_arguments_that_are_no_json_count_as_text():
    """A model's broken arguments are compared letter by letter."""
    assert message_hash(assistant(call(1, "{a"))) != message_hash(assistant(call(1, "{a ")))


def test_numbers_keep_their_kind():
    """1 and 1.0 are different to the model that wrote them."""
    assert canonical_json("1") != canonical_json("1.0")


def test_a_status_is_no_part_of_what_is_said():
    """A result that a span marks as failed reads the same to the model."""
    failed, fine = result(1, "x", ToolStatus.ERROR), result(1, "x", ToolStatus.OK)
    assert message_hash(failed) == message_hash(fine)
    assert exact_hash(failed) != exact_hash(fine)


def test_text_counts_by_its_lines():
    """Two parts read like one with a line break."""
    assert message_hash(says(user("").role, "a", "b")) == message_hash(user("a\nb"))


def test_no_tools_and_unknown_tools_differ():
    """`None` means that the payload does not say."""
    assert tools_hash(None) != tools_hash([])


def test_tools_count_in_their_order():
    """The order of tools is part of the prompt."""
    one, other = ToolDefinition(name="a"), ToolDefinition(name="b")
    assert state_hash([user("x")], [one, other]) != state_hash([user("x")], [other, one])


def test_lone_surrogates_can_be_hashed():
    """Text that UTF-8 cannot hold has a hash of its own."""
    assert len({message_hash(user(text)) for text in ("\ud800", "\udfff", "�", "")}) == 4
