"""A run of corruptions: error, NLL and calibration error, by corruption and severity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from robustcode.corrupted import CLEAN, calibrations_of, errors_of, notes_beside, sentence_of
from robustcode.reports.figures.corruptions import Errors, Reliability
from robustcode.reports.grids import CLUSTERED, Grid, counted, percent
from robustcode.reports.parts import Part
from robustcode.reports.source import Source
from robustcode.reports.table import Row

KIND = "corruption"
MEANS = "A mean is a plain one over the severities and corruptions that it is of."
# See statistics.clustered, of which a count of samples right or wrong is a special case.
ONCE = (
    "In the interval of a mean over corruptions a sample is one cluster, however often it was "
    "spoilt: it is Clopper-Pearson's for as many independent samples as would leave the mean as "
    "uncertain, an approximation."
)
CLEAN_EXACT = "The interval of the clean error is Clopper-Pearson's at 95 %, which is exact."
SPEAKS = "Intervals speak of the draw of the n samples only."
LOSS_INTERVALS = (
    "Intervals are the mean plus and minus 1.96 standard errors, samples taken for independent and "
    "each counted once: for few samples a rough one."
)
CALIBRATED = (
    "The interval of the clean calibration error is at 95 %, by the noncentral chi-squared "
    "distribution: an approximation that takes the bins for fixed."
)
LOSSES = "NLL is the mean negative logarithm of the label's probability, in nats."
DEBIASED = (
    "Calibration error is the root of the mean squared distance between confidence and the share "
    "of right, over 15 bins of equally many samples, fewer where many are equally confident, its "
    "bias removed; where chance leaves less than nothing it is 0. It is of all samples of a cell "
    "at once, not a mean over batches."
)
ECE = (
    "ECE is the mean distance over 15 bins of equal width, as papers print it. It is too large, "
    "the more so the fewer samples there are, and is here for comparison only; a mean of it over "
    "batches, which some papers print, is larger still."
)
ROOTS = (
    "The column and the lines of means are root mean squares, not means: the roots of the means of "
    "the cells' squared errors, whose biases are removed first, so that some of them are below 0 "
    "though the cell shows 0. They have no interval, since cells share their samples. Those of ECE "
    "are plain means."
)
CSV = "The rows of this section in CSV and JSON have accuracies, which are 1 less these errors."

Told = Callable[[Mapping[str, Any]], str]


def part_of(source: Source, place: int) -> Part | None:
    """The tables and charts of a run of corruptions; None for other runs."""
    if not source.corrupts:
        return None
    summary = source.run.summary
    return Part(
        key=f"corruptions-{place}",
        title=f"Common corruptions: {source.label}",
        grids=(*_grids(source),),
        drawings=(
            Errors(
                f"corruptions-{source.key}",
                f"Error over severity: {source.label}",
                lines_of(source),
            ),
            Reliability(
                f"reliability-{source.key}",
                f"Is confidence deserved? {source.label}",
                tuple(_confidences(summary["reliability"])),
            ),
        ),
        notes=(*(f"{note[0].upper()}{note[1:]}." for note in notes_beside(summary)), CSV),
        rows=tuple(rows_of(source)),
    )


def corruption_verdict(source: Source, accuracies: bool = False) -> str:
    """A run of corruptions in a few sentences; see corrupted.sentence_of."""
    return sentence_of(source.run.summary, source.label, source.data, accuracies)


def rows_of(source: Source) -> Iterator[Row]:
    """Each cell and each mean, for programs; 0 is the severity of what is clean."""
    summary = source.run.summary
    means = summary["corruption_means"]
    yield _row(source, "clean", summary["clean"], "", 0)
    for cell in summary["corruptions"]:
        name, severity = cell["corruption"], cell["severity"]
        yield _row(source, f"{name} at severity {severity}", cell, cell["group"], severity)
    for name, mean in means["corruptions"].items():
        yield _row(source, f"mean of {name}", mean)
    for name, mean in means["groups"].items():
        yield _row(source, f"mean of {name} corruptions", mean)
    yield _row(source, "mean of all corruptions", means["all"])


def _row(
    source: Source,
    name: str,
    entry: Mapping[str, Any],
    group: str = "",
    severity: int | None = None,
) -> Row:
    return Row(
        run=source.label,
        kind=KIND,
        name=name,
        settings=group,
        samples=source.run.summary["samples"],
        value=entry["accuracy"],
        low=entry["low"],
        high=entry["high"],
        at=severity,
        nll=entry["nll"],
        calibration=entry["calibration"],
    )


def lines_of(source: Source) -> tuple[tuple[str, tuple[tuple[int, float], ...]], ...]:
    """For each group its mean error at each severity, from the clean error at 0 on."""
    summary = source.run.summary
    clean = (0, 1 - summary["clean"]["accuracy"])
    found: dict[str, dict[int, list[float]]] = {}
    for cell in summary["corruptions"]:
        errors = found.setdefault(cell["group"], {}).setdefault(cell["severity"], [])
        errors.append(1 - cell["accuracy"])
    return tuple(
        (group, (clean, *((at, sum(e) / len(e)) for at, e in sorted(by_severity.items()))))
        for group, by_severity in found.items()
    )


def _confidences(
    told: Mapping[str, Sequence[Sequence[float]]],
) -> Iterator[tuple[str, tuple[tuple[float, ...], ...]]]:
    """What is clean, and of the severities the first, the middle and the last one."""
    severities = [name for name in told if name != CLEAN]
    last = len(severities) - 1
    for name in dict.fromkeys([CLEAN, *(severities[n] for n in (0, last // 2, last))]):
        if told.get(name):
            yield name, tuple(map(tuple, told[name]))


def _grids(source: Source) -> Iterator[Grid]:
    """Error; NLL; calibration error: fifteen by five, with means."""
    count = source.run.summary["samples"]
    sampled = [CLUSTERED] if source.draws else [CLEAN_EXACT, SPEAKS]
    yield _grid(
        source,
        "error",
        f"Error under corruptions, %: {source.label} on {counted(count, 'sample')}",
        lambda entry: percent(1 - entry["accuracy"], count),
        {"95 % interval, %": lambda entry: errors_of(entry, count)},
        (MEANS, *sampled, ONCE),
    )
    yield _grid(
        source,
        "nll",
        f"Negative log-likelihood under corruptions, nats: {source.label} on "
        f"{counted(count, 'sample')}",
        lambda entry: _decimal(entry["nll"]),
        {"95 % interval": _losses},
        (LOSSES, MEANS, LOSS_INTERVALS),
    )
    yield _grid(
        source,
        "calibration",
        f"Calibration error under corruptions, %: {source.label} on {counted(count, 'sample')}",
        lambda entry: percent(entry["calibration"], count),
        {
            "95 % interval, %": lambda entry: calibrations_of(entry, count),
            "ECE, %": lambda entry: percent(entry["ece"], count),
        },
        (
            DEBIASED,
            CALIBRATED,
            ROOTS,
            ECE,
        ),
        "root mean square",
    )


def _grid(
    source: Source,
    measure: str,
    caption: str,
    told: Told,
    beside: Mapping[str, Told],
    notes: Sequence[str],
    middle: str = "mean",
) -> Grid:
    """A line for each corruption; ``middle`` is what its last column and lines are of its cells."""
    summary = source.run.summary
    means = summary["corruption_means"]
    cells = {(c["corruption"], c["severity"]): c for c in summary["corruptions"]}
    groups = {c["corruption"]: c["group"] for c in summary["corruptions"]}
    severities = sorted({severity for _, severity in cells})
    none = [""] * len(severities)

    def line(name: str, group: str, own: Sequence[str], entry: Mapping[str, Any]) -> list[str]:
        return [name, group, *own, told(entry), *(tell(entry) for tell in beside.values())]

    lines = [line("clean", "", none, summary["clean"])]
    for name, mean in means["corruptions"].items():
        own = [told(cells[name, severity]) for severity in severities]
        lines.append(line(name, groups[name], own, mean))
    if len(means["groups"]) > 1:
        lines += [line(middle, group, none, mean) for group, mean in means["groups"].items()]
    lines.append(line(middle, "all", none, means["all"]))
    headers = ("corruption", "group", *map(str, severities), middle, *beside)
    return Grid(
        caption,
        headers,
        ("word", "word", *["number"] * (len(headers) - 2)),
        tuple(map(tuple, lines)),
        tuple(notes),
        f"corruption-{measure}-{source.key}",
    )


def _losses(entry: Mapping[str, Any]) -> str:
    low, high = entry.get("nll_low"), entry.get("nll_high")
    return "" if low is None or high is None else f"{_decimal(low)} to {_decimal(high)}"


def _decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
