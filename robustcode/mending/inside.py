"""The classifier inside a model, in place of what is done around it."""

from __future__ import annotations

from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from robustcode.defenses.base import Defense
from robustcode.mending.base import Keeps, NotMendableError, Scores, Way
from robustcode.mending.double import Precise
from robustcode.mending.identity import guide_for, near
from robustcode.seeds import Streams


class Inside(Way):
    """The scores that the outermost module inside the model gives the input itself.

    It must be one that is called with something ``identity.NEAR`` an input, whatever it is called
    with for others in the batch, and answers by a row of as many scores for each: the network that
    a model purifies inputs for, or whose answers it keeps or changes. Its word is not the
    defence's, so the face is called stochastic: no sample leaves an attack because this one gets it
    wrong, and candidates are compared by the defence's own scores. To find the module costs a pass
    more, once.

    Source: transfer from the static model, Croce et al. 2022, arXiv:2202.13711; to look for it
    inside the model is ours.
    """

    keeps: ClassVar[Keeps] = Keeps.NOTHING
    stochastic: ClassVar[bool] = True
    anew: ClassVar[bool] = True

    def __init__(self) -> None:
        # By the copy of the model, which is gone when its defence is.
        self._found: WeakKeyDictionary[nn.Module, nn.Module] = WeakKeyDictionary()

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        inner = self._found.get(defense.model)
        if inner is None:
            inner = self._found[defense.model] = _inner(defense.model, follow, x, streams)
        given = x.double() if isinstance(defense.model, Precise) else x
        scores: Tensor = inner(given)
        return scores


def _inner(model: nn.Module, follow: Scores, x: Tensor, streams: Streams) -> nn.Module:
    """The outermost module that classifies images like ``x``, the model itself aside."""
    classifying: dict[nn.Module, int] = {}

    def note(module: nn.Module, args: tuple[Any, ...], scores: Any) -> None:
        z = args[0] if args else None
        if isinstance(z, Tensor) and isinstance(scores, Tensor) and scores.ndim == 2:
            guide = guide_for(x, z) if z.shape == x.shape else None
            if guide is not None and len(scores) == len(x) and bool(near(z, guide).any()):
                classifying[module] = scores.shape[1]

    whole = {model, model.model} if isinstance(model, Precise) else {model}
    inside = [module for module in model.modules() if module not in whole]
    handles = [module.register_forward_hook(note) for module in inside]
    try:
        with torch.no_grad():
            classes = follow(x, streams).shape[1]
    finally:
        for handle in handles:
            handle.remove()
    for module in inside:  # an outer one comes before those in it
        if classifying.get(module) == classes:
            return module
    raise NotMendableError(
        "'inside' finds no module in the model that classifies images as the model does; try "
        "'identity' or 'through'"
    )
