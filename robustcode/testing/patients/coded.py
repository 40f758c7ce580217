"""Coded inference, attacked by the gradient of its whole batch."""

from __future__ import annotations

from robustcode.testing.patients.base import Patient

PATIENTS = (
    Patient(
        name="coded_joint_gradient",
        says="its gradient is that of the whole batch, where mates that are wrong drown the others",
        source="coded smoothing, Moradi et al. 2025, arXiv:2510.00253v1; see adversary.Batch",
        caught_by=("cross-gradient",),
        settings={"defense": "coded-smoothing:k=16", "adversary": "batch:gradient=joint"},
        stochastic=True,
        coupled=True,
    ),
)
