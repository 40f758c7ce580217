"""Dual reconstruction smoothing: the coded branch as a penalty on the function itself."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.training.base import RECIPES
from robustcode.training.coded import Against
from robustcode.training.coded_smoothing import CodedSmoothing


@RECIPES.register("dres")
@dataclass(frozen=True, kw_only=True)
class Dres(CodedSmoothing):
    """Cross-entropy blended with the distance of coded outputs from the plain ones.

    It differs from CodedSmoothing in the default of ``against`` alone.

    Source: DReS, the second version of coded smoothing, arXiv:2510.00253v2, of which the abstract
    was available: the discrepancy between a function and its coded approximation regularises its
    smoothness, of any sub-module, with labels or without. The values of the settings and whether
    a gradient stops were not available.
    """

    against: Against | str = Against.OUTPUTS
