"""The plain model's adversarial inputs do better than every attack on the defence."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from robustcode.attacks.transfer import Transfer
from robustcode.attacks.transfer_pgd import TransferPGD
from robustcode.checks.base import CHECKS, Check, Group
from robustcode.checks.examination import Examination
from robustcode.checks.pilot import Pilot, stands_out
from robustcode.checks.results import Results
from robustcode.defenses.identity import Identity
from robustcode.defenses.wrapper import inside
from robustcode.findings import Finding, Severity
from robustcode.threat import ThreatModel

# Steps of the attack on the plain model.
STEPS = 20
FEWEST = 8
# The smallest difference in accuracy worth a finding.
EFFECT = 0.05


@CHECKS.register("behind-transfer")
class BehindTransfer(Check):
    """The plain model's adversarial inputs do better than every attack on the defence.

    Raised when ``transfer`` leaves fewer right than every attack that looks at the defence itself:
    in the pilot by five points and three standard errors, judged on the same fresh draws; in the
    records, on the samples that all of them were run on, by more than twice the standard error of
    the paired difference. In a cascade no attack is run on what another left no chance, so that
    records say little there: run the attacks each on every sample.

    Why it matters: an attack that knows the defence must do at least as well as one that does not;
    if not, its gradient misleads or its budget is short.

    What to do: more draws and steps, the margin loss, a start from the transfer example; look at
    the gradient findings.

    False alarms: where both do alike, in the pilot 1 % on eight samples and .5 % on sixteen, by
    Student's law (4 % at most where the judge makes one draw); in records 3 % at most from 64
    samples on and 6 % on eight, by enumeration, for each attack that transfers.

    Source: Croce et al. 2022, arXiv:2202.13711, who found static attacks to do as well; transfer
    failure, Pintor et al. 2022, arXiv:2106.09947.
    """

    code = "behind-transfer"
    group = Group.SEARCH
    says = "the plain model's adversarial inputs do no better"
    of_the_attack = True

    def spared(self, exam: Examination) -> str | None:
        """See Check.spared."""
        if exam.threat is None:
            return exam.no_search
        if type(inside(exam.defense)) is Identity:
            return "there is no defence, so the plain model is attacked anyway"
        return exam.no_search or exam.no_plain_model

    def examine(self, exam: Examination) -> Iterator[Finding | None]:
        """See Check.examine."""
        exam.need_samples()
        yield pilot_behind_transfer(exam.pilot, exam.allowed, exam.right, exam.held)

    def review(self, results: Results) -> Iterator[Finding | None]:
        """See Check.review."""
        if self.code in results.raised or results.threat.eps == 0:
            return
        searches = {p.name for p in results.attacks if p.attack.needs_gradient}
        moved = (Transfer, TransferPGD)
        searches -= {p.name for p in results.attacks if isinstance(p.attack, moved)}
        yield from behind_transfer(results.records, searches - results.controls)


def pilot_behind_transfer(
    pilot: Pilot, threat: ThreatModel, rows: Tensor, held: Tensor
) -> Finding | None:
    """The finding of BehindTransfer on some rows, of which PGD leaves the shares ``held`` right."""
    moved = pilot.held(Transfer(steps=STEPS, step=0.1), threat, rows)
    gain = held - moved
    if not pilot_beaten(gain):
        return None
    best, transfer = float(held.mean()), float(moved.mean())
    beaten = tuple(pilot.samples[rows[gain > 0]].tolist())
    return _behind("PGD in the pilot", best, transfer, len(rows), beaten)


def behind_transfer(records: pd.DataFrame, searches: Collection[str]) -> list[Finding]:
    """The finding of BehindTransfer in records; ``searches`` look at the defence itself."""
    whole = records.groupby("attack").finished.transform("all").astype(bool)
    ran = records[whole & records.carried.isna() & ~records.proved.astype(bool)]
    table = ran.assign(right=ran.correct.astype(float)).pivot_table(
        index="sample", columns="attack", values="right"
    )
    names = [str(name) for name in table.columns]
    # On what an attack on the defence left to it, transfer does well for that alone.
    spared = set(records.attack[records.carried.isin(list(searches))])
    moved = [n for n in names if n.partition(":")[0] == "transfer" and n not in spared]
    own = [name for name in names if name in searches]
    table = table[[*moved, *own]].dropna()
    if not moved or not own or len(table) < FEWEST:
        return []
    right = {name: table[name].to_numpy(dtype=float) for name in table.columns}
    left = {name: float(values.mean()) for name, values in right.items()}
    transfer, best = min(moved, key=left.__getitem__), min(own, key=left.__getitem__)
    gain = right[best] - right[transfer]
    if not beaten_in_records(gain):
        return []
    beaten = table.index[gain > 0]
    return [_behind(best, left[best], left[transfer], len(table), tuple(map(int, beaten)))]


def pilot_beaten(gain: Tensor) -> bool:
    """Whether what ``transfer`` took beyond the attack, (samples,), is more than chance takes."""
    return stands_out(gain) and float(gain.mean()) >= EFFECT


def beaten_in_records(gain: NDArray[np.float64]) -> bool:
    """The same of records, where the samples are many and judged once."""
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain))
    return float(gain.mean()) > max(0.0, 2 * error)


def _behind(
    name: str, best: float, transfer: float, count: int, beaten: tuple[int, ...]
) -> Finding:
    return Finding(
        code="behind-transfer",
        severity=Severity.WARNING,
        what=f"the best attack on the defence itself, {name}, leaves {best:.1%} of {count} samples "
        f"right, and inputs found on the plain model {transfer:.1%}",
        remedy="an attack that knows the defence must do better: give it more steps and draws, "
        "loss=margin, and start it from the transfer example",
        figures={"best": best, "transfer": transfer, "samples": float(count)},
        samples=beaten,
    )
