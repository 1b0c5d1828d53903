"""Text tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float | None


def table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Aligned columns: numbers to the right, text to the left, `-` for what is not known."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [max(len(line[column]) for line in [list(header), *texts]) for column in range(len(header))]
    numeric = [any(isinstance(row[column], int | float) for row in rows) for column in range(len(header))]
    lines = [_line(header, widths, numeric), _line(["-" * width for width in widths], widths, numeric)]
    return "\n".join([*lines, *(_line(row, widths, numeric) for row in texts)])


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return "  ".join(padded).rstrip()


def _text(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)


def interval(low: float | None, high: float | None) -> str:
    """An interval as text."""
    return "-" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def percent(value: float | None) -> str:
    """A relative change as text."""
    return "-" if value is None else f"{100 * value:+.1f} %"
