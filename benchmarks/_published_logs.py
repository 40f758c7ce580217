"""The per-sample logs of Cohen et al. 2019: what they certified, and how likely each vote was."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

DRAWS = 100_000
CHOOSING = 100  # draws that chose the class
Floats = NDArray[np.float64]
FOLDERS = {"CIFAR-10": "cifar10/resnet110", "ImageNet": "imagenet/resnet50"}


class Log(NamedTuple):
    """What one model's log says of each sample.

    Attributes:
        sigma: the noise, of training and of certification.
        alpha: probability with which each radius may be wrong.
        predicted: class that was chosen; -1 for an abstention.
        radius: what was certified for it, with three digits; 0 for an abstention.
        correct: whether that class is the label.
    """

    sigma: float
    alpha: float
    predicted: NDArray[np.int64]
    radius: Floats
    correct: NDArray[np.bool_]

    def certified(self, radius: float) -> float:
        """Share of samples that are right and certified at ``radius``."""
        return float((self.correct & (self.radius >= radius)).mean())

    @property
    def abstained(self) -> float:
        """Share of samples for which no class was named."""
        return float((self.predicted == -1).mean())

    @property
    def mean_radius(self) -> float:
        """Average certified radius, 0 where the class is wrong."""
        return float((self.correct * self.radius).mean())

    def chances(self) -> Floats:
        """Probability of the chosen class of each sample, shape (samples,).

        The radius gives the Clopper-Pearson bound, and the bound the count it came from: the one
        whose bound it is. NaN for an abstention, of which no count is known.
        """
        bound = ndtr(self.radius / self.sigma)
        low, high = np.full(len(bound), DRAWS / 2), np.full(len(bound), float(DRAWS))
        for _ in range(40):
            count = (low + high) / 2
            less = betaincinv(count, DRAWS - count + 1, self.alpha) < bound
            low, high = np.where(less, count, low), np.where(less, high, count)
        return np.where(self.predicted == -1, np.nan, np.rint(high) / DRAWS)


def log(folder: Path, data: str, sigma: float) -> Log:
    """That of the model trained and tested with noise ``sigma``.

    Its alpha is nowhere said. The paper's is .001, but all large radii of the logs from sigma = .25
    up are those of some whole number of failures in 100,000 draws at .01, and not at .001.
    """
    path = folder / "data" / "certify" / FOLDERS[data] / f"noise_{sigma:.2f}" / "test"
    rows = pd.read_csv(path / f"sigma_{sigma:.2f}", sep="\t")
    return Log(
        sigma,
        0.001 if sigma < 0.25 else 0.01,
        rows["predict"].to_numpy(np.int64),
        rows["radius"].to_numpy(np.float64),
        rows["correct"].to_numpy(np.int64) == 1,
    )


def table(logs: Sequence[Log], radii: Sequence[float]) -> list[list[float]]:
    """Of each log its sigma, the certified share by radius, the abstentions and the mean radius."""
    return [[one.sigma, *map(one.certified, radii), one.abstained, one.mean_radius] for one in logs]
