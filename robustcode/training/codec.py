"""A code as tensors, around whatever layer is coded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from robustcode.coding import Code
from robustcode.errors import ConfigError
from robustcode.models.submodule import Layer


@dataclass(frozen=True)
class Codec:
    """Inputs of a layer to coded inputs, and its outputs back.

    Attributes:
        code: from k samples to n coded samples.
    """

    code: Code

    def encode(self, inputs: Tensor) -> Tensor:
        """The n coded inputs of k inputs, (n, ...)."""
        if len(inputs) != self.code.k:
            raise ConfigError(
                f"what is coded is given {len(inputs)} rows for a batch of {self.code.k}; coding "
                "mixes samples, so name a module whose first dimension is the batch"
            )
        if not inputs.is_floating_point():
            raise ConfigError(
                f"inputs of type {inputs.dtype} cannot be coded, since a coded one is a weighted "
                "sum; name a module that is given real numbers"
            )
        return self._applied(0, inputs)

    def decode(self, outputs: Tensor) -> Tensor:
        """The k decoded outputs of n outputs, (k, ...)."""
        if not isinstance(outputs, Tensor):
            raise ConfigError(
                f"what is coded returns a {type(outputs).__name__} and not a tensor; name a module "
                "that returns one"
            )
        if outputs.ndim == 0 or len(outputs) != self.code.n:
            raise ConfigError(
                f"what is coded returns a tensor of shape {tuple(outputs.shape)} for "
                f"{self.code.n} inputs; name a module that returns a row for each"
            )
        return self._applied(1, outputs)

    def coded(self, inputs: Tensor, layer: Layer) -> Tensor:
        """What ``layer`` gives for k inputs by way of n coded ones, (k, ...)."""
        return self.decode(layer(self.encode(inputs)))

    def joint(self, plain: Tensor, inputs: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
        """``layer(plain)`` and the coded outputs of ``inputs``, in one call of the layer."""
        outputs = layer(torch.cat([plain, self.encode(inputs)]))
        k = len(plain)
        return outputs[:k], self.decode(outputs[k:])

    def _applied(self, which: int, rows: Tensor) -> Tensor:
        """One of the two matrices times ``rows``, in single precision or better."""
        precision = torch.promote_types(rows.dtype, torch.float32)
        matrix = _matrices(self.code, precision, rows.device)[which]
        # Autocast would round the code itself, and what decoding cannot undo is the penalty.
        with torch.autocast(rows.device.type, enabled=False):
            mixed = matrix @ rows.to(precision).reshape(len(rows), -1)
        return mixed.view(-1, *rows.shape[1:]).to(rows.dtype)


@lru_cache(maxsize=32)
def _matrices(code: Code, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Encoder (n, k) and decoder (k, n)."""
    # A tensor made in inference mode could not be used for training afterwards.
    with torch.inference_mode(False):
        encoder, decoder = torch.tensor(code.encoder), torch.tensor(code.decoder)
        return encoder.to(device, dtype), decoder.to(device, dtype)
