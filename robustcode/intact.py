"""Files of a run folder, held to what was written and to what they must hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from robustcode import contract
from robustcode.contract import Shape
from robustcode.errors import StoreError
from robustcode.lines import loads, shown

SCHEMA = 1
# What is to be done about a file that is not what it should be.
AGAIN = "run the command again into another folder"
# The same of a file that is made from others, so that what it says can be found again from those.
OR_PARTIAL = f"{AGAIN}, or report what is intact with `report --partial`"


def there(path: Path) -> bool:
    """Whether a path is there; StoreError if nobody may look."""
    try:
        return path.exists()
    except OSError as cause:
        raise StoreError(
            f"{path} cannot be read: {cause.strerror or cause}; name a folder that you may read"
        ) from cause


def file_hash(path: Path) -> str | None:
    """The sha256 of a file, or None if it is not there."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def read_json(path: Path, remedy: str = AGAIN) -> Any:
    """A JSON file; StoreError if it is missing or damaged."""
    try:
        return loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise StoreError(f"{path} cannot be read: {why(cause)}; {remedy}") from cause


def why(cause: Exception) -> str:
    """What went wrong with a file whose name is said already."""
    return (isinstance(cause, OSError) and cause.strerror) or str(cause)


def held(file: Path, value: Any, shape: Shape, at: str = "") -> Any:
    """A value of a file, if it is of a shape."""
    wrong = next(shape(value, at), None)
    if wrong is not None:
        raise StoreError(f"{file}: {wrong}; {AGAIN}")
    return value


def refuse_other_schema(file: Path, value: Any) -> None:
    """StoreError for a file of another version of the contract."""
    if isinstance(value, dict) and value.get("schema", SCHEMA) != SCHEMA:
        raise StoreError(
            f"{file} has schema {shown(value['schema'])}; this version reads {SCHEMA}: report it "
            "with the version that wrote it"
        )


def outcome_of(path: Path, spec: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The summary and the findings, held to their contract."""
    file = path / "summary.json"
    summary = read_json(file, OR_PARTIAL)
    refuse_other_schema(file, summary)
    held(file, summary, contract.SUMMARY)
    if spec.get("command") == "certify":
        held(file, summary.get("certified"), contract.PROVED, "certified")
    if spec.get("command") == "corrupt":
        held(file, summary, contract.CORRUPTED)
    names = [attack["name"] for attack in summary["attacks"]]
    if len({*names}) < len(names):
        raise StoreError(f"{file}: an attack is there twice; {AGAIN}")
    findings = read_json(path / "findings.json", OR_PARTIAL)
    return summary, held(path / "findings.json", findings, contract.FINDINGS)


def listed(path: Path, manifest: Mapping[str, Any], folder: str) -> Iterator[tuple[str, bytes]]:
    """Path and content of each file in a folder of the run, as it was written."""
    for entry in manifest["shards"]["files"].values():
        for name, sha in entry["sha256"].items():
            if name.startswith(folder):
                yield str(path / name), checked(path / name, sha)


def checked(path: Path, sha: str) -> bytes:
    """The content of a file that is as it was written."""
    try:
        data = path.read_bytes()
    except OSError:
        data = None
    if data is None or hashlib.sha256(data).hexdigest() != sha:
        raise StoreError(
            f"{path} is missing or altered since it was written; run the same command again to "
            "redo that shard, or read what is intact with --partial"
        )
    return data
