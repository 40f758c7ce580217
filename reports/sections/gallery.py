"""Adversarial examples that are shown: which of them, and what is said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from robustcode.reports.escape import plain
from robustcode.reports.figures.examples import Sheet, Strip
from robustcode.reports.grids import counted
from robustcode.reports.numbers.inputs import Inputs
from robustcode.reports.numbers.picture import Triple, triple
from robustcode.reports.parts import Part
from robustcode.reports.source import Source
from robustcode.verdicts import refused

MOST = 24  # pictures on a page
FEWEST = 4  # of a run, where many share a page
STOOD = 6  # one of so many did not break the defence
ON_PAPER = 8
LONGEST = 60  # characters of a class's or an attack's name
QUARTERS = 4  # of the distances


@dataclass(frozen=True)
class Picture:
    """One adversarial example as it is shown.

    Attributes:
        anchor: where it stands on the page.
        sample: index in the split.
        label: its class, by name where the run has names.
        before: what the sample was taken for; empty for no class.
        after: what the proposal was taken for; empty for no class.
        attack: whose proposal it is.
        distance: between the two, with the norm it is measured in.
        wrong: in how many of the judge's draws the proposal was wrong; empty without chance.
        wrong_before: in how many of them the sample was.
        verdict: what came of the proposal: broken, stood, or refused; see verdicts.VERDICTS.
        triple: what is seen.
    """

    anchor: str
    sample: int
    label: str
    before: str
    after: str
    attack: str
    distance: str
    wrong: str
    wrong_before: str
    verdict: str
    triple: Triple

    @property
    def broken(self) -> bool:
        """Whether the proposal broke the defence."""
        return self.verdict == "broken"

    @property
    def last(self) -> str:
        """What stands under the third picture: only what broke the defence is adversarial."""
        held = "vote still right" if self.wrong else "still right"
        words = {"broken": "adversarial", "refused": "as attacked, refused"}
        return words.get(self.verdict, f"as attacked, {held}")

    @property
    def alt(self) -> tuple[str, str, str]:
        """What the three pictures are, in words."""
        return (
            f"Sample {self.sample} of class {self.label} as it is",
            f"Change of sample {self.sample} by {self.attack}, {self.triple.times} times as large",
            f"Sample {self.sample} so changed, taken for {self.after or 'no class'}",
        )


def part_of(source: Source, place: int, runs: int = 1) -> Part | None:
    """The gallery of the run at ``place`` on a page of ``runs``, from 1; None for certificates."""
    if source.proves or source.run.records.empty:
        return None
    key, title = f"gallery-{place}", "Adversarial examples"
    if runs > 1:
        title = f"{title}: {source.label}"
    inputs = Inputs.of(source.run)
    lacking = _lacking(source, inputs)
    if not inputs.files and not lacking:
        return None
    if lacking and not inputs.places:
        return Part(key, title, notes=lacking)
    pool = _candidates(source, inputs)
    most = max(FEWEST, MOST // runs)
    chosen = choose(pool, most)
    if chosen.empty:
        nothing = "No sample that was right by itself was changed by an attack: there is no picture"
        return Part(key, title, notes=(f"{nothing}.", *lacking))
    pictures = tuple(_picture(source, place, inputs, row) for _, row in chosen.iterrows())
    said = (
        _how_chosen(pool, chosen, source.draws is not None),
        *_how_shown(pictures),
        *lacking,
    )
    few = set(choose(pool, min(most, ON_PAPER))["sample"])
    strips = tuple(Strip(_named(p), p.triple) for p in pictures if p.sample in few)
    note = "Each from left to right: the sample, its change, the sample so changed"
    if source.draws is not None:
        note = f"{note}; in how many of the draws that is wrong stands above"
    sheet = Sheet(f"gallery-{source.key}", title, f"{note}.", strips)
    return Part(key, title, drawings=(sheet,), notes=said, gallery=pictures)


def choose(pool: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most ``most`` of the rows: mostly broken ones, and some that stood.

    ``pool`` has the columns broken, place (of the attack), label, distance, share (of right
    decisions) and sample. In the result the broken ones come first, each group by attack, class
    and sample.
    """
    stood = spread(pool[~pool["broken"]], max(1, most // STOOD))
    broken = spread(pool[pool["broken"]], most - len(stood))
    order = ["broken", "place", "label", "sample"]
    return pd.concat([broken, stood]).sort_values(order, ascending=[False, True, True, True])


def spread(pool: pd.DataFrame, most: int) -> pd.DataFrame:
    """Rows that differ, one after the other.

    The next is of the attack that was taken least often; among these, of the class; among these,
    of the quarter of distances. Of equals it is the one with the least share, then the first.
    """
    facts = [
        pd.factorize(pool["place"])[0],
        pd.factorize(pool["label"])[0],
        (pool["distance"].rank(pct=True) * QUARTERS).apply(np.ceil).astype(int).to_numpy(),
    ]
    taken = [np.zeros(fact.max(initial=0) + 1, np.int64) for fact in facts]
    left = np.ones(len(pool), dtype=bool)
    chosen: list[int] = []
    while left.any() and len(chosen) < most:
        often = [count[fact] for count, fact in zip(taken, facts, strict=True)]
        # The last key decides first.
        keys = [pool["sample"], pool["share"], *often[::-1], ~left]
        best = int(np.lexsort([np.asarray(key) for key in keys])[0])
        chosen.append(best)
        left[best] = False
        for count, fact in zip(taken, facts, strict=True):
            count[fact[best]] += 1
    return pool.iloc[chosen]


def _candidates(source: Source, inputs: Inputs) -> pd.DataFrame:
    """The worst proposals of the samples that were right by themselves; see choose."""
    records = source.run.records
    rows = records[records["selected"].astype(bool) & (records["clean"] == records["label"])]
    rows = rows[rows["sample"].isin(list(inputs.places)) & rows["correct"].notna()]
    share = rows["correct"].astype(float)
    # By the decision of most draws. A detector that refuses what was changed is right.
    taken = rows["prediction"].astype(float)
    turned_away = refused(rows, source.draws)
    broken = (taken != rows["label"]) & ~turned_away
    word = np.select([broken, turned_away], ["broken", "refused"], "stood")
    places = {name: place for place, name in enumerate(dict.fromkeys(records["attack"]))}
    attack = rows["carried"].fillna(rows["attack"])
    rows = rows.assign(share=share, broken=broken, verdict=word)
    return rows.assign(attack=attack, place=attack.map(places))


def _picture(source: Source, place: int, inputs: Inputs, row: pd.Series) -> Picture:
    sample, draws = int(row["sample"]), source.draws
    x, x_adv = inputs.pair(sample)
    wrong, before = "", ""
    if draws is not None:
        right = [round(float(row[name]) * draws) for name in ("clean_correct", "correct")]
        wrong, before = f"{draws - right[1]} of {draws} draws", str(draws - right[0])
    return Picture(
        f"sample-{place}-{sample}",
        sample,
        _class(source, row["label"]),
        _class(source, row["clean"]),
        _class(source, row["prediction"]),
        _short(str(row["attack"])),
        f"{source.norm} {float(row['distance']):.3g}",
        wrong,
        before,
        str(row["verdict"]),
        triple(x, x_adv),
    )


def _class(source: Source, number: float | None) -> str:
    """The name of a class, or its number; empty for none."""
    if number is None or pd.isna(number):
        return ""
    names = source.class_names
    name = names[int(number)] if 0 <= number < len(names) else ""
    return _short(name or str(int(number)))


def _short(name: str) -> str:
    name = plain(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _named(picture: Picture) -> str:
    """What stands above a picture on paper: the attack first, since long names are cut."""
    became = f"to {picture.after or 'no class'}" if picture.broken else picture.verdict
    # Short, and last: what is too long is cut in its middle.
    draws = picture.wrong.removesuffix(" draws").replace(" of ", "/")
    wrong = f", wrong in {draws}" if draws else ""
    return f"{picture.attack}: {picture.before} {became}, change x {picture.triple.times}{wrong}"


def _how_chosen(pool: pd.DataFrame, chosen: pd.DataFrame, random: bool) -> str:
    counts, least = [], " the one that is right in the fewest draws, then" if random else ""
    for broken, what in ((True, "were broken"), (False, "stood")):
        of = int((pool["broken"] == broken).sum())
        if of:
            counts.append(f"{int((chosen['broken'] == broken).sum())} of the {of} that {what}")
    return (
        f"Of the samples that are right by themselves and were changed, {' and '.join(counts)} are "
        "shown, each under its worst proposal. They are chosen so that attacks, classes and "
        f"distances are spread as evenly as can be; of equals{least} the first."
    )


def _how_shown(pictures: Sequence[Picture]) -> list[str]:
    said = [
        "Above each are its class and what the proposal was taken for. The change is drawn around "
        "grey, which is no change, enlarged by the factor under it; the largest fills the range. "
        "Pictures have 8 bits a value; what was judged was not rounded."
    ]
    if not all(picture.broken for picture in pictures):
        said.append("What stood under these attacks may fall to another: a failure is no proof.")
    triples = [picture.triple for picture in pictures]
    if (shrunk := max(one.shrunk for one in triples)) > 1:
        said.append(
            f"A pixel is the mean of up to {shrunk} x {shrunk} pixels of the input, and the change "
            "is that of the means."
        )
    if channels := next((t.channels for t in triples if t.channels not in (1, 3)), None):
        said.append(f"Inputs have {channels} channels; their mean is shown.")
    return said


def _lacking(source: Source, inputs: Inputs) -> tuple[str, ...]:
    """Why some of the run's pictures cannot be shown."""
    said = []
    if inputs.without:
        said.append(
            f"{counted(inputs.without, 'file')} of this run kept the proposals of the attacks "
            "without the samples, as earlier versions did, and cannot be shown. The same command "
            "into another folder keeps both."
        )
    damaged = source.run.gap.damaged if source.run.gap else ()
    if lost := sum(name.startswith("adversarial/") for name in damaged):
        said.append(f"{counted(lost, 'file')} of pictures could not be read; others are shown.")
    return tuple(said)
