"""Files of a report in its folder: those of an earlier one there are replaced, nothing else is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from robustcode.errors import StoreError

# What names a folder that a report would spoil.
OTHERS = {"manifest.json": "a run", "curve.json": "a curve"}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*\.[a-z]+")


def write(files: Mapping[str, bytes], out: Path) -> dict[str, Path]:
    """Write ``files`` by their names into ``out``; StoreError if it is no place for a report."""
    for name, what in OTHERS.items():
        if (out / name).exists():
            raise StoreError(
                f"{out} is the folder of {what}; a report goes into another, such as {out}/report"
            )
    for name in _earlier(out) - set(files):
        (out / name).unlink(missing_ok=True)
    return {name: _write(out / name, content) for name, content in files.items()}


def _earlier(out: Path) -> set[str]:
    """The files that a report there says it consists of."""
    try:
        listed = json.loads((out / "report.json").read_text())["files"]
        return {name for name in listed if NAME.fullmatch(name)}
    except (OSError, ValueError, TypeError, LookupError):
        return set()


def _write(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as cause:
        raise StoreError(
            f"cannot write {path}: {cause.strerror or cause}; make room or choose another --out"
        ) from cause
    return path
