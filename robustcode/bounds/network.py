"""A network as a graph of layers that can be bounded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustcode.bounds.layers import Layer, MaxPool, ReLU, Shape
from robustcode.bounds.tracing import Step, steps_of
from robustcode.errors import ConfigError

# Rows that the graph is compared on; another number than the tracer runs, so that a size of the
# batch that was taken for a constant shows.
COMPARED = 3
# The last of them is so many times as far from 0 as an image, to both sides.
FAR = 8


class Node(NamedTuple):
    """A layer in its place.

    Attributes:
        name: what the model calls it.
        layer: what it does.
        inputs: the nodes that it reads, by index.
        shape: of one row of its output.
    """

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in an order in which each comes after those it reads.

    ``nodes[0]`` is the input and ``nodes[-1]`` the logits.
    """

    nodes: tuple[Node, ...]
    dtype: torch.dtype

    @property
    def shape(self) -> Shape:
        """Of one input."""
        return self.nodes[0].shape

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.nodes[-1].shape[-1]

    @cached_property
    def relus(self) -> tuple[int, ...]:
        """The nodes that are ReLUs, by index."""
        return tuple(i for i, node in enumerate(self.nodes) if isinstance(node.layer, ReLU))

    @cached_property
    def users(self) -> tuple[tuple[int, ...], ...]:
        """For each node those that read it; twice if they do so twice."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                readers[j].append(i)
        return tuple(map(tuple, readers))

    @cached_property
    def bent(self) -> tuple[bool, ...]:
        """Whether each node is behind a ReLU or a pooling: no longer affine in the input."""
        found: list[bool] = []
        for node in self.nodes:
            own = isinstance(node.layer, ReLU | MaxPool)
            found.append(own or any(found[j] for j in node.inputs))
        return tuple(found)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        return self.values(x)[-1]

    def values(self, x: Tensor) -> list[Tensor]:
        """What each node gives, (batch, ...)."""
        found = [x]
        for node in self.nodes[1:]:
            found.append(node.layer.value(*(found[j] for j in node.inputs)))
        return found


def network_of(
    model: nn.Module, example: Tensor, dtype: torch.dtype | None = torch.float64
) -> Network:
    """The layers of ``model``, which takes inputs like ``example``, (1 or more, ...).

    The layers are those of a frozen copy in ``dtype``; if it is None they are the model's own, so
    that bounds can be differentiated by its parameters, and stay those of a model in training.
    Batch norms must be in evaluation mode, as everything is bounded as it is evaluated.

    ConfigError names the first layer that cannot be bounded. The graph is run against the model
    on noise, and refused if its logits are other ones.
    """
    if dtype is not None:
        model = copy.deepcopy(model).to(dtype).requires_grad_(False)
        example = example.to(dtype)
    with torch.no_grad():
        steps = steps_of(model, example[:1])
        network = Network(_nodes(steps), example.dtype)
        _compare(network, model, example)
    return network


def _nodes(steps: list[Step]) -> tuple[Node, ...]:
    return tuple(Node(step.name, step.layer, step.inputs, step.shape) for step in steps)


def _compare(network: Network, model: nn.Module, example: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (COMPARED, *example.shape[1:])
    x = torch.rand(shape, generator=generator, dtype=torch.float64).to(example)
    # An image, one of black and white alone, and no image at all: the graph is for any input.
    x = torch.stack([x[0], x[1].round(), FAR * (2 * x[2] - 1)])
    expected, found = model(x.clone()), network(x)
    shapes = tuple(expected.shape), tuple(found.shape)
    if shapes[0] != shapes[1] or expected.ndim != 2:
        raise ConfigError(
            f"the model gives logits of shape {shapes[0]} for {COMPARED} inputs and its graph "
            f"{shapes[1]}: what it does depends on the size of the batch, and it cannot be bounded"
        )
    size = expected.norm(dim=1).clamp(min=torch.finfo(x.dtype).tiny)
    error = float(((expected - found).norm(dim=1) / size).max())
    # The graph does the same operations as the model in nearly the same order: logits that differ
    # in the first half of their digits are another function's.
    if not error <= torch.finfo(x.dtype).eps ** 0.5:
        raise ConfigError(
            f"the graph of the model gives other logits than the model, by {error:.1g} of their "
            "size: it does something that a trace does not show, and cannot be bounded"
        )
