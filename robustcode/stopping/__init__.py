"""Stopping rules for random draws, and the error that each really makes."""

from robustcode.stopping.anytime import anytime, anytime_lower
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.fixed import fixed
from robustcode.stopping.ladder import Design, Ladder, Verdict, ladder, nested
from robustcode.stopping.schedule import looks, needed
from robustcode.stopping.sequential import sequential

__all__ = [
    "Boundaries",
    "Design",
    "Ladder",
    "Verdict",
    "anytime",
    "anytime_lower",
    "fixed",
    "ladder",
    "looks",
    "needed",
    "nested",
    "sequential",
]
