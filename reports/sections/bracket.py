"""What is said of proofs: the bracket of a defence in words and as a table, or proofs alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from robustcode.reports.grids import (
    CLUSTERED,
    EXACT,
    SAMPLED,
    Grid,
    accuracy_of,
    counted,
    interval_of,
    percent,
)
from robustcode.reports.names import slug
from robustcode.reports.numbers.proofs import Pair
from robustcode.reports.source import Source
from robustcode.reports.table import Row

# A crossing of the two ends is put down to chance where its p is above it.
LEVEL = 0.05
TRUTH = (
    "A certificate is a lower bound of the true robust accuracy and an attack an upper one, sample "
    "by sample. What is undecided is robust or not: nobody has shown which."
)
EXPECTED = "That of an expected accuracy counts the draws of one sample as one cluster."
COUNTED = (
    "The two ends are means of how likely each sample is right. Certified, undecided and broken "
    "count samples: those proved right in most draws, others, and those seen right in none."
)


def bracket_grid(pair: Pair) -> Grid:
    """The bracket as a table."""
    count, random = len(pair.found.table), pair.attack.draws is not None
    notes = [
        TRUTH,
        CLUSTERED if random else EXACT,
        *([COUNTED] if random else []),
        *_made_for(pair),
        *_crossing(pair),
        *_doubt(pair.proof),
    ]
    return Grid(
        f"Bracket of {pair.attack.label} in {pair.found.threat}: "
        f"certified <= true <= attacked, on {counted(count, 'sample')}",
        ("what", "n", "samples, %", "95 % interval, %"),
        ("text", "number", "number", "number"),
        tuple((row.name, f"{count:,}", accuracy_of(row), interval_of(row)) for row in pair.rows),
        tuple(notes),
        f"bracket-{pair.attack.key}-{slug(pair.method)}",
    )


def bracket_verdict(pair: Pair) -> str:
    """The bracket in one sentence."""
    found = pair.found
    count = len(found.table)
    certified, attacked = (
        "{} % (95 % interval {} to {} %)".format(*(percent(number, count) for number in end))
        for end in (found.certified, found.attacked)
    )
    undecided = int((found.table.state == "undecided").sum())
    setting = f"On {counted(count, 'sample')} of {pair.attack.data} in {found.threat}"
    alpha = pair.proof.run.summary["certified"].get("alpha")
    told = [f"made for {pair.proof.fact('threat')}"] if pair.elsewhere else []
    told += [f"each falsely with probability {alpha:g} at most"] if alpha else []
    falsely = f" ({', '.join(told)})" if told else ""
    worst = f"the worst of {counted(len(pair.attack.searches), 'attack')}"
    if crossing := _crossing(pair):
        return (
            f"{setting}, {found.method} certifies {certified} of {pair.attack.label}{falsely}, and "
            f"{worst} leaves {attacked}. {crossing[0]}"
        )
    if not undecided and found.attacked.value == found.certified.value:
        return (
            f"{setting}, the true robust accuracy of {pair.attack.label} is {attacked}: what "
            f"{found.method} does not certify{falsely}, an attack breaks."
        )
    return (
        f"{setting}, the true robust accuracy of {pair.attack.label} lies between {certified}, "
        f"which {found.method} certifies{falsely}, and {attacked}, which {worst} leaves; "
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
        f"On {counted(said['samples'], 'sample')} of {source.data}, {said['method']} "
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
    random = any(source.run.summary["certified"].get("expected") for source in found)
    return Grid(
        "Certified accuracy",
        ("run", "accuracy, %", "95 % interval, %", "n", "in", "what"),
        ("phrase", "number", "number", "number", "word", "phrase"),
        tuple(
            (label, accuracy_of(row), interval_of(row), f"{row.samples:,}", threat, row.name)
            for label, threat, row in lines
        ),
        tuple(dict.fromkeys([SAMPLED, *([EXPECTED] if random else []), *doubts])),
        f"certified-{found[0].key}" if len(found) == 1 else "certified",
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


def _made_for(pair: Pair) -> list[str]:
    """For which eps proofs were made, if not for that of the attacks."""
    if not pair.elsewhere:
        return []
    return [
        f"{pair.found.method} proved for {pair.proof.fact('threat')}: what is proved there as far "
        f"as {pair.found.threat} counts here. Made for {pair.found.threat} it may prove more."
    ]


def _false(pair: Pair) -> str:
    """What else may explain it: p is told without as many samples as may be falsely proved."""
    return " and proofs may be false" if pair.proof.run.summary["certified"].get("alpha") else ""


def _crossing(pair: Pair) -> list[str]:
    """That what is certified was measured above what the attacks left, and whether by chance."""
    crossing = pair.crossing
    if crossing is None:
        return []
    count = len(pair.found.table)
    value, low, high = (percent(end, count) for end in crossing.excess)
    ends = f"The two ends cross by {value} points (95 % interval {low} to {high})"
    if crossing.p_value >= LEVEL:
        return [
            f"{ends}, which chance may explain, since decisions are random{_false(pair)}: the true "
            "robust accuracy is then near both."
        ]
    return [
        f"{ends}, which chance hardly explains (p = {crossing.p_value:.2g}): judge again with more "
        "draws before either is believed."
    ]
