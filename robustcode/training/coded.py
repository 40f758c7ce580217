"""The coded branch of a loss: the batch encoded, run through the same network, and decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.coding import Code
from robustcode.components import convert
from robustcode.errors import ConfigError
from robustcode.models.submodule import Change, Layer, changed, path_of
from robustcode.training.codec import Codec

Criterion = Callable[[Tensor, Tensor], Tensor]
"""(outputs, y) -> the mean loss, a scalar."""


class Against(StrEnum):
    """What decoded outputs are held against."""

    LABELS = "labels"
    OUTPUTS = "outputs"


class BatchNorm(StrEnum):
    """What layers with running statistics see of the coded pass."""

    SEPARATE = "separate"
    JOINT = "joint"
    FROZEN = "frozen"


@dataclass(frozen=True, kw_only=True)
class CodedTerm:
    """The coded term of a loss, and its share: (1 - mu) main + mu coded.

    The k samples of a batch are encoded in the order they come in, so they must come shuffled.
    The network runs on the n = ``ratio`` k coded samples, which are not clipped to [0, 1], and
    its n outputs are decoded to k. If n - 1 is a multiple of 2 k every sample is also a coded
    sample and decoding returns its plain output: n is then one less.

    Source: Moradi et al. 2025, arXiv:2510.00253v1, as its summaries and reviews tell it: spline
    codes on Chebyshev points and one coefficient that blends the two losses. They disagree on
    what decoded outputs are held against, and the paper's own values for ``ratio``, ``c`` and
    ``mu``, its handling of batch norm and whether a gradient stops were not available; the
    defaults are ours.

    Attributes:
        ratio: coded samples per sample; the smaller, the stronger the regularisation.
        c: smoothing of both splines, as in ``Code``; 0 is interpolation.
        mu: share of the coded term, in [0, 1]; with 0 there is no coded pass.
        module: dotted name of the module that is coded, one tensor in and one out, called once
            in a pass of the network; the whole network if empty.
        against: ``labels`` takes the loss of the decoded outputs, after the rest of the network
            if a module is coded; ``outputs`` takes the mean square distance, over samples and
            values, of the module's decoded outputs from its plain ones.
        stop_gradient: with ``outputs``, hold the plain outputs fixed, so that only the coded ones
            are drawn to them.
        batch_norm: in training, ``separate`` normalises the coded pass by its own statistics, and
            the running ones follow both passes (with ``labels`` and a module, the layers before
            it then count the plain batch twice); ``joint`` makes one pass, with one statistic, of
            plain and coded samples together; ``frozen`` is ``separate`` with running statistics
            that follow the plain pass alone.
    """

    ratio: float = 1.5
    c: float = 0.0
    mu: float = 0.25
    module: str = ""
    against: Against | str = Against.LABELS
    stop_gradient: bool = False
    batch_norm: BatchNorm | str = BatchNorm.SEPARATE

    def __post_init__(self) -> None:
        if not 0 < self.ratio < float("inf"):
            raise ConfigError(f"ratio = {self.ratio}: coded samples per sample are above 0")
        if not (isfinite(self.c) and self.c >= 0):
            raise ConfigError(f"c = {self.c}: the smoothing of a code is finite and >= 0")
        if not 0 <= self.mu <= 1:
            raise ConfigError(f"mu = {self.mu}: the share of the coded term is in [0, 1]")
        for name, kind in (("against", Against), ("batch_norm", BatchNorm)):
            object.__setattr__(self, name, convert(getattr(self, name), kind, name))

    def code(self, k: int) -> Code:
        """The code of a batch of ``k``; ConfigError if it cannot be coded."""
        n = round(self.ratio * k)
        degenerate = n > 1 and (n - 1) % (2 * k) == 0
        return Code(k, n - degenerate, self.c)


class CodedBranch(nn.Module):
    """A network with a coded term in its loss, for a training loop of one's own.

        branch = CodedBranch(network, CodedTerm(mu=0.25))
        loss = branch.loss(x, y)
        loss.backward()

    It has the parameters of the network and no others; called, it is the network.

    Source: as for CodedTerm.

    Attributes:
        network: from a tensor (batch, ...) to a tensor (batch, ...).
        term: what the coded term is.
    """

    def __init__(self, network: nn.Module, term: CodedTerm | None = None) -> None:
        super().__init__()
        self.network = network
        self.term = term or CodedTerm()
        self.training = network.training
        self._module = path_of(network, self.term.module)  # a wrong name is met here

    def forward(self, x: Tensor) -> Tensor:
        """The network's outputs."""
        outputs: Tensor = self.network(x)
        return outputs

    def loss(self, x: Tensor, y: Tensor, criterion: Criterion = F.cross_entropy) -> Tensor:
        """The blended loss of one batch, a scalar with a graph.

        ``y`` is what ``criterion`` compares outputs with; without labels it may be ``x`` itself.
        """
        mu = self.term.mu
        if mu == 0:
            return criterion(self(x), y)
        if self.term.against is Against.LABELS:
            plain, decoded = self._both_paths(x)
            return (1 - mu) * criterion(plain, y) + mu * criterion(decoded, y)
        plain, distance = self._with_distance(x)
        return (1 - mu) * criterion(plain, y) + mu * distance

    def penalty(self, x: Tensor) -> Tensor:
        """The distance of ``against=outputs`` alone, for losses of another form; no labels."""
        return self._with_distance(x)[1]

    def _both_paths(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The network's plain outputs, and those by way of the coded module."""
        codec, k = Codec(self.term.code(len(x))), len(x)
        if self.term.batch_norm is BatchNorm.JOINT:

            def side_by_side(given: Tensor, layer: Layer) -> Tensor:
                half = len(given) // 2
                return torch.cat(codec.joint(given[:half], given[half:], layer))

            outputs = self._changed(torch.cat([x, x]), side_by_side)
            return outputs[:k], outputs[k:]
        plain = self(x)
        with self._apart():
            return plain, self._changed(x, codec.coded)

    def _with_distance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The network's plain outputs, and how far the module's decoded ones are from its own."""
        codec = Codec(self.term.code(len(x)))
        distances = []

        def compared(given: Tensor, layer: Layer) -> Tensor:
            if self.term.batch_norm is BatchNorm.JOINT:
                plain, decoded = codec.joint(given, given, layer)
            else:
                coded = codec.encode(given)  # before a layer that may change what it is given
                plain = layer(given)
                with self._apart():
                    decoded = codec.decode(layer(coded))
            held = plain.detach() if self.term.stop_gradient else plain
            distances.append(F.mse_loss(decoded, held))
            # A copy, for layers that come after and change what they are given.
            return plain.clone()

        outputs = self._changed(x, compared)
        return outputs, distances[0]

    def _changed(self, x: Tensor, change: Change) -> Tensor:
        return changed(self.network, self._module, x, change)

    def _apart(self) -> AbstractContextManager[None]:
        """Where the coded pass runs when it is a pass of its own."""
        frozen = self.term.batch_norm is BatchNorm.FROZEN
        return still_statistics(self.network) if frozen else nullcontext()


@contextmanager
def still_statistics(network: nn.Module) -> Iterator[None]:
    """Inside the block training normalises as ever, and running statistics do not move."""
    # Of no use in evaluation mode, and an instance norm there would take other statistics.
    layers = [
        layer
        for layer in network.modules()
        if layer.training and getattr(layer, "track_running_stats", False)
    ]
    for layer in layers:
        layer.track_running_stats = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True  # type: ignore[assignment]
