"""What the JSON of a run folder must hold for others to build on it, and what is wrong with it.

A shape is a function from a value and its place to complaints. Keys that no shape names are free:
more may be added to a run folder, none of these renamed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from robustcode.lines import LARGEST, shown

Shape = Callable[[Any, str], Iterator[str]]

# Two ends of an interval are computed apart from its middle.
ROUNDING = 1e-9


def fault(value: Any, shape: Shape) -> str | None:
    """The first complaint about a value, None if there is none."""
    return next(shape(value, ""), None)


def kind(what: str, holds: Callable[[Any], bool]) -> Shape:
    """Values of which ``holds`` is true; a complaint says that another is not ``what``."""

    def look(value: Any, at: str) -> Iterator[str]:
        if not holds(value):
            yield f"{at or 'the file'} is {shown(value)}, not {what}"

    return look


def maybe(shape: Shape) -> Shape:
    """A value of a shape, or null."""

    def look(value: Any, at: str) -> Iterator[str]:
        if value is not None:
            yield from shape(value, at)

    return look


def listed(shape: Shape, least: int = 0) -> Shape:
    """A list of values of one shape, ``least`` of them or more."""

    def look(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield f"{at or 'the file'} is {shown(value)}, not a list"
            return
        if len(value) < least:
            yield f"{at or 'the file'} is an empty list"
        for place, entry in enumerate(value):
            yield from shape(entry, f"{at}[{place}]")

    return look


def each(shape: Shape) -> Shape:
    """An object whose every value is of one shape."""

    def look(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at or 'the file'} is {shown(value)}, not an object"
            return
        for key, entry in value.items():
            yield from shape(entry, _under(at, key))

    return look


def table(needed: Mapping[str, Shape], further: Mapping[str, Shape] | None = None) -> Shape:
    """An object with all of ``needed``, and of ``further`` what it has."""
    further = further or {}

    def look(value: Any, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{at or 'the file'} is {shown(value)}, not an object"
            return
        for key in needed:
            if key not in value:
                yield f"{_under(at, key)} is missing"
        for key, shape in {**needed, **further}.items():
            if key in value:
                yield from shape(value[key], _under(at, key))

    return look


def both(*shapes: Shape) -> Shape:
    """All of some shapes; the first that complains is heard first."""

    def look(value: Any, at: str) -> Iterator[str]:
        for shape in shapes:
            complaints = list(shape(value, at))
            yield from complaints
            if complaints:
                return

    return look


def _under(at: str, key: str) -> str:
    name = key if re.fullmatch(r"[\w-]+", key) else shown(key)
    return f"{at}.{name}" if at else name


def _real(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and abs(value) <= LARGEST
    )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST


ANY = kind("a value", lambda value: True)
TEXT = kind("a text", lambda value: isinstance(value, str))
FLAG = kind("true or false", lambda value: isinstance(value, bool))
COUNT = kind("a whole number from 0 on", _whole)
SOME = kind("a whole number from 1 on", lambda value: _whole(value) and value > 0)
NUMBER = kind("a number", _real)
AMOUNT = kind("a number from 0 on", lambda value: _real(value) and value >= 0)
SHARE = kind("a number from 0 to 1", lambda value: _real(value) and 0 <= value <= 1)
RADIUS = AMOUNT
OBJECT = kind("an object", lambda value: isinstance(value, dict))
ONE = kind("1, the schema that this version reads", lambda value: value == 1)


def _ordered(value: Any, at: str) -> Iterator[str]:
    """An interval is around its value."""
    low, middle, high = value["low"], value["accuracy"], value["high"]
    most = value.get("accuracy_high")
    ends = [low, middle, middle if most is None else most, high]
    if any(left > right + ROUNDING for left, right in pairwise(ends)):
        yield f"{at}.accuracy is {middle!r}, outside its interval from {low!r} to {high!r}"


ACCURACY = both(
    table(
        {"accuracy": SHARE, "low": SHARE, "high": SHARE},
        {
            "correct": AMOUNT,
            "accuracy_high": maybe(SHARE),
            "unfinished": maybe(COUNT),
            "samples": maybe(COUNT),
        },
    ),
    _ordered,
)
SPENT = {"forwards": COUNT, "backwards": COUNT, "seconds": AMOUNT}
ATTACK = both(
    ACCURACY,
    table({"name": TEXT}, {"settings": maybe(OBJECT), "after": FLAG, **SPENT}),
)
READINGS = {"expected": ACCURACY, "majority": ACCURACY, "any_of": each(ACCURACY)}
STOCHASTIC = table({"draws": SOME}, {**READINGS, "clean": maybe(table({}, READINGS))})
CERTIFIED = both(
    ACCURACY,
    table(
        {"method": TEXT},
        {
            **{"subject": TEXT, "threat": TEXT, "samples": COUNT, "abstained": COUNT},
            **{"undecided": COUNT, "wrong": COUNT, "alpha": SHARE, "false_at_most": COUNT},
            **{"forwards": COUNT, "backwards": COUNT, "draws": maybe(COUNT)},
            "expected": maybe(ACCURACY),
            "curve": maybe(listed(both(table({"radius": RADIUS}), ACCURACY))),
        },
    ),
)
# What a run of certificates says of itself, beside what one of attacks is told of them.
PROVED = table(
    {
        **{"method": TEXT, "subject": TEXT, "threat": TEXT, "samples": SOME, "correct": COUNT},
        **{"abstained": COUNT, "undecided": COUNT, "wrong": COUNT, "alpha": SHARE},
        "false_at_most": COUNT,
    }
)
# Of a run of corruptions: one cell, a mean of cells, and all that its summary has besides.
MEASURED = both(
    ACCURACY,
    table(
        {"nll": maybe(AMOUNT), "ece": maybe(SHARE), "calibration": maybe(SHARE)},
        {
            **dict.fromkeys(("nll_low", "nll_high"), maybe(AMOUNT)),
            **dict.fromkeys(("calibration_low", "calibration_high"), maybe(SHARE)),
            **{"calibration_squared": maybe(NUMBER), "cells": SOME},
        },
    ),
)
CELL = both(MEASURED, table({"corruption": TEXT, "group": TEXT, "severity": SOME}))
CORRUPTED = table(
    {
        "clean": MEASURED,
        "corruptions": listed(CELL, least=1),
        "corruption_means": table(
            {"all": MEASURED, "groups": each(MEASURED), "corruptions": each(MEASURED)}
        ),
        "corruption_scale": TEXT,
        "reliability": each(listed(listed(NUMBER, least=3))),
    },
    {"corruption_frost": TEXT},
)
FINDING = table(
    {},
    {
        **{"code": TEXT, "severity": TEXT, "what": TEXT, "remedy": TEXT},
        "figures": maybe(OBJECT),
        "samples": maybe(listed(ANY)),
    },
)
FINDINGS = listed(FINDING)
LOOKED = table({}, {"code": TEXT, "group": TEXT, "status": TEXT, "said": TEXT})
LABELS = ("title", "model", "checkpoint", "defense", "data", "threat", "adversary", "suite", "next")
SUMMARY = table(
    {
        "schema": ONE,
        "samples": SOME,
        "clean": ACCURACY,
        "robust": maybe(ACCURACY),
        "attacks": listed(ATTACK),
    },
    {
        "unfinished": COUNT,
        "proved": COUNT,
        "stochastic": maybe(STOCHASTIC),
        "certified": maybe(CERTIFIED),
        "rebatched": maybe(ACCURACY),
        "detector": maybe(table({"clean_refused": SHARE, "attacked_refused": SHARE})),
        "cascade": FLAG,
        "findings": FINDINGS,
        "cost": maybe(table({}, {**SPENT, "cpu_seconds": AMOUNT, "peak_memory_mb": AMOUNT})),
        "checks": maybe(listed(LOOKED)),
        "repairs": maybe(listed(OBJECT)),
        "figures": maybe(OBJECT),
        "tested": maybe(COUNT),
        **dict.fromkeys(LABELS, maybe(TEXT)),
    },
)


def _file(value: Any, at: str) -> Iterator[str]:
    """Files of a shard lie in the folder, wherever it has been copied from."""
    for name in value:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
            yield f"{at} names {shown(name)}, which is not in the folder"


HASH = kind(
    "a sha256 in hexadecimal",
    lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None,
)
SHARD = table(
    {"sha256": both(each(HASH), _file)},
    {"samples": COUNT, "verdicts": COUNT, "over": maybe(TEXT), "cost": OBJECT},
)
MANIFEST = table(
    {
        "schema": ONE,
        "status": kind("a status", lambda value: value in ("running", "complete", "stopped")),
        "shards": table({"files": each(SHARD)}, {"expected": maybe(COUNT), "done": COUNT}),
    },
    {"request": OBJECT, "diagnosis": maybe(TEXT), "versions": maybe(OBJECT)},
)
# What a shard of attacks cost, which its summary is made from.
COST = table(
    {
        **{"judge_forwards": COUNT, "seconds": AMOUNT, "cpu_seconds": AMOUNT},
        **{"peak_memory_mb": AMOUNT, "attack_seconds": each(AMOUNT)},
    }
)
PROOF_COST = table({"seconds": AMOUNT, "cpu_seconds": AMOUNT, "peak_memory_mb": AMOUNT})
COMPONENT = kind(
    "a component: a text, or a table with a name",
    lambda value: (
        isinstance(value, str) or (isinstance(value, dict) and isinstance(value.get("name"), str))
    ),
)
SPEC = table(
    {},
    {
        **{"schema": ONE, "command": TEXT, "model": TEXT, "data": TEXT, "threat": TEXT},
        **{"defense": COMPONENT, "adversary": COMPONENT, "method": COMPONENT},
        "attacks": listed(COMPONENT),
        "radii": listed(NUMBER),
        "draws": SOME,
        "samples": SOME,
        "indices": listed(COUNT),
        "seed": kind("a whole number", lambda value: type(value) is int),
    },
)
DIAGNOSIS = table(
    {
        "facts": table({"stochastic": FLAG}, {"detector": FLAG}),
        "findings": FINDINGS,
        "checks": listed(LOOKED),
        "seconds": AMOUNT,
        "cpu_seconds": AMOUNT,
    },
    {"forwards": COUNT, "backwards": COUNT, "repairs": listed(OBJECT), "figures": maybe(OBJECT)},
)
INSIDE = kind(
    "the name of a folder in this one",
    lambda value: (
        isinstance(value, str)
        and re.fullmatch(r"[\w.-]+", value) is not None
        and value.strip(".") != ""
    ),
)
POINT = table({"run": INSIDE}, {"threat": TEXT})
CURVE = table(
    {"schema": ONE, "points": listed(POINT, least=1)},
    {"asked": maybe(listed(TEXT))},
)
