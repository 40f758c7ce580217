"""Proofs beside attacks: between the two lies the true robust accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustcode.bracket import Bracket, bracket
from robustcode.certified import SAME
from robustcode.errors import ConfigError
from robustcode.reports.figures.accuracies import Bar
from robustcode.reports.grids import Grid, accuracy_of, counted, interval_of, percent
from robustcode.reports.table import Row, Source

LEFT = "left by the attacks"
STATES = ("certified", "undecided", "broken")
TRUTH = (
    "A certificate is a lower bound of the true robust accuracy and an attack an upper one, sample "
    "by sample. What is undecided is robust or not: nobody has shown which."
)


@dataclass(frozen=True)
class Pair:
    """Certificates and attacks on the same defence and samples.

    Attributes:
        proof: the run of certificates.
        attack: the run of attacks.
        found: their bracket.
    """

    proof: Source
    attack: Source
    found: Bracket

    @property
    def complete(self) -> bool:
        """Whether every certified sample was attacked, under the one eps that is certified."""
        same = self.proof.fact("threat") == self.attack.fact("threat")
        alone = not self.proof.run.spec.get("radii")
        return same and alone and len(self.found.table) == len(self.proof.run.certificates)

    @property
    def rows(self) -> list[Row]:
        """Certified and left by the attacks, with intervals, and the samples in each state."""
        count = len(self.found.table)
        shared = {"run": self.attack.label, "kind": "bracket", "samples": count}
        ends = {
            f"certified by {self.found.method}": self.found.certified,
            LEFT: self.found.attacked,
        }
        rows = [
            Row(**shared, name=name, value=value, low=low, high=high)  # type: ignore[arg-type]
            for name, (value, low, high) in ends.items()
        ]
        for state in STATES[1:]:
            samples = int((self.found.table.state == state).sum())
            rows.append(Row(**shared, name=state, value=samples / count))  # type: ignore[arg-type]
        return rows

    @property
    def bar(self) -> Bar:
        """The shares of samples in each state, for the figure."""
        table = self.found.table
        shares = [float((table.state == state).mean()) for state in STATES]
        return Bar(
            f"{self.attack.label}: {self.found.method}", tuple(zip(STATES, shares, strict=True))
        )

    @property
    def grid(self) -> Grid:
        """The bracket as a table."""
        count = len(self.found.table)
        return Grid(
            f"Bracket of {self.attack.label} in {self.found.threat}: "
            f"certified <= true <= attacked, on {counted(count, 'sample')}",
            ("what", "n", "samples, %", "95 % interval, %"),
            ("text", "number", "number", "number"),
            tuple(
                (row.name, f"{count:,}", accuracy_of(row), interval_of(row)) for row in self.rows
            ),
            (TRUTH, *_doubt(self.proof)),
        )


def right_of(certificates: pd.DataFrame) -> NDArray[np.bool_]:
    """Of each certificate whether the class that it speaks of is the label; shape (samples,)."""
    right = (certificates["prediction"] == certificates["label"]).fillna(False)
    return right.to_numpy(dtype=bool)


def proved_within(certificates: pd.DataFrame, distance: float) -> NDArray[np.bool_]:
    """Of each certificate whether the label is proved within a distance; shape (samples,).

    A radius of 0 that holds up to chance is none, also where the distance is 0.
    """
    radius, alpha = (certificates[name].to_numpy(dtype=float) for name in ("radius", "alpha"))
    reached = (radius >= distance * SAME) & ((alpha == 0) | (radius > 0))
    proved: NDArray[np.bool_] = right_of(certificates) & reached
    return proved


def pairs_of(found: Sequence[Source]) -> list[Pair]:
    """Each run of certificates with each run of attacks that is about the same thing.

    ContractError with both witnesses if a sample is certified in one and broken in the other.
    """
    pairs = []
    for proof in (source for source in found if source.proves):
        for attack in (source for source in found if not source.proves and not source.corrupts):
            if attack.verdicts.empty or not attack.whole:
                continue
            try:
                pairs.append(Pair(proof, attack, bracket(proof.run, attack.run)))
            except ConfigError:
                continue  # of something else: both stand in the report by themselves
    return pairs


def bracket_verdict(pair: Pair) -> str:
    """The bracket in one sentence."""
    found = pair.found
    count = len(found.table)
    certified, attacked = (
        f"{percent(value, count)} % (95 % interval {percent(low, count)} to {percent(high, count)})"
        for value, low, high in (found.certified, found.attacked)
    )
    undecided = int((found.table.state == "undecided").sum())
    setting = f"On {counted(count, 'sample')} of {pair.attack.fact('data')} in {found.threat}"
    alpha = pair.proof.run.summary["certified"].get("alpha")
    falsely = f" (each falsely with probability {alpha:g} at most)" if alpha else ""
    if not undecided and found.attacked.value == found.certified.value:
        return (
            f"{setting}, the true robust accuracy of {pair.attack.label} is {attacked}: what "
            f"{found.method} does not certify{falsely}, an attack breaks."
        )
    return (
        f"{setting}, the true robust accuracy of {pair.attack.label} lies between {certified}, "
        f"which {found.method} certifies{falsely}, and {attacked}, which the worst of "
        f"{counted(len(pair.attack.searches), 'attack')} leaves; "
        f"{counted(undecided, 'sample')} {'is' if undecided == 1 else 'are'} undecided."
    )


def proof_verdict(source: Source, rows: Mapping[str, list[Row]]) -> str:
    """What a run of certificates by itself says, in one sentence."""
    said = source.run.summary["certified"]
    (proved, *_) = (row for row in rows[source.label] if row.kind == "certified")
    interval = f" (95 % interval {interval_of(proved)} %)" if interval_of(proved) else ""
    certain = (
        f", each of these falsely with probability {said['alpha']:g} at most"
        if said.get("alpha")
        else ""
    )
    return (
        f"On {counted(said['samples'], 'sample')} of {source.fact('data')}, {said['method']} "
        f"certifies {accuracy_of(proved)} %{interval} of {_proved_of(source)} in {said['threat']}"
        f"{certain}; nothing was attacked, so how much more is robust is not known."
    )


def _proved_of(source: Source) -> str:
    """The run's label without its method, which the sentence names."""
    return source.label.replace(f" by {source.run.summary['certified']['method']}", "", 1)


def proofs_grid(found: Sequence[Source], rows: Mapping[str, list[Row]]) -> Grid:
    """Certified accuracy of several runs at every radius that they speak of."""
    lines = [
        (source.label, source.run.summary["certified"]["threat"], row)
        for source in found
        for row in rows[source.label]
        if row.kind in ("certified", "certified curve")
    ]
    doubts = [doubt for source in found for doubt in _doubt(source)]
    return Grid(
        "Certified accuracy",
        ("run", "in", "what", "n", "accuracy, %", "95 % interval, %"),
        ("phrase", "word", "phrase", "number", "number", "number"),
        tuple(
            (label, threat, row.name, f"{row.samples:,}", accuracy_of(row), interval_of(row))
            for label, threat, row in lines
        ),
        tuple(dict.fromkeys(doubts)),
    )


def _doubt(source: Source) -> list[str]:
    """How far certificates that hold up to chance are to be trusted."""
    said = source.run.summary["certified"]
    if not said.get("alpha"):
        return []
    return [
        f"Each proof by {said['method']} is false with probability {said['alpha']:g} at most; with "
        f"probability 99 % no more than {said['false_at_most']} of the {said['correct']} are."
    ]
