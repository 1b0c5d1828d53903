"""Which server answers which prompt: always the same one for a conversation, so that its prefix cache stays warm."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from math import ceil

from spanloop.records import Role
from trainer.rollouts.base import Prompt

OVERLOAD = 1.25
"""A server gets at most this many times its even share of the prompts; the rest go to their second choice."""


def opening_key(prompt: Prompt) -> str:
    """What the points of one conversation share: its messages up to the first of the user. They share a cache too."""
    first_user = next((i for i, message in enumerate(prompt.messages) if message.role is Role.USER), 0)
    return "\0".join(f"{message.role}\0{message.text}" for message in prompt.messages[: first_user + 1])


def balance(keys: Sequence[str], num_servers: int) -> list[tuple[int, ...]]:
    """For every key the servers in the order to try them: by rendezvous hashing, none far above its even share.

    Equal keys meet at one server and stay there from call to call, and when a server is added few keys move.
    """
    room = ceil(OVERLOAD * len(keys) / num_servers)
    loads = [0] * num_servers
    orders: list[tuple[int, ...]] = []
    for key in keys:
        order = sorted(range(num_servers), key=lambda server: digest(f"{server}\0{key}"))
        free = [server for server in order if loads[server] < room]
        loads[free[0]] += 1
        orders.append((free[0], *(server for server in order if server != free[0])))
    return orders


def digest(text: str) -> int:
    """64 bits that depend on the text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest())
