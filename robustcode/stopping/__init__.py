"""Stopping rules for random draws, and the error that each really makes."""

from robustcode.stopping.anytime import anytime, anytime_lower
from robustcode.stopping.audit import Audit, Outcome, audit
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.fixed import fixed
from robustcode.stopping.ladder import Design, Ladder, Verdict, ladder, nested
from robustcode.stopping.radius import probability_at, radius_at
from robustcode.stopping.rules import RULES, Rule
from robustcode.stopping.schedule import looks, needed
from robustcode.stopping.sequential import sequential

__all__ = [
    "RULES",
    "Audit",
    "Boundaries",
    "Design",
    "Ladder",
    "Outcome",
    "Rule",
    "Verdict",
    "anytime",
    "anytime_lower",
    "audit",
    "fixed",
    "ladder",
    "looks",
    "needed",
    "nested",
    "probability_at",
    "radius_at",
    "sequential",
]
