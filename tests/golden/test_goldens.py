"""Captured payloads of real instrumentations become the episodes that their golden files say."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from otel_receiver.episodes.assemble import assemble
from spanloop.records import EndReason
from tests.golden.harness import EXPECTED, golden, load, read, show, tags


@pytest.mark.parametrize("tag", tags())
def test_a_payload_becomes_the_episodes_of_its_golden_file(tag):
    """Every message, tool call, result, id and flag is what the payload carries and the golden file says."""
    assert golden(tag) == show(tag)


def test_every_golden_file_has_its_payload():
    """No golden file stands without a payload, and no payload without a golden file."""
    assert tags() == sorted(path.stem for path in EXPECTED.glob("*.json"))


@pytest.mark.parametrize("tag", tags())
def test_the_order_of_spans_and_of_attributes_does_not_matter(tag):
    """Shuffled spans with shuffled attributes and one unknown attribute more give the same episodes."""
    spans, logs = load(tag)
    shuffler = random.Random(7)  # a fixed seed: any other order would do as well
    mixed = [_shuffled(span, shuffler) for span in spans]
    shuffler.shuffle(mixed)
    first = assemble(read(spans, logs), EndReason.IMPORTED)
    assert first.episodes == assemble(read(mixed, logs), EndReason.IMPORTED).episodes


def _shuffled(span, shuffler):
    """The span with its attributes in another order and one that no dialect knows."""
    items = list(span.attributes.items())
    shuffler.shuffle(items)
    return replace(span, attributes={"app.unknown.attribute": "x", **dict(items)})
