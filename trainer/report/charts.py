"""Charts as inline SVG: no script, no library, readable in light and dark and at any width.

Colours are the page's CSS variables; every mark has a `<title>`, so that a pointer shows its number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 960
"""Of a chart across the page, in SVG units: close to pixels, so that text keeps its size."""
HALF = 470
"""Of one of two charts side by side."""
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 30
ROW = 34
"""Height of a row of the before-and-after chart, in SVG units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A series over training steps."""

    name: str
    css_class: str
    points: tuple[tuple[float, float | None], ...]
    """Step and value; `None` leaves a gap."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One aspect before and after."""

    name: str
    before: float
    after: float
    low: float | None
    """Bounds of `after` implied by the paired interval of the gain."""
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A group of bars."""

    label: str
    values: tuple[tuple[str, float | None], ...]
    """CSS class and height in [0, 1]."""


def line_chart(lines: Sequence[Line], *, height: int = 260) -> Markup:
    """Values in [0, 1] over steps."""
    steps = sorted({step for line in lines for step, _ in line.points})
    if not steps:
        return Markup("")
    first, last = steps[0], max(steps[-1], steps[0] + 1)

    def x(step: float) -> float:
        return LEFT + (step - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value) * (height - TOP - BOTTOM)

    shown = steps if len(steps) <= 12 else steps[:: len(steps) // 10]
    parts = [_unit_grid(WIDTH, height)]
    parts += [_text(x(step), height - 10, f"{step:g}", "middle") for step in shown]
    for line in lines:
        known = [(x(step), y(value), step, value) for step, value in line.points if value is not None]
        path = " ".join(f"{'M' if index == 0 else 'L'}{px:.1f} {py:.1f}" for index, (px, py, _, _) in enumerate(known))
        parts.append(Markup('<path class="line {}" d="{}"/>').format(line.css_class, path))
        parts += [_dot(px, py, line.css_class, f"{line.name}, step {step:g}: {v:.3f}") for px, py, step, v in known]
    return _svg(WIDTH, height, parts)


def before_after(changes: Sequence[Change], *, width: int = HALF) -> Markup:
    """A row per aspect: before, after, and the interval of the change drawn around after."""
    label_width = 150
    height = TOP + ROW * len(changes) + BOTTOM

    def x(value: float) -> float:
        return label_width + value * (width - label_width - RIGHT)

    parts = [_line(x(tick), TOP, x(tick), height - BOTTOM, "grid") for tick in (0, 0.25, 0.5, 0.75, 1)]
    parts += [_text(x(tick), height - 10, f"{tick:g}", "middle") for tick in (0, 0.25, 0.5, 0.75, 1)]
    for index, change in enumerate(changes):
        y = TOP + ROW * index + ROW / 2
        parts.append(_text(label_width - 12, y + 4, _short(change.name), "end", "label"))
        parts.append(_line(x(change.before), y, x(change.after), y, "bond"))
        if change.low is not None and change.high is not None:
            low, high = (x(min(1.0, max(0.0, bound))) for bound in (change.low, change.high))
            parts.append(_line(low, y, high, y, "whisker"))
        parts.append(_dot(x(change.before), y, "base", f"{change.name}, base: {change.before:.3f}"))
        parts.append(_dot(x(change.after), y, "tuned", f"{change.name}, tuned: {change.after:.3f}"))
    return _svg(width, height, parts)


def column_chart(columns: Sequence[Column], *, width: int = HALF, height: int = 240) -> Markup:
    """Groups of bars in [0, 1]."""
    if not columns:
        return Markup("")
    slot = (width - LEFT - RIGHT) / len(columns)
    parts = [_unit_grid(width, height)]
    for index, column in enumerate(columns):
        start, bar = LEFT + slot * index, min(26.0, slot * 0.8 / max(1, len(column.values)))
        offset = (slot - bar * len(column.values)) / 2
        for position, (css_class, value) in enumerate(column.values):
            if value is None:
                continue
            tall = value * (height - TOP - BOTTOM)
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
                    css_class,
                    f"{start + offset + position * bar:.1f}",
                    f"{height - BOTTOM - tall:.1f}",
                    f"{bar - 2:.1f}",
                    f"{tall:.1f}",
                    f"{column.label}, {css_class}: {value:.3f}",
                )
            )
        parts.append(_text(start + slot / 2, height - 10, column.label, "middle"))
    return _svg(width, height, parts)


def share_bars(rows: Sequence[tuple[str, Mapping[str, int]]], classes: Mapping[str, str]) -> Markup:
    """A horizontal bar per row, its parts by count."""
    label_width = 80
    height = ROW * len(rows) + 8
    parts: list[Markup] = []
    for index, (label, counts) in enumerate(rows):
        y, x = 4 + ROW * index, float(label_width)
        parts.append(_text(label_width - 12, y + 17, label, "end", "label"))
        total = sum(counts.values()) or 1
        for name, count in counts.items():
            wide = count / total * (WIDTH - label_width - RIGHT)
            parts.append(
                Markup('<rect class="{}" x="{}" y="{}" width="{}" height="24"><title>{}</title></rect>').format(
                    classes.get(name, "other"), f"{x:.1f}", y, f"{max(0.0, wide - 1):.1f}", f"{label}, {name}: {count}"
                )
            )
            if wide > 26:
                parts.append(_text(x + wide / 2, y + 17, str(count), "middle", "inside"))
            x += wide
    return _svg(WIDTH, height, parts)


def sparkline(values: Sequence[float]) -> Markup:
    """A small curve between its own extremes."""
    width, height = 120, 28
    low, high = min(values), max(values)
    span = high - low or 1.0
    across = max(1, len(values) - 1)
    points = [
        (4 + index / across * (width - 8), 4 + (1 - (value - low) / span) * (height - 8))
        for index, value in enumerate(values)
    ]
    path = " ".join(f"{'M' if index == 0 else 'L'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return Markup('<svg class="spark" viewBox="0 0 {} {}" role="img"><path class="line tuned" d="{}"/>{}</svg>').format(
        width, height, path, _dot(*points[-1], "tuned", f"{values[-1]:.4g}", radius=2.5)
    )


def _svg(width: int, height: float, parts: Sequence[Markup]) -> Markup:
    css_class = "chart wide" if width == WIDTH else "chart"
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img">{}</svg>').format(
        css_class, width, f"{height:g}", Markup("").join(parts)
    )


def _unit_grid(width: int, height: int) -> Markup:
    parts: list[Markup] = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        y = TOP + (1 - tick) * (height - TOP - BOTTOM)
        parts += [_line(LEFT, y, width - RIGHT, y, "grid"), _text(LEFT - 8, y + 4, f"{tick:g}", "end")]
    return Markup("").join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, css_class: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        css_class, *(f"{value:.1f}" for value in (x1, y1, x2, y2))
    )


def _dot(x: float, y: float, css_class: str, title: str, *, radius: float = 5) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        css_class, f"{x:.1f}", f"{y:.1f}", f"{radius:g}", title
    )


def _text(x: float, y: float, text: str, anchor: str, css_class: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        css_class, f"{x:.1f}", f"{y:.1f}", anchor, escape(text)
    )


def _short(name: str) -> str:
    return name if len(name) <= 20 else f"{name[:19]}…"
