"""One self-contained HTML page per run."""

from __future__ import annotations

from pathlib import Path

from trainer.runs import Run
from trainer.workspace import Workspace


def write_report(workspace: Workspace, run: Run, path: Path) -> Path:
    """Write the page about a run and return its path; it needs no other file and no network."""
    from trainer.report.data import read_report
    from trainer.report.page import render_page

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render_page(read_report(workspace, run)), encoding="utf-8")
    return path
