"""A short search without gradients breaks what gradients left."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from robustcode.attacks.base import Attack
from robustcode.attacks.hopskipjump import HopSkipJump
from robustcode.attacks.square import Square
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.beaten import too_many
from robustcode.checks.examination import Examination
from robustcode.findings import Finding

# Queries of the search: an honest network loses next to nothing to so few.
QUERIES = 100
# Survivors that a search by decisions alone is given, which takes 180 queries of each.
FLAT_ROWS = 16


@CHECKS.register("gradient-free-better")
class GradientFreeBetter(Check):
    """A short search without gradients breaks what gradients left.

    Raised when Square with 100 queries breaks two or more of the samples that the pilot's gradient
    attack left right, and more than 1 % of them by an exact test at 1 %: 3 of 32 do. Where scores
    are so flat that most samples have no gradient at all, HopSkipJump is tried on 16 of them too,
    which goes by decisions. Made on deterministic defences. A failure where that is a tenth of the
    pilot and no other attack of the plan searches.

    Why it matters: near a sample a gradient is worth as many queries as the input has values. A
    search that does without it and finds more shows that the gradients mislead, or that the attack
    stops early.

    What to do: look for masked gradients; give the defence a surrogate; run square with its full
    5000 queries, transfer, and other losses.

    False alarms: 1 % at most for each search, where it adds 1 % or less to what a sound attack
    broke. On the published networks that this was tried on it added nothing.

    Source: the flag of AutoAttack for Square, raised there at .2 % of all samples with 5000
    queries; Carlini et al. 2019, arXiv:1902.06705, section 4.
    """

    code = "gradient-free-better"
    group = Group.SEARCH
    says = "a short search without gradients adds nothing"
    of_the_attack = True
    otherwise = (
        "gradients mislead here, and may mislead the attacks of the plan: look at what square "
        "adds to them, and look for masked gradients"
    )

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_fixed_answer

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        for attack, rows in _searches(exam):
            fell = exam.pilot.held(attack, exam.allowed, rows) <= 0
            broken = int(fell.sum())
            if too_many(broken, len(rows)):
                break
        else:
            return
        yield Finding(
            code=self.code,
            severity=exam.gravity(broken),
            what=f"{type(attack).__name__} breaks {broken} of {len(rows)} pilot samples that PGD "
            f"with {exam.once.steps} steps leaves right",
            remedy="the gradients mislead, or the attack stops too early: look for what masks "
            "them, give a surrogate, and run square with "
            "5000 queries, the transfer attack and other losses",
            figures={
                "broken": float(broken),
                "tried": float(len(rows)),
                "samples": float(len(exam.right)),
            },
            samples=tuple(exam.samples[rows[fell]].tolist()),
        )


def _searches(exam: Examination) -> Iterator[tuple[Attack, Tensor]]:
    """The searches to be made, each with the rows it is given."""
    rows = exam.survivors
    if len(rows) == 0:
        return
    # The published schedule, which is for 5000 queries and more, in short.
    yield Square(queries=QUERIES, rescale=True), rows
    decisions = HopSkipJump(steps=2, queries=50, tries=16)
    flat = len(exam.finite) and 2 * int(exam.slopes.useful.sum()) < len(exam.finite)
    if flat and exam.allowed.norm in decisions.norms:
        yield decisions, rows[:FLAT_ROWS]
