"""Text that came from outside, made inert for each format.

HTML is escaped by Jinja2 itself.
"""

from __future__ import annotations

import html
import re
import unicodedata

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
}


def plain(text: str) -> str:
    r"""One line without control characters or marks that change the direction of reading.

    >>> plain("two\nlines")
    'two lines'
    """
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
    return re.sub(r"([\\`*_\[\]|#~$])", r"\\\1", html.escape(plain(text), quote=False))


def latex(text: str) -> str:
    r"""The text as LaTeX that shows it, on one line; what T1 fonts lack is shown by its code.

    >>> latex(r"\input{x} & 5%")
    '\\textbackslash{}input\\{x\\} \\& 5\\%'
    """
    line = plain(text)
    # Settings have no spaces to break a line at.
    breaks = {match.start() for match in re.finditer(r"[,:=](?=[A-Za-z])", line)}
    return "".join(
        _in_latex(mark) + (r"\allowbreak{}" if place in breaks else "")
        for place, mark in enumerate(line)
    )


def _in_latex(mark: str) -> str:
    if mark in _LATEX:
        return _LATEX[mark]
    return mark if mark <= "~" or "À" <= mark <= "ÿ" else f"[U+{ord(mark):04X}]"


def cell(value: object) -> object:
    """A CSV cell; text that a spreadsheet would take for a formula is quoted by an apostrophe.

    >>> cell("=1+1"), cell(-0.5)
    ("'=1+1", -0.5)
    """
    if not isinstance(value, str):
        return value
    line = plain(value)
    return f"'{line}" if line.lstrip().startswith(("=", "+", "-", "@")) else line
