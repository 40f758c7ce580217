"""Robust accuracy over passes: a point after each attack of each tool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from _cascades import TOOLS
from _measuring import Bench, entries

CURVE_HEAD = """\
| network | eps | images | tool | after | left | robust | passes | of standard |
|---|---|---|---|---|---|---|---|---|"""
CURVE_NOTE = """\
passes: of the attacks so far, forward and backward, per sample that is right by itself; neither
the checks' nor the judge's. of standard: how many times fewer than our standard took in all."""


class Point(NamedTuple):
    """One place on a tool's curve of one entry."""

    network: str
    eps: str
    images: int
    tool: str
    after: str
    left: int
    robust: float
    passes: float


def points(bench: Bench, key: str) -> list[Point]:
    """Every tool on one entry, after each of its attacks."""
    entry = entries(bench.data)[key]
    network, eps = key.partition("@")[0], fraction(entry["eps"])
    images = min(bench.samples, entry["samples"])
    found = []
    for tool in (tool for tool in TOOLS if tool in bench.tools):
        one = bench(tool, key)
        for stage in one.stages:
            share, spent = stage.left / images, stage.passes / max(1, one.clean)
            found.append(Point(network, eps, images, tool, stage.name, stage.left, share, spent))
    return found


def curve_rows(found: list[Point]) -> Iterator[str]:
    """The points of one entry as Markdown."""
    whole = max((p.passes for p in found if p.tool == "standard"), default=0.0)
    for p in found:
        yield (
            f"| {p.network} | {p.eps} | {p.images} | {p.tool} | {p.after} | {p.left} "
            f"| {p.robust:.4f} | {p.passes:.0f} | {whole / p.passes if p.passes else 0:.2f} |"
        )


def draw(curves: Sequence[list[Point]], path: Path) -> None:
    """Robust accuracy over passes, a panel for each entry."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(curves), 4.4), layout="constrained")
    axes = figure.subplots(1, len(curves), squeeze=False)[0]
    for axis, found in zip(axes, curves, strict=True):
        by_line: dict[str, list[Point]] = {}
        for point in found:
            by_line.setdefault(point.tool.partition(":steps")[0], []).append(point)
        for tool, marker in zip(by_line, "so^DvPX", strict=False):
            line = by_line[tool]
            axis.plot(
                [p.passes for p in line],
                [p.robust for p in line],
                marker=marker,
                label=tool,
                linewidth=2.2 if tool in ("standard", "quick") else 1.2,
                markersize=5,
                alpha=0.85,
            )
        axis.set_xscale("log")
        axis.set_title(f"{found[0].network}, eps {found[0].eps}, {found[0].images} images")
        axis.set_xlabel("passes per sample right by itself")
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("robust accuracy")
    axes[0].legend()
    figure.savefig(path, metadata={"Date": None})


def fraction(eps: float) -> str:
    """An eps as people write it: 2/255, 0.3."""
    of_255 = Fraction(eps * 255).limit_denominator(4)
    return f"{of_255}/255" if abs(of_255 / 255 - eps) < 1e-9 and eps < 0.1 else f"{eps:g}"
