"""What repeats a run."""

from __future__ import annotations

from dataclasses import dataclass

from robustcode.reports.source import Source, as_text
from robustcode.store import LATER, PASSABLE, PASSED

# Keys of the manifest with the sha256 of what went in, as far as a run has such things: every
# format that tells what a run is of tells all of them, and what they are called.
HASHES = {
    "checkpoint_sha256": "checkpoint sha256",
    "model_code_sha256": "model code sha256",
    "code_sha256": "components' code sha256",
    "defense_files_sha256": "defence's files sha256",
    "mates_sha256": "batch mates sha256",
    "corruption_files_sha256": "corruptions' files sha256",
    "module_code_sha256": "sha256 of the code passed in",
    "data_sha256": "data sha256",
}
# Likewise with what they ran on; git is of the checkout that robustcode ran from.
FACTS = {"device": "device", **HASHES, "git": "robustcode's git", "versions": "versions"}
# Without these it is not known what was evaluated: two runs that lack them are not the same.
NEEDED = ("checkpoint_sha256", "data_sha256")
CALLED = ("attack", "certify", "corrupt")  # which take what a Python caller passes
FOLDER = "runs/again"  # of a call that repeats a run
SHOWN = 12  # files of a data set that are listed before "and n more"


@dataclass(frozen=True)
class Origin:
    """What repeats a run."""

    run: str
    facts: tuple[tuple[str, str], ...]
    spec: str
    call: str = ""  # in Python, where no file can repeat it; see call_of


def origin_of(source: Source) -> Origin:
    """The spec of a run and what else decided its numbers."""
    facts = [("seed", as_text(source.run.spec.get("seed"))), *facts_of(source)]
    facts.append(("schema", as_text(source.run.manifest.get("schema"))))
    spec = (source.run.path / "spec.toml").read_text(errors="replace")
    told = tuple((name, text) for name, text in facts if text)
    return Origin(source.label, told, spec, call_of(source))


def call_of(source: Source) -> str:
    """The Python call that repeats a run of what was passed in; empty if a file repeats it.

    What was passed in has no name that a file could give.
    """
    asked = source.run.manifest.get("request")
    asked = asked if isinstance(asked, dict) else {}
    names = dict(zip(PASSABLE, ("model", "(images, labels)"), strict=True))
    passed = [name for name in names if str(asked.get(name, "")).endswith(PASSED)]
    if not passed or asked.get("command") not in CALLED:
        return ""
    first = [names[name] if name in passed else repr(asked.get(name)) for name in names]
    first += [repr(asked[name]) for name in ("threat",) if name in asked]
    first += [repr(as_text(asked[name])) for name in ("method",) if name in asked]
    further = [
        f"{name}={_written(value)}"
        for name, value in asked.items()
        if name not in ("schema", "command", "model", "data", "threat", "method")
    ]
    arguments = ", ".join([*first, repr(FOLDER), *further])
    return f"robustcode.{asked['command']}({arguments})"


def _written(value: object) -> str:
    """A value of a request as an argument: components as the command line writes them."""
    if isinstance(value, dict):
        return repr(as_text(value))
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return repr(value)


def same_inputs(one: Source, other: Source) -> bool:
    """Whether two runs are known to be of the same weights, code, files and data.

    Each names the code of its own attacks too: of components what both name must be the same. The
    clean images that a defence draws mates from hang on the samples and are not compared.
    """
    first, second = one.run.manifest, other.run.manifest
    if not all(manifest.get(name) for manifest in (first, second) for name in NEEDED):
        return False
    codes = [manifest.get("code_sha256") or {} for manifest in (first, second)]
    shared = set(codes[0]) & set(codes[1])
    both = [name for name in LATER if name in first and name in second]
    whole = (*NEEDED, *both, "model_code_sha256", "defense_files_sha256")
    return all(first.get(name) == second.get(name) for name in whole) and all(
        codes[0][name] == codes[1][name] for name in shared
    )


def facts_of(source: Source) -> list[tuple[str, str]]:
    """Each of FACTS that a run has, by what it is called, as text; of many files the first few."""
    told = []
    for name, called in FACTS.items():
        value, more = source.run.manifest.get(name), ""
        if isinstance(value, dict) and len(value) > SHOWN:
            more = f" and {len(value) - SHOWN} more"
            value = dict(list(value.items())[:SHOWN])
        if text := as_text(value):
            told.append((called, f"{text}{more}"))
    return told
