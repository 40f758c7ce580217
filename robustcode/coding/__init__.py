"""Codes as pure linear algebra: where samples sit, the spline through them, the codec."""

from robustcode.coding.code import Code
from robustcode.coding.points import chebyshev_first, chebyshev_second
from robustcode.coding.spline import spline_matrix

__all__ = ["Code", "chebyshev_first", "chebyshev_second", "spline_matrix"]
