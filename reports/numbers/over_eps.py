"""Robust accuracy over eps: what is left if the adversary may go less far than it was allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from robustcode.bracket import NEARLY, component_of
from robustcode.certified import SAME
from robustcode.reports.grids import counted, listed
from robustcode.reports.numbers.proofs import Pair, proved_within, right_of
from robustcode.reports.numbers.sheet import Bools, Floats, Sheet
from robustcode.reports.numbers.steps import Course, Point, Side, accuracy, places, point_of
from robustcode.reports.source import Source

KIND = "over eps"
# Attacks that go on to the nearest wrong input if they are told not to stop at the first one.
MINIMAL = ("cw", "ddn", "deepfool", "fab", "fab-t", "fmn", "hopskipjump")
UPPER = (
    "At each place: the samples for which no attack found a wrong input so near. It is an upper "
    "bound everywhere, since what was found is allowed from its distance on."
)
EXPECTED = (
    "At each place: the mean share of right decisions if each sample's worst proposal is allowed "
    "from its distance on, and the sample itself before that. It is an upper bound everywhere, but "
    "for the chance of the draws."
)
LOOSE = (
    "The attacks were made for the whole eps and do not look for nearer wrong inputs: to the left "
    "of eps the bound is loose."
)


def threat_of(source: Source) -> tuple[str, float] | None:
    """Norm and eps of a run; None if it has no eps above 0 to look along."""
    eps = source.eps
    return None if eps is None or not 0 < eps < math.inf else (source.norm, eps)


def left_over_eps(sheet: Sheet, eps: float) -> Course:
    """The share of right decisions if proposals are allowed from their distance on.

    Without chance a sample falls at the least distance of a wrong proposal of any attack, at 0 if
    it is wrong by itself. The worst proposal of a random defence is the one that the run selected,
    at its distance.
    """
    if sheet.draws is None:
        wrong = sheet.shares == 0
        after = np.where(wrong.any(1), 0.0, sheet.clean)
    else:
        wrong = sheet.selected & ~np.isnan(sheet.shares)
        after = sheet.held[:, -1]
    away = np.where(wrong, sheet.distance, np.inf).min(axis=1, initial=np.inf)
    # Proposals were checked against eps: what is beyond it is a rounding.
    away = np.where(wrong.any(1), np.clip(np.nan_to_num(away, nan=eps), 0.0, eps), np.inf)
    unknown = sheet.unknown[:, -1]

    def at(place: float) -> Point:
        shares = np.where(away <= place, after, sheet.clean)
        # The untouched sample has its verdict, however an attack ended.
        return point_of(place, shares, unknown & (place > 0), sheet.missing, sheet.draws)

    changed = away[np.isfinite(away) & (after != sheet.clean)]
    told = tuple(at(place) for place in places(changed, eps))
    count = len(sheet.clean) + sheet.missing
    return Course("left by the attacks", "worst case", count, told, Side.AFTER, (eps,))


def notes_of(source: Source, sheet: Sheet) -> list[str]:
    """What the line of the attacks shows, and how good a bound of what a lesser eps leaves."""
    return [EXPECTED if source.draws else UPPER, looseness(source, sheet)]


def sought(source: Source, sheet: Sheet) -> bool:
    """Whether any attack looked for the nearest wrong input of any sample that was right."""
    return bool(_sought(source, sheet)[1].any())


def loose(source: Source, sheet: Sheet) -> bool:
    """Whether of some sample that was right nobody looked for the nearest wrong input."""
    _, looked = _sought(source, sheet)
    return bool((~looked & (sheet.clean > 0)).any())


def looseness(source: Source, sheet: Sheet) -> str:
    """Whether anybody looked for nearer wrong inputs than eps, and on how many samples."""
    seekers, looked = _sought(source, sheet)
    right = sheet.clean > 0
    if not looked.any():
        return LOOSE
    if looked.sum() == right.sum():
        return (
            f"{listed(seekers)} looked for the nearest wrong input on each sample that was right."
        )
    were = "was" if right.sum() == 1 else "were"
    return (
        f"{listed(seekers)} looked for the nearest wrong input on {int(looked.sum()):,} of "
        f"{counted(int(right.sum()), 'sample')} that {were} right; on the others the bound is "
        "loose to the left of eps."
    )


def _sought(source: Source, sheet: Sheet) -> tuple[list[str], Bools]:
    """The attacks that look for the nearest wrong input, and of which right samples they did."""
    seekers = [
        str(attack["name"])
        for attack in source.attacks
        if str(attack.get("name")).partition(":")[0] in MINIMAL
        and isinstance(attack.get("settings"), dict)
        and attack["settings"].get("until_broken") is False
    ]
    columns = [sheet.names.index(name) for name in seekers]
    looked = (sheet.ran[:, columns] & sheet.finished[:, columns]).any(1) & (sheet.clean > 0)
    return seekers, looked


def proved_over_eps(pair: Pair, eps: float) -> Course:
    """From below: what is proved within each distance, of the samples of both runs.

    At eps it is the lower end of the bracket. Of random decisions it is the mean of what is proved
    of the probability that one is right.
    """
    draws = pair.attack.draws

    def at(place: float) -> Point:
        shares = proved_of(pair, place)
        return Point(place, *(ends := accuracy(shares, draws)), ends[0], 0)

    samples = pair.found.table["sample"]
    radius = pair.proof.run.certificates.set_index("sample").loc[samples, "radius"]
    told = tuple(at(place) for place in places(radius, eps, [_own_eps(pair)]))
    name = f"certified by {pair.method}"
    return Course(name, "certified", len(samples), told, Side.BEFORE, (eps,))


def _own_eps(pair: Pair) -> float:
    """The eps of the certificates."""
    found = threat_of(pair.proof)
    return found[1] if found else 0.0


def proved_of(pair: Pair, place: float) -> Floats:
    """Of each sample of a pair, in its order, what is proved within a distance, in [0, 1].

    See robustcode.bracket, which says the same at eps.
    """
    table = pair.proof.run.certificates.set_index("sample").loc[pair.found.table["sample"]]
    right, alpha = proved_within(table, place), table["alpha"].to_numpy(float)
    if pair.attack.draws is None:
        return right.astype(float)
    shared = place * SAME <= _own_eps(pair)
    held, share = table["held"].to_numpy(float), table["share"].to_numpy(float)
    if shared and not np.isnan(held).any():
        return held
    known = ~np.isnan(share) if shared else np.zeros(len(share), dtype=bool)
    votes = int(component_of(pair.attack.run.spec["defense"]).settings.get("votes", 1))
    majority = float(binom.sf(votes // 2, votes, 0.5))
    least = np.where(known, np.minimum(share, NEARLY), majority)
    proved = np.where(right, np.where(alpha > 0, least, 1.0), 0.0)
    return np.maximum(np.where(known, share, 0.0), proved)


def certified_over_radius(source: Source) -> Course | None:
    """Certified accuracy of a run of certificates over radius; None if it proves nothing.

    Dots stand at the radii that were asked for.
    """
    table, said = source.run.certificates, source.run.summary.get("certified") or {}
    found = threat_of(source)
    if table.empty or found is None:
        return None
    right, radius = right_of(table), table.radius.to_numpy(float)
    asked = [found[1], *_radii(said)]
    furthest = max([*asked, *radius[right & np.isfinite(radius)]])
    nothing = np.zeros(len(table), dtype=bool)

    def at(place: float) -> Point:
        return point_of(place, proved_within(table, place).astype(float), nothing, 0, None)

    told = tuple(at(place) for place in places(radius[right], furthest, asked))
    name = f"certified by {said.get('method', 'unnamed method')}"
    return Course(name, "certified", len(table), told, Side.BEFORE, tuple(sorted(set(asked))))


def _radii(said: object) -> Sequence[float]:
    """The radii that a run of certificates was asked about besides its eps."""
    curve = said.get("curve") if isinstance(said, dict) else None
    found = [point.get("radius") for point in curve or [] if isinstance(point, dict)]
    return [float(r) for r in found if isinstance(r, int | float) and 0 < r < math.inf]
