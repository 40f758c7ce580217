"""How many draws certificates need, replayed on the published logs of Cohen et al. 2019.

    python benchmarks/smoothing_replay.py [--logs FOLDER] [--repeats 40] [--seed 0]

The logs hold, for each of some 500 samples, the radius that 100,000 draws certified; the count
behind it is found by inverting the Clopper-Pearson bound, and its share of the draws is taken for
the true probability. On streams of those probabilities the rules are compared at alpha = .001. The
100 draws that chose the class are charged to every rule.

Prints three tables in Markdown: the certified accuracy of the logs themselves; one radius at a
time, where nothing is simulated, since average draws and power are computed exactly; and the whole
curve, all radii a quarter apart on one stream, drawn ``--repeats`` times for each sample.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from _published_logs import CHOOSING, DRAWS, Floats, Log, log, table

from robustcode.stopping import Verdict, fixed, ladder, needed, sequential
from robustcode.stopping.peers import Horvath, Voracek
from robustcode.stopping.radius import probability_at
from robustcode.stopping.rules import Examined

LOGS = Path(__file__).parents[1] / ".." / "shared" / "data" / "results" / "smoothing_cohen2019"
ALPHA = 0.001
MOST, FEW = 125_000, 20_000
CELLS = [
    ("CIFAR-10", 0.25, (0.25, 0.5, 0.75)),
    ("CIFAR-10", 0.5, (0.25, 0.5, 0.75, 1.0, 1.5)),
    ("CIFAR-10", 1.0, (0.5, 1.0, 2.0)),
    ("ImageNet", 0.5, (0.5, 1.0, 1.5)),
]
STEP = 0.25
# Where the probability of an abstention is taken from its range, .25 to .5: in the middle of so
# many equal parts of it.
PARTS = 32


def main() -> None:
    """Print the tables that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--logs", type=Path, default=LOGS)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if not asked.logs.is_dir():
        parser.error(f"no folder {asked.logs}; name that of the logs by --logs")
    print("\n".join(published(asked.logs)), end="\n\n")
    print("\n".join(cells(asked.logs)), end="\n\n")
    print("\n".join(curves(asked.logs, asked.repeats, asked.seed)))


def published(folder: Path) -> Iterator[str]:
    """Certified accuracy by radius, as the logs have it."""
    radii = [STEP * step for step in range(10)]
    yield "| model, sigma | " + " | ".join(f"r={r:g}" for r in radii) + " | abstain | ACR |"
    yield "|---|" + "--:|" * (len(radii) + 2)
    for data, sigmas in (("CIFAR-10", (0.12, 0.25, 0.5, 1.0)), ("ImageNet", (0.25, 0.5, 1.0))):
        for sigma, *row in table([log(folder, data, sigma) for sigma in sigmas], radii):
            yield f"| {data} {sigma:g} | " + " | ".join(f"{value:.3f}" for value in row) + " |"


class Spent(NamedTuple):
    """What a rule costs and certifies on one log.

    Attributes:
        draws: mean over samples, those that chose the class included.
        accuracy: share of samples that are right and certified, on average.
    """

    draws: float
    accuracy: float

    @property
    def saving(self) -> float:
        """How many times fewer draws than the published rule makes."""
        return (CHOOSING + DRAWS) / self.draws


def spent(rule: Examined, one: Log) -> Spent:
    """Exactly, by the distribution of each stream.

    Samples of one probability are one computation; of an abstention it is the mean over its range.
    """
    power = functools.cache(rule.power)
    draws = functools.cache(rule.draws)
    known = one.chances()
    abstained = np.linspace(0.25, 0.5, 2 * PARTS + 1)[1::2]
    unknown = float(np.mean([draws(p) for p in abstained]))
    taken = [unknown if np.isnan(p) else draws(p) for p in known]
    certified = [power(p) if right else 0.0 for p, right in zip(known, one.correct, strict=True)]
    return Spent(CHOOSING + float(np.mean(taken)), float(np.mean(certified)))


def cells(folder: Path) -> Iterator[str]:
    """One radius at a time: mean draws, how many times fewer, and certified accuracy in percent."""
    yield (
        "| cell | fixed 100k | fixed 10k | Horvath | Voracek | sequential 125k | lost | "
        "sequential 20k | of Voracek |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    savings, losses, few, shares = [], [], [], []
    for data, sigma, radii in CELLS:
        one = log(folder, data, sigma)
        for radius in radii:
            p = probability_at(radius, sigma)
            whole, tenth = (spent(fixed(p, ALPHA, n), one) for n in (DRAWS, DRAWS // 10))
            horvath = spent(Horvath().examined(p, ALPHA, MOST), one)
            voracek = spent(Voracek(growth=1.15).examined(p, ALPHA, MOST), one)
            ours, short = (spent(sequential(p, ALPHA, n), one) for n in (MOST, FEW))
            savings.append(ours.saving)
            few.append(short.saving)
            losses.append(100 * (whole.accuracy - ours.accuracy))
            shares.append(ours.draws / voracek.draws)
            yield (
                f"| {data} {sigma:g}, r={radius:g} | {100 * whole.accuracy:.2f} | "
                f"{100 * tenth.accuracy:.2f} | {horvath.draws:,.0f} ({100 * horvath.accuracy:.2f}) "
                f"| {voracek.draws:,.0f} ({100 * voracek.accuracy:.2f}) | {ours.draws:,.0f} = "
                f"{ours.saving:.1f}x ({100 * ours.accuracy:.2f}) | {losses[-1]:.3f} | "
                f"{short.draws:,.0f} = {short.saving:.0f}x ({100 * short.accuracy:.2f}) | "
                f"{shares[-1]:.2f} |"
            )
    yield (
        f"\nMedian saving {median(savings):.1f}x (least {min(savings):.1f}x), points of certified "
        f"accuracy lost at most {max(losses):.3f}; with at most 20k draws the median is "
        f"{median(few):.0f}x. Draws of those of Voracek on the same looks: {min(shares):.2f} to "
        f"{max(shares):.2f}."
    )


def curves(folder: Path, repeats: int, seed: int) -> Iterator[str]:
    """All radii on one stream: mean draws until each is decided, and accuracy by radius."""
    yield (
        "| model, sigma | most | draws | saving | certified by radius, step "
        f"{STEP:g}, in % | above fixed 100k, in points | above fixed 10k |"
    )
    yield "|---|--:|--:|--:|---|---|---|"
    for data, sigma, _ in CELLS:
        one = log(folder, data, sigma)
        for most in (FEW, MOST):
            generator = np.random.default_rng(seed)
            mean, accuracy = curve(one, most, repeats, generator)
            others = [fixed_curve(one, draws, len(accuracy)) for draws in (DRAWS, DRAWS // 10)]
            shown = [" ".join(f"{100 * share:.1f}" for share in accuracy)]
            shown += [" ".join(f"{100 * gap:+.2f}" for gap in accuracy - other) for other in others]
            saving = (CHOOSING + DRAWS) / mean
            yield (
                f"| {data} {sigma:g} | {most:,} | {mean:,.0f} | {saving:.1f}x | "
                + " | ".join(shown)
                + " |"
            )


def fixed_curve(one: Log, draws: int, radii: int) -> Floats:
    """The share that one look after so many draws certifies at each radius."""
    found = np.zeros(radii)
    for number in range(min(radii, len(_provable(one.sigma, draws)))):
        rule = fixed(probability_at(STEP * number, one.sigma), ALPHA, draws)
        found[number] = spent(rule, one).accuracy
    return found


def curve(
    one: Log, most: int, repeats: int, generator: np.random.Generator
) -> tuple[float, Floats]:
    """Mean draws until all radii that ``most`` draws can prove are decided, and what each gives."""
    rungs = ladder(_provable(one.sigma, most), ALPHA, most)
    chances = np.tile(one.chances(), repeats)
    guessed = np.isnan(chances)
    chances[guessed] = generator.uniform(0.25, 0.5, int(guessed.sum()))
    right = np.tile(one.correct, repeats)
    verdicts, taken = rungs.start(len(chances)), np.full(len(chances), CHOOSING)
    successes = np.zeros(len(chances), dtype=np.int64)
    for look, draws in enumerate(np.diff(rungs.looks, prepend=0)):
        going = (verdicts == Verdict.OPEN).any(axis=1)
        taken += draws * going
        successes += generator.binomial(draws, chances)
        verdicts = rungs.after(look, successes, verdicts)
    certified = (verdicts == Verdict.CERTIFIED) & right[:, None]
    return float(taken.mean()), certified.mean(axis=0)


def _provable(sigma: float, most: int) -> list[float]:
    """What must be exceeded for each radius, from 0 on, that so many draws can prove."""
    wanted = (probability_at(STEP * step, sigma) for step in itertools.count())
    return list(itertools.takewhile(lambda p: needed(p, ALPHA) <= most, wanted))


if __name__ == "__main__":
    main()
