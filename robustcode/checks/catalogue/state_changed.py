"""Answers that depend on what was asked before."""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity


@CHECKS.register("state-changed")
class StateChanged(Check):
    """Answers that depend on what was asked before.

    Raised when scores differ after other queries (noise, other samples, near ones, gradients) or
    when asked for again, by more than rounding and with every generator of random numbers at the
    same place; as a warning where only parameters or buffers have changed, which may move scores
    in the long run. A sample whose scores differ between two copies that are asked the same first
    question is random and no sign of memory: see ``not-reproducible``. State that copies share (a
    cache in a global or a closure, a file) is not seen.

    Why it matters: verdicts would depend on the order of samples, on the batch size and on what
    attacks asked, so that a repeated or resumed run gives other ones; and an attack that
    primes the memory is one that no attack here makes.

    What to do: keep nothing between calls: no cache, no counter, batch norm with stored
    statistics.

    False alarms: none where equal calls round alike to 1e-5 of a logit. A buffer that counts calls
    and moves nothing is worth the warning only.
    """

    code = "state-changed"
    group = Group.DECLARED
    says = "what was asked before does not change an answer"

    def examine(self, exam: Examination) -> Iterator[Finding]:
        """See Check.examine."""
        memory = exam.memory
        if not memory.stateful:
            return
        moved = bool(memory.changed.any())
        parts = []
        if moved:
            parts.append(
                f"on {int(memory.changed.sum())} of {memory.rows} samples the scores depend on "
                "what was asked before"
            )
        if memory.tensors:
            named = ", ".join(memory.tensors[:2]) + (", .." if len(memory.tensors) > 2 else "")
            parts.append(f"calls changed {len(memory.tensors)} of the model's tensors ({named})")
        yield Finding(
            code=self.code,
            severity=Severity.FAILURE if moved else Severity.WARNING,
            what=" and ".join(parts)
            + (
                "; every call is made on a copy of the defence as it came"
                if memory.uncopied is None
                else f"; it cannot be copied ({memory.uncopied}), so its calls see each other here"
            ),
            remedy="keep nothing between calls: no cache, no counter, and batch norm with stored "
            "statistics",
            figures={**shares(memory.changed), "tensors": float(len(memory.tensors))},
            samples=chosen(exam.samples[: memory.rows], memory.changed),
        )
