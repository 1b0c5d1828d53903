"""Limits on what one span may cost to read, each with its unit.

They bound time and memory for hostile or broken senders; no honest payload seen comes near them.
"""

from __future__ import annotations

INDEX_DIGITS_MAX = 9
"""Digits in an attribute index. Entries are kept sparsely, so a large index costs nothing; more digits is no index."""

REPR_CHARS_MAX = 4_000_000
"""Characters of a Python repr that are parsed; a longer one is flagged and left."""

REPR_DEPTH_MAX = 64
"""Levels of nesting in a Python repr."""

UNWRAP_DEPTH_MAX = 4
"""Wrappers (`message`, `data`, `kwargs`, lists of one list) taken off one message."""

STREAMED_CALLS_MAX = 1_000
"""Tool calls put together from the chunks of one streamed answer; later ones are left out."""
