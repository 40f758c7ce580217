"""The numbers of a run of corruptions, recomputed from its answers: what summary.json says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustcode.calibration import calibration, reliability
from robustcode.statistics import clustered, proportion
from robustcode.wording import counted, listed, percent

CLEAN = "clean"
UNDIVIDED = "errors are not divided by another network's"
# Of an estimate whose bias is removed, where what is left is negative.
NOT_TOLD = "not told from 0"
NO_INTERVAL = "no interval, since its cells share their samples"
# What ``corruption_frost`` is where there are no photographs.
OWN = "drawn"
# The finding that a model does what softmax does already; see checks.
PROBABILITIES = "probabilities-as-logits"
# Of a 95 % interval by the normal distribution.
HALF = 1.959963984540054
# Kept of a mean of many cells, beside its accuracy and its calibration error.
AVERAGED = ("nll", "ece")


def summarise_answers(
    answers: pd.DataFrame,
    shards: Sequence[Mapping[str, Any]],
    groups: Mapping[str, str],
    draws: int | None,
) -> dict[str, Any]:
    """The contract's keys from answers and the manifest's shards, and those of corruptions.

    ``groups`` names the group of each corruption, in the order in which they are told; ``draws`` is
    None for a deterministic defence. There was no attack and no proof.

    ``corruptions`` has a line for each corruption and severity, ``corruption_means`` plain means of
    these: of ``all``, of each group, and of each corruption. They are not divided by another
    network's errors, as the mean corruption error of Hendrycks and Dietterich 2019 is. A sample
    counts once in the interval of a mean, however often it was spoilt. ``reliability`` has the bins
    of confidence of what is clean, and of all corruptions at each severity.
    """
    cells = {
        (str(name), severity): cell
        for name, own in answers.groupby("corruption", sort=True)
        for severity in sorted(set(own.severity.tolist()))
        for cell in [own[own.severity == severity]]
    }
    clean = cells[CLEAN, 0]
    order = [(name, s) for name in groups for s in range(1, 6) if (name, s) in cells]
    lines = [
        {
            "corruption": name,
            "group": groups[name],
            "severity": severity,
            **_measured(cells[name, severity], draws),
        }
        for name, severity in order
    ]
    severities = sorted({severity for _, severity in order})
    spoilt = answers[answers.corruption != CLEAN]
    costs = [shard["cost"] for shard in shards]
    return {
        "schema": 1,
        "samples": len(clean),
        "unfinished": 0,
        "proved": 0,
        "clean": {**_measured(clean, draws), "samples": len(clean)},
        "robust": None,
        "attacks": [],
        "cascade": False,
        "rebatched": None,
        "stochastic": None if draws is None else {"draws": draws},
        "certified": None,
        "corruptions": lines,
        "corruption_means": {
            "all": _mean(spoilt, lines, draws),
            "groups": {
                group: _mean_of(spoilt, lines, [n for n in groups if groups[n] == group], draws)
                for group in dict.fromkeys(groups.values())
            },
            "corruptions": {name: _mean_of(spoilt, lines, [name], draws) for name in groups},
        },
        "reliability": {
            "clean": _bins(clean),
            **{f"severity {s}": _bins(spoilt[spoilt.severity == s]) for s in severities},
        },
        "findings": [],
        "cost": {
            "forwards": int(answers.forwards.sum()),
            "backwards": 0,
            "seconds": round(sum(cost["seconds"] for cost in costs), 3),
            "cpu_seconds": round(sum(cost["cpu_seconds"] for cost in costs), 3),
            "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
        },
    }


def notes_of(summary: Mapping[str, Any], called: str = "calib.") -> list[str]:
    """What must be known to read the numbers; ``called`` is the word for calibration error."""
    return [
        f"{_spoilt(summary)}; means of error and NLL are plain ones over corruptions and "
        f"severities, and {UNDIVIDED}",
        f"{called}: the root of the mean squared distance between confidence and the share of "
        "right, over all samples of a cell, with its bias removed; its means are root mean "
        "squares; NLL in nats",
        *_doubts(summary, called),
    ]


def notes_beside(summary: Mapping[str, Any]) -> list[str]:
    """The same without what a report's tables say of their own means and measures."""
    return [f"{_spoilt(summary)}; {UNDIVIDED}", *_doubts(summary, "calibration error")]


def _spoilt(summary: Mapping[str, Any]) -> str:
    count = counted(summary["samples"], "sample")
    return f"{count}, spoilt by strengths of {summary['corruption_scale']}"


def _doubts(summary: Mapping[str, Any], called: str) -> list[str]:
    """Of a random defence, of scores that are no numbers or probabilities, of frost."""
    notes = []
    if summary["stochastic"]:
        draws = summary["stochastic"]["draws"]
        notes.append(
            f"errors are expectations over {draws} draws of the defence; probabilities are means "
            "over them, whose NLL is the larger the fewer they are"
        )
    unscored = [cell["unscored"] for cell in _cells(summary) if cell.get("unscored")]
    if unscored:
        notes.append(
            f"NLL and {called} are missing where scores are not all finite, of "
            f"{max(unscored)} samples in one cell at most: NLL may be infinite there"
        )
    if any(finding.get("code") == PROBABILITIES for finding in summary.get("findings") or ()):
        notes.append(
            "the model returns probabilities, whose softmax is taken once more here: NLL and "
            f"{called} are of that and not of what the model says; have it return logits"
        )
    if summary.get("corruption_frost") == OWN:
        notes.append(
            "frost is drawn and not photographed: its errors, and means with them, are not to be "
            "compared with published ones"
        )
    return notes


def sentence_of(summary: Mapping[str, Any], label: str, data: str, accuracies: bool = False) -> str:
    """What a run says: errors, and where scores are numbers how calibrated.

    With ``accuracies`` these are said, too, for a reader who has those under attack beside them.
    """
    means, count = summary["corruption_means"], summary["samples"]
    clean, mean, named = summary["clean"], means["all"], means["corruptions"]
    worst = min(named, key=lambda name: named[name]["accuracy"])
    picked = (
        f", picked as the worst of {len(named)} and so too high by chance" if len(named) > 1 else ""
    )
    said = (
        f"{label}, on {counted(count, 'sample')} of {data}: error {_error(clean, count)} on clean "
        f"images and {_error(mean, count)} as the mean of {counted(len(named), 'corruption')}"
        f"{_severities(summary)}, most under {worst}: {_error(named[worst], count)}{picked}."
    )
    if accuracies:
        shares = [percent(entry["accuracy"], count) for entry in (clean, mean, named[worst])]
        said += (
            f" As accuracies: {shares[0]} % on clean images, {shares[1]} % as that mean and "
            f"{shares[2]} % under {worst}."
        )
    if clean["calibration"] is None or mean["calibration"] is None:
        return said
    interval = calibrations_of(clean, count)
    within = f" (95 % interval {interval} %)" if interval else ""
    squares = [cell.get("calibration_squared") or 0.0 for cell in summary["corruptions"]]
    below = [(clean.get("calibration_squared") or 0.0) < 0, sum(squares) < 0]
    first, second = (
        NOT_TOLD if clipped else f"{percent(entry['calibration'], count)} %"
        for clipped, entry in zip(below, (clean, mean), strict=True)
    )
    return (
        f"{said} Its calibration error is {first}{within} on clean images and {second} on "
        f"corrupted ones, as a root mean square ({NO_INTERVAL})."
    )


def _severities(summary: Mapping[str, Any]) -> str:
    """At which severities, in a sentence; nothing where there are no cells."""
    severities = sorted({cell["severity"] for cell in summary["corruptions"]})
    if not severities:
        return ""
    if len(severities) == 1:
        return f" at severity {severities[0]}"
    if len(severities) > 2 and severities == list(range(severities[0], severities[-1] + 1)):
        return f" at severities {severities[0]} to {severities[-1]}"
    return f" at severities {listed(map(str, severities))}"


def _error(entry: Mapping[str, Any], count: int) -> str:
    """An error in a sentence."""
    value = percent(1 - entry["accuracy"], count)
    return f"{value} % (95 % interval {errors_of(entry, count)} %)"


def errors_of(entry: Mapping[str, Any], count: int) -> str:
    """The interval of an error, in per cent."""
    return f"{percent(1 - entry['high'], count)} to {percent(1 - entry['low'], count)}"


def calibrations_of(entry: Mapping[str, Any], count: int) -> str:
    """The interval of a calibration error, in per cent; empty where a folder of old has none."""
    low, high = entry.get("calibration_low"), entry.get("calibration_high")
    if low is None or high is None:
        return ""
    return f"{percent(low, count)} to {percent(high, count)}"


def _cells(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [summary["clean"], *summary["corruptions"]]


def _measured(cell: pd.DataFrame, draws: int | None) -> dict[str, Any]:
    """Accuracy, NLL and calibration of one cell, each over all of its samples.

    ``nll`` is in nats; it and calibration are None where a sample's scores are no numbers, and
    calibration is where there is one sample only.
    """
    unscored = int(cell.likelihood.isna().sum())
    found: dict[str, Any] = {**_accuracy(_shares(cell), draws), "unscored": unscored}
    loss = -cell.likelihood.to_numpy(dtype=float)
    found |= _loss(loss) if not unscored else dict.fromkeys(("nll", "nll_low", "nll_high"))
    names = ("ece", "calibration_squared", "calibration", "calibration_low", "calibration_high")
    if unscored or len(cell) < 2:
        return {**found, **dict.fromkeys(names)}
    return {**found, **dict(zip(names, calibration(*_stated(cell)), strict=True))}


def _mean_of(
    spoilt: pd.DataFrame, lines: Sequence[Mapping[str, Any]], names: list[str], draws: int | None
) -> dict[str, Any]:
    chosen = [line for line in lines if line["corruption"] in names]
    return _mean(spoilt[spoilt.corruption.isin(names)], chosen, draws)


def _mean(
    spoilt: pd.DataFrame, lines: Sequence[Mapping[str, Any]], draws: int | None
) -> dict[str, Any]:
    """Plain means over cells; of calibration error the root of the mean square, without bias.

    That has no interval here: cells share their samples.
    """
    shares = pd.Series(_shares(spoilt), index=spoilt.index).groupby(spoilt["sample"]).mean()
    found: dict[str, Any] = {
        "cells": len(lines),
        **_accuracy(np.asarray(shares, np.float64), len(lines) * (draws or 1)),
    }
    for name in AVERAGED:
        values = [line[name] for line in lines]
        found[name] = None if None in values else float(np.mean(values))
    squares = [line["calibration_squared"] for line in lines]
    known = None not in squares
    found["calibration"] = math.sqrt(max(0.0, float(np.mean(squares)))) if known else None
    losses = -spoilt.likelihood.astype(float)
    if not losses.isna().any():
        interval = _loss(np.asarray(losses.groupby(spoilt["sample"]).mean(), np.float64))
        found |= {name: interval[name] for name in ("nll_low", "nll_high")}
    return found


def _accuracy(shares: NDArray[np.float64], draws: int | None) -> dict[str, Any]:
    if draws is None:
        right = int(shares.sum())
        value, low, high = proportion(right, len(shares))
        return {"accuracy": value, "low": low, "high": high, "correct": right}
    value, low, high = clustered(shares.clip(0.0, 1.0), draws)
    return {"accuracy": value, "low": low, "high": high, "correct": round(float(shares.sum()), 9)}


def _loss(losses: NDArray[np.float64]) -> dict[str, float]:
    """Their mean, and its interval by the central limit theorem: for few samples a rough one."""
    mean = float(losses.mean())
    half = HALF * float(losses.std(ddof=1)) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0
    return {"nll": mean, "nll_low": max(0.0, mean - half), "nll_high": mean + half}


def _bins(cell: pd.DataFrame) -> list[list[float]]:
    """Samples, mean confidence and share of right of each bin; none where scores are no numbers."""
    if cell.confidence.isna().any() or len(cell) < 2:
        return []
    return [list(part) for part in reliability(*_stated(cell))]


def _shares(cell: pd.DataFrame) -> NDArray[np.float64]:
    return cell.correct.to_numpy(dtype=float)


def _stated(cell: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The confidence in each sample's likeliest class, and whether that is the label."""
    hits = (cell.likeliest == cell.label).to_numpy(dtype=float, na_value=0.0)
    return np.asarray(cell.confidence, np.float64), np.asarray(hits, np.float64)
