"""The files that a build takes from a gate: JUnit XML, SARIF, and a model card."""

from __future__ import annotations

from pathlib import Path

from robustcode.errors import StoreError
from robustcode.reports.cards import put
from robustcode.reports.gate import Verdict
from robustcode.reports.junit import junit as junit_of
from robustcode.reports.sarif import sarif as sarif_of


def write_files(
    verdict: Verdict,
    *,
    junit: Path | None = None,
    sarif: Path | None = None,
    model_card: Path | None = None,
    url: str = "",
) -> None:
    """Write those that are named, whether or not the gate holds; all are made before one is."""
    files: dict[Path, bytes] = {}
    if junit:
        files[junit] = junit_of(verdict.run, verdict)
    if sarif:
        files[sarif] = sarif_of(verdict.run, verdict)
    if model_card:
        files[model_card] = put(verdict.run, model_card, url).encode()
    for file, content in files.items():
        _write(file, content)


def _write(file: Path, content: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    except OSError as cause:
        raise StoreError(
            f"cannot write {file}: {cause.strerror or cause}; make room or name another file"
        ) from cause
