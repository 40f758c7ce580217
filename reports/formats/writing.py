"""Files of a report in its folder: those of an earlier one there are replaced, nothing else is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from robustcode.errors import StoreError

# What names a folder that a report would spoil.
OTHERS = {"manifest.json": "a run", "curve.json": "a curve"}
# The file of a report that tells which others are its own, and by what it is known to be one.
INDEX = "report.json"
OURS = frozenset({"schema", "verdict", "files"})
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.[a-z]+")


def write(files: Mapping[str, bytes], out: Path) -> dict[str, Path]:
    """Write ``files`` by their names into ``out``; StoreError if it is no place for a report."""
    for name, what in OTHERS.items():
        if (out / name).exists():
            raise StoreError(
                f"{out} is the folder of {what}; a report goes into another, such as {out}/report"
            )
    earlier = _earlier(out)
    for name in sorted(set(files) - earlier):
        _refuse_foreign(out / name, files[name])
    for name in earlier - set(files):
        (out / name).unlink(missing_ok=True)
    # First: of what is written before an interrupt it is then known whose it is.
    ordered = sorted(files, key=lambda name: name != INDEX)
    written = {name: _write(out / name, files[name]) for name in ordered}
    return {name: written[name] for name in files}


def _refuse_foreign(path: Path, content: bytes) -> None:
    """StoreError for a file that no report made, such as the references of somebody's paper."""
    if path.is_file() and path.read_bytes() != content:
        raise StoreError(
            f"{path} is there already and is of no earlier report; move it or choose another --out"
        )


def _earlier(out: Path) -> set[str]:
    """The files that a report there says it consists of; none where no report is."""
    try:
        told = json.loads((out / INDEX).read_text())
        if not told.keys() >= OURS:
            return set()
        listed = [name for name in told["files"] if isinstance(name, str)]
    except (OSError, ValueError, TypeError, AttributeError):
        return set()
    return {INDEX, *filter(NAME.fullmatch, listed)}


def _write(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as cause:
        raise StoreError(
            f"cannot write {path}: {cause.strerror or cause}; make room or choose another --out"
        ) from cause
    return path
