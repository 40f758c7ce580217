"""One shard of certificates: the method proves, what it claims is checked, and it is written."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from robustcode.certificates import Certificate, status_of, to_lines
from robustcode.config import CertifySpec
from robustcode.errors import ConfigError, ContractError
from robustcode.findings import Facts
from robustcode.methods import METHODS, Claim, Method, Prover
from robustcode.progress import Progress
from robustcode.seeds import Streams
from robustcode.shard import clocks, global_draws, written
from robustcode.store import shard_name
from robustcode.subject import Subject
from robustcode.target import answerable
from robustcode.workers import Job


@dataclass(frozen=True)
class Proving:
    """All that a shard is proved with; the same for every shard of a run.

    Attributes:
        subject: the defence and its samples.
        method: how is proved, and ``name`` what it is called with its settings.
        name: see there.
        claim: what is to be proved.
        prover: the method made ready for the claim.
    """

    subject: Subject
    method: Method
    name: str
    claim: Claim
    prover: Prover

    @property
    def spoken_of(self) -> str:
        """The defence that the proofs speak of, or nothing if it is the subject's own."""
        return self.method.subject(self.claim)


def refuse_detector(spec: CertifySpec, subject: Subject) -> None:
    """ConfigError for a defence that may refuse: that is known before anything is tested."""
    if subject.defense.detector:
        raise ConfigError(
            f"the defence {spec.defense.name!r} may refuse to decide, and no method here proves "
            "which inputs it refuses; attack it, or certify another defence"
        )


def make_proving(spec: CertifySpec, subject: Subject, facts: Facts) -> Proving:
    """Make the method ready, or refuse what can be known to be in vain."""
    method: Method = spec.method.build(METHODS, "method")
    if spec.threat.norm not in method.norms:
        raise ConfigError(
            f"method {spec.method.name!r} proves nothing in {spec.threat.norm}, only in "
            f"{', '.join(sorted(method.norms))}"
        )
    if facts.stochastic and not subject.defense.stochastic and not method.random:
        raise ConfigError(
            f"the model decides at random although nothing declares it, and method "
            f"{spec.method.name!r} proves one decision for certain; make it deterministic, or "
            "certify by --method smoothing"
        )
    claim = Claim(
        defense=subject.defense,
        threat=spec.threat,
        radii=spec.curve,
        classes=facts.classes,
        example=subject.images(subject.samples[:1]),
        adversary=subject.adversary,
        seed=spec.seed,
        rows=spec.batch_size,
    )
    return Proving(subject, method, str(spec.method), claim, method.prepare(claim))


def make_job(spec: CertifySpec, subject: Subject, facts: Facts) -> Job:
    """What is done with each shard."""
    return partial(prove_shard, make_proving(spec, subject, facts))


def prove_shard(
    proving: Proving,
    samples: Tensor,
    folder: Path,
    number: int,
    progress: Progress,
    deadline: float | None = None,
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Certify ``samples`` and write their file; the shard's entry for the manifest."""
    began = clocks()
    subject, claim = proving.subject, proving.claim
    x, y = subject.batch(samples)
    own = samples.to(subject.device)
    streams = Streams.of(claim.seed, "certify", own, subject.batches(own))
    left = len(samples)

    def advance(count: int) -> None:
        nonlocal left
        left -= count
        progress.proof(proving.name, left)

    advance(0)
    with global_draws(claim.seed, subject.device, int(samples[0])):
        with answerable(f"method {proving.name}"):
            proofs = proving.prover.prove(x, y, streams, advance)
        _check(proofs, proving, samples, y)
    progress.passes(sum(proof.forwards + proof.backwards for proof in proofs))
    file = folder / "certificates" / f"{shard_name(number)}.jsonl"
    return written(file, to_lines(proofs), len(samples), len(proofs), began)


def _check(proofs: list[Certificate], proving: Proving, samples: Tensor, y: Tensor) -> None:
    """ContractError unless the certificates are those of the samples, and say one thing each."""
    name, eps = proving.name, proving.claim.threat.eps
    if [proof.sample for proof in proofs] != samples.tolist():
        raise ContractError(f"method {name} did not give one certificate a sample, in order")
    for proof, label in zip(proofs, y.tolist(), strict=True):
        where = f"method {name}, sample {proof.sample}"
        if proof.label != label:
            raise ContractError(f"{where}: its label is {label}, not {proof.label}")
        status = status_of(proof.prediction, label, proof.radius, eps)
        if proof.status != status:
            raise ContractError(
                f"{where} is called {proof.status}, but with prediction {proof.prediction}, label "
                f"{label} and radius {proof.radius:g} at eps = {eps:g} it is {status}"
            )
        if proof.bound is not None and not math.isfinite(proof.bound):
            raise ContractError(f"{where}: bound = {proof.bound:g} says nothing; give None")
        if proof.alpha > 0 and not proving.method.random:
            raise ContractError(
                f"{where}: alpha = {proof.alpha:g}, but its proofs are declared certain"
            )
