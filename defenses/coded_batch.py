"""A whole batch coded together, and each sample's own gradient through the code."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from robustcode.coding import Code
from robustcode.errors import ConfigError
from robustcode.models.submodule import Layer

# Values of coded inputs that go through a layer at once on a CPU where a gradient is wanted, 32
# images of 3x32x32. In a ResNet-20 192 of them in one piece leave the cache and ask the system for
# memory at every call, which takes half as long again.
VALUES = 100_000


def coded_inference(model: nn.Module, x: Tensor, code: Code, permutation: Tensor) -> Tensor:
    """Scores of a whole batch of k images coded together, shape (k, classes).

    ``permutation``, int64 of shape (k,), puts image ``permutation[i]`` at point i.

    Source: randomized coded inference, Moradi et al. 2025, arXiv:2510.00253v1.
    """
    if len(x) != code.k or sorted(permutation.tolist()) != list(range(code.k)):
        raise ConfigError(
            f"a code of k = {code.k} takes {code.k} images and a permutation of them; "
            f"got {len(x)} and {permutation.tolist()}"
        )
    return coded(model, x[permutation], code)[permutation.argsort()]


def coded(layer: Layer, inputs: Tensor, code: Code) -> Tensor:
    """What ``layer`` gives for k inputs in their order, by way of n coded ones: (k, ...)."""
    encoder, decoder = codec(code, inputs)
    return _applied(decoder, layer(_applied(encoder, inputs)))


def coded_apart(layer: Layer, inputs: Tensor, code: Code, reach: int) -> Tensor:
    """``coded`` with the same values, whose gradient is each sample's own.

    A loss of output i is then differentiated in input i alone, as if the others were constants:
    ``sum_j E[j, i] D[i, j] J_j' v`` over the coded inputs j. Each coded input is differentiated
    once for each of the ``reach`` samples whose product of weights is the largest there, which is
    a backward pass of n inputs each, over one forward pass.

    Source: the research notes on coded smoothing, section 5.4, derived there; the papers on coded
    smoothing do not speak of it.
    """
    outputs: Tensor = _OwnGradients.apply(inputs, layer, code, reach)  # type: ignore[no-untyped-call]
    return outputs


class _OwnGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: Layer, code: Code, reach: int) -> Tensor:
        encoder, decoder = codec(code, inputs)
        given = _applied(encoder, inputs.detach())
        size = len(given)
        if inputs.device.type == "cpu":
            size = max(1, VALUES // given[0].numel())
        with torch.set_grad_enabled(inputs.requires_grad):
            # Each a leaf of its own, so that its graph goes no further.
            leaves = [part.requires_grad_(inputs.requires_grad) for part in given.split(size)]
            # Copies: a layer may work in place, and a leaf must stay as it is.
            outputs = [layer(part.clone()) for part in leaves]
        ctx.code, ctx.reach, ctx.leaves, ctx.outputs = code, reach, leaves, outputs
        return _applied(decoder, torch.cat([part.detach() for part in outputs]))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, upstream: Tensor
    ) -> tuple[Tensor | None, None, None, None]:
        if not all(part.requires_grad for part in ctx.outputs):
            return None, None, None, None
        own = upstream.new_zeros(ctx.code.k, *ctx.leaves[0].shape[1:])
        for served in serving(ctx.code, ctx.reach):
            member, gives, takes = (t.to(upstream.device) for t in served)
            up = (upstream[member] * _column(takes.to(upstream), upstream)).split(
                [len(part) for part in ctx.leaves]
            )
            # Kept: there may be another sample to serve, and another loss to differentiate.
            slopes = torch.autograd.grad(ctx.outputs, ctx.leaves, up, retain_graph=True)
            slope = torch.cat(slopes)
            own.index_add_(0, member, slope * _column(gives.to(slope), slope))
        return own, None, None, None


class Served(NamedTuple):
    """Whom each coded input is differentiated for in one backward pass, all of shape (n,)."""

    member: Tensor  # the sample
    gives: Tensor  # what it gives to the coded input
    takes: Tensor  # what its output takes from the coded output


@lru_cache(maxsize=32)
def serving(code: Code, reach: int) -> tuple[Served, ...]:
    """The samples of the largest own weight at each coded input, heaviest first."""
    encoder, decoder = torch.tensor(code.encoder), torch.tensor(code.decoder).T  # both (n, k)
    heaviest = (encoder * decoder).abs().sort(dim=1, descending=True, stable=True).indices
    return tuple(
        Served(
            heaviest[:, rank],
            encoder.gather(1, heaviest[:, rank : rank + 1])[:, 0],
            decoder.gather(1, heaviest[:, rank : rank + 1])[:, 0],
        )
        for rank in range(min(reach, code.k))
    )


def codec(code: Code, like: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder (n, k) and decoder (k, n) in the precision and on the device of ``like``."""
    return torch.tensor(code.encoder).to(like), torch.tensor(code.decoder).to(like)


def _applied(matrix: Tensor, rows: Tensor) -> Tensor:
    return (matrix @ rows.flatten(1)).view(len(matrix), *rows.shape[1:])


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
