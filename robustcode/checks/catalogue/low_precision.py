"""Scores are coarser than single precision."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.findings import Finding, Severity

# Scores that are needed to tell a grid from coincidence, and grids that are tried: decimals and
# powers of two, as rounding makes them.
FEWEST = 32
GRIDS = (*(10.0**digits for digits in range(5)), *(2.0**bits for bits in range(1, 12)))
# How near to the grid a score lies that is on it; by chance one in ten of all does.
ON_GRID = 0.05
# Bytes of a single-precision number.
SINGLE = 4


@CHECKS.register("low-precision")
class LowPrecision(Check):
    """Scores are coarser than single precision.

    Raised when parameters, or what a module of the model returns, have fewer than 32 bits, or when
    every score lies on a grid: that of half precision or bfloat16, or that of rounding to decimals
    or to powers of two.

    Why it matters: differences that an attack follows are lost in rounding. Small gradients become
    zero, a margin stands still while the input moves, and ties are decided by the order of classes.

    What to do: evaluate in single precision: ``model.float()``, no autocast, no rounding of scores;
    quantised weights can be held in float32.

    False alarms: none of types, which are read; 32 scores lie on one of sixteen grids by chance in
    one run of 1e30.
    """

    code = "low-precision"
    group = Group.SUBJECT
    says = "computed in single precision, and not rounded after that"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        scores = exam.calls.first
        coarse = _coarse_tensors(exam.defense.model)
        inside = _coarse_outputs(exam)
        grid = grid_of(scores[exam.calls.finite])
        parts = []
        if coarse:
            named = ", ".join(coarse[:2]) + (", .." if len(coarse) > 2 else "")
            parts.append(f"{len(coarse)} of the model's tensors have less ({named})")
        if inside:
            named = ", ".join(inside[:2]) + (", .." if len(inside) > 2 else "")
            parts.append(f"{len(inside)} of its modules return less ({named})")
        if scores.element_size() < SINGLE:
            parts.append(f"scores are of type {str(scores.dtype).removeprefix('torch.')}")
        elif grid:
            parts.append(f"all {scores.numel()} scores are {grid}")
        if not parts:
            return
        yield Finding(
            code=self.code,
            severity=Severity.WARNING,
            what="of the 32 bits of single precision " + ", and ".join(parts),
            remedy="evaluate in single precision (model.float(), no autocast, no rounding of "
            "scores), and compare: what holds only in the coarser one is no robustness",
            figures={
                "tensors": float(len(coarse)),
                "modules": float(len(inside)),
                "grid": float(bool(grid)),
                "samples": float(len(scores)),
            },
        )


def grid_of(scores: Tensor) -> str:
    """What numbers all of ``scores`` are, if they are fewer than float32 has; empty if not."""
    values = scores.double().flatten()
    # Zeros, and what masks a class, are on every grid.
    values = values[(values != 0) & (values.abs() < 1e6)]
    if len(values) < FEWEST:
        return ""
    for kind, name in ((torch.float16, "half-precision"), (torch.bfloat16, "bfloat16")):
        if bool((values.to(kind).double() == values).all()):
            return f"{name} numbers"
    for steps in GRIDS:
        scaled = values * steps
        # Beyond this a float32 has no digits left that could lie beside the grid.
        fine = scaled.abs() < ON_GRID * 2**23
        # What is small lies near to 0 whatever the grid, which says nothing.
        off = (scaled - scaled.round()).abs() > ON_GRID * scaled.abs().clamp(max=1.0)
        if int(fine.sum()) >= FEWEST and not bool((off & fine).any()):
            return f"multiples of 1/{steps:g}"
    return ""


def _coarse_tensors(model: nn.Module) -> list[str]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return [n for n, t in tensors.items() if t.is_floating_point() and t.element_size() < SINGLE]


def _coarse_outputs(exam: Examination) -> list[str]:
    """Names of modules that returned less than single precision for one input."""
    found: list[str] = []
    handles = []
    for name, module in exam.defense.model.named_modules():

        def look(module: nn.Module, given: object, result: object, name: str = name) -> None:
            coarse = isinstance(result, Tensor) and result.is_floating_point()
            if coarse and result.element_size() < SINGLE:  # type: ignore[attr-defined]
                found.append(name or "the model")

        handles.append(module.register_forward_hook(look))
    try:
        exam.call(exam.x[:1], exam.streams[exam.places[:1]])
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(found))
