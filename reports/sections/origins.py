"""What repeats a run."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.reports.table import Source, as_text

# Keys of the manifest, and what they are called; git is of the checkout that robustcode ran from.
FACTS = {
    "device": "device",
    "checkpoint_sha256": "checkpoint sha256",
    "data_sha256": "data sha256",
    "git": "robustcode's git",
    "versions": "versions",
    "schema": "schema",
}
SHOWN = 12  # files of a data set that are listed before "and n more"


@dataclass(frozen=True)
class Origin:
    """What repeats a run."""

    run: str
    facts: tuple[tuple[str, str], ...]
    spec: str


def origin_of(source: Source) -> Origin:
    """The spec of a run and what else decided its numbers."""
    manifest = source.run.manifest
    facts = [("seed", as_text(source.run.spec.get("seed")))]
    for name, called in FACTS.items():
        value = manifest.get(name)
        if isinstance(value, dict) and len(value) > SHOWN:
            kept = dict(list(value.items())[:SHOWN])
            text = f"{as_text(kept)} and {len(value) - SHOWN} more"
        else:
            text = as_text(value)
        facts.append((called, text))
    spec = (source.run.path / "spec.toml").read_text(errors="replace")
    return Origin(source.label, tuple((name, text) for name, text in facts if text), spec)
