"""The numbers of a report, once: every format prints these rows and no others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustcode.certified import told
from robustcode.reports.source import Source, as_text

WORST = "worst case over all attacks"


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
