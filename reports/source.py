"""A run under the label it has in a report, with what others need to know of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from robustcode.components import code_named, data_named, number
from robustcode.errors import ConfigError
from robustcode.reports.names import told_apart_by
from robustcode.store import Run
from robustcode.verdicts import searches, verdicts_of

# At the end of the name of what was corrupted and not attacked.
CORRUPTED = " under corruptions"
# Letters of a class's name: it stands in every row of many tables.
LONGEST_CLASS = 100
# The folder of a run of a curve; see curves.
COUNTED = re.compile(r"eps-\d+")


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
