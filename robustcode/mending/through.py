"""Straight through whatever stops a gradient inside a model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from robustcode.defenses.base import Defense
from robustcode.mending.base import Scores, Way
from robustcode.mending.functions import forward_differentiated, passed_on
from robustcode.mending.integers import INTEGERS, further
from robustcode.mending.masks import MASKS
from robustcode.mending.severed import SEVERED, let_go, without_hooks
from robustcode.mending.steps import STEPS
from robustcode.mending.tracing import Tracing
from robustcode.seeds import Streams


class Through(Way):
    """The model's own values, run so that steps, masks, integers and cuts keep a gradient.

    Steps have that of a softer function (``steps``), comparisons and integers stand for soft ones
    (``masks``, ``integers``), what cuts a graph off or changes gradients does nothing
    (``severed``), and custom functions are differentiated as they run forward (``functions``). What
    leaves torch, as for numpy, or is compiled or scripted, is out of sight: there 'identity' may
    help.

    Source: Athalye et al. 2018, arXiv:1802.00420, section 4, by hand for each defence; that it can
    be done by tracing is ours.
    """

    anew: ClassVar[bool] = True

    def prepared(self, defense: Defense) -> Defense:
        """See Way.prepared."""
        without_hooks(defense.model)
        return defense

    def scores(self, defense: Defense, follow: Scores, x: Tensor, streams: Streams) -> Tensor:
        """See Way.scores."""
        # Not the leaf itself, which the model could then not write into after a detach.
        inside = x.clone()
        rules = {**SEVERED, **STEPS, **MASKS, **INTEGERS}
        try:
            with torch.enable_grad(), forward_differentiated(), Tracing(rules, further):
                scores = follow(inside, streams)
        finally:
            let_go(defense.model)
        return passed_on(scores)
