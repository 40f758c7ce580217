"""Numbers in words, the same wherever they are read: in reports, in notebooks and on a console."""

from __future__ import annotations

from collections.abc import Iterable

# Two decimals need a thousand samples: below, one sample moves the first decimal.
MANY = 1000
# What findings do to the numbers they are about; the gravest first.
DOUBTS = {"failure": "Do not rely on {}", "warning": "The evidence for {} is weakened"}
ENDS = (0.0, 100.0)
# Of a mean of floats, in per cent: nearer to an end is at it.
ROUNDING = 1e-9


def percent(value: float | None, samples: int | None) -> str:
    """A fraction in per cent, without the sign; empty for none.

    0 and 100 are printed for exactly that: what is not has as many more decimals as it takes.

    >>> percent(0.5234, 500), percent(0.5234, 5000)
    ('52.3', '52.34')
    >>> percent(1.0, 5000), percent(0.99998, 50_000), percent(-0.0002, 500)
    ('100.00', '99.998', '-0.02')
    """
    if value is None:
        return ""
    decimals = 2 if (samples or 0) >= MANY else 1
    shown = f"{100 * value:.{decimals}f}"
    while abs(float(shown)) in ENDS and abs(100 * value - float(shown)) > ROUNDING:
        decimals += 1
        shown = f"{100 * value:.{decimals}f}"
    return shown.removeprefix("-") if float(shown) == 0 else shown


def counted(count: int, noun: str) -> str:
    """A number and its noun.

    >>> counted(1, "run"), counted(2, "run")
    ('1 run', '2 runs')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(parts: Iterable[str]) -> str:
    """Names or clauses in a sentence, without the empty ones.

    >>> listed(["ddn", "fab", "cw"])
    'ddn, fab and cw'
    """
    *others, last = [part for part in parts if part] or [""]
    return f"{', '.join(others)} and {last}" if others else last
