"""False robustness caught, named and explained: checks of an evaluation, and who makes them."""

from robustcode.checks.base import CHECKS, Check, Group, Looked, Page, Status, Untested
from robustcode.checks.examination import Examination
from robustcode.checks.examine import Report, examine, review, said_again, together
from robustcode.checks.results import Results, Stopped

__all__ = [
    "CHECKS",
    "Check",
    "Examination",
    "Group",
    "Looked",
    "Page",
    "Report",
    "Results",
    "Status",
    "Stopped",
    "Untested",
    "examine",
    "review",
    "said_again",
    "together",
]
