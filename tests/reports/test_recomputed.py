"""Every row of a report, computed again from the JSON lines of its run folders by other means.

What is expected comes from the lines of records/, certificates/ and corruptions/, from spec.toml
(what was asked) and the costs in manifest.json, by pandas, numpy and scipy alone: nothing of
robustcode that reads, sums up or reports is called for it. The intervals are scipy's, Holm's and
McNemar's are written out from their definitions, and the interval over clusters from its
documentation. Each row of CSV and JSON must be one that is expected here, and each of these must
be there.

Rows of the kind "check" measure no accuracy: they are held against the run's own list of what its
checks said. The sentences of "not compared" and "not ranked" are told, not computed: tests of
test_compare.py hold them, and here that they stand for the right runs.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.stats import beta, binomtest, norm

import robustcode
from robustcode.reports import render, report

pytestmark = pytest.mark.xdist_group("recomputed")

WORST = "worst case over all attacks"
NEAR = 1e-4  # of an axis: changes nearer to each other are told as one
TEXTS = ("run", "kind", "name", "settings", "status", "said")
NUMBERS = (
    *("samples", "value", "low", "high", "abstained", "unfinished", "most", "p_value", "p_holm"),
    *("forwards", "backwards", "seconds", "at", "nll", "calibration", "missing"),
)
Shares = Sequence[float] | np.ndarray[Any, Any] | pd.Series
Table = dict[str, Any]

ATTACKS = ["noise:tries=2", "fgsm", "pgd:steps=5"]
PLAIN: dict[str, Any] = {"threat": "linf:0.06", "attacks": ATTACKS}
NOISE = "gaussian-noise:sigma=0.2"
SMOOTH: dict[str, Any] = {"threat": "l2:0.1", "defense": "smoothing:sigma=0.25,votes=5"}
CORRUPT: dict[str, Any] = {
    "corruptions": ["gaussian_noise", "shot_noise", "fog"],
    "severities": [1, 3],
}
GROUPS = {"gaussian_noise": "noise", "shot_noise": "noise", "fog": "weather"}
# By name: the command, and what else than model, data and samples it is given.
RUNS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "each": (robustcode.attack, PLAIN),
    "trained": (robustcode.attack, {**PLAIN, "model": "digits_cnn:adversarial"}),
    "cascade": (robustcode.attack, {**PLAIN, "cascade": True}),
    "nearest": (
        robustcode.attack,
        {**PLAIN, "attacks": [*ATTACKS[:2], "fmn:steps=10,until_broken=false"]},
    ),
    "random": (
        robustcode.attack,
        {**PLAIN, "attacks": ATTACKS[1:], "defense": NOISE, "draws": 20},
    ),
    "stopped": (
        robustcode.attack,
        {
            **{**PLAIN, "attacks": [*ATTACKS[:2], "pgd:steps=20,until_broken=false"]},
            **{"max_passes": 15},
        },
    ),
    "detector": (robustcode.attack, {**PLAIN, "defense": "confidence"}),
    "crown": (
        robustcode.certify,
        {"threat": "linf:0.06", "method": "crown", "radii": [0.01, 0.03]},
    ),
    "corrupted": (robustcode.corrupt, CORRUPT),
    "noisy": (robustcode.corrupt, {**CORRUPT, "defense": NOISE, "draws": 20}),
    "smooth": (robustcode.certify, {**SMOOTH, "samples": 12, "method": "smoothing"}),
    "voted": (robustcode.attack, {**SMOOTH, "samples": 12, "attacks": ["fgsm"], "draws": 20}),
    "coupled": (
        robustcode.attack,
        {
            **{**PLAIN, "attacks": ["fgsm"], "samples": 16, "batch_size": 8, "draws": 20},
            **{"defense": "coded-smoothing:k=8,ratio=1.5", "adversary": "batch"},
        },
    ),
}
LABELS = {
    "each": "digits_cnn",
    "trained": "digits_cnn:adversarial",
    "cascade": "digits_cnn",
    "nearest": "digits_cnn",
    "random": f"digits_cnn with {NOISE}",
    "stopped": "digits_cnn",
    "detector": "digits_cnn with confidence",
    "crown": "digits_cnn by crown",
    "corrupted": "digits_cnn under corruptions",
    "noisy": f"digits_cnn with {NOISE} under corruptions",
    "smooth": f"digits_cnn with {SMOOTH['defense']} by smoothing",
    "voted": f"digits_cnn with {SMOOTH['defense']}",
    "coupled": "digits_cnn with coded-smoothing:k=8,ratio=1.5 against batch",
}
# Reports, by the runs they are of; the first of them is the full one.
REPORTS: list[Any] = [
    ("each", "trained", "random", "crown", "corrupted"),
    ("cascade",),
    ("stopped",),
    ("detector",),
    ("nearest",),
    ("noisy",),
    ("crown",),
    pytest.param(("voted", "smooth"), marks=pytest.mark.long),
    pytest.param(("coupled",), marks=pytest.mark.long),
]


# Statistics, from their definitions.


def exact(shares: Shares) -> tuple[float, float, float]:
    """Clopper and Pearson's interval of so many right ones, by scipy."""
    right = round(float(np.sum(shares)))
    interval = binomtest(right, len(shares)).proportion_ci(0.95, "exact")
    return right / len(shares), float(interval.low), float(interval.high)


def effective(shares: Shares, alpha: float) -> float:
    """Independent draws that leave as much doubt: see ``clustered`` in the documentation.

    The variance is that of the shares with z^2 / 2 more at 0 and as many at 1.
    """
    extra = float(norm.isf(alpha / 2)) ** 2 / 2
    values, weights = [0.0, 1.0, *shares], [extra, extra, *np.ones(len(shares))]
    mean = np.average(values, weights=weights)
    variance = np.average((np.array(values) - mean) ** 2, weights=weights)
    return float(len(shares) * mean * (1 - mean) / variance)


def ends(mean: float, trials: float, alpha: float) -> tuple[float, float]:
    """Clopper and Pearson's interval of so many trials, which may be a fraction."""
    right, wrong = mean * trials, (1 - mean) * trials
    low = beta.ppf(alpha / 2, right, wrong + 1) if right > 0 else 0.0
    high = beta.isf(alpha / 2, right + 1, wrong) if wrong > 1e-9 else 1.0
    return float(low), float(high)


def clustered(shares: Shares, draws: int) -> tuple[float, float, float]:
    mean = float(np.mean(shares))
    return mean, *ends(mean, min(effective(shares, 0.05), len(shares) * draws), 0.05)


def interval(shares: Shares, draws: int | None) -> tuple[float, float, float]:
    return exact(shares) if draws is None else clustered(shares, draws)


def difference(before: Shares, after: Shares) -> tuple[float, float, float]:
    """Of two vectors on the same samples: half of one plus it is a fraction."""
    halves = (1 + np.asarray(after) - np.asarray(before)) / 2
    low, high = ends(float(halves.mean()), effective(halves, 0.05), 0.05)
    return float(np.mean(after) - np.mean(before)), 2 * low - 1, 2 * high - 1


def inverted(before: Shares, after: Shares) -> float:
    """The alpha at which the interval of the difference begins to leave out 0."""
    halves = (1 + np.asarray(after) - np.asarray(before)) / 2
    mean = max(halves.mean(), 1 - halves.mean())

    def nearer(power: float) -> float:
        return ends(mean, effective(halves, math.exp(power)), math.exp(power))[0] - 0.5

    if nearer(math.log(0.999)) < 0:
        return 1.0
    return math.exp(brentq(nearer, math.log(1e-250), math.log(0.999), xtol=1e-13))


def mcnemar(before: Shares, after: Shares) -> float:
    lost = int(np.sum(np.asarray(before) > np.asarray(after)))
    won = int(np.sum(np.asarray(after) > np.asarray(before)))
    return float(binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def holm(values: Sequence[float]) -> list[float]:
    """Each p times how many are not below it; never below the adjusted one of a smaller p."""
    ordered = sorted(values)
    times = [min(1.0, (len(values) - place) * p) for place, p in enumerate(ordered)]
    return [max(times[: ordered.index(p) + 1]) for p in values]


def all_right(share: float, draws: int, tries: int) -> float:
    """Of the choices of ``tries`` draws, how many hold right ones only."""
    return math.comb(round(share * draws), tries) / math.comb(draws, tries)


def miscalibration(confidence: Shares, right: Shares) -> float:
    """Squared: by bins of equally many samples, the mean product of two different distances."""
    order = np.argsort(np.asarray(confidence, float), kind="stable")
    away = (np.asarray(right, float) - np.asarray(confidence, float))[order]
    found = 0.0
    for part in np.array_split(away, max(1, min(15, len(away) // 2))):
        products = np.outer(part, part)[~np.eye(len(part), dtype=bool)]
        found += len(part) / len(away) * products.mean()
    return found


# What a run folder holds.


def lines(folder: Path, kind: str) -> pd.DataFrame:
    files = sorted((folder / kind).glob("*.jsonl"))
    return pd.DataFrame(
        [json.loads(line) for file in files for line in file.read_text().splitlines()], dtype=object
    )


def as_told(settings: Mapping[str, Any]) -> str:
    told = {key: str(v).lower() if isinstance(v, bool) else v for key, v in settings.items()}
    return ", ".join(f"{key}={value}" for key, value in told.items() if key != "name")


@dataclass(frozen=True)
class Stage:
    """What one attack did to one sample; ``right`` is None where it did not end."""

    name: str
    right: float | None
    choosing: float | None
    selected: bool
    prediction: int | None
    votes: Sequence[int] | None
    distance: float
    passes: int
    finished: bool


def stage_of(record: Mapping[Any, Any]) -> Stage:
    right = record["correct"]
    plain = {f.name: record[f.name] for f in fields(Stage) if f.name in record}
    return Stage(
        **plain,
        name=record["attack"],
        right=None if right is None else float(right),
        passes=record["forwards"] + record["backwards"],
    )


@dataclass(frozen=True)
class Sample:
    """What is known of a sample: its class, what it was taken for, its attacks in their order."""

    number: int
    label: int
    taken: int | None
    votes: Sequence[int] | None
    clean: float
    stages: tuple[Stage, ...]

    @property
    def chosen(self) -> Stage | None:
        return next((stage for stage in self.stages if stage.selected), None)

    def held(self, random: bool, ended: int | None = None) -> float:
        """What is right of its worst input after so many attacks; None for all of them."""
        stages = self.stages[:ended]
        if not random:
            return min([self.clean, *(s.right for s in stages if s.right is not None)])
        if self.chosen is None:
            return self.clean
        if self.chosen in stages:
            assert self.chosen.right is not None
            return self.chosen.right
        # Until then the one that the other draws show to be the worst, of equals the last.
        held, least = self.clean, math.inf
        for stage in stages:
            assert stage.choosing is not None
            assert stage.right is not None
            if stage.choosing <= least:
                held, least = stage.right, stage.choosing
        return held

    def unknown(self, random: bool, ended: int | None = None) -> bool:
        """Whether an attack was stopped that might have found something worse."""
        stopped = any(not stage.finished for stage in self.stages[:ended])
        return stopped and self.held(random, ended) > 0


@dataclass(frozen=True)
class Folder:
    """A run folder, read by nothing but json and tomllib."""

    path: Path
    label: str

    @cached_property
    def spec(self) -> Table:
        return tomllib.loads((self.path / "spec.toml").read_text())

    @cached_property
    def checks(self) -> Table:
        return dict(json.loads((self.path / "diagnosis.json").read_text()))

    @cached_property
    def costs(self) -> list[Table]:
        shards = json.loads((self.path / "manifest.json").read_text())["shards"]["files"]
        return [shard["cost"] for shard in shards.values()]

    @cached_property
    def records(self) -> pd.DataFrame:
        return lines(self.path, "records")

    @cached_property
    def proofs(self) -> pd.DataFrame:
        return lines(self.path, "certificates").sort_values("sample", ignore_index=True)

    @cached_property
    def answers(self) -> pd.DataFrame:
        return lines(self.path, "corruptions")

    @property
    def eps(self) -> float:
        return float(self.spec["threat"].partition(":")[2])

    @cached_property
    def draws(self) -> int | None:
        """Decisions about each input, of which the share that is right is told as a number."""
        told = self.records.correct if self.spec["command"] == "attack" else self.answers.correct
        random = any(isinstance(right, float) for right in told)
        return int(self.spec["draws"]) if random else None

    @property
    def random(self) -> bool:
        return self.draws is not None

    @cached_property
    def samples(self) -> list[Sample]:
        found = []
        for number, own in self.records.groupby("sample", sort=True):
            stages = tuple(map(stage_of, own.to_dict("records")))
            first = own.iloc[0]
            known = first.label, first.clean, first.clean_votes, float(first.clean_correct)
            found.append(Sample(int(str(number)), *known, stages))
        return found

    @cached_property
    def shares(self) -> dict[str, pd.Series]:
        """Of each sample what is right of it as it is, and in the worst case."""
        numbers = [one.number for one in self.samples]
        return {
            "clean": pd.Series([one.clean for one in self.samples], numbers),
            "worst case": pd.Series([one.held(self.random) for one in self.samples], numbers),
        }

    def row(self, kind: str, name: str, **told: Any) -> Table:
        return {"run": self.label, "kind": kind, "name": name, **told}


# The rows of each kind.


def measured(shares: Shares, draws: int | None, **told: Any) -> Table:
    value, low, high = interval(shares, draws)
    return {"samples": len(shares), "value": value, "low": low, "high": high, **told}


def bounded(
    shares: Shares, unknown: Sequence[bool], draws: int | None, zero: int | None = None
) -> Table:
    """Not right for the value where ``unknown``, and as right as may be for the most."""
    least = [0.0 if no else share for share, no in zip(shares, unknown, strict=True)]
    told = measured(least, draws, unfinished=sum(unknown) or zero)
    if any(unknown):
        most, _, high = interval(shares, draws)
        told |= {"most": most, "high": high}
    return told


def attack_rows(run: Folder) -> Iterator[Table]:
    """Clean, each attack, the worst case; the readings of draws."""
    shares, draws = run.shares, run.draws
    yield run.row("clean", "clean", **measured(shares["clean"], draws))
    after = False
    for place, asked in enumerate(run.spec["attacks"]):
        after |= bool(run.spec.get("cascade")) and asked["name"] != "noise"
        mine = run.records[run.records.attack == asked["name"]]
        stages = [one.stages[place] for one in run.samples]
        assert [stage.name for stage in stages] == [asked["name"]] * len(stages)
        right = [1.0 if stage.right is None else stage.right for stage in stages]
        yield run.row(
            "attack",
            f"after {asked['name']}" if after and not draws else asked["name"],
            **bounded(right, [not stage.finished for stage in stages], draws, 0),
            settings=as_told(asked),
            # A tie of draws is no abstention.
            abstained=None if draws else sum(taken is None for taken in mine.prediction),
            forwards=int(mine.forwards.sum()),
            backwards=int(mine.backwards.sum()),
            seconds=round(sum(cost["attack_seconds"][asked["name"]] for cost in run.costs), 3),
        )
    # The cost of the whole run: its attacks, its judge and its checks.
    judge = sum(cost["judge_forwards"] for cost in run.costs)
    seconds = sum(cost["seconds"] for cost in run.costs)
    unknown = [one.unknown(run.random) for one in run.samples]
    yield run.row(
        "worst case",
        WORST,
        **bounded(shares["worst case"], unknown, draws, 0),
        forwards=int(run.records.forwards.sum()) + judge + run.checks["forwards"],
        backwards=int(run.records.backwards.sum()) + run.checks["backwards"],
        seconds=round(seconds + run.checks["seconds"], 3),
    )
    if draws:
        yield from stochastic_rows(run, draws)
    among = [
        float(row["rebatched"])
        for row in run.records.to_dict("records")
        if row["selected"] and row["rebatched"] is not None
    ]
    if among:
        told = measured(among, draws)
        yield run.row("stochastic", "worst case: each among clean mates", **told)


def stochastic_rows(run: Folder, draws: int) -> Iterator[Table]:
    """Expected, by majority, and right in all of k draws."""
    for kind, shares in run.shares.items():
        votes = [
            one.votes if kind == "clean" or one.chosen is None else one.chosen.votes
            for one in run.samples
        ]
        for one, cast, share in zip(run.samples, votes, shares, strict=True):
            assert cast is not None
            assert cast[one.label] == round(share * draws)
        # The class with most votes, and none where two have as many.
        majority = [
            float(sorted(cast)[-1] > sorted(cast)[-2] and int(np.argmax(cast)) == one.label)
            for one, cast in zip(run.samples, votes, strict=True)
            if cast is not None
        ]
        readings = {
            "expected": measured(shares, draws),
            "majority vote": measured(majority, None),
            **{
                f"right in all of {tries} draws": measured(
                    [all_right(share, draws, tries) for share in shares], draws
                )
                for tries in (5, 20)
            },
        }
        for name, told in readings.items():
            yield run.row("stochastic", f"{kind}: {name}", unfinished=0, **told)


def proof_rows(run: Folder) -> Iterator[Table]:
    """Clean, certified, its curve, and what is proved of random decisions."""
    right = (run.proofs.prediction == run.proofs.label).to_numpy(bool)
    radius = run.proofs.radius.to_numpy(float)
    yield run.row("clean", "clean", **measured(right.astype(float), None))
    method = run.spec["method"]["name"]
    yield run.row(
        "certified",
        f"certified: {method}",
        settings=run.spec["threat"],
        abstained=sum(prediction is None for prediction in run.proofs.prediction),
        forwards=int(run.proofs.forwards.sum()),
        backwards=int(run.proofs.backwards.sum()),
        **measured(right & (radius >= run.eps), None),
    )
    asked = sorted({*run.spec.get("radii", []), run.eps})
    for at in asked if len(asked) > 1 else []:
        told = measured(right & (radius >= at), None)
        yield run.row("certified curve", f"certified at radius {at:g}", **told)
    share = run.proofs.share.astype(float)
    if share.notna().any():
        told = measured(share.fillna(0.0), int(run.proofs.draws.dropna().max()))
        yield run.row("certified curve", "certified: expected accuracy, at least", **told)


def check_rows(run: Folder) -> Iterator[Table]:
    """As the run has them: they measure no accuracy."""
    for check in json.loads((run.path / "summary.json").read_text())["checks"]:
        passes = {name: check.get(name) for name in ("forwards", "backwards")}
        told = {name: check[name] for name in ("status", "said")}
        yield run.row("check", check["code"], **passes, **told)


# The places of an axis and the rows along it.


def told_at(changes: Iterable[float], last: float, asked: Iterable[float] = ()) -> list[float]:
    """At 0, at the end, where it was asked for, and where a sample changes.

    Changes nearer than NEAR of the axis are one, at the last of them. More than 64 places would be
    thinned out; here are fewer.
    """
    within = {round(math.ceil(c / (last * NEAR))): c for c in sorted(changes) if c > 0}
    inside = [change for change in within.values() if change < last * (1 - NEAR)]
    places = sorted({0.0, last, *(one for one in asked if 0 <= one <= last), *inside})
    assert len(places) < 64
    return places


def seeks(run: Folder) -> bool:
    """Whether an attack looks for the nearest wrong input."""
    return any(a["name"] == "fmn" and not a["until_broken"] for a in run.spec["attacks"])


def eps_rows(run: Folder) -> Iterator[Table]:
    """A sample falls at the distance of the nearest wrong input that was found.

    A bound that is told as loose, but for its end, where no attack looked for the nearest one; of
    a batch that was attacked together it is none, and is not told.
    """
    if run.spec["adversary"]["name"] == "batch":
        return
    nearest = seeks(run)
    away, left = [], []
    for one in run.samples:
        found = [stage for stage in one.stages if stage.right == 0]
        if run.random:
            found = [one.chosen] if one.chosen else []
        near = [min(max(stage.distance, 0.0), run.eps) for stage in found]
        away.append(min(near, default=math.inf))
        left.append(one.clean if not near else one.held(run.random))
    clean = run.shares["clean"]
    changes = [
        at for at, after, c in zip(away, left, clean, strict=True) if at < math.inf and after != c
    ]
    for place in told_at(changes, run.eps):
        shares = [
            after if at <= place else c for at, after, c in zip(away, left, clean, strict=True)
        ]
        unknown = [place > 0 and one.unknown(run.random) for one in run.samples]
        told = bounded(shares, unknown, run.draws)
        said = "" if nearest or place == run.eps else "loose upper bound"
        yield run.row("over eps", "left by the attacks", at=place, said=said, **told)


def pass_rows(run: Folder) -> Iterator[Table]:
    """What was found of each sample by the attacks that had ended by then."""
    table = np.array([[stage.passes for stage in one.stages] for one in run.samples])
    spent = table.cumsum(1)
    changes = [
        spent[row, place - 1]
        for row, one in enumerate(run.samples)
        for place in range(1, len(one.stages) + 1)
        if (one.held(run.random, place), one.unknown(run.random, place))
        != (one.held(run.random, place - 1), one.unknown(run.random, place - 1))
    ]
    attacks = [int(end) for end, own in zip(spent.max(0), table.max(0), strict=True) if own]
    for place in told_at(changes, float(spent.max()), attacks):
        shares, unknown = [], []
        for row, one in enumerate(run.samples):
            ended = int((spent[row] <= place).sum())
            shares.append(one.held(run.random, ended))
            # The attack that is on its way by then, if it was begun.
            before = spent[row, ended - 1] if ended else 0
            begun = ended + (place > before and ended < len(one.stages))
            known = not one.unknown(run.random, ended) and not (
                begun > ended and one.unknown(run.random, begun)
            )
            unknown.append(place > 0 and not known)
        told = bounded(shares, unknown, run.draws)
        yield run.row("over passes", "left by the attacks", at=place, **told)


def draw_rows(run: Folder) -> Iterator[Table]:
    for kind, shares in run.shares.items() if run.draws else ():
        assert run.draws is not None
        for tries in range(1, run.draws + 1):
            right = [all_right(share, run.draws, tries) for share in shares]
            yield run.row("over draws", kind, at=tries, **measured(right, run.draws))


def radius_rows(run: Folder) -> Iterator[Table]:
    """What is proved within each radius."""
    right = (run.proofs.prediction == run.proofs.label).to_numpy(bool)
    radius, alpha = (run.proofs[name].to_numpy(float) for name in ("radius", "alpha"))
    asked = [run.eps, *run.spec.get("radii", [])]
    last = max([*asked, *radius[right & np.isfinite(radius)]])
    for place in told_at(radius[right], last, asked):
        proved = right & (radius >= place) & ((alpha == 0) | (radius > 0))
        name = f"certified by {run.spec['method']['name']}"
        yield run.row("over eps", name, at=place, **measured(proved, None))


# Classes.


def by_class(
    run: Folder, name: str, labels: Shares, shares: Shares, unknown: Any, draws: int | None
) -> Iterator[Table]:
    for number in sorted(set(labels)):
        mine = np.asarray(labels) == number
        told = bounded(np.asarray(shares)[mine], list(np.asarray(unknown)[mine]), draws)
        yield run.row("class", f"{name} of class {number}", at=number, **told)


def class_rows(run: Folder) -> Iterator[Table]:
    labels = [one.label for one in run.samples]
    unknown = [one.unknown(run.random) for one in run.samples]
    nothing = [False] * len(labels)
    yield from by_class(run, "clean", labels, run.shares["clean"], nothing, run.draws)
    worst = run.shares["worst case"]
    yield from by_class(run, "worst case", labels, worst, unknown, run.draws)
    yield from taken_rows(run)


def taken_rows(run: Folder) -> Iterator[Table]:
    """What most wrong decisions on worst inputs went to; of as many the least number, none last."""
    wrong: dict[int, dict[float, float]] = {}
    gone: dict[float, float]
    counted: dict[int, int] = {}
    for one in run.samples:
        at = one.chosen
        votes, seen = (one.votes, one.taken) if at is None else (at.votes, at.prediction)
        if run.draws is None:
            gone = {} if one.held(False) else {math.inf if seen is None else seen: 1.0}
        else:
            assert votes is not None
            gone = {n: float(cast) for n, cast in enumerate(votes) if n != one.label and cast}
            if away := run.draws - sum(votes):
                gone[math.inf] = away
        counted[one.label] = counted.get(one.label, 0) + bool(gone)
        into = wrong.setdefault(one.label, {})
        for other, cast in gone.items():
            into[other] = into.get(other, 0.0) + cast
    for label, into in sorted(wrong.items()):
        if into:
            other = min(into, key=lambda n: (-into[n], n))
            named = "no class" if other == math.inf else f"class {other}"
            told = {"samples": counted[label], "value": into[other] / sum(into.values())}
            yield run.row("class", f"class {label} taken for {named}", at=label, **told)


def proof_class_rows(run: Folder) -> Iterator[Table]:
    labels = run.proofs.label.to_numpy(int)
    right = (run.proofs.prediction == run.proofs.label).to_numpy(bool)
    proved = right & (run.proofs.radius.to_numpy(float) >= run.eps)
    nothing = np.zeros(len(labels), dtype=bool)
    yield from by_class(run, "clean", labels, right.astype(float), nothing, None)
    yield from by_class(run, "certified", labels, proved.astype(float), nothing, None)


# Corruptions.


def corruption_rows(run: Folder) -> Iterator[Table]:
    """Each cell, and plain means over severities, groups and all."""
    table = run.answers.assign(
        correct=run.answers.correct.astype(float),
        loss=-run.answers.likelihood.astype(float),
        hit=(run.answers.likeliest == run.answers.label).astype(float),
    )
    cells: dict[tuple[str, int], Table] = {}
    for corruption in ("clean", *GROUPS):
        own = table[table.corruption == corruption]
        for severity in sorted(set(own.severity)):
            cell = own[own.severity == severity]
            told = measured(cell.correct, run.draws, nll=float(cell.loss.mean()))
            told["squared"] = miscalibration(cell.confidence, cell.hit)
            cells[corruption, severity] = told

    def mean(named: Sequence[str]) -> Table:
        own = table[table.corruption.isin(named)]
        mine = [told for (name, _), told in cells.items() if name in named]
        by_sample = own.groupby("sample").correct.mean()
        told = measured(by_sample, len(mine) * (run.draws or 1))
        told |= {"nll": np.mean([one["nll"] for one in mine])}
        return told | {"squared": np.mean([one["squared"] for one in mine])}

    def row(name: str, told: Table, **more: Any) -> Table:
        told = {**told, "calibration": math.sqrt(max(0.0, told["squared"]))}
        del told["squared"]
        return run.row("corruption", name, **told, **more)

    yield run.row("clean", "clean", **{k: cells["clean", 0][k] for k in MEASURED})
    yield row("clean", cells["clean", 0], at=0)
    for (name, severity), told in cells.items():
        if name != "clean":
            settings = GROUPS[name]
            yield row(f"{name} at severity {severity}", told, at=severity, settings=settings)
    for name in GROUPS:
        yield row(f"mean of {name}", mean([name]))
    for group in dict.fromkeys(GROUPS.values()):
        named = [name for name in GROUPS if GROUPS[name] == group]
        yield row(f"mean of {group} corruptions", mean(named))
    yield row("mean of all corruptions", mean(list(GROUPS)))


MEASURED = ("samples", "value", "low", "high")


def own_rows(run: Folder, beside: bool, proved: bool) -> Iterator[Table]:
    """What a run says by itself.

    Certificates may stand ``beside`` attacks on the same, which are then ``proved`` in part.
    """
    command = run.spec["command"]
    if command == "certify":
        for rows in (proof_rows, *(() if beside else (radius_rows, proof_class_rows))):
            yield from rows(run)
    elif command == "corrupt":
        yield from corruption_rows(run)
    else:
        # A line that nobody tried to bring down stands alone nowhere.
        over = (eps_rows,) if proved or seeks(run) else ()
        for rows in (attack_rows, *over, pass_rows, draw_rows, class_rows):
            yield from rows(run)
    yield from check_rows(run)


# Runs together.


def compared_rows(runs: Sequence[Folder], proofs: Mapping[str, Folder]) -> Iterator[Table]:
    """Each run on the samples of all, every pair, and ranks of those under one suite."""
    common = sorted(set.intersection(*(set(run.shares["clean"].index) for run in runs)))
    shares = {run.label: run.shares["worst case"].loc[common] for run in runs}
    worst = {}
    for run in runs:
        clean = measured(run.shares["clean"].loc[common], run.draws)
        yield run.row("compared clean", "clean", **clean)
        worst[run.label] = measured(shares[run.label], run.draws)
        yield run.row("compared worst case", WORST, **worst[run.label])
        if proof := proofs.get(run.label):
            proved = proved_shares(proof, run, run.eps).loc[common]
            name = f"certified: {proof.spec['method']['name']}"
            yield run.row("compared certified", name, **measured(proved, run.draws))
    pairs = list(combinations(runs, 2))
    p_values = [
        (inverted if first.random or second.random else mcnemar)(
            shares[first.label], shares[second.label]
        )
        for first, second in pairs
    ]
    better: dict[str, set[str]] = {run.label: set() for run in runs}
    for (first, second), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True):
        value, low, high = difference(shares[first.label], shares[second.label])
        yield second.row(
            "difference",
            f"{WORST}, less that of {first.label}",
            settings="inverted interval" if first.random or second.random else "exact McNemar",
            **{"samples": len(common), "value": value, "low": low, "high": high},
            **{"p_value": p, "p_holm": adjusted},
        )
        if adjusted <= 0.05:
            ahead, behind = (second, first) if value > 0 else (first, second)
            better[behind.label].add(ahead.label)
    asked = [json.dumps(run.spec["attacks"]) for run in runs]
    alike = [run for run, attacks in zip(runs, asked, strict=True) if attacks == asked[0]]
    here = {run.label for run in alike}
    for run in alike:
        rank = 1 + len(here & better[run.label])
        name = f"rank by worst case under the same {len(run.spec['attacks'])} attacks"
        yield run.row("rank", name, at=rank, **worst[run.label])
    for run in runs:
        if run not in alike:
            told = ", ".join(one.label for one in alike)
            yield run.row("not ranked", f"with {told}", said=True)


def proved_shares(proof: Folder, attack: Folder, place: float) -> pd.Series:
    """What is proved of each sample within a distance; of random decisions a probability."""
    table = proof.proofs.set_index("sample").loc[attack.shares["clean"].index]
    right = (table.prediction == table.label).astype(bool)
    radius, alpha = table.radius.astype(float), table.alpha.astype(float)
    right &= (radius >= place) & ((alpha == 0) | (radius > 0))
    if not attack.random:
        return right.astype(float)
    assert place <= proof.eps
    return table.share.astype(float).fillna(0.0)


def bracket_rows(proof: Folder, attack: Folder) -> Iterator[Table]:
    """From both sides; the samples in between; what is proved within each distance."""
    method = proof.spec["method"]["name"]
    proved, left = proved_shares(proof, attack, attack.eps), attack.shares["worst case"]
    count = len(left)
    yield attack.row("bracket", f"certified by {method}", **measured(proved, attack.draws))
    yield attack.row("bracket", "left by the attacks", **measured(left, attack.draws))
    table = proof.proofs.set_index("sample").loc[left.index]
    sure = (table.prediction == table.label) & (table.radius.astype(float) >= attack.eps)
    states = {"undecided": ~sure & (left > 0), "broken": ~sure & (left == 0)}
    for state, those in states.items():
        share = {"samples": count, "value": int(those.sum()) / count}
        yield attack.row("bracket", state, **share)
    labels = [one.label for one in attack.samples]
    nothing = [False] * count
    yield from by_class(attack, "certified", labels, proved, nothing, attack.draws)
    for place in told_at(table.radius.astype(float), attack.eps, [proof.eps]):
        told = measured(proved_shares(proof, attack, place), attack.draws)
        yield attack.row("over eps", f"certified by {method}", at=place, **told)


def beside_rows(corrupted: Folder, attack: Folder) -> Iterator[Table]:
    """What befalls it beside what is done to it."""
    rows = {row["name"]: row for row in corruption_rows(corrupted) if row["kind"] == "corruption"}
    worst = min(GROUPS, key=lambda name: rows[f"mean of {name}"]["value"])
    entries = {
        "clean": rows["clean"],
        "mean over corruptions": rows["mean of all corruptions"],
        f"worst corruption: {worst}": rows[f"mean of {worst}"],
    }
    for name, row in entries.items():
        told = {key: row[key] for key in (*MEASURED, "nll", "calibration")}
        yield corrupted.row("beside corruptions", name, **told)
    told = measured(attack.shares["worst case"], attack.draws, unfinished=0)
    name = f"worst case under attack in {attack.spec['threat']}"
    yield attack.row("beside corruptions", name, **told)


def expected(runs: Sequence[Folder]) -> Iterator[Table]:
    """Every row of a report of these runs."""
    attacked = [run for run in runs if run.spec["command"] == "attack"]
    facts = ("model", "data", "defense")
    same = {
        (one.path.name, run.path.name)
        for one in runs
        for run in attacked
        if [one.spec.get(name) for name in facts] == [run.spec.get(name) for name in facts]
    }
    pairs = [
        (one, run)
        for one in runs
        for run in attacked
        if one.spec["command"] == "certify" and (one.path.name, run.path.name) in same
    ]
    for proof, run in pairs:
        yield from bracket_rows(proof, run)
    # What was attacked as it is proved, on all of its samples, is told with the attack.
    told = {
        proof.label
        for proof, run in pairs
        if not proof.spec.get("radii") and proof.spec["threat"] == run.spec["threat"]
    }
    for run in runs:
        yield from own_rows(run, run.label in told, any(run is other for _, other in pairs))
    if len(attacked) > 1:
        yield from compared_rows(attacked, {run.label: proof for proof, run in pairs})
    for one in runs:
        for run in attacked if one.spec["command"] == "corrupt" else ():
            if (one.path.name, run.path.name) in same:
                yield from beside_rows(one, run)


# The proof.


@pytest.fixture(autouse=True)
def blank(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is drawn: rows are made before them, and they take four fifths of the time."""
    figure = {"svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>', "pdf": b""}
    monkeypatch.setattr(render, "drawn", lambda drawing: figure)


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Folder]:
    """A run by its name, made by the command itself when it is first asked for."""
    folder = tmp_path_factory.mktemp("runs")

    @cache
    def made(name: str) -> Folder:
        command, given = RUNS[name]
        usual: dict[str, Any] = {"model": "digits_cnn", "data": "digits", "samples": 40}
        command(**{**usual, **given}, out=folder / name, progress=False)
        return Folder(folder / name, LABELS.get(name, ""))

    return made


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    at = row.get("at")
    return (row["run"], row["kind"], row["name"], None if at is None else round(at, 9))


def differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The columns in which a row is not what is expected, with both values."""
    wrong = []
    for name in (*TEXTS, *NUMBERS):
        one, two = found[name], wanted.get(name)
        if name in TEXTS:
            same = bool(one) if two is True else one == (two or "")
        elif two is None or one is None:
            same = one is None and two is None
        else:
            same = abs(one - two) <= 1e-9
        if not same:
            wrong.append(f"{key_of(wanted)}: {name} is {one!r} and should be {two!r}")
    return wrong


@pytest.mark.parametrize("names", REPORTS, ids="-".join)
def test_every_row_is_what_the_lines_of_the_run_folders_say(
    names: tuple[str, ...], run_of: Callable[[str], Folder], tmp_path: Path
) -> None:
    runs = [run_of(name) for name in names]
    files = report([run.path for run in runs], tmp_path)
    wanted = list(expected(runs))
    keys = [key_of(row) for row in wanted]
    assert len(set(keys)) == len(keys)
    table = pd.read_csv(
        files["csv"], keep_default_na=False, na_values={name: [""] for name in NUMBERS}
    )
    typed: list[Table] = [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in table.astype(object).to_dict("records")
    ]
    for rows in (json.loads(files["json"].read_text())["rows"], typed):
        found = {key_of(row): row for row in rows}
        assert len(found) == len(rows)
        assert set(found) - set(keys) == set()
        assert set(keys) - set(found) == set()
        assert [line for row in wanted for line in differing(found[key_of(row)], row)] == []
