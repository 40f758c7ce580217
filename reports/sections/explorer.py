"""Every sample of a report's runs, for a page that filters them, and what the words in it mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from robustcode.reports.numbers import samples
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.source import Source
from robustcode.verdicts import VERDICTS


@dataclass(frozen=True)
class Meanings:
    """The words that stand in a column, and what each says of a sample."""

    column: str
    words: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, column: str, words: Mapping[str, str], codes: Iterable[Any]) -> Meanings:
        """Those of ``words`` whose places are in the packed columns ``codes``."""
        used: set[Any] = set()
        for places in codes:
            used |= set(places) if isinstance(places, list) else {places}
        kept = (pair for place, pair in enumerate(words.items()) if place in used)
        return cls(column, tuple(kept))


@dataclass(frozen=True)
class Explorer:
    """The samples of a page's runs.

    Attributes:
        runs: a table for each run, as in ``samples``.
        meanings: what the words in its columns say.
        notes: what else is to be known.
    """

    runs: tuple[dict[str, Any], ...]
    meanings: tuple[Meanings, ...]
    notes: tuple[str, ...]

    @property
    def data(self) -> str:
        """The runs as JSON, without a space too many."""
        return json.dumps(
            {"runs": self.runs, "made": samples.MADE}, allow_nan=False, separators=(",", ":")
        )

    @property
    def embedded(self) -> Markup:
        """The same for a script element of a page."""
        return embedded(self.data)


def embedded(text: str) -> Markup:
    r"""JSON as it may stand in a script element: nothing in it ends that element.

    >>> print(embedded('["</script>"]'))
    ["\u003c/script\u003e"]
    """
    return Markup(text.translate({ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}))


def explorer_of(found: Sequence[Source], pairs: Sequence[Pair] = ()) -> Explorer | None:
    """The samples of all runs that have records or certificates; None if none has.

    ``pairs`` are the certificates and attacks among ``found`` that are about the same thing.
    """
    runs = []
    for place, source in enumerate(found, 1):
        if source.proves and not source.run.certificates.empty:
            runs.append(samples.proved(source, place))
        elif not source.run.records.empty:
            own = [pair for pair in pairs if pair.attack.label == source.label]
            runs.append(samples.attacked(source, place, own))
    return Explorer(tuple(runs), _used(runs), _notes(runs)) if runs else None


def _used(runs: Sequence[Mapping[str, Any]]) -> tuple[Meanings, ...]:
    """The words that the tables of ``runs`` use, by the column they stand in."""
    attacks = [run for run in runs if run["kind"] == "attacks"]
    bracketed = [run for run in attacks if "bracket" in run]
    found = (
        Meanings.of("Verdict", VERDICTS, [run["verdict"] for run in attacks]),
        Meanings.of("Bracket", samples.STATES, [run["bracket"] for run in bracketed]),
        Meanings.of(
            "Verdict of a certificate",
            samples.STATUSES,
            [run["verdict"] for run in runs if run["kind"] == "certificates"],
        ),
    )
    return tuple(meanings for meanings in found if meanings.words)


def _notes(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    notes = []
    if any(run["kind"] == "attacks" for run in runs):
        notes.append(
            "The worst attack is the one whose proposal stands for the sample in the worst case; "
            "prediction under attack and distance are that proposal's. Broken by an attack: right "
            "without it and wrong under it."
        )
    # Of certificates draws are what each proof took.
    if any(run["kind"] == "attacks" and run["draws"] for run in runs):
        notes.append(
            "Of a random defence, right is what the majority of its draws is right on, under "
            "attack for the proposal that was chosen on other draws; the share says how many were."
        )
    notes.append(
        f"Distances and radii are in the threat's norm, to {samples.DIGITS} significant digits; "
        "RUN/records/*.jsonl and RUN/certificates/*.jsonl have all of them."
    )
    return tuple(notes)
