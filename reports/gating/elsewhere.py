"""What a run of attacks says is certified, found again from the run of certificates behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from robustcode.bracket import bracket, certified_among
from robustcode.errors import ConfigError, StoreError
from robustcode.reports.source import Source
from robustcode.store import Run, load_run

# Both are computed from the same certificates.
ROUNDING = 1e-9
# What is told of the certificates, or decides whether a minimum is kept.
SAID = ("method", "subject", "threat", "samples", "alpha", "accuracy", "low")


def proved_elsewhere(source: Source, told: Mapping[str, Any]) -> dict[str, Any]:
    """The block ``certified`` of a run of attacks, of which ``told`` is what its summary says.

    ConfigError if the certificates are not there or are not of this run's defence, data and norm;
    StoreError if they say something else than the summary; ContractError if an attack of this run
    has broken what they prove.
    """
    proof = _certificates_of(source)
    bracket(proof, source.run)
    samples, threat = source.verdicts.index, source.fact("threat")
    found = certified_among(proof, samples, threat, source.eps or 0.0)
    if found is None:
        raise ConfigError(f"{proof.path} and {source.run.path} have no sample in common")
    if wrong := next((key for key in SAID if not _same(told.get(key), found[key])), None):
        raise StoreError(
            f"{source.run.path}/summary.json says {wrong} = {told.get(wrong)!r} of what is "
            f"certified and the certificates in {proof.path} say {found[wrong]!r}: one was "
            "altered; run the command again into another folder"
        )
    return found


def _certificates_of(source: Source) -> Run:
    path, named = source.run.path, source.run.spec.get("certified")
    if not named:
        raise ConfigError(
            f"{path} tells of certificates and not of the run that has them; gate that run itself"
        )
    try:
        proof = load_run(named)
        proof.check()
    except StoreError as cause:
        reason = str(cause).partition(";")[0]
        raise ConfigError(
            f"the certificates that {path} counts cannot be read again: {reason}; gate the run of "
            "`certify` itself"
        ) from cause
    return proof


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=0, abs_tol=ROUNDING)
    return bool(one == other)
