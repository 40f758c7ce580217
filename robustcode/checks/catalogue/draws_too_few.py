"""More draws a step would break more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from torch import Tensor

from robustcode.attacks.pgd import PGD
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import Pilot, stands_out
from robustcode.findings import Finding, Severity
from robustcode.threat import ThreatModel

# Steps of the attacks that compare numbers of draws.
DRAWS_STEPS = 10
# More draws than planned by this factor, and the most draws of steps the comparison may cost.
MORE_DRAWS, DRAWS_COST = 4, 2400
FEWEST = 8
# Where a mean gradient has so little noise, it points within 27 degrees of the true one, and more
# draws could not show.
QUIET = 0.25
# The smallest difference in accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("draws-too-few")
class DrawsTooFew(Check):
    """More draws a step would break more.

    Raised when four times the draws that the attack averages a step leave fewer pilot samples
    right, by five points and three standard errors, both judged on the same fresh draws; not
    tested where the gradient's noise is small. An info, ``draws-untested``, says that so many are
    too dear for a pilot.

    Why it matters: the curve of accuracy over draws is not flat yet, so the accuracy is one of the
    attack's patience.

    What to do: attack with more draws.

    False alarms: where more draws gain nothing 1 % on the eight samples that are asked for at
    least and .5 % on sixteen, by Student's law; 4 % at most where the judge makes one draw.

    Source: the research notes on coded smoothing, section 5.4.
    """

    code = "draws-too-few"
    group = Group.RANDOMNESS
    says = "four times the draws break no more"
    also = ("draws-untested",)
    of_the_attack = True

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return exam.no_search or exam.no_randomness

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        exam.need_samples()
        yield draws_too_few(exam.pilot, exam.attack, exam.allowed, exam.right, exam.note_draws)


def draws_too_few(
    pilot: Pilot,
    attack: PGD,
    threat: ThreatModel,
    rows: Tensor,
    note: Callable[[int, float], None] = lambda draws, accuracy: None,
) -> Finding | None:
    """The finding of DrawsTooFew on some rows; ``note`` is told accuracies by draws."""
    if pilot.facts.noise <= QUIET * attack.draws:
        return None
    affordable = DRAWS_COST // (DRAWS_STEPS * attack.draws * (1 + MORE_DRAWS))
    if affordable < FEWEST:
        return _draws_untested(attack)
    rows = rows[:affordable]
    few = replace(attack, steps=DRAWS_STEPS, restarts=1, held_out=FEWEST)
    more = replace(few, draws=MORE_DRAWS * attack.draws)
    held = [pilot.held(one, threat, rows) for one in (few, more)]
    for one, share in zip((few, more), held, strict=True):
        note(one.draws, float(share.mean()))
    gain = held[0] - held[1]
    if not breaks_more(gain):
        return None
    return Finding(
        code="draws-too-few",
        severity=Severity.WARNING,
        what=f"{more.draws} draws a step instead of {few.draws} take a further "
        f"{float(gain.mean()):.1%} of the decisions on {len(rows)} pilot samples",
        remedy=f"attack with draws={more.draws} or more, until more draws change nothing",
        figures={
            "draws": float(few.draws),
            "more_draws": float(more.draws),
            "accuracy": float(gain.mean()),
            "samples": float(len(rows)),
        },
        samples=tuple(pilot.samples[rows[gain > 0]].tolist()),
    )


def breaks_more(gain: Tensor) -> bool:
    """Whether what more draws took from the samples, (samples,), is more than chance takes."""
    return stands_out(gain) and float(gain.mean()) >= EFFECT


def _draws_untested(attack: PGD) -> Finding:
    """``draws-untested`` (info): whether more draws would break more is too dear for a pilot."""
    return Finding(
        code="draws-untested",
        severity=Severity.INFO,
        what=f"whether more than {attack.draws} draws a step would break more was not tested: "
        f"{MORE_DRAWS} times as many are too dear for a pilot",
        remedy=f"run the attack once with draws={MORE_DRAWS * attack.draws} beside this one",
        figures={"draws": float(attack.draws)},
    )
