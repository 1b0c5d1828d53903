"""Canonical keys of messages, and the tree of prompts they form.

Two messages have one key when a sender's habits alone tell them apart: part order, reasoning and the text beside tool
calls dropped from histories, spaces, JSON layout of arguments, absent against empty content, ids, system prompts. Keys
decide who continues whom; a message itself is never changed here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from spanloop.records import MediaPart, Message, Role

MessageKey = tuple[object, ...]

ROOT = 0
"""The node of the empty prompt."""
DIGEST_BYTES = 16


class PrefixTree:
    """Prompts as paths from the root, a node per distinct prefix: each is walked once, never compared with another."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, MessageKey], int] = {}
        self.parents: list[int] = [ROOT]
        self.depths: list[int] = [0]
        self._keys: list[MessageKey] = [()]
        self._digests: list[bytes | None] = [b""]
        self._known: dict[int, tuple[Message, MessageKey]] = {}
        self._ends: dict[int, tuple[tuple[Message, ...], int]] = {}
        self._arguments: dict[str, str] = {}

    def key(self, message: Message) -> MessageKey:
        """The message's key; senders repeat message objects, so it is remembered by identity."""
        known = self._known.get(id(message))
        if known is None:
            known = (
                message,
                message_key(message, self._canonical),
            )  # holds the message, so that its identity stays its own
            self._known[id(message)] = known
        return known[1]

    def _canonical(self, arguments: str) -> str:
        found = self._arguments.get(arguments)
        if found is None:
            found = self._arguments[arguments] = canonical_arguments(arguments)
        return found

    def child(self, node: int, key: MessageKey) -> int:
        """The node one message below; made when it is new."""
        found = self._children.get((node, key))
        if found is not None:
            return found
        found = len(self.parents)
        self._children[(node, key)] = found
        self.parents.append(node)
        self.depths.append(self.depths[node] + 1)
        self._keys.append(key)
        self._digests.append(None)
        return found

    def has_child(self, node: int, key: MessageKey) -> bool:
        """Whether some prompt goes on with this message here."""
        return (node, key) in self._children

    def end(self, messages: tuple[Message, ...]) -> int:
        """The node at the end of the messages; remembered by the tuple's identity, as keys are by the message's."""
        known = self._ends.get(id(messages))
        if known is None:
            node = ROOT
            for message in messages:
                node = self.child(node, self.key(message))
            known = (messages, node)
            self._ends[id(messages)] = known
        return known[1]

    def digest(self, node: int) -> str:
        """A hash of the prefix that is the same in every process."""
        path = []
        while self._digests[node] is None:
            path.append(node)
            node = self.parents[node]
        digest = self._digests[node] or b""
        for node in reversed(path):
            text = json.dumps(self._keys[node], ensure_ascii=True).encode()
            digest = hashlib.blake2b(digest + text, digest_size=DIGEST_BYTES).digest()
            self._digests[node] = digest
        return digest.hex()


def message_key(message: Message, canonical: Callable[[str], str]) -> MessageKey:
    """What the message says, without what senders vary; `canonical` is `canonical_arguments`, remembered or not."""
    if message.role is Role.TOOL:
        return ("tool", squeezed(message.text))
    calls = message.tool_calls
    if calls:
        return ("calls", *((call.name, canonical(call.arguments)) for call in calls))
    return (message.role.value, squeezed(message.text), media_of(message))


def squeezed(text: str) -> str:
    """The text without white space: senders strip it, add it, and join parts with or without it."""
    return "".join(text.split())


def media_of(message: Message) -> tuple[tuple[str, str], ...]:
    """The media of a message by kind and hash or address."""
    return tuple(
        (str(part.kind), part.sha256 or part.uri or "") for part in message.parts if isinstance(part, MediaPart)
    )


def canonical_arguments(arguments: str) -> str:
    """Tool-call arguments with sorted keys and no layout; the text without spaces, where they are no JSON."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, separators=(",", ":"))
    except (ValueError, RecursionError):
        return squeezed(arguments)
