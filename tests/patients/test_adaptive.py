"""What falls to somebody who has read the code falls to `--suite adaptive` with no setting."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode.config import describe
from robustcode.defenses.as_found import Among
from robustcode.findings import Facts
from robustcode.seeds import Streams
from robustcode.subject import Given, as_tested, assemble
from robustcode.testing.patients import PATIENTS
from robustcode.testing.patients.mates import NearestMates


class Measured(Protocol):
    """See conftest.Measured."""

    @property
    def samples(self) -> tuple[int, ...]: ...
    @property
    def by_hand(self) -> float: ...


# Of a random patient's accuracy; as many as the attack by hand is judged by.
DRAWS = 50
# Two points, and what the means of as many draws differ by.
AS_GOOD = 0.02
# Of the attack by hand on one of them.
STEPS = 40
BREAKABLE = [name for name, patient in PATIENTS.items() if patient.breakable]
# One whose own loss is repaired, one whose gradient is, one that forgets and one that refuses.
QUICK = ("scaled_logits", "thermometer", "growing_exemplars", "SureOrSilent")


def others_long() -> list[Any]:
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.long) for name in BREAKABLE
    ]


def beside_clean_images(samples: tuple[int, ...]) -> float:
    """What is left of ``nearest_mates`` where the others in a batch are clean, as it is evaluated.

    By hand: towards every class that a mate is of, and nearer to a mate of that class than to the
    second one of its own, since two of the three that vote must be for it.
    """
    patient = PATIENTS["nearest_mates"]
    spec = describe(**patient.spec, suite="adaptive", indices=samples)
    coupled = Facts(stochastic=False, differentiable=True, batch_coupled=True, classes=10)
    subject = as_tested(assemble(spec, Given()), coupled)
    assert isinstance(subject.defense, Among)
    eps = spec.threat.eps
    (patient_model,) = (m for m in subject.defense.model.modules() if isinstance(m, NearestMates))
    inner = patient_model.model
    left = 0
    for sample in samples:
        x, y = subject.batch(torch.tensor([sample]))
        mates = subject.defense.mates[subject.defense.beside(sample)]
        classes = inner(mates).argmax(1)
        streams = Streams.of(0, "by hand", torch.tensor([sample]))
        goals = map(int, classes[classes != y].unique())
        tries = product((0.0, 1.0, 3.0, 10.0), goals)
        left += all(
            subject.defense.decide(
                _towards(inner, x, int(y), goal, mates, classes, eps, weight), streams
            )
            == y
            for weight, goal in tries
        )
    return left / len(samples)


def _towards(
    inner: nn.Module,
    x: Tensor,
    own: int,
    goal: int,
    mates: Tensor,
    classes: Tensor,
    eps: float,
    weight: float,
) -> Tensor:
    x_adv = x
    for _ in range(STEPS):
        leaf = x_adv.clone().requires_grad_()
        distance = (leaf - mates).flatten(1).norm(dim=1)
        owns = distance[classes == own].sort().values
        ahead = owns[min(1, len(owns) - 1)] if len(owns) else distance.amax()
        scores = inner(leaf)[0]
        lead = (scores[own] - scores[goal]).clamp(min=-1)
        loss = lead + weight * (distance[classes == goal].amin() - ahead).clamp(min=-0.05)
        (gradient,) = torch.autograd.grad(loss, leaf)
        x_adv = torch.minimum(torch.maximum(x_adv - eps / 10 * gradient.sign(), x - eps), x + eps)
        x_adv = x_adv.clamp(0, 1)
    return x_adv


@pytest.mark.parametrize("name", others_long())
def test_no_more_is_left_than_by_hand(
    name: str, measured: Callable[[str], Measured], tmp_path: Path
) -> None:
    found = measured(name)
    run = robustcode.attack(
        **PATIENTS[name].spec,
        out=tmp_path / "run",
        suite="adaptive",
        indices=list(found.samples),
        draws=DRAWS,
        progress=False,
    )
    # Undeclared mates are clean images where it is evaluated, and the batch itself where by hand.
    by_hand = beside_clean_images(found.samples) if name == "nearest_mates" else found.by_hand
    assert run.summary["robust"]["accuracy"] <= by_hand + AS_GOOD
