"""JSON lines as columns: many small objects of one kind, read fast and held to their types."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NoReturn

from robustcode.errors import StoreError

LONGEST = 60  # characters of a value that are shown in an error
# Beyond these nobody counts passes, draws or classes; their sums fit into 64 bits. A seed fills 64.
LARGEST = 10**12
CLASSES = 10**6
SEED = 2**64 - 1
MEND = "run the command again into another folder, or give --partial to read what is intact"


def loads(text: str) -> Any:
    """A JSON value; ValueError for what is none, NaN and numbers beyond all bounds among it."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def shown(value: object) -> str:
    """A value as an error names it, on one line."""
    if isinstance(value, list | dict | tuple):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}.."


@dataclass
class Columns:
    """The values of some files by their key, with where each stands.

    Attributes:
        names: the keys, in order.
        optional: those that a line may lack, with what then stands for them.
    """

    names: Sequence[str]
    optional: Mapping[str, Any]
    values: dict[str, list[Any]] = field(default_factory=dict)
    files: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.values = {name: [] for name in self.names}

    def __len__(self) -> int:
        return sum(lines for _, lines in self.files)

    def add(self, origin: str, data: bytes) -> None:
        """Read one file more; ``origin`` names it in an error."""
        rows = _objects(origin, data)
        self.files.append((origin, len(rows)))
        before = len(self) - len(rows)
        if strangers := {*chain.from_iterable(rows)} - {*self.names}:
            raise StoreError(f"{origin}: {min(strangers)!r} is no known key; {MEND}")
        for name, column in self.values.items():
            try:
                column += [row[name] for row in rows]
            except KeyError:
                if name not in self.optional:
                    place = next(n for n, row in enumerate(rows) if name not in row)
                    raise StoreError(f"{self.at(before + place)}: {name} is missing; {MEND}") from (
                        None
                    )
                column += [row.get(name, self.optional[name]) for row in rows]

    def at(self, place: int) -> str:
        """The file and the line of a row."""
        for origin, lines in self.files:
            if place < lines:
                return f"{origin}, line {place + 1}"
            place -= lines
        raise IndexError(place)

    def refuse(self, place: int, what: str) -> NoReturn:
        """StoreError about a row."""
        raise StoreError(f"{self.at(place)}: {what}; {MEND}")

    def whole(self, name: str, *, none: bool = False, least: int = 0, most: int = LARGEST) -> None:
        """Hold a column to whole numbers."""
        self._hold(
            name,
            {int, type(None)} if none else {int},
            lambda value: least <= value <= most,
            f"a whole number from {least} to {most}",
        )

    def number(
        self, name: str, *, none: bool = False, low: float = -math.inf, high: float = math.inf
    ) -> None:
        """Hold a column to finite numbers from ``low`` to ``high``."""
        bounds = {
            (0.0, 1.0): "a number from 0 to 1",
            (0.0, math.inf): "a number from 0 on",
        }
        self._hold(
            name,
            {int, float, type(None)} if none else {int, float},
            lambda value: low <= value <= high and abs(value) <= LARGEST,
            bounds.get((low, high), "a number"),
        )

    def flag(self, name: str, *, none: bool = False) -> None:
        """Hold a column to truth values."""
        self._hold(name, {bool, type(None)} if none else {bool}, lambda _: True, "true or false")

    def text(self, name: str, *, none: bool = False, among: Collection[str] = ()) -> None:
        """Hold a column to texts, ``among`` some if any are given."""
        kind = f"one of {', '.join(among)}" if among else "a text"
        self._hold(
            name,
            {str, type(None)} if none else {str},
            lambda value: bool(value) and (not among or value in among),
            kind,
        )

    def _hold(self, name: str, kinds: set[type], holds: Callable[[Any], bool], what: str) -> None:
        """Refuse the first value that is of another kind or does not hold."""
        column = self.values[name]
        if {*map(type, column)} <= kinds and all(
            value is None or holds(value) for value in set(column)
        ):
            return
        for place, value in enumerate(column):
            if type(value) not in kinds or (value is not None and not holds(value)):
                self.refuse(place, f"{name} is {shown(value)}, not {what}")


def _objects(origin: str, data: bytes) -> list[dict[str, Any]]:
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError as cause:
        raise StoreError(f"{origin} is no text: {cause}; {MEND}") from cause
    if not lines[-1]:
        lines.pop()
    try:
        # At once, and not a line at a time: that is three times as fast.
        rows = loads(f"[{','.join(lines)}]")
        if len(rows) != len(lines) or not {*map(type, rows)} <= {dict}:
            raise ValueError
    except ValueError:
        rows = [_object(origin, number, line) for number, line in enumerate(lines, 1)]
    return rows


def _object(origin: str, number: int, line: str) -> dict[str, Any]:
    try:
        row = loads(line)
    except ValueError as cause:
        raise StoreError(f"{origin}, line {number} is no JSON: {cause}; {MEND}") from cause
    if not isinstance(row, dict):
        raise StoreError(f"{origin}, line {number} is {shown(row)}, not an object; {MEND}")
    return row


def read(
    files: Iterable[tuple[str, bytes]], names: Sequence[str], optional: Mapping[str, Any]
) -> Columns:
    """The columns of some files, given as their names and contents."""
    columns = Columns(names, optional)
    for origin, data in files:
        columns.add(origin, data)
    return columns
