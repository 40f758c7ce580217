"""What the figures of a page show, as JSON holds it."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from robustcode.checks.examination import Examination


def figures_of(exam: Examination) -> dict[str, Any]:
    """Curves of the pilot, those that were measured.

    ``eps``, ``steps`` and ``draws``: points (value, accuracy on the ``samples`` that are right
    without attack). ``loss`` and ``margin``: means over those still in the batch, at each step of
    the pilot's attack. ``gradients``: the largest entry of each sample's gradient by loss.
    """
    found: dict[str, Any] = {name: sorted(points.items()) for name, points in exam.points.items()}
    if "eps" in exam.points:
        found["samples"] = len(exam.right)
        found["eps"] = [(0.0, 1.0), *found["eps"]]
        if exam.once.restarts == 1 and len(exam.course.loss):
            found["loss"], found["margin"] = map(_means, (exam.course.loss, exam.course.margin))
            if not exam.target.stochastic:
                taken: dict[float, float] = dict(enumerate(exam.course.right.tolist()))
                taken |= exam.points.get("steps", {})
                found["steps"] = sorted(taken.items())
    if len(exam.finite) and exam.slopes.reached:
        sizes = {"cross-entropy": exam.slopes.cross_entropy, "margin": exam.slopes.margin}
        found["gradients"] = {
            name: [float(f"{v:.4g}") for v in s.tolist()] for name, s in sizes.items()
        }
    return found


def _means(values: Tensor) -> list[float | None]:
    """Of each row, None where nobody is left or the mean is no number."""
    means = [float(row[~row.isnan()].mean()) for row in values.clamp(-1e30, 1e30)]
    return [round(mean, 6) if math.isfinite(mean) else None for mean in means]
