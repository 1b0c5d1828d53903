"""The report's charts: marks stand where the numbers say; nothing a user wrote becomes markup."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from trainer.report.charts import Change, Column, Line, before_after, column_chart, line_chart, share_bars, sparkline
from trainer.report.data import TEXT_MAX, readable


def marks(svg: str, tag: str) -> list[ElementTree.Element]:
    """The elements of a kind."""
    return list(ElementTree.fromstring(str(svg)).iter(tag))


def number(element: ElementTree.Element, name: str) -> float:
    """An attribute as a number."""
    return float(element.attrib[name])


def test_a_line_passes_through_its_values_and_leaves_gaps():
    """Of a chart 260 high, 0 is at 230 and 1 at 14; a missing value has no dot."""
    line = Line(name="reward", css_class="tuned", points=((0, 0.0), (1, None), (2, 1.0)))
    dots = marks(line_chart([line]), "circle")
    assert [(46.0, 230.0), (944.0, 14.0)] == [(number(dot, "cx"), number(dot, "cy")) for dot in dots]
    assert ["reward, step 0: 0.000", "reward, step 2: 1.000"] == [dot.find("title").text for dot in dots]


def test_before_and_after_share_an_axis_and_the_interval_is_cut_at_its_ends():
    """150 units of label, then 0 to 1 over the rest."""
    svg = before_after([Change(name="valid", before=0.25, after=0.75, low=0.5, high=1.2)])
    left, span = 150, 470 - 150 - 16
    assert [left + 0.25 * span, left + 0.75 * span] == [number(dot, "cx") for dot in marks(svg, "circle")]
    (whisker,) = [item for item in marks(svg, "line") if item.attrib["class"] == "whisker"]
    assert [left + 0.5 * span, left + span] == [number(whisker, "x1"), number(whisker, "x2")]


def test_bars_are_as_high_as_their_values():
    """Of a chart 240 high, 196 units are 1.0."""
    svg = column_chart(
        [Column(label="0", values=(("base", 0.5), ("tuned", None))), Column(label="1", values=(("base", 1),))]
    )
    assert [98.0, 196.0] == [number(bar, "height") for bar in marks(svg, "rect")]


def test_parts_of_a_bar_have_the_width_of_their_share():
    """3 of 4 groups are three quarters."""
    svg = share_bars([("step 1", {"trained on": 3, "zero_variance": 1})], {"trained on": "kept"})
    widths = [number(part, "width") + 1 for part in marks(svg, "rect")]
    assert 3.0 == pytest.approx(widths[0] / widths[1], rel=0.01)


def test_a_flat_curve_is_drawn():
    """Equal values divide by nothing."""
    assert 1 == len(marks(sparkline([2.0, 2.0]), "circle"))
    assert 1 == len(marks(sparkline([2.0]), "circle"))


def test_names_are_text_and_never_markup():
    """A criterion may be called anything."""
    svg = str(before_after([Change(name="<b>&", before=0.1, after=0.2, low=None, high=None)]))
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;" in svg
    ElementTree.fromstring(re.sub("&nbsp;", " ", svg))


def test_a_message_is_shown_as_a_person_reads_it():
    """Text, then calls; long ones are cut; nothing for nothing."""
    chat = (
        '{"role": "assistant", "content": "Look:", "tool_calls": [{"id": "1", "type": "function", '
        '"function": {"name": "search", "arguments": "{}"}}]}'
    )
    assert readable(chat) == "Look:\nsearch({})"
    assert "" == readable(None)
    assert TEXT_MAX + 1 == len(readable('{"role": "user", "content": "' + "x" * 5000 + '"}'))
