"""An attack that may not move anything changes the accuracy."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.calls import COUPLING
from robustcode.checks.examination import STOCHASTIC_SAMPLES, Examination
from robustcode.checks.shares import chosen, shares
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams

# A move that no image format can hold: about one unit in the last place of a float32 near 1.
NOTHING = 1e-7
# Decisions on each input of a stochastic defence, in each of the three calls that are compared.
DRAWS = 12
# How often chance alone passes as a change, for each comparison; and the orders of draws that are
# tried for it. Two statistics share it, so that one of 2000 orders or fewer may do as much.
ALPHA = 0.001
ORDERS = 3999
# Share of samples from which decisions that hang on 1e-7 are no coincidence of a rounded input.
SERIOUS = 0.1


@CHECKS.register("null-test")
class NullTest(Check):
    """An attack that may not move anything changes the accuracy.

    Raised when the samples themselves, judged again on fresh draws and in the opposite order, or
    moved by 1e-7, are not decided as they were. Of a deterministic defence every decision must be
    the same, where the lead of the top class is more than rounding; a move of 1e-7 may change two,
    or a tenth, as a rounded input can lie on the edge. Of a stochastic one whole draws are
    exchanged between both calls, 3999 times: the difference of accuracies, or the sum of squares of
    the samples' own differences, must be among the largest in .05 % of these.

    Why it matters: what an evaluation reports without an attack is its own error. It is there in
    any number that it reports with one.

    What to do: keep nothing between calls, learn nothing from them, and let no row depend on its
    place; see ``state-changed``, ``order-matters`` and ``batch-size-matters``.

    False alarms: .2 % at most on a stochastic defence, exactly, whatever its draws have in common
    (each of two comparisons and two statistics .05 %); on a deterministic one none.

    Source: the research notes on attacks, section 4.1, where a library fails it; the permutation
    test is Fisher's.
    """

    code = "null-test"
    group = Group.SEARCH
    says = "an attack without room leaves the clean accuracy as it is"

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        return "nothing is attacked" if exam.threat is None else None

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        move = 2 * NOTHING * (_noise(exam) - 0.5)
        near = (exam.x + move).clamp(exam.allowed.low, exam.allowed.high)
        yield self._random(exam, near) if exam.stochastic else self._exact(exam, near)

    def _exact(self, exam: Examination, near: Tensor) -> Finding | None:
        every, backwards = exam.places, exam.places.flip(0)
        top = exam.calls.first.nan_to_num().topk(2, dim=1).values
        clear = top[:, 0] - top[:, 1] > COUPLING * top.abs().amax(1)
        clean = exam.clean.majority()
        again = exam.pilot.verdict(exam.x[backwards], backwards, "probe null").majority().flip(0)
        changed = (clean != again) & clear
        how = "asked about once more, in the opposite order,"
        if not changed.any():
            moved = exam.pilot.verdict(near, every, "probe clean").majority()
            changed = (clean != moved) & clear
            how = f"moved by {NOTHING:g}"
            if int(changed.sum()) < max(2.0, SERIOUS * len(changed)):
                return None
        return Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"{int(changed.sum())} of {len(changed)} samples, {how} are decided otherwise "
            "than before, with no attack at all",
            remedy=REMEDY,
            figures=shares(changed),
            samples=chosen(exam.samples, changed),
        )

    def _random(self, exam: Examination, near: Tensor) -> Finding | None:
        rows = exam.places[:STOCHASTIC_SAMPLES]
        clean = _right(exam, exam.x, rows, "null")
        again = _right(exam, exam.x, rows.flip(0), "null again").flip(1)
        how = "once more, in the opposite order"
        chance = by_chance(clean, again, exam.seed)
        if chance > ALPHA:
            again, how = _right(exam, near, rows, "null near"), f"with a move of {NOTHING:g}"
            chance = by_chance(clean, again, exam.seed)
            if chance > ALPHA:
                return None
        before, after = float(clean.mean()), float(again.mean())
        return Finding(
            code=self.code,
            severity=Severity.FAILURE,
            what=f"with no attack at all {before:.1%} of {DRAWS} decisions on each of {len(rows)} "
            f"samples are right, and {how} {after:.1%}; chance does that in {chance:.2%} of runs",
            remedy=REMEDY,
            figures={
                "accuracy": before,
                "again": after,
                "chance": chance,
                "samples": float(len(rows)),
            },
        )


REMEDY = (
    "keep nothing between calls, learn nothing from them, and let no row depend on its place in "
    "the batch: until then the evaluation has an error of this size without any attack"
)


def by_chance(first: Tensor, second: Tensor, seed: int) -> float:
    """The p-value that both calls' draws come from one distribution, exact by permutation.

    ``first`` and ``second`` are right decisions, float64 of shape (draws, samples). Whole draws are
    exchanged, so that those of different samples may depend on each other. Twice the smaller
    p-value of two statistics: the difference of accuracies, and the sum of squares of the
    differences on each sample, which sees what cancels out over samples.
    """
    both = torch.cat([first, second]).double()
    count = len(both)
    streams = Streams.of(seed, "null orders", torch.zeros(ORDERS, dtype=torch.int64))
    orders = streams.each(torch.arange(ORDERS)).permutation(count)
    sides = torch.ones(ORDERS + 1, count, dtype=torch.float64)
    sides[0, len(first) :] = -1
    # Who is on the other side: the first so many places of each order.
    sides[1:].scatter_(1, orders[:, : len(second)], -1)
    apart = sides @ both.cpu()
    sums, squares = apart.sum(1).abs(), apart.square().sum(1)
    # Integers in float64: ties are exact.
    values = [float((one >= one[0]).double().mean()) for one in (sums, squares)]
    return min(1.0, 2 * min(values))


def _right(exam: Examination, x: Tensor, rows: Tensor, purpose: str) -> Tensor:
    """Right decisions, draw by draw, float64 of shape (draws, rows)."""
    streams = exam.pilot.streams(f"probe {purpose}", rows)
    found = []
    for draw in range(DRAWS):
        own = streams.child("draw", draw)
        for _ in range(exam.defense.votes):
            exam.pay(own)
        found.append((exam.defense.decide(x[rows], own) == exam.y[rows]).double())
    return torch.stack(found)


def _noise(exam: Examination) -> Tensor:
    """Uniform in [0, 1), of the inputs' shape."""
    return exam.streams.child("null").uniform(exam.x[0].numel()).view_as(exam.x)
