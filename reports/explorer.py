"""Every sample of a report's runs, for a page that filters them, and what the words in it mean."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from robustcode.reports import samples
from robustcode.reports.proofs import Pair
from robustcode.reports.table import Source


@dataclass(frozen=True)
class Explorer:
    """The samples of a page's runs.

    Attributes:
        runs: a table for each run, as in ``samples``.
        notes: what its words mean.
    """

    runs: tuple[dict[str, Any], ...]
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
    return Explorer(tuple(runs), _notes(runs)) if runs else None


def _notes(runs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The exact meaning of each word that the tables of ``runs`` use."""
    notes = []
    if any(run["kind"] == "attacks" for run in runs):
        notes.append(
            f"{_defined(samples.VERDICTS)} The worst attack is the one whose proposal stands for "
            "the sample in the worst case, and the distance is that proposal's from the sample. "
            "Broken by an attack: right without it and wrong under it."
        )
    if any(run["draws"] for run in runs):
        notes.append(
            "Of a random defence, right is what the majority of its draws is right on, under attack "
            "for the proposal that was chosen on other draws; the share says how many were right."
        )
    if any("bracket" in run for run in runs):
        notes.append(f"Between certificates and attacks: {_defined(samples.STATES)}")
    if any(run["kind"] == "certificates" for run in runs):
        notes.append(f"Of certificates: {_defined(samples.STATUSES)}")
    notes.append(
        f"Distances and radii are in the threat's norm, to {samples.DIGITS} significant digits. "
        "RUN/records/*.jsonl and RUN/certificates/*.jsonl hold all of it."
    )
    return tuple(notes)


def _defined(words: Mapping[str, str]) -> str:
    return "; ".join(f"{word}: {meaning}" for word, meaning in words.items()) + "."
