"""How a run shows itself in a notebook."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from robustcode.store import Run


def line_of(run: Run) -> str:
    return f"Run({str(run.path)!r})"


def html_of(run: Run) -> str:
    return ""
