"""Text that came from outside, made inert for each format.

HTML is escaped by Jinja2 itself.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from collections.abc import Collection, Iterator

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "-": r"-{}",  # two of them would become a dash
    # At the beginning of a table's row they would be told to the end of the row before.
    "[": "{[}",
    "*": "{*}",
}
# Marks on a line of a LaTeX file: TeX reads no line of more than 200,000 letters.
LINE = 1000
# Letters of a caption or a cell, which TeX measures in one piece, at most 16,383 points wide.
ROOM = 1200
# Letters in which a line may not be broken: more than any word of ours has.
RUN = 18
BREAK, TIED = r"\allowbreak{}", r"\nobreakspace{}"
# After these marks a line may be broken, and at these spaces it may not.
PLACE = re.compile(r"[,:=_/](?=[A-Za-z])|[ -](?![ -])")
TIE = re.compile(r"(?<=\d) (?=%)")
# What a spreadsheet takes for the beginning of a formula; some also where the mark is a wide one.
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")


def plain(text: str) -> str:
    r"""One line without control characters or marks that change the direction of reading.

    >>> plain("two\nlines")
    'two lines'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        " " if mark.isspace() else mark
        for mark in text
        if mark.isspace() or unicodedata.category(mark) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )


def markdown(text: str) -> str:
    r"""The text as Markdown that shows it, on one line.

    >>> markdown("<b>a_b*</b>")
    '&lt;b&gt;a\\_b\\*&lt;/b&gt;'
    """
    # Some renderers make links of bare addresses, too.
    marks = r"([\\`*_\[\]|#~$]|:(?=//)|(?<=www)\.)"
    return re.sub(marks, r"\\\1", html.escape(plain(text), quote=False), flags=re.IGNORECASE)


def latex(text: str) -> str:
    r"""The text as LaTeX that shows it, on one line; what T1 fonts lack is shown by its code.

    >>> latex(r"\input{x} & 5%")
    '\\textbackslash{}input\\{x\\} \\& 5\\%'
    """
    line = plain(text)
    ends = set(itertools.accumulate(map(len, _pieces(line)))) - {len(line)}
    ties = {match.start() for match in TIE.finditer(line)}
    marks = [
        TIED if place in ties else _in_latex(mark) + (BREAK if _breaks(place, mark, ends) else "")
        for place, mark in enumerate(line)
    ]
    lines = ["".join(marks[start : start + LINE]) for start in range(0, len(marks), LINE)]
    # An empty group, since TeX passes over spaces that begin a line.
    return "%\n".join(f"{{}}{part}" if part.startswith(" ") else part for part in lines)


def pieces(text: str) -> list[str]:
    """The parts of a text at whose ends LaTeX may begin a new line, without the spaces there."""
    return [part.strip() for part in _pieces(plain(text))]


def shown_as(text: str) -> str:
    """The letters that LaTeX shows of a text."""
    return "".join(mark if mark in _LATEX else _in_latex(mark) for mark in plain(text))


def _pieces(line: str) -> Iterator[str]:
    ties = {match.end() for match in TIE.finditer(line)}
    start = 0
    for end in [match.end() for match in PLACE.finditer(line)] + [len(line)]:
        if end in ties and end < len(line):
            continue
        # Settings have no spaces to break a line at; what has nothing at all is broken anywhere.
        for begun in range(start, end, RUN):
            yield line[begun : min(begun + RUN, end)]
        start = end


def _breaks(place: int, mark: str, ends: Collection[int]) -> bool:
    return place + 1 in ends and mark not in " -"  # at which TeX breaks by itself


def short(text: str) -> str:
    """The text for a caption or a cell of LaTeX: of a very long one its ends."""
    line = plain(text)
    if sum(map(_width, line)) <= ROOM:
        return line
    most = ROOM // (2 * max(map(_width, line)))
    return f"{line[:most]} [{len(line) - 2 * most:,} letters are left out] {line[-most:]}"


def _width(mark: str) -> int:
    """Letters that a mark is shown by."""
    return len(_in_latex(mark)) if mark not in _LATEX else 1


def _in_latex(mark: str) -> str:
    if mark in _LATEX:
        return _LATEX[mark]
    return mark if mark <= "~" or "À" <= mark <= "ÿ" else f"{{[}}U+{ord(mark):04X}]"


def cell(value: object) -> object:
    """A CSV cell; text that a spreadsheet would take for a formula is quoted by an apostrophe.

    >>> cell("=1+1"), cell(-0.5)
    ("'=1+1", -0.5)
    """
    if not isinstance(value, str):
        return value
    line = plain(value)
    return f"'{line}" if line.lstrip().startswith(FORMULA) else line
