"""False robustness caught, named and explained: checks of an evaluation, and who makes them."""

from robustcode.doctor.base import CHECKS, Check, Group, Looked, Page, Status, Untested
from robustcode.doctor.examination import Examination
from robustcode.doctor.examine import Report, examine, review, together
from robustcode.doctor.results import Results, Stopped

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
    "together",
]
