"""Tests that an attack on a random or batch-coupled defence must pass before it is believed.

Each is a way in which such an evaluation goes wrong unseen: gradients that belong to a neighbour's
loss, a plain model's attack that does better, a fixed draw that holds where nothing is left to
chance, more draws that would break more.

Source: the research notes on coded smoothing, section 5.4; the ideas are those of Carlini et al.
2019, arXiv:1902.06705.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from robustcode.adversary import Batch, Gradient
from robustcode.attacks.losses import LossName, cross_entropy, margin
from robustcode.attacks.pgd import PGD
from robustcode.attacks.transfer import Transfer
from robustcode.defenses.base import Defense
from robustcode.findings import Finding, Severity
from robustcode.pilot import Pilot, stands_out
from robustcode.seeds import Streams
from robustcode.statistics import mcnemar
from robustcode.target import DefendedTarget
from robustcode.threat import ThreatModel

if TYPE_CHECKING:
    import pandas as pd

# Steps of the attacks on one known draw and on the plain model, and of those that compare numbers
# of draws.
FIXED_STEPS, DRAWS_STEPS = 20, 10
# More draws than planned by this factor, and the most draws of steps the comparison may cost.
MORE_DRAWS, DRAWS_COST = 4, 2400
FEWEST = 8
# Where a mean gradient has so little noise, it points within 27 degrees of the true one, and more
# draws could not show.
QUIET = 0.25
# The smallest difference in accuracy worth a finding.
EFFECT = 0.1


@dataclass(frozen=True, kw_only=True)
class OneDraw(Defense):
    """A random defence with its randomness fixed for each sample, and so known.

    Attributes:
        inner: the defence.
        seed: names the draw.
    """

    stochastic: ClassVar[bool] = False

    model: nn.Module
    inner: Defense = field(repr=False)
    seed: int = 0

    @property
    def passes(self) -> int:
        """See Defense.passes."""
        return self.inner.passes

    @property
    def undefended(self) -> nn.Module:
        """See Defense.undefended."""
        return self.inner.undefended

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.logits."""
        return self.inner.logits(x, self._fixed(streams))

    def surrogate(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.surrogate."""
        return self.inner.surrogate(x, self._fixed(streams))

    def forwards(self, streams: Streams) -> Tensor | int:
        """See Defense.forwards."""
        return self.inner.forwards(streams)

    def backwards(self, streams: Streams) -> Tensor | int:
        """See Defense.backwards."""
        return self.inner.backwards(streams)

    def _fixed(self, streams: Streams) -> Streams:
        batches = None if streams.together is None else streams.together.samples
        return Streams.of(self.seed, "one draw", streams.samples, batches)


def fixed_draw_holds(pilot: Pilot, threat: ThreatModel, rows: Tensor) -> Finding | None:
    """``fixed-draw-holds``: with its randomness fixed and known it holds more than the plain model.

    Raised when, of pilot samples that both get right, PGD leaves more right of one draw that it
    knows than of the model without defence, by ten points and by more than paired noise allows
    (one-sided exact McNemar at 5 %). Why it matters: a known draw is a plain network, so if it
    holds either its gradient misleads, and with it every attack on the defence, or the defence
    helps without being random. What to do: try ``transfer``, a surrogate, the margin loss, more
    steps; evaluate the defence with its randomness fixed, as a defence of its own.

    Source: Lucas et al. 2023, Randomness in ML Defenses Helps Persistent Attackers and Hinders
    Evaluators, who ask for a deterministic version beside the random one.
    """
    one = OneDraw(model=pilot.search.model, inner=pilot.search, seed=pilot.seed)
    # From a target that is said to be random no broken sample leaves: it is still a batch mate.
    known = DefendedTarget(
        one, pilot.ledger, stochastic=pilot.together, differentiable=pilot.facts.differentiable
    )
    plain = known.undefended
    x, y = pilot.x[rows], pilot.y[rows]
    streams = pilot.streams("fixed draw", rows)
    standing = torch.ones(len(rows), dtype=torch.bool, device=x.device)
    right = []
    for target in (known, plain):
        attack = PGD(steps=FIXED_STEPS, step=0.1, loss=LossName.MARGIN, held_out=1)
        x_adv = attack.perturb(target, x, y, threat, streams)
        standing &= margin(target.logits(x, streams), y) > 0
        right.append(margin(target.logits(x_adv, streams), y) > 0)
    held, fell = right[0] & standing, right[1] & standing
    count = int(standing.sum())
    if count == 0:
        return None
    more, fewer = int((held & ~fell).sum()), int((fell & ~held).sum())
    if more - fewer < EFFECT * count or mcnemar(fewer, more) / 2 > 0.05:
        return None
    return Finding(
        code="fixed-draw-holds",
        severity=Severity.WARNING,
        what=f"with one known draw {int(held.sum())} of {count} pilot samples stay right under "
        f"PGD, and of the model without defence {int(fell.sum())}: a known draw is a plain network",
        remedy="its gradient may mislead: try the transfer attack, loss=margin, more steps or "
        "square; if it truly holds, evaluate it with its randomness fixed",
        figures={
            "held": float(held.sum()),
            "plain": float(fell.sum()),
            "samples": float(count),
        },
        samples=tuple(pilot.samples[rows[held & ~fell]].tolist()),
    )


def draws_too_few(pilot: Pilot, attack: PGD, threat: ThreatModel, rows: Tensor) -> Finding | None:
    """``draws-too-few``: more draws a step would break more.

    Raised when four times the draws that the attack averages a step leave fewer pilot samples
    right, by five points and three standard errors, both judged on the same fresh draws; not
    tested where the gradient's noise is small. Why it matters: the curve of
    accuracy over draws is not flat yet, so the accuracy is one of the attack's patience. What to
    do: attack with more draws.
    """
    if pilot.facts.noise <= QUIET * attack.draws:
        return None
    affordable = DRAWS_COST // (DRAWS_STEPS * attack.draws * (1 + MORE_DRAWS))
    if affordable < FEWEST:
        return _draws_untested(attack)
    rows = rows[:affordable]
    few = replace(attack, steps=DRAWS_STEPS, restarts=1, held_out=FEWEST)
    more = replace(few, draws=MORE_DRAWS * attack.draws)
    gain = pilot.held(few, threat, rows) - pilot.held(more, threat, rows)
    if not stands_out(gain) or float(gain.mean()) < EFFECT / 2:
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


def cross_gradient(
    defense: Defense, x: Tensor, y: Tensor, samples: Tensor, seed: int, gradient: Gradient
) -> Finding | None:
    """``cross-gradient``: in a joint gradient a sample's own part is the smaller one.

    ``x``, ``y`` and ``samples`` are one batch. Raised when, at the samples themselves and by
    cross-entropy, the gradient that reaches half of the samples from the losses of their batch
    mates is larger than that of their own; as a warning where the attack follows it, as ``info``
    where it does not. Why it matters: an attack that differentiates the summed loss steps where
    misclassified neighbours want it to, and leaves a defence standing that is not robust. What to
    do: follow each sample's own gradient (the adversary batch, or solo).

    Source: the research notes on coded smoothing, section 5.3.
    """
    streams = Streams.of(seed, "cross gradient", samples, torch.zeros_like(samples))

    def of(which: Gradient) -> Tensor:
        facing = defense.facing(Batch(gradient=which), samples[:0], x[:0])
        leaf = x.detach().clone().requires_grad_()
        with torch.enable_grad():
            loss = cross_entropy(facing.logits(leaf, streams), y).sum()
        if not loss.requires_grad:  # a model without a gradient is another finding
            return torch.zeros_like(x).flatten(1)
        (found,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
        return found.flatten(1)

    own, joint = of(Gradient.OWN), of(Gradient.JOINT)
    others = (joint - own).norm(dim=1)
    # Where confident neighbours have no gradient either, none of it is theirs.
    ratio = torch.where(others > 0, own.norm(dim=1) / others, torch.inf)
    agree = (own.sign() == joint.sign()).float().mean()
    median = float(ratio.median())
    if not math.isfinite(median) or median >= 1:
        return None
    followed = gradient is Gradient.JOINT
    return Finding(
        code="cross-gradient",
        severity=Severity.WARNING if followed else Severity.INFO,
        what=f"in the joint gradient of a batch a sample's own part is {median:.2g} times that of "
        f"its neighbours, in the median of {len(x)}, and {float(agree):.0%} of the signs are its "
        f"own{'' if followed else '; the attacks here follow the own part alone'}",
        remedy="do not differentiate the summed loss of a coded batch: take gradient=own"
        if followed
        else "distrust evaluations of this defence whose attack differentiates the batch jointly",
        figures={"ratio": median, "signs": float(agree), "samples": float(len(x))},
    )


def pilot_behind_transfer(
    pilot: Pilot, threat: ThreatModel, rows: Tensor, held: Tensor
) -> Finding | None:
    """``behind-transfer`` on the pilot, where every attack meets every sample.

    ``held`` are the shares that PGD on the defence leaves right. Raised when ``transfer`` leaves
    fewer, by five points and three standard errors, judged on the same fresh draws. See
    ``behind_transfer``.
    """
    moved = pilot.held(Transfer(steps=FIXED_STEPS, step=0.1), threat, rows)
    gain = held - moved
    if not stands_out(gain) or float(gain.mean()) < EFFECT / 2:
        return None
    best, transfer = float(held.mean()), float(moved.mean())
    beaten = tuple(pilot.samples[rows[gain > 0]].tolist())
    return _behind("PGD in the pilot", best, transfer, len(rows), beaten)


def behind_transfer(records: pd.DataFrame, searches: Collection[str]) -> list[Finding]:
    """``behind-transfer``: the plain model's adversarial inputs do better than every attack.

    ``searches`` are the attacks that look at the defence itself. Raised when, on the samples that
    all of them were run on, the best of them leaves more right than ``transfer`` by more than
    twice the standard error of the paired difference. In a cascade none is run on what another
    left no chance, so that it says little there: run the attacks each on every sample. Why it
    matters: an attack that knows the defence must do at least as well as one that does not; if
    not, its gradient misleads or its budget is short. What to do: more draws and steps, the
    margin loss, a start from the transfer example; look at the gradient findings.

    Source: Croce et al. 2022, arXiv:2202.13711, who found static attacks to do as well.
    """
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
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain))
    if left[best] - left[transfer] <= max(0.0, 2 * error):
        return []
    beaten = table.index[gain > 0]
    return [_behind(best, left[best], left[transfer], len(table), tuple(map(int, beaten)))]


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
