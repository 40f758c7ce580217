"""Whether a defence refuses inputs as it says it does, and in what units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.losses import margin
from robustcode.defenses.base import ABSTAIN, Defense
from robustcode.defenses.wrapper import Around, inside
from robustcode.findings import Finding, Severity
from robustcode.seeds import Streams
from robustcode.statistics import mcnemar
from robustcode.target import Ledger

# Pilot samples that are asked about, and decisions on each input of a defence with a rule of its
# own. It may draw otherwise than the common rule does, so its ties are compared as a share.
SAMPLES, ROUNDS = 16, 4
# Chance of a false alarm about such shares.
CHANCE = 1e-3
# Above this share of inputs a fault moves the accuracy by more than a remark is worth.
SERIOUS = 0.1
# Differences below this share of a rejection are rounding.
ROUNDING = 1e-5


class Sizes(NamedTuple):
    """Medians over inputs, to bring a rejection to the units of the logits.

    Attributes:
        lead: of the top class over the next one.
        rejection: of the rejection's size.
    """

    lead: float
    rejection: float


def refuses(
    defense: Defense, x: Tensor, samples: Tensor, streams: Streams, ledger: Ledger
) -> tuple[bool, Finding | None]:
    """Whether a run is to take it for a detector, and what is wrong with what it declares.

    It is taken for what it says it is: what is not declared to refuse has no ``rejection`` for an
    attack to reckon with, so that its refusals are errors as ever. Asked are pilot inputs ``x``,
    (batch, ...), the same half hidden in noise, and noise of the size of the box.

    What its findings mean is on the page of the check ``declared-detector``.
    """
    own_rule = type(inside(defense)).decide is not Defense.decide
    if not defense.detector and not own_rule:
        return False, None
    asked = _Asked.of(x, samples, streams)
    rounds = ROUNDS if own_rule else 1
    told = asked.abstained(defense, rounds, ledger)
    tied = asked.abstained(_Decisive(inner=defense), rounds, ledger)
    refused = told & ~tied
    if not defense.detector:
        wrong = _unlike(told, tied) & refused.any(0)
        return False, _undeclared(wrong, asked) if wrong.any() else None
    if not refused.any():
        return True, _never(len(asked.x))
    if not own_rule:
        return True, None
    wrong = _unlike(told, asked.abstained(_CommonRule(inner=defense), rounds, ledger))
    return True, _other_rule(wrong, asked) if wrong.any() else None


def sizes_of(
    defense: Defense, x: Tensor, samples: Tensor, streams: Streams, ledger: Ledger
) -> Sizes:
    """Usual sizes of a detector's leads and rejections, over the inputs that ``refuses`` asks."""
    asked = _Asked.of(x, samples, streams)
    ledger.charge(asked.samples, defense.forwards(asked.streams))
    with torch.no_grad():
        scores = defense.logits(asked.x, asked.streams)
        rejection = defense.rejection(asked.x, asked.streams)
    return Sizes(_usual(margin(scores, scores.argmax(1))), _usual(rejection))


def rejection_varies(
    defense: Defense, x: Tensor, samples: Tensor, streams: Streams, ledger: Ledger
) -> bool:
    """Whether a detector's rejection differs between two draws; its scores may be the same."""
    if not defense.detector:
        return False
    asked = _Asked.of(x, samples, streams)
    ledger.charge(asked.samples, 2 * defense.forwards(asked.streams))
    with torch.no_grad():
        one, other = (
            defense.rejection(asked.x, asked.streams.child("draw", draw)) for draw in range(2)
        )
    return not torch.allclose(one, other, rtol=ROUNDING, atol=0.0, equal_nan=True)


def flat_rejection(
    defense: Defense, x: Tensor, samples: Tensor, streams: Streams, ledger: Ledger
) -> Finding | None:
    """The finding of the check ``flat-rejection``, on the inputs that ``refuses`` asks."""
    if not defense.detector:
        return None
    asked = _Asked.of(x, samples, streams)
    own = asked.streams
    ledger.charge(asked.samples, defense.forwards(own), defense.backwards(own))
    leaf, gradient = asked.x.requires_grad_(), None
    with torch.enable_grad():
        rejection = defense.rejection_surrogate(leaf, own)
    if rejection.requires_grad:
        (gradient,) = torch.autograd.grad(rejection.sum(), leaf, allow_unused=True)
    slope = torch.zeros_like(leaf) if gradient is None else gradient
    flat = ~(slope.flatten(1).abs().amax(1) > 0)
    if int(flat.sum()) < SERIOUS * len(flat):
        return None
    return Finding(
        code="flat-rejection",
        severity=Severity.FAILURE,
        what=f"on {int(flat.sum())} of {len(flat)} inputs the rejection has no gradient: an attack "
        "that follows gradients cannot leave what the detector refuses",
        remedy="give a rejection_surrogate with a gradient (BPDA), and run attacks that need no "
        "gradient: square, boundary attacks, noise",
        figures={"faulty": float(flat.sum()), "inputs": float(len(flat))},
        samples=asked.concerned(flat),
    )


@dataclass(frozen=True, kw_only=True)
class _CommonRule(Around):
    """A defence that decides by its scores and its rejection, whatever rule of its own it has."""

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        """See Defense.decide."""
        return Defense.decide(self, x, streams)


@dataclass(frozen=True, kw_only=True)
class _Decisive(_CommonRule):
    """And by its scores alone: it never refuses."""

    detector: ClassVar[bool] = False


class _Asked(NamedTuple):
    """Inputs that a detector may refuse: samples, the same half hidden in noise, and noise alone.

    Attributes:
        x: the inputs.
        samples: whose they are, int64 (batch,).
        streams: one draw for each.
    """

    x: Tensor
    samples: Tensor
    streams: Streams

    @classmethod
    def of(cls, x: Tensor, samples: Tensor, streams: Streams) -> _Asked:
        """Made of the first pilot inputs."""
        x, streams = x[:SAMPLES].detach(), streams[:SAMPLES]
        noise = streams.child("refusal noise").uniform(*x.shape[1:]).to(x)
        draws = Streams.joined([streams.child("refusal", number) for number in range(3)])
        return cls(torch.cat([x, (x + noise) / 2, noise]), samples[:SAMPLES].repeat(3), draws)

    def abstained(self, defense: Defense, rounds: int, ledger: Ledger) -> Tensor:
        """Where each of several decisions is none, bool of shape (rounds, batch)."""
        found = []
        for number in range(rounds):
            own = self.streams.child("round", number)
            ledger.charge(own.samples, defense.forwards(own) * defense.votes)
            found.append(defense.decide(self.x, own) == ABSTAIN)
        return torch.stack(found)

    def concerned(self, rows: Tensor) -> tuple[int, ...]:
        """The samples behind some rows, ascending."""
        return tuple(sorted(set(self.samples[rows].tolist())))


def _unlike(told: Tensor, other: Tensor) -> Tensor:
    """Inputs on which one rule abstains and the other does not, bool of shape (batch,).

    None where decisions are random and the two abstain as often: both meet ties, each on draws of
    its own.
    """
    differ = told != other
    steady = bool((told == told[0]).all() and (other == other[0]).all())
    if not steady and mcnemar(int((differ & told).sum()), int((differ & other).sum())) > CHANCE:
        return torch.zeros_like(differ[0])
    return differ.any(0)


def _undeclared(refused: Tensor, asked: _Asked) -> Finding:
    count = int(refused.sum())
    return Finding(
        code="declared-decisive",
        severity=Severity.FAILURE,
        what=f"declared no detector, but on {count} of {len(refused)} inputs it decided nothing "
        "where scores are finite and not tied; each time that counts as wrong",
        remedy="declare detector = True and give rejection, positive where it refuses: then a "
        "refusal of a perturbed input counts as held, and attacks look for what is accepted",
        figures={"refused": float(count), "inputs": float(len(refused))},
        samples=asked.concerned(refused),
    )


def _never(inputs: int) -> Finding:
    return Finding(
        code="declared-detector",
        severity=Severity.WARNING,
        what=f"declared a detector, but it refused none of {inputs} inputs, among them noise of "
        "the size of the box",
        remedy="look at its threshold, and whether rejection is positive where it refuses; if it "
        "refuses nothing, declare detector = False",
        figures={"inputs": float(inputs)},
    )


def _other_rule(wrong: Tensor, asked: _Asked) -> Finding:
    count = int(wrong.sum())
    return Finding(
        code="declared-rejection",
        severity=Severity.FAILURE,
        what=f"on {count} of {len(wrong)} inputs decide and rejection do not agree on whether it "
        "refuses, and attacks go by rejection",
        remedy="let decide refuse where rejection is positive, or correct rejection",
        figures={"faulty": float(count), "inputs": float(len(wrong))},
        samples=asked.concerned(wrong),
    )


def _usual(values: Tensor) -> float:
    """The median size of what is finite and not 0; 1 where nothing is."""
    sizes = values.detach().double().abs()
    sizes = sizes[sizes.isfinite() & (sizes > 0)]
    return float(sizes.median()) if len(sizes) else 1.0
