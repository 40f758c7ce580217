"""What the checks measured on a pilot of a run, as small charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from robustcode.reports.figures.small import Plot, Points, Sizes
from robustcode.reports.grids import counted
from robustcode.reports.source import Source

# What a curve of accuracies should look like: a reader who knows none of the checks sees by it.
FALLS = (
    "It should fall as eps grows, and end at 0 (a random defence: at chance) with the whole box. "
    "Dotted: the eps of the run"
)
FLAT = "It should be flat at its right end, where more {} break no more"
COURSE = "Mean over the samples that are still attacked: it jumps where broken ones leave"
GONE = "The attack follows it: what is 0 leads nowhere"


def plots_of(source: Source) -> list[Plot | Sizes]:
    """The charts of a run; only of what was measured."""
    figures = source.run.summary.get("figures")
    if not isinstance(figures, Mapping):
        return []
    samples = figures.get("samples")
    # A check may have looked at some of them only.
    of = ""
    if _whole(samples):
        of = f"At most {counted(samples, 'pilot sample')}, right without attack."
    axis = f"eps in {source.norm}" if source.norm else "eps"
    shares = {"y": "still right, %", "shares": True}
    curves: dict[str, dict[str, Any]] = {
        "eps": {"title": "Robust accuracy over eps", "x": axis, "note": FALLS, **shares},
        "steps": {"title": "Robust accuracy over steps", "x": "steps", **shares},
        "draws": {"title": "Robust accuracy over draws", "x": "draws a step", **shares},
        "loss": {"title": "Cross-entropy along the attack", "y": "mean cross-entropy"},
        "margin": {"title": "Margin along the attack", "y": "mean margin"},
    }
    found: list[Plot | Sizes] = []
    for name, said in curves.items():
        course = name in ("loss", "margin")
        points = _course(figures.get(name)) if course else _points(figures.get(name))
        if len(points) < 2:  # one point shows no course
            continue
        note = said.pop("note", COURSE if course else FLAT.format(name))
        found.append(
            Plot(
                stem=f"pilot-{name}-{source.key}",
                note=f"{note}. {of}".strip(),
                points=points,
                powers=not course,
                mark=source.eps if name == "eps" else None,
                **{"x": "step", **said},
            )
        )
    return found + _histograms(figures.get("gradients"), source.key)


def _histograms(gradients: Any, run: str) -> list[Plot | Sizes]:
    found: list[Plot | Sizes] = []
    if not isinstance(gradients, Mapping):
        return found
    for rank, (name, values) in enumerate(gradients.items(), 1):
        sizes = tuple(size for size in _numbers(values) if size >= 0)
        if sizes:
            note = f"Largest entry of each gradient. {GONE}. {counted(len(sizes), 'pilot sample')}."
            title = f"Gradient sizes of {name}"
            found.append(Sizes(f"pilot-gradients-{rank}-{run}", title, note, sizes))
    return found


def _points(value: Any) -> Points:
    """Pairs of numbers in ascending order, without what is none."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    pairs = (tuple(_numbers(pair)) for pair in value)
    return tuple(sorted((pair[0], pair[1]) for pair in pairs if len(pair) == 2))


def _course(value: Any) -> Points:
    """Values by their step; a step without one is left out."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return tuple((float(step), mean) for step, mean in enumerate(value) if _finite(mean))


def _numbers(value: Any) -> list[float]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [float(entry) for entry in value if _finite(entry)]


def _finite(value: Any) -> TypeGuard[float]:
    real = isinstance(value, int | float) and not isinstance(value, bool)
    return real and math.isfinite(value)


def _whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
