"""The inner maximisation of adversarial training: projected ascent on any loss per sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustcode.errors import ConfigError
from robustcode.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """The inner adversary: where it may go and how hard it tries.

    The network is in evaluation mode while it is attacked, whatever the outer loss does: the
    running statistics of batch norm then see training batches only, and a sample's perturbation
    does not depend on its neighbours. Madry's own code leaves the network in training mode here;
    that of TRADES does as we do.

    Attributes:
        threat: the ball to search.
        steps: number of ascent steps.
        step: length of one step as a fraction of ``threat.eps``.
    """

    threat: ThreatModel
    steps: int
    step: float

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps = {self.steps}: the inner maximisation needs at least one")
        if not self.step > 0:
            raise ConfigError(f"step = {self.step:g}: a step is a positive fraction of eps")

    def worsen(
        self, network: nn.Module, x: Tensor, start: Tensor, loss: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """The last iterate from ``start``, shape of ``x``, without a graph.

        ``loss`` takes logits (batch, classes) to the loss of each sample (batch,), to be raised.
        """
        self.threat.fits(x[0].numel())
        x_adv = start
        with evaluating(network):
            for _ in range(self.steps):
                x_adv = x_adv.detach().requires_grad_()
                # A sum, not a mean: each sample's gradient must not depend on the batch it is in.
                # autograd.grad leaves the parameters' .grad alone and skips their gradients.
                (gradient,) = torch.autograd.grad(loss(network(x_adv)).sum(), x_adv)
                ascent = self.threat.steepest(gradient, x_adv.detach())
                move = self.step * self.threat.eps * ascent
                x_adv = self.threat.project(x_adv.detach() + move, x)
        return x_adv.detach()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards each module is in the mode it came in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
