"""What every registered method of certification promises, and that broken promises are seen."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import pytest
from torch import Tensor

from robustcode.certificates import Certificate, Status
from robustcode.components import Component, Scalar
from robustcode.errors import ContractError
from robustcode.methods import METHODS, Claim, Method, Prover
from robustcode.seeds import Streams
from robustcode.testing import Check, method_checks
from robustcode.threat import Norm

# Settings where the defaults are missing or take long; else these are tested.
SETTINGS: Mapping[str, Mapping[str, Scalar]] = {
    "smoothing": {"sigma": 0.1, "draws": 2000},
    "coded": {"draws": 32},
    "coded-noise": {"sigma": 0.1, "draws": 2000},
}


@pytest.mark.parametrize("check", method_checks(), ids=str)
@pytest.mark.parametrize("name", sorted(METHODS))
def test_contract(name: str, check: Check[Method]) -> None:
    check.run(Component(name, SETTINGS.get(name, {})).build(METHODS, "method"))


Change = Callable[[Certificate, Claim, Tensor], Certificate]


class _Changed(Prover):
    def __init__(self, honest: Prover, claim: Claim, change: Change) -> None:
        self._honest, self._claim, self._change = honest, claim, change

    def prove(
        self, x: Tensor, y: Tensor, streams: Streams, advance: Callable[[int], None]
    ) -> list[Certificate]:
        proofs = self._honest.prove(x, y, streams, advance)
        return [self._change(proof, self._claim, x) for proof in proofs]


@dataclasses.dataclass(frozen=True)
class _Lying(Method):
    """Crown, with each certificate changed."""

    norms: ClassVar[frozenset[Norm]] = frozenset(Norm)
    change: Change

    def prepare(self, claim: Claim) -> Prover:
        return _Changed(METHODS.get("crown")().prepare(claim), claim, self.change)


def _certify_all(proof: Certificate, claim: Claim, x: Tensor) -> Certificate:
    return dataclasses.replace(
        proof, status=Status.CERTIFIED, prediction=proof.label, radius=claim.radii[-1]
    )


def _by_the_batch(proof: Certificate, claim: Claim, x: Tensor) -> Certificate:
    return dataclasses.replace(proof, radius=proof.radius / len(x), status=Status.UNDECIDED)


def _move(proof: Certificate, claim: Claim, x: Tensor) -> Certificate:
    x.add_(1)
    return proof


LIES: Mapping[str, Change] = {
    "all certified": _certify_all,
    "by the batch": _by_the_batch,
    "another label": lambda proof, claim, x: dataclasses.replace(proof, label=proof.label + 1),
    "another status": lambda proof, claim, x: dataclasses.replace(proof, status=Status.WRONG),
    "inputs moved": _move,
    "alpha": lambda proof, claim, x: dataclasses.replace(proof, alpha=0.1),
    "free of cost": lambda proof, claim, x: dataclasses.replace(proof, forwards=0),
}


@pytest.mark.parametrize("lie", LIES)
def test_the_contract_sees_a_method_that_lies(lie: str) -> None:
    method = _Lying(LIES[lie])
    broken = 0
    for check in method_checks():
        try:
            check.run(method)
        except ContractError:
            broken += 1
    assert broken
