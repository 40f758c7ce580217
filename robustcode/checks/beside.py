"""Clean images beside the pilot, and a defence that meets other ones than before."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from robustcode.checks.base import Untested
from robustcode.checks.examination import Examination
from robustcode.defenses.as_found import MATES, Among
from robustcode.defenses.base import Defense
from robustcode.defenses.wrapper import Around, layers
from robustcode.errors import ConfigError


def depends_on_mates(exam: Examination) -> bool:
    """Whether a sample's scores depend on images that nobody perturbs."""
    return exam.coupled or any(isinstance(one, Among) for one in layers(exam.defense))


def mates_of(defense: Defense) -> int:
    """Clean images that one input may stand beside."""
    return max(MATES, max(one.batch for one in layers(defense)) - 1)


def outsiders(exam: Examination) -> Tensor:
    """Indices of clean samples that are not evaluated, or are at least not in the pilot, int64.

    The latter where fewer than half of the data are left over.
    """
    if exam.data is None:
        raise Untested("there are no images beside the pilot")
    rest = torch.ones(len(exam.data), dtype=torch.bool)
    rest[exam.chosen.cpu()] = False
    if 2 * int(rest.sum()) < len(rest):
        rest[:] = True
    rest[exam.samples.cpu()] = False
    return rest.nonzero().squeeze(1)


def images(exam: Examination, samples: Tensor) -> Tensor:
    """Those of some samples of the data, where the pilot is."""
    assert exam.data is not None
    return exam.data.images(samples).to(exam.x)


def among(defense: Defense, pool: Tensor) -> Defense:
    """The defence with the clean images ``pool`` for mates, (pool, channels, height, width).

    One that depends on its batch without saying so meets each input in a batch of its own with
    them, as it is evaluated.
    """
    nobody = torch.full((len(pool),), -1)
    if isinstance(defense, Among):
        return dataclasses.replace(defense, mates=pool, numbers=nobody)
    within = [isinstance(one, Among) for one in layers(defense)]
    if isinstance(defense, Around) and (defense.batch_coupled or any(within)):
        return dataclasses.replace(defense, inner=among(defense.inner, pool))
    if not defense.batch_coupled:
        return Among(inner=defense, mates=pool, numbers=nobody)
    if not isinstance(getattr(defense, "mates", None), Tensor):
        raise Untested("the defence takes no pool of mates that could be others")
    try:
        other: Defense = dataclasses.replace(cast(Any, defense), mates=pool)
        return other
    except (ConfigError, TypeError) as cause:
        raise Untested(f"the defence does not take other mates: {cause}") from cause
