"""Patients: defences that look robust and are not, for a doctor to be tried on.

Each is one known way to fake robustness, around the shipped digits classifier, with its accuracy
without attack nearly kept. A patient is named like any code of a user's::

    --model robustcode.testing.patients:saturated_softmax --data digits
    --model digits_cnn --data digits --defense robustcode.testing.patients:SureOrSilent

None is registered: nobody is offered one by mistake.
"""

from robustcode.testing.patients import (
    activations,
    batch_norm,
    coded,
    detector,
    distances,
    gradients,
    inputs,
    mates,
    memory,
    optimised,
    randomness,
    scores,
)
from robustcode.testing.patients.activations import sign_activation, winners_take_all
from robustcode.testing.patients.base import THREAT, Patient
from robustcode.testing.patients.batch_norm import batch_norm_in_training
from robustcode.testing.patients.detector import SureOrSilent
from robustcode.testing.patients.distances import kernel_scores
from robustcode.testing.patients.gradients import clipped_gradient, detached_input
from robustcode.testing.patients.inputs import JPEGWithoutSurrogate, quantised, thermometer
from robustcode.testing.patients.mates import nearest_mates, rows_before
from robustcode.testing.patients.memory import cached_answers, growing_exemplars
from robustcode.testing.patients.optimised import purified
from robustcode.testing.patients.randomness import barrage, noisy_input, random_resize
from robustcode.testing.patients.scores import saturated_softmax, scaled_logits

__all__ = [
    "PATIENTS",
    "THREAT",
    "JPEGWithoutSurrogate",
    "Patient",
    "SureOrSilent",
    "barrage",
    "batch_norm_in_training",
    "cached_answers",
    "clipped_gradient",
    "detached_input",
    "growing_exemplars",
    "kernel_scores",
    "nearest_mates",
    "noisy_input",
    "purified",
    "quantised",
    "random_resize",
    "rows_before",
    "saturated_softmax",
    "scaled_logits",
    "sign_activation",
    "thermometer",
    "winners_take_all",
]

PATIENTS: dict[str, Patient] = {
    patient.name: patient
    for module in (
        scores,
        inputs,
        activations,
        gradients,
        randomness,
        detector,
        optimised,
        batch_norm,
        mates,
        coded,
        distances,
        memory,
    )
    for patient in module.PATIENTS
}
"""All patients by name."""
