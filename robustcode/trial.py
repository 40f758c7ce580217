"""An attack run's trial, the same in every process."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from robustcode.attacks.warm import Warm
from robustcode.bracket import NO_PROOFS, Proofs, proofs_for
from robustcode.components import Component, settings_of
from robustcode.config import RunSpec
from robustcode.defenses.wrapper import inside
from robustcode.errors import ConfigError
from robustcode.findings import Facts
from robustcode.plan import PlannedAttack, resolve
from robustcode.shard import Trial, run_shard
from robustcode.store import load_run
from robustcode.subject import Subject, as_tested, inputs_of
from robustcode.workers import Job

# Ascent steps from the proposals of an earlier run, where other attacks follow. They are there to
# break cheaply what is near: with 20 steps a curve of 4 eps cost more passes than separate runs
# (cifar_cnn_a_adv, 256 samples, suite quick: 119,299 and 118,895), with these 111,844.
WARM_STEPS = 3
WARM_STEP = 0.4
# Draws of a stochastic defence averaged per step, as in the suite `quick`.
WARM_DRAWS = 4


def make_trial(spec: RunSpec, subject: Subject, facts: Facts) -> Trial:
    """All that a shard is tried with: it follows from the spec and the tested facts."""
    proofs = _proofs(spec, subject)
    return Trial(
        subject=subject,
        facts=facts,
        attacks=_planned(spec, facts),
        threat=spec.threat,
        draws=spec.draws,
        seed=spec.seed,
        # A sample that is broken is still a batch mate of the others; whoever asks is told so.
        cascade=spec.cascaded and not subject.adversary.batched,
        max_passes=spec.max_passes,
        proved=frozenset(spec.proved) | (proofs.certain if spec.skip_certified else frozenset()),
        proofs=proofs,
    )


def make_job(spec: RunSpec, subject: Subject, facts: Facts) -> Job:
    """What is done with each shard."""
    return partial(run_shard, make_trial(spec, as_tested(subject, facts), facts))


def _proofs(spec: RunSpec, subject: Subject) -> Proofs:
    """What certificates prove of the attacked samples."""
    if spec.certified is None:
        return NO_PROOFS
    defense = Component(spec.defense.name, settings_of(inside(subject.defense)))
    inputs = inputs_of(spec, subject)
    proofs = proofs_for(
        load_run(spec.certified),
        str(spec.threat),
        defense,
        spec.adversary.name,
        spec.to_dict(),
        inputs,
        "what is attacked",
    )
    if spec.skip_certified and len(proofs.certain) < len(proofs.by_sample):
        raise ConfigError(
            f"the certificates of {spec.certified} hold up to a chance of error, and of decisions "
            "that are random: an attack on a certified sample is not in vain; leave out "
            "skip_certified"
        )
    return proofs


def _planned(spec: RunSpec, facts: Facts) -> list[PlannedAttack]:
    """The attacks, after the one that goes on from an earlier run if the spec names it."""
    attacks = resolve(spec, facts)
    if spec.warm is None:
        return attacks
    draws = WARM_DRAWS if facts.stochastic else 1
    # Whole, so that the run's own spec works from every folder.
    earlier = str(Path(spec.warm).resolve())
    warm = Warm(run=earlier, steps=WARM_STEPS, step=WARM_STEP, draws=draws)
    first = PlannedAttack("warm", warm)
    if any(planned.name == first.name for planned in attacks):
        raise ConfigError(
            f"warm = {spec.warm!r} puts the attack 'warm' first, and the attacks have one of their "
            "own; leave out one of the two"
        )
    return [first, *attacks]
