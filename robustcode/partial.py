"""What is intact of an unfinished or damaged run, and how much of it is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from robustcode import contract, salvage
from robustcode.answers import read_answers
from robustcode.certificates import read_certificates
from robustcode.errors import StoreError
from robustcode.intact import AGAIN, checked, file_hash, held, listed, outcome_of, read_json
from robustcode.records import read_records

NAMED = 3  # damaged files that are named before "and n more"


@dataclass(frozen=True)
class Gap:
    """What a run that was read in part lacks.

    Attributes:
        missing: samples without a verdict; None if it is not known how many were asked for.
        asked: samples that were asked for; None if that is not known.
        damaged: files that are missing, altered or hold something else than they should.
        reviewed: whether the findings at the end of the run were made.
    """

    missing: int | None
    asked: int | None
    damaged: tuple[str, ...] = ()
    reviewed: bool = True

    @property
    def said(self) -> str:
        """The missing samples in words, as in every caption.

        >>> Gap(96, 256).said, Gap(None, None).said
        ('96 of 256 samples are missing', 'an unknown number of samples is missing')
        """
        if self.missing is None:
            return "an unknown number of samples is missing"
        return (
            f"{self.missing} of {self.asked} samples {'is' if self.missing == 1 else 'are'} missing"
        )

    @property
    def sentences(self) -> str:
        """What a reader must know before believing the numbers."""
        said = f"{self.said[:1].upper()}{self.said[1:]}"
        if self.missing != 0:
            said += ": those that are there may be easier or harder than the rest"
        if not self.reviewed:
            said += ". The run has not come to its end, so what is checked there was not"
        if not self.damaged:
            return f"{said}."
        named = ", ".join(self.damaged[:NAMED])
        more = len(self.damaged) - NAMED
        named += f" and {more} more" if more > 0 else ""
        were = ("is", "was") if len(self.damaged) == 1 else ("are", "were")
        return f"{said}. {named} {were[0]} missing or damaged, and {were[1]} not read."


class Part(NamedTuple):
    """What a run that was read in part has; see the attributes of store.Run."""

    manifest: dict[str, Any]
    summary: dict[str, Any]
    findings: list[dict[str, Any]]
    gap: Gap | None


def in_part(path: Path, manifest: dict[str, Any], spec: dict[str, Any]) -> Part:
    """What is intact of a run; without a gap if all of it is.

    StoreError if there is nothing to make numbers from.
    """
    outcome: tuple[dict[str, Any], list[dict[str, Any]]] | None = None
    damaged: list[str] = []
    if manifest["status"] != "running":
        try:
            outcome = outcome_of(path, spec)
        except StoreError as cause:
            damaged.append("findings.json" if "findings.json" in str(cause) else "summary.json")
    kept: dict[str, Any] = {}
    for name, entry in manifest["shards"]["files"].items():
        spoilt = [file for file, sha in entry["sha256"].items() if not _intact(path, file, sha)]
        damaged += spoilt
        # A shard whose pictures alone are lost still has its verdicts.
        if all(file.startswith("adversarial/") for file in spoilt):
            intact = {f: sha for f, sha in entry["sha256"].items() if f not in spoilt}
            kept[name] = {**entry, "sha256": intact}
    there = {**manifest, "shards": {**manifest["shards"], "files": kept}}
    if outcome is not None and not damaged:
        return Part(there, *outcome, None)
    if spec.get("command") == "corrupt":
        raise StoreError(
            f"{path} is not whole, and a mean over corruptions is of all of them; run the same "
            "command again to go on"
        )
    diagnosis = _diagnosis(path, manifest, damaged)
    summary, asked = _recomputed(path, manifest, there, spec, diagnosis, outcome)
    missing = None if asked is None else asked - int(summary["samples"])
    findings = outcome[1] if outcome else list(diagnosis["findings"]) if diagnosis else []
    gap = Gap(missing, asked, tuple(damaged), reviewed=outcome is not None)
    return Part(there, summary, findings, gap)


def _recomputed(
    path: Path,
    manifest: Mapping[str, Any],
    there: Mapping[str, Any],
    spec: Mapping[str, Any],
    diagnosis: Mapping[str, Any] | None,
    outcome: tuple[dict[str, Any], list[dict[str, Any]]] | None,
) -> tuple[dict[str, Any], int | None]:
    """The summary of the shards that are ``there``, and how many samples were asked for."""
    proofs = spec.get("command") == "certify"
    read = read_certificates if proofs else read_records
    table = read(listed(path, there, "certificates/" if proofs else "records/"))
    if table.empty:
        raise StoreError(f"{path} has no intact shard; run the same command again to go on")
    count = int(table["sample"].nunique())
    asked = salvage.asked_of(spec, manifest, outcome[0] if outcome else None)
    if asked is not None and asked < count:
        raise StoreError(
            f"{path} has verdicts of {count} samples, and {asked} were asked for; {AGAIN}"
        )
    shape = contract.PROOF_COST if proofs else contract.COST
    for name, entry in there["shards"]["files"].items():
        held(path / "manifest.json", entry.get("cost"), shape, f"shards.files.{name}.cost")
    recompute = salvage.proofs_in_part if proofs else salvage.attacks_in_part
    return recompute(table, spec, there, diagnosis, outcome[0] if outcome else None), asked


def _diagnosis(
    path: Path, manifest: Mapping[str, Any], damaged: list[str]
) -> dict[str, Any] | None:
    """What the pilot found, if that is intact."""
    file = path / "diagnosis.json"
    try:
        if manifest.get("diagnosis") != file_hash(file):
            raise StoreError(f"{file} is missing or altered since it was written")
        return dict(held(file, read_json(file), contract.DIAGNOSIS))
    except (OSError, StoreError):
        damaged.append(file.name)
        return None


def _intact(path: Path, name: str, sha: str) -> bool:
    """Whether a file is as it was written, and holds what its folder says."""
    try:
        data = checked(path / name, sha)
        if name.startswith("records/"):
            read_records([(name, data)])
        elif name.startswith("certificates/"):
            read_certificates([(name, data)])
        elif name.startswith("corruptions/"):
            read_answers([(name, data)])
    except StoreError:
        return False
    return True
