"""Accuracy over draws: what a random defence keeps if the adversary may try several times."""

from __future__ import annotations

import numpy as np

from robustcode.reports.numbers.sheet import Bools, Floats, Sheet
from robustcode.reports.numbers.steps import PLACES, Course, Point, Side, point_of
from robustcode.summary import TRIES

KIND = "over draws"
TRIED = (
    "The chance that all of k fresh draws are right, estimated without bias from all draws of each "
    "sample: what is left if one wrong answer in k tries is enough. At k = 1 it is the expected "
    "accuracy."
)


def left_over_draws(sheet: Sheet) -> list[Course]:
    """Right in all of k draws, for k from 1 to all, of clean inputs and of the worst proposals.

    Empty where decisions are not random. The estimate is that of statistics.any_of.
    """
    if sheet.draws is None:
        return []
    nothing = np.zeros(len(sheet.clean), dtype=bool)
    clean = _course(sheet, "clean", sheet.clean, nothing, 0)
    worst = _course(sheet, "worst case", sheet.held[:, -1], sheet.unknown[:, -1], sheet.missing)
    return [clean, worst]


def _course(sheet: Sheet, kind: str, shares: Floats, unknown: Bools, missing: int) -> Course:
    draws = sheet.draws or 1
    right = np.clip(np.rint(shares * draws), 0, draws).astype(int)
    # C(r, k) / C(draws, k) is the product of (r - j) / (draws - j) over j < k: row r, column k - 1.
    drawn = np.arange(draws)
    left = np.maximum(np.arange(draws + 1)[:, None] - drawn, 0)
    chance = np.cumprod(left / (draws - drawn), axis=1)

    def at(tries: int) -> Point:
        return point_of(tries, chance[right, tries - 1], unknown, missing, draws)

    told = tuple(map(at, tries_of(draws)))
    dots = tuple(float(tries) for tries in (1, *TRIES) if tries <= draws)
    return Course(kind, kind, len(shares) + missing, told, Side.NONE, dots)


def tries_of(draws: int) -> list[int]:
    """The numbers of tries that are told: all of a few, else ever fewer of the larger ones."""
    if draws <= PLACES:
        return list(range(1, draws + 1))
    asked = {k for k in TRIES if k <= draws}
    spread = np.rint(np.geomspace(1, draws, PLACES - len(asked))).astype(int)
    return sorted(asked | set(spread.tolist()))
