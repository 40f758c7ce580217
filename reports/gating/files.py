"""The files that a build takes from a gate: JUnit XML, SARIF, and a model card."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from robustcode.errors import ConfigError, StoreError
from robustcode.reports.gating.cards import put
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.gating.junit import junit as junit_of
from robustcode.reports.gating.sarif import sarif as sarif_of


def write_files(
    verdict: Verdict,
    *,
    junit: Path | None = None,
    sarif: Path | None = None,
    model_card: Path | None = None,
    url: str = "",
) -> tuple[Path, ...]:
    """Write those that are named, whether or not the gate holds; all are made before one is.

    The card of a run that fails says so. Returns the files.
    """
    named = [file for file in (junit, sarif, model_card) if file]
    if len({file.resolve() for file in named}) < len(named):
        raise ConfigError(f"two files are to be written to {named[0]}; give each a name of its own")
    for file in named:
        if file.is_dir():
            raise StoreError(f"cannot write {file}: it is a folder; name a file in it")
    files: dict[Path, bytes] = {}
    if junit:
        files[junit] = junit_of(verdict.run, verdict)
    if sarif:
        files[sarif] = sarif_of(verdict.run, verdict)
    if model_card:
        files[model_card] = put(verdict.run, model_card, url, verdict).encode()
    for file, content in files.items():
        _write(file, content)
    return tuple(files)


def _write(file: Path, content: bytes) -> None:
    """Write the whole file or leave it as it was: a model card is somebody's work."""
    place = file.resolve()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        if file.exists() and not file.is_file():  # a pipe or a terminal; a folder is refused
            file.write_bytes(content)
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        if place.exists():
            shutil.copymode(place, temporary)
        temporary.replace(place)
    except OSError as cause:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {file}: {cause.strerror or cause}; make room or name another file"
        ) from cause
