"""What a search found, proved: the bound that its numbers give on the network itself."""

from __future__ import annotations

import torch
from torch import Tensor

from robustcode.bounds.linear import linear_bounds
from robustcode.bounds.reduced import Reduced
from robustcode.bounds.region import Interval
from robustcode.bounds.relaxation import Line, Relaxations, line
from robustcode.bounds.rounding import sizes_of
from robustcode.bounds.slopes import Dual


class Checker:
    """Lower bounds in float64, outward of all rounding, for numbers found in float32.

    Nothing that a search did needs to be right: numbers are taken for slopes and multipliers, and
    signs for suppositions under which alone the bound holds.

    Attributes:
        bounds: on all values of the network, one sample's: an Interval of (1, ...) a node.
    """

    def __init__(self, reduced: Reduced, bounds: list[Interval]) -> None:
        self.reduced, self.bounds = reduced, bounds
        self.sizes = sizes_of(reduced.network, bounds)

    def lower(
        self, dual: Dual, numbers: Tensor, signs: Tensor, spec: Tensor, node: int = -1
    ) -> Tensor:
        """Of ``spec``, (columns, ...) or one for all, (columns,), float64.

        ``numbers`` and ``signs`` are (open, columns) of the dual's layers.
        """
        lines, extra = self._lines(dual, numbers.double(), signs)
        found = linear_bounds(
            self.reduced.network,
            self.reduced.region,
            lines,
            spec.expand(numbers.shape[1], *spec.shape[1:])[None],
            node=node,
            extra=extra,
            sizes=self.sizes,
        )
        # What is no number is no bound, and must not pass for one in a comparison.
        return found.proved[0].nan_to_num(nan=-torch.inf, posinf=-torch.inf)

    def _lines(
        self, dual: Dual, numbers: Tensor, signs: Tensor
    ) -> tuple[Relaxations, dict[int, Tensor]]:
        """Of every ReLU whose values are bounded by now, with a row for each column."""
        network = self.reduced.network
        open_ = {
            layer.relu: (layer.places, numbers[at].t(), signs[at].t())
            for layer, at in zip(dual.layers, dual.slices, strict=True)
        }
        lines: Relaxations = {}
        extra: dict[int, Tensor] = {}
        for relu in network.relus:
            before = network.nodes[relu].inputs[0]
            if before >= len(self.bounds):
                break
            interval = self.bounds[before]
            if relu not in open_:
                lines[relu] = line(interval)
                continue
            places, own, sign = open_[relu]
            shape = (len(own), *interval.lower.shape[1:])
            lower, upper = (side.flatten(1).repeat(len(own), 1) for side in interval)
            # relu(z) = z on all of z >= 0, and 0 on all of z <= 0.
            lower[:, places] = torch.where(
                sign > 0, lower[:, places].clamp(min=0), lower[:, places]
            )
            upper[:, places] = torch.where(
                sign < 0, upper[:, places].clamp(max=0), upper[:, places]
            )
            slopes, term = torch.zeros_like(lower), torch.zeros_like(lower)
            slopes[:, places] = own.clamp(0, 1)
            # Where z >= 0 is supposed, the sum less multiplier * z is below it, for any >= 0.
            term[:, places] = -sign * own.clamp(min=0)
            found = line(Interval(lower.view(shape), upper.view(shape)), slopes.view(shape))
            lines[relu] = Line(*(part.transpose(0, 1) for part in found))
            extra[relu] = term.view(1, *shape)
        return lines, extra
