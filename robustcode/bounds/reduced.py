"""What is left of a network in a region when every ReLU of known sign has become linear."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from robustcode.bounds.layers import Affine, Input, ReLU
from robustcode.bounds.linear import linear_bounds
from robustcode.bounds.network import Network
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.relaxation import Line, Relaxations
from robustcode.errors import ConfigError
from robustcode.threat import Norm, ThreatModel

# A matrix with fewer entries than this share is multiplied faster by its entries alone: measured
# on CNN-A, whose inner values read a few pixels each.
SPARSE = 0.1
# ReLUs that may be open in one sample: their matrices have as many rows, and so many columns more.
MOST = 8_000


class Matrix:
    """A matrix that is applied to columns from either side."""

    def __init__(self, dense: Tensor) -> None:
        sparse = float((dense != 0).double().mean()) < SPARSE and dense.device.type == "cpu"
        self.shape = tuple(dense.shape)
        self.matrix = _packed(dense) if sparse else dense.contiguous()
        self.transposed = _packed(dense.t()) if sparse else dense.t().contiguous()

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self.matrix @ columns

    def back(self, columns: Tensor) -> Tensor:
        """The transposed matrix times columns."""
        return self.transposed @ columns


def _packed(dense: Tensor) -> Tensor:
    with warnings.catch_warnings():
        # torch announces that its sparse rows are young; products are all that is used of them.
        warnings.filterwarnings("ignore", "Sparse CSR tensor support")
        return dense.contiguous().to_sparse_csr()


@dataclass(frozen=True, eq=False)
class Rows:
    """Affine functions of the input and of the open ReLUs of earlier layers.

    The input is written as the reduced network has it.

    Attributes:
        inputs: coefficients of the input, (rows, inputs).
        earlier: by layer, those of what its open ReLUs give, (rows, open).
        bias: (rows,).
    """

    inputs: Tensor
    earlier: dict[int, Tensor]
    bias: Tensor

    def __getitem__(self, rows: Tensor | slice) -> Rows:
        """Some of them."""
        earlier = {j: matrix[rows] for j, matrix in self.earlier.items()}
        return Rows(self.inputs[rows], earlier, self.bias[rows])

    def both(self) -> Rows:
        """These and then their negatives."""
        earlier = {j: torch.cat([matrix, -matrix]) for j, matrix in self.earlier.items()}
        return Rows(
            torch.cat([self.inputs, -self.inputs]), earlier, torch.cat([self.bias, -self.bias])
        )


@dataclass(frozen=True, eq=False)
class OpenLayer:
    """The values before one ReLU node whose sign is not known.

    Attributes:
        relu: index of the node.
        places: which of the node's values, flat indices, (open,).
        lower: of each value, (open, 1).
        upper: likewise.
        bias: (open, 1).
        inputs: coefficients of the input.
        earlier: by layer, those of what its open ReLUs give.
    """

    relu: int
    places: Tensor
    lower: Tensor
    upper: Tensor
    bias: Tensor
    inputs: Matrix
    earlier: dict[int, Matrix]

    def __len__(self) -> int:
        return len(self.places)


class Reduced:
    """A network of open ReLUs only, of one sample, in float32.

    In linf its input is a point of the unit cube, which stands for the region; else it is the
    network's own.

    It serves to search for a proof. What is found is proved on the network itself.
    """

    def __init__(self, network: Network, region: Region) -> None:
        self.network, self.region = network, region
        self.layers: list[OpenLayer] = []
        self._lines: Relaxations = {}
        self._places: dict[int, Tensor] = {}
        self._centre, self._scale = torch.zeros_like(region.x), torch.ones_like(region.x)
        if region.norm is Norm.LINF:
            low, high = region.box()
            self._centre, self._scale = (low + high) / 2, (high - low) / 2

    @property
    def sizes(self) -> list[int]:
        """How many values are open, by layer."""
        return [len(layer) for layer in self.layers]

    def input_at(self, points: Tensor) -> Tensor:
        """The network's own inputs, (points, ...), at those of the reduced one, (inputs, points).

        Rounding may have put them outside a region with a box, and they are moved into it.
        """
        x = self._centre + self._scale * points.t().double().view(-1, *self._centre.shape[1:])
        low, high = self.region.low, self.region.high
        if low is None or high is None:
            return x
        threat = ThreatModel(self.region.norm, float(self.region.radius), low, high)
        return threat.project(x, self.region.x.expand(x.shape))

    def rows(self, node: int, spec: Tensor) -> Rows:
        """``spec`` of the node's values, (rows, ...); the layers that it reads must be there."""
        kept: dict[int, Tensor] = {}
        found = linear_bounds(
            self.network, self.region, self._lines, spec[None], node=node, keep=kept
        )
        coefficients = found.coefficients[0]
        bias = found.bias[0] + (coefficients * self._centre).flatten(1).sum(1)
        earlier = {
            k: kept[layer.relu][0].flatten(1)[:, layer.places].float()
            for k, layer in enumerate(self.layers)
            if layer.relu in kept
        }
        return Rows((coefficients * self._scale).flatten(1).float(), earlier, bias.float())

    def values(self, relu: int, places: Tensor) -> Rows:
        """Some of the values that a ReLU is given."""
        node = self.network.nodes[relu].inputs[0]
        shape = self.network.nodes[node].shape
        spec = torch.zeros(len(places), prod(shape), dtype=self.network.dtype)
        spec[torch.arange(len(places)), places] = 1
        return self.rows(node, spec.view(-1, *shape).to(self.region.x.device))

    def add(self, relu: int, interval: Interval, rows: Rows | None, places: Tensor) -> None:
        """Enter the next ReLU: bounds on all its values (1, ...), and the rows of open ones."""
        lower, upper = (side.flatten() for side in interval)
        active = (interval.lower >= 0).to(interval.lower)[:, None]
        self._lines[relu] = Line(active, active, torch.zeros_like(active))
        if rows is None or not len(places):
            return
        self.layers.append(
            OpenLayer(
                relu,
                places,
                lower[places, None].float(),
                upper[places, None].float(),
                rows.bias[:, None],
                Matrix(rows.inputs),
                {j: Matrix(matrix) for j, matrix in rows.earlier.items()},
            )
        )


def few_open(network: Network, bounds: list[Interval]) -> bool:
    """Whether one sample's network can be reduced; too many open ReLUs outgrow the memory."""
    sides = [bounds[network.nodes[relu].inputs[0]] for relu in network.relus]
    return sum(int(((lower < 0) & (upper > 0)).sum()) for lower, upper in sides) <= MOST


def refuse_pooling(network: Network, method: str) -> None:
    """ConfigError for a network with anything but ReLUs that is not affine."""
    for node in network.nodes:
        if not isinstance(node.layer, Affine | Input | ReLU):
            raise ConfigError(
                f"method {method} works on ReLUs, and the layer {node.name!r} is a "
                f"{type(node.layer).__name__}; take the method crown"
            )
