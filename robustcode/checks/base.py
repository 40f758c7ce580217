"""What a check of an evaluation is, and what is said of it."""

from __future__ import annotations

import inspect
import re
from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from robustcode.findings import Finding, Severity
from robustcode.registry import Registry

if TYPE_CHECKING:
    from robustcode.checks.examination import Examination
    from robustcode.checks.results import Results


class Group(StrEnum):
    """What a check looks at, in the order of a page."""

    SUBJECT = "model and data"
    DECLARED = "declared against tested"
    GRADIENTS = "gradients"
    SEARCH = "search"
    RANDOMNESS = "randomness"
    BATCH = "batch"
    RESULTS = "results"


class Status(StrEnum):
    """How a check went, from good to bad."""

    PASSED = "passed"
    SPARED = "not applicable"
    UNTESTED = "untested"
    INFO = "info"
    WARNING = "warning"
    FAILURE = "failure"


class Untested(Exception):
    """Raised by a check that applies but could not be made; its message says why."""


class Check(ABC):
    """One way in which an evaluation can be wrong, and how it is noticed.

    A check looks at the pilot, before the attacks (``examine``), or at their records (``review``),
    or at both. Its findings carry its ``code``. The docstring is its page of documentation: a
    title, then paragraphs that begin with ``Raised when``, ``Why it matters:``, ``What to do:``,
    ``False alarms:`` and, where there is one, ``Source:``.

    Attributes:
        code: its name, for ever.
        group: what it looks at.
        says: what holds where it passes, a few words for the page's one line.
        also: codes of findings that it raises besides, such as that it was too dear.
        of_the_attack: ``examine`` tries the gradient attack of the plan, or one like it.
        otherwise: what to do about its finding where that attack is none of the plan's; the same as
            otherwise if empty.
    """

    code: ClassVar[str]
    group: ClassVar[Group]
    says: ClassVar[str]
    also: ClassVar[tuple[str, ...]] = ()
    of_the_attack: ClassVar[bool] = False
    otherwise: ClassVar[str] = ""

    def spared(self, exam: Examination) -> str | None:
        """Why it does not apply to what is examined; None if it does."""
        return None

    def examine(self, exam: Examination) -> Iterable[Finding | None]:
        """Findings of the pilot. Raises Untested where it cannot be made."""
        return ()

    def review(self, results: Results) -> Iterable[Finding | None]:
        """Findings in the records of a run."""
        return ()

    @classmethod
    def examines(cls) -> bool:
        """Whether it looks at the pilot."""
        return cls.examine is not Check.examine

    @classmethod
    def reviews(cls) -> bool:
        """Whether it looks at records."""
        return cls.review is not Check.review

    @classmethod
    def page(cls) -> Page:
        """Its documentation, in parts."""
        return Page.of(inspect.getdoc(cls) or "")


@dataclass(frozen=True)
class Page:
    """The documentation of a check.

    Attributes:
        title: what it finds, one line.
        raised: when.
        why: it matters.
        remedy: what to do.
        false_alarms: how often it is raised where nothing is wrong, and by which reasoning.
        source: where the check comes from; empty where it is ours.
    """

    title: str
    raised: str
    why: str
    remedy: str
    false_alarms: str
    source: str = ""

    @classmethod
    def of(cls, text: str) -> Page:
        """The parts of a docstring."""
        title, _, rest = text.partition("\n")
        parts = {"Raised when": "", "Why it matters:": "", "What to do:": "", "False alarms:": ""}
        parts["Source:"] = ""
        marks = "|".join(map(re.escape, parts))
        # A part may begin in the middle of a line, after the sentence before it.
        pieces = re.split(rf"(?:^|(?<=\s))({marks})", rest)
        for mark, body in zip(pieces[1::2], pieces[2::2], strict=True):
            parts[mark] = " ".join(body.split())
        return cls(title.strip(), *parts.values())


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What became of one check: a line of the page.

    Attributes:
        code: of the check.
        group: what it looked at.
        status: the gravest of its findings, or that it passed, does not apply or was not made.
        said: its gravest finding, what holds, or why it was not made.
        forwards: model passes that were spent for it on all samples together.
        backwards: likewise.
    """

    code: str
    group: str
    status: str
    said: str
    forwards: int = 0
    backwards: int = 0

    @classmethod
    def at(cls, check: Check, findings: Iterable[Finding], **passes: int) -> Looked:
        """The line of a check that was made."""
        order = [Severity.INFO, Severity.WARNING, Severity.FAILURE]
        found = sorted(findings, key=lambda finding: order.index(finding.severity))
        status, said = (
            (Status(str(found[-1].severity)), found[-1].what)
            if found
            else (Status.PASSED, check.says)
        )
        return cls._of(check, status, said, **passes)

    @classmethod
    def not_made(cls, check: Check, status: Status, why: str, **passes: int) -> Looked:
        """The line of one that was not."""
        return cls._of(check, status, why, **passes)

    @classmethod
    def _of(cls, check: Check, status: Status, said: str, **passes: Any) -> Looked:
        return cls(code=check.code, group=str(check.group), status=str(status), said=said, **passes)


CHECKS: Registry[type[Check]] = Registry("check", "robustcode.checks", Check)
