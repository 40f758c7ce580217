"""The numbers of a report, once: every format prints these rows and no others."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustcode.certified import told
from robustcode.components import code_named, data_named, number
from robustcode.errors import ConfigError
from robustcode.reports.names import told_apart_by
from robustcode.store import Run
from robustcode.verdicts import searches, verdicts_of

WORST = "worst case over all attacks"
# At the end of the name of what was corrupted and not attacked.
CORRUPTED = " under corruptions"
# Letters of a class's name: it stands in every row of many tables.
LONGEST_CLASS = 100
# The folder of a run of a curve; see curves.
COUNTED = re.compile(r"eps-\d+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured number.

    Attributes:
        run: the run's label in this report.
        kind: clean, attack, worst case, certified, certified curve, bracket, stochastic, compared
            clean, compared worst case, compared certified, difference, rank, not compared, not
            ranked, check, class, over eps, over passes, over draws or corruption.
        name: what was measured, such as the attack's name.
        settings: all settings of the attack or method.
        samples: how many samples the value is a mean over.
        value: a fraction of samples; for a difference one fraction less another.
        low: lower end of the 95 % interval.
        high: upper end.
        abstained: samples without an answer; in ``value`` they count as not right. None where
            decisions are random, since a vote may be tied.
        unfinished: samples of which nothing is known since a budget ended the attack; ``value`` and
            ``low`` count them as not right, ``most`` and ``high`` as right.
        most: what the value may be at most; only where there are unfinished samples.
        p_value: of a difference: McNemar's exact test, or where decisions are random the least
            alpha at which the paired interval does not hold 0.
        p_holm: the same, adjusted for all differences in its comparison.
        forwards: model passes over all samples.
        backwards: likewise.
        seconds: wall-clock time.
        status: how a check went; only of checks, which measure no accuracy.
        said: what it saw; of a run that is not compared or not ranked, why; of a rank, the attacks
            of the run that not all had; of a value over eps, if it is a loose bound.
        at: where along an axis the value lies: an eps, passes a sample, draws, a class, a severity,
            a rank.
        nll: mean negative log-likelihood of the labels, in nats.
        calibration: debiased calibration error, a fraction.
        missing: samples of the run that have no verdict and are in none of its numbers.
    """

    run: str
    kind: str
    name: str
    settings: str = ""
    samples: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    abstained: int | None = None
    unfinished: int | None = None
    most: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    forwards: int | None = None
    backwards: int | None = None
    seconds: float | None = None
    status: str = ""
    said: str = ""
    at: float | None = None
    nll: float | None = None
    calibration: float | None = None
    missing: int | None = None


@dataclass(frozen=True)
class Source:
    """A run under the label it has in this report, with what is needed to compare it.

    Attributes:
        label: unique in the report.
        run: what was read.
        verdicts: one row per sample, by index in the split: label, and the shares of right
            decisions ``clean`` and ``robust`` in [0, 1]; ``robust`` of what is not ``finished`` is
            0. Empty if the run has no records.
        key: of letters, digits and hyphens, unique in the report; a run that is added after this
            one does not change it.
    """

    label: str
    run: Run
    verdicts: pd.DataFrame
    key: str = "run"

    @property
    def draws(self) -> int | None:
        """Draws of the judge per sample; None for a deterministic defence."""
        block = self.run.summary.get("stochastic")
        return int(block["draws"]) if block else None

    @property
    def attacks(self) -> list[dict[str, Any]]:
        """The attacks in the order they were run."""
        return list(self.run.summary.get("attacks") or [])

    @property
    def data(self) -> str:
        """The data set by name, without the folder it lies in; empty where none is said."""
        return data_named(self.fact("data"))

    @property
    def norm(self) -> str:
        """That of the threat; empty where none is said."""
        norm, colon, _ = self.fact("threat").partition(":")
        return norm if colon else ""

    @property
    def eps(self) -> float | None:
        """That of the threat; None where none is said, or none that this version understands."""
        try:
            return number(self.fact("threat").partition(":")[2], "eps")
        except ConfigError:
            return None

    @property
    def class_names(self) -> list[str]:
        """The names of the classes by number, cut short; empty where the data have none."""
        names = self.run.manifest.get("class_names")
        if not isinstance(names, list):
            return []
        return [
            name[:LONGEST_CLASS] if isinstance(name, str) else str(place)
            for place, name in enumerate(names)
        ]

    @property
    def searched(self) -> bool:
        """Whether any attack was more than a control."""
        return bool(self.searches)

    @property
    def searches(self) -> list[Mapping[str, Any]]:
        """The attacks that are no controls."""
        return searches(self.attacks)

    @property
    def suite(self) -> str:
        """Where its attacks come from, in words; empty where no suite was asked for."""
        if not (suite := self.fact("suite")):
            return ""
        asked = self.run.manifest.get("request")
        asked = asked if isinstance(asked, dict) else {}
        further = " and of others" if asked.get("attacks") or asked.get("warm") else ""
        return f"the suite {suite}{further}"

    @property
    def spared(self) -> frozenset[int]:
        """Samples that a file gave as proved, which is all that is known of them: see --proved."""
        return frozenset(self.run.spec.get("proved") or ())

    @property
    def together(self) -> bool:
        """Whether the samples of a batch were all attacked, and are judged among each other."""
        return self.fact("adversary").partition(":")[0] == "batch"

    @property
    def proves(self) -> bool:
        """Whether it is a run of certificates and not of attacks."""
        return self.run.spec.get("command") == "certify"

    @property
    def corrupts(self) -> bool:
        """Whether it is a run of corruptions: nobody attacks, and nothing is proved."""
        return self.run.spec.get("command") == "corrupt"

    @property
    def whole(self) -> bool:
        """Whether every sample has its verdict: no budget left one open."""
        open_ones = not self.verdicts["finished"].astype(bool).all()
        return not open_ones and not self.run.summary.get("unfinished")

    def after(self, attack: Mapping[str, Any]) -> bool:
        """Whether an attack's number is what is left after it and those before it."""
        return bool(attack.get("after")) and self.draws is None

    def fact(self, name: str) -> str:
        """``threat``, ``model``, ``defense``, ``data`` .. as text; empty when the run has none."""
        value = self.run.summary.get(name)
        return as_text(self.run.spec.get(name) if value is None else value)


def sources(runs: Iterable[Run]) -> list[Source]:
    """The runs with unique labels: title, or model and defence.

    To those that agree their threat is added, such as an eps of a curve, then a folder.
    """
    runs = list(runs)
    bare = [Source("", run, pd.DataFrame()) for run in runs]
    names = [name_of(source) for source in bare]
    threats = [source.fact("threat") for source in bare]
    keys = told_apart_by(*_told(names, threats, [run.path.name for run in runs]))
    pairs = list(zip(names, threats, strict=True))
    # Several threats tell runs apart only where each of one name has one of its own.
    by_threat = {name for name in names if names.count(name) > 1} - {
        name for name, threat in pairs if not threat or pairs.count((name, threat)) > 1
    }
    names = [f"{name} at {threat}" if name in by_threat else name for name, threat in pairs]
    if len(set(names)) < len(names):
        folders = told_apart([run.path for run in runs])
        names = [f"{name} ({folder})" for name, folder in zip(names, folders, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{name} #{number}" for number, name in enumerate(names, 1)]
    return [
        Source(name, run, verdicts(run), key)
        for name, run, key in zip(names, runs, keys, strict=True)
    ]


def _told(
    names: Sequence[str], threats: Sequence[str], folders: Sequence[str]
) -> tuple[list[str], list[str]]:
    """For each run what its key begins with, and what is added where an earlier one has that.

    A run of a curve, whose folder only counts, begins with its threat, too. Of another one the
    threat is added where no run before it has the same, else the folder.
    """
    begin, more = [], []
    for place, (name, threat, folder) in enumerate(zip(names, threats, folders, strict=True)):
        begin.append(f"{name} {threat}" if COUNTED.fullmatch(folder) else name)
        earlier = (names[:place], threats[:place])
        taken = (name, threat) in zip(*earlier, strict=True)
        more.append(folder if taken or not threat else threat)
    return begin, more


def told_apart(paths: Sequence[Path]) -> list[str]:
    """Of each path the part nearest its end in which not all are the same.

    >>> told_apart([Path("a/mixup/run"), Path("a/plain/run")])
    ['mixup', 'plain']
    """
    parts = [path.parts[::-1] for path in paths]
    for level in zip(*parts, strict=False):
        if len(set(level)) == len(paths):
            return list(level)
    return [path.name for path in paths]


def verdicts(run: Run) -> pd.DataFrame:
    """See Source.verdicts."""
    return verdicts_of(run.records, bool(run.summary.get("stochastic")))


def rows_of(source: Source) -> list[Row]:
    """What one run measured, from its summary: attacks, worst case, draws, certificate, checks."""
    summary, label = source.run.summary, source.label
    samples, cost = summary.get("samples"), summary.get("cost") or {}
    rows = []
    if summary.get("clean"):
        rows.append(_measured(summary["clean"], run=label, kind="clean", name="clean", n=samples))
    for attack in source.attacks:
        rows.append(
            _measured(
                attack,
                run=label,
                kind="attack",
                # Of a random defence each proposal is judged by itself.
                name=f"after {attack['name']}" if source.after(attack) else str(attack["name"]),
                settings=as_text(attack.get("settings") or {}),
                n=samples,
                abstained=_abstentions(source, attack["name"]),
            )
        )
    if summary.get("robust") and source.attacks:
        worst = {**cost, **summary["robust"]}
        rows.append(_measured(worst, run=label, kind="worst case", name=WORST, n=samples))
    block = summary.get("stochastic") or {}
    for part, what in ((block.get("clean"), "clean"), (block, "worst case")):
        rows += _stochastic(part or {}, what, label, samples)
    if summary.get("rebatched"):
        name = "worst case: each among clean mates"
        rows.append(
            _measured(summary["rebatched"], run=label, kind="stochastic", name=name, n=None)
        )
    if summary.get("certified"):
        rows += _certified(summary["certified"], label, samples)
    rows += [_looked(entry, label) for entry in tables(summary.get("checks"))]
    return rows


def tables(value: Any) -> list[Mapping[str, Any]]:
    """A list of tables, as far as it is one: a folder may be of another make."""
    listed = value if isinstance(value, list | tuple) else []
    return [entry for entry in listed if isinstance(entry, Mapping)]


def _looked(entry: Mapping[str, Any], run: str) -> Row:
    """How a check of the evaluation went, and its passes on the whole pilot."""
    return Row(
        run=run,
        kind="check",
        name=str(entry.get("code", "unnamed")),
        forwards=_whole(entry.get("forwards")),
        backwards=_whole(entry.get("backwards")),
        status=str(entry.get("status", "unknown")),
        said=str(entry.get("said", "")),
    )


def _certified(block: Mapping[str, Any], run: str, n: int | None) -> list[Row]:
    """What is proved at eps, then at other radii, then of a random defence's expected accuracy."""
    method = block.get("method", "unnamed method")
    rows = [
        _measured(
            block,
            run=run,
            kind="certified",
            name=f"certified: {method}",
            settings=as_text(block.get("threat") or ""),
            n=n,
            abstained=_whole(block.get("abstained")),
        )
    ]
    curve = list(block.get("curve") or [])
    if len(curve) > 1:
        rows += [
            _measured(
                point,
                run=run,
                kind="certified curve",
                name=f"certified at radius {told(point['radius'])}",
                n=rows[0].samples,
            )
            for point in curve
        ]
    if block.get("expected"):
        name = "certified: expected accuracy, at least"
        rows.append(
            _measured(
                block["expected"], run=run, kind="certified curve", name=name, n=rows[0].samples
            )
        )
    return rows


def as_text(value: object) -> str:
    """A spec's value on one line; a table with a name as the command line writes it.

    >>> as_text({"name": "pgd", "steps": 20})
    'pgd:steps=20'
    >>> as_text({"steps": 20, "restart": True})
    'steps=20, restart=true'
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        inner = {key: item for key, item in value.items() if key not in ("name", "settings")}
        nested = value.get("settings")
        inner |= nested if isinstance(nested, Mapping) else {}
        pairs = [f"{key}={as_text(item)}" for key, item in inner.items() if item is not None]
        if "name" not in value:
            return ", ".join(pairs)
        return f"{value['name']}:{','.join(pairs)}" if pairs else str(value["name"])
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    return str(value)


def name_of(source: Source) -> str:
    """What was attacked: the run's title, or its model and defence, and by whom if by many."""
    title = source.fact("title")
    if title:
        return title
    model = code_named(source.fact("model")) or "unnamed model"
    defense = code_named(source.fact("defense"))
    name = model if defense in ("", "none", "identity") else f"{model} with {defense}"
    adversary = source.fact("adversary")
    name = name if adversary in ("", "solo") else f"{name} against {adversary}"
    if source.corrupts:
        return name + CORRUPTED
    certified = source.run.summary.get("certified") or {}
    return f"{name} by {certified.get('method')}" if source.proves else name


def _measured(
    entry: Mapping[str, Any],
    *,
    run: str,
    kind: str,
    name: str,
    n: int | None,
    settings: str = "",
    abstained: int | None = None,
) -> Row:
    samples, unfinished = _whole(entry.get("samples", n)), _whole(entry.get("unfinished"))
    return Row(
        run=run,
        kind=kind,
        name=name,
        settings=settings,
        samples=samples,
        value=_finite(entry.get("accuracy")),
        low=_finite(entry.get("low")),
        high=_finite(entry.get("high")),
        abstained=abstained,
        unfinished=unfinished,
        most=_most(entry, samples, unfinished),
        forwards=_whole(entry.get("forwards")),
        backwards=_whole(entry.get("backwards")),
        seconds=_finite(entry.get("seconds")),
    )


def _most(entry: Mapping[str, Any], samples: int | None, unfinished: int | None) -> float | None:
    """The accuracy if all that is unfinished is right; folders of old do not say it."""
    value = _finite(entry.get("accuracy"))
    if not unfinished or not samples or value is None:
        return None
    stated = _finite(entry.get("accuracy_high"))
    return min(1.0, value + unfinished / samples) if stated is None else stated


def _stochastic(block: Mapping[str, Any], what: str, run: str, n: int | None) -> list[Row]:
    """The readings of a random defence's votes on one set of inputs."""
    readings = {"expected": block.get("expected"), "majority vote": block.get("majority")}
    for tries, value in (block.get("any_of") or {}).items():
        readings[f"right in all of {tries} draws"] = value
    return [
        _measured(value, run=run, kind="stochastic", name=f"{what}: {name}", n=n)
        for name, value in readings.items()
        if value
    ]


def _abstentions(source: Source, attack: str) -> int | None:
    records = source.run.records
    # Of a random defence a tie of its draws has no class either, and counts by its right draws.
    if records.empty or source.draws is not None:
        return None
    return int(records.loc[records["attack"] == attack, "prediction"].isna().sum())


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    number = _finite(value)
    return None if number is None else round(number)
