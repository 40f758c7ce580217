"""How the columns of a table are set in LaTeX, so that it fits a paper of one column or of two.

Widths are in em of the font of the table. They are estimated from those of Computer Modern, from
above: a table that is a little too narrow does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from robustcode.reports.escape import pieces, shown_as
from robustcode.reports.grids import Grid

# A line of LaTeX's article in \footnotesize: of 10 points 345 points or 40.6 em, of 11 points 38.9
# em, of 12 points 39 em; a column of two has 21.6 em at the least.
LINE, HALF = 38.0, 21.0
GAP = 0.7  # between two columns
# At least, of names and of running text, of which a line holds two or three words.
COMFORT = {"phrase": 9.0}
NAME = 7.0
TIGHT = 5.5  # of a text that has a column and would else stand below each row
LONGEST = 13.0  # of a number; what is longer is none, and breaks
SLACK = 0.15
ENOUGH = 200  # letters of an entry that decide on a width: of more there are several lines anyway
NARROW, WIDE = frozenset("fijlrtI.,:;'!|()[]-"), frozenset('mwMW%@#&=+<>~^"\\')


@dataclass(frozen=True)
class Layout:
    """How a table is set.

    Attributes:
        environment: table, or table* which spans the columns of a page.
        columns: of the grid, by their places, side by side.
        below: those whose entries stand under each row, after their headers.
        spec: of the tabular.
        width: of all columns together, in em.
    """

    environment: Markup
    columns: tuple[int, ...]
    below: tuple[int, ...]
    spec: Markup
    width: float

    def under(self, headers: Sequence[str], row: Sequence[str]) -> str:
        """What stands below a row; empty if there is nothing."""
        return "; ".join(f"{headers[place]}: {row[place]}" for place in self.below if row[place])


def layout_of(grid: Grid) -> Layout:
    """As many columns side by side as there is room for: first long ones, then texts go below."""
    texts = [
        [text[:ENOUGH] for text in (header, *column)]
        for header, column in zip(grid.headers, zip(*grid.rows, strict=True), strict=True)
    ] or [[header[:ENOUGH]] for header in grid.headers]
    number = [width == "number" for width in grid.widths]
    whole = [max(map(_width, column)) for column in texts]
    least = [_least(column, is_number) for column, is_number in zip(texts, number, strict=True)]
    wanted = [
        low if width == "number" else min(full, max(low, COMFORT.get(width, NAME)))
        for low, full, width in zip(least, whole, grid.widths, strict=True)
    ]
    kept = [place for place, width in enumerate(grid.widths) if width != "long" or place == 0]
    if _sum(whole[place] for place in kept) <= HALF and len(kept) == len(grid.headers):
        return _layout("table", kept, [], [whole[place] for place in kept], number)
    # What names a row is first; texts lose less than numbers by not standing in a column.
    spare = [place for place in kept[1:] if not number[place] and grid.widths[place] == "phrase"]
    spare = [*(place for place in kept[1:] if place not in spare), *spare]
    dropped = []
    while spare and _sum(wanted[place] for place in kept) > LINE:
        dropped.append(spare.pop())
        kept.remove(dropped[-1])
    # The first of them names the row, and may have room enough in a column that is narrower.
    for place in sorted(dropped):
        room = LINE - GAP - _sum(wanted[one] for one in kept)
        if room >= max(least[place], min(whole[place], TIGHT)):
            wanted[place] = min(wanted[place], room)
            kept = sorted([*kept, place])
    room = LINE - _sum(wanted[place] for place in kept)
    more = {place: 0.0 if number[place] else whole[place] - wanted[place] for place in kept}
    share = min(1.0, max(room, 0.0) / (sum(more.values()) or 1.0))
    widths = [wanted[place] + share * more[place] for place in kept]
    below = [place for place in range(len(grid.headers)) if place not in kept]
    return _layout("table*", kept, below, widths, number)


def _layout(
    environment: str,
    kept: Sequence[int],
    below: Sequence[int],
    widths: Sequence[float],
    number: Sequence[bool],
) -> Layout:
    sides = {True: "left", False: "right"}
    columns = (
        rf">{{\ragged{sides[number[place]]}\arraybackslash}}p{{{width:.2f}em}}"
        for place, width in zip(kept, widths, strict=True)
    )
    spec = Markup("@{{}}{}@{{}}").format(Markup("".join(columns)))
    return Layout(Markup(environment), tuple(kept), tuple(below), spec, round(_sum(widths), 2))


def _least(column: Sequence[str], is_number: bool) -> float:
    """The width at which nothing sticks out; a number is not broken, its header is."""
    header, *cells = column
    parts = [piece for text in (header, *cells) for piece in pieces(text)]
    widest = max(map(_width, parts), default=0.0)
    if not is_number:
        return widest
    headed = max(map(_width, pieces(header)), default=0.0)
    return min(max([headed, *map(_width, cells)]), max(LONGEST, widest))


def _sum(widths: Iterable[float]) -> float:
    listed = list(widths)
    return sum(listed) + GAP * (len(listed) - 1)


def _width(text: str) -> float:
    """Of a text on one line, in em."""
    return SLACK + sum(_mark(mark) for mark in shown_as(text))


def _mark(mark: str) -> float:
    if mark.isdigit():
        return 0.5
    if mark in NARROW or mark == " ":
        return 0.4
    if mark in WIDE:
        return 0.9 if mark != "W" else 1.03
    return 0.76 if mark.isupper() else 0.556
