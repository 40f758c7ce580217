"""Codes as pure linear algebra: where samples sit, what goes through them, the codec."""

from robustcode.coding.berrut import berrut_matrix
from robustcode.coding.code import Basis, Code
from robustcode.coding.diagnostics import Diagnostics
from robustcode.coding.points import (
    Points,
    chebyshev_first,
    chebyshev_second,
    equispaced_ends,
    equispaced_middles,
)
from robustcode.coding.spline import spline_matrix

__all__ = [
    "Basis",
    "Code",
    "Diagnostics",
    "Points",
    "berrut_matrix",
    "chebyshev_first",
    "chebyshev_second",
    "equispaced_ends",
    "equispaced_middles",
    "spline_matrix",
]
