"""The documents about dialects say what the code does."""

from __future__ import annotations

import re

from otel_receiver.dialects.registry import DIALECTS
from tests.golden.table import DOCUMENT, document


def test_the_table_of_dialects_is_what_the_payloads_carry():
    """The table in the document is the one the payloads give today; `python -m tests.golden.table` writes it anew."""
    text = DOCUMENT.read_text()
    assert document(text) == text


def test_every_dialect_is_described():
    """Each registered dialect has its line in the document, and no line describes one that is gone."""
    described = re.findall(r"^- `(\w+)`", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted({dialect.name for dialect in DIALECTS}) == sorted(described)


def test_the_walk_through_names_real_places():
    """Every file and name that the walk-through for new dialects mentions exists."""
    walk = DOCUMENT.with_name("adding-a-dialect.md").read_text()
    root = DOCUMENT.parents[1]
    named = re.findall(r"`((?:otel_receiver|tests|docs|benchmarks)/[\w./-]+)`", walk)
    assert named
    assert [] == [path for path in named if not (root / path).exists()]
