"""The run folder: written so that a crash at any moment loses at most the shard in work.

    RUN/
      spec.toml                the resolved spec; `robustcode run RUN/spec.toml` repeats the run
      manifest.json            schema, status, versions, hashes of inputs and of every shard
      diagnosis.json           tested facts and findings of the checks made before the attacks
      records/*.jsonl          one record a line
      adversarial/*.safetensors    worst proposal of every sample, and the samples it moved
      certificates/*.jsonl     one certificate a line
      corruptions/*.jsonl      one answer a line, a file for each corruption and severity
      certificates.tsv         the same in the columns of Cohen's logs
      findings.json  summary.json  written at the end

Every file is written under a temporary name, flushed, renamed, and only then listed with its
sha256 in the manifest. A file that is not listed, or whose hash differs, does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w
from filelock import FileLock, Timeout

from robustcode import certificates, contract, notebook, verdicts
from robustcode.answers import read_answers
from robustcode.certificates import read_certificates
from robustcode.errors import ConfigError, StoreError
from robustcode.intact import (
    AGAIN,
    SCHEMA,
    file_hash,
    held,
    listed,
    outcome_of,
    read_json,
    refuse_other_schema,
    there,
    why,
)
from robustcode.partial import Gap, in_part
from robustcode.records import read_records

# The status of a run that ended for lack of time, and what a shard of it says was over.
STOPPED = "stopped"
OUT_OF_TIME = "seconds"
# Inputs that folders of earlier versions do not tell: they count where both of two tell them.
LATER = frozenset({"module_code_sha256"})
# What a Python caller may pass instead of naming it, and the end of what a spec calls it then.
PASSABLE, PASSED = ("model", "data"), " (passed in)"
# What tells one module that was passed in from another.
DIFFERING = {"checkpoint_sha256": "the weights", "module_code_sha256": "the code or the settings"}
# What is there before the first shard.
WRITTEN_FIRST = ("manifest.json", "diagnosis.json", "spec.toml")
# What decides the numbers of a run, besides this package.
VERSIONED = ("robustcode", "torch", "numpy", "scipy", "scikit-learn", "pillow")


def write_atomic(path: Path, data: bytes) -> str:
    """Write under a temporary name, flush, rename; the sha256 of what was written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as cause:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
        raise StoreError(
            f"cannot write {path}: {cause.strerror or cause}; make room or choose another --out, "
            "and run the same command again: finished work is kept"
        ) from cause
    return hashlib.sha256(data).hexdigest()


def write_json(path: Path, value: object) -> str:
    """Write ``value`` atomically as JSON that people can read; its sha256."""
    return write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


class RunFolder:
    """A run folder being written, by one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest: dict[str, Any] = {}
        # Until a folder is opened it may be anybody's.
        self._new = False
        self._made = False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder; the lock is the operating system's, so a killed run leaves none.

        A request that is refused before its first shard leaves nothing behind.
        """
        lock = FileLock(self.path / ".lock")
        self._made = not self.path.exists()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            raise StoreError(
                f"{self.path} is in use by another robustcode process; wait for it or choose "
                "another --out"
            ) from None
        except OSError as cause:
            raise StoreError(
                f"cannot write to {self.path}: {cause.strerror or cause}; choose another --out"
            ) from cause
        try:
            yield
        except ConfigError as cause:
            # A disk that is full is no fault of the request.
            if not isinstance(cause, StoreError):
                self._withdraw()
            raise
        finally:
            lock.release()

    def _withdraw(self) -> None:
        """Remove what this request has written, if no shard of it is there."""
        if not self._new or self.manifest["shards"]["files"]:
            return
        for name in (*WRITTEN_FIRST, ".lock"):
            (self.path / name).unlink(missing_ok=True)
        if self._made and not any(self.path.iterdir()):
            self.path.rmdir()

    def open(
        self,
        request: Mapping[str, Any],
        inputs: Mapping[str, Any],
        told: Mapping[str, Any] | None = None,
    ) -> None:
        """Start a run or take up an interrupted one of the same request and the same inputs.

        What is ``told`` besides decides no number: an interrupted run keeps what it has of it.
        """
        found = self.path / "manifest.json"
        if not found.exists():
            self._refuse_foreign_files()
            self._new = True
            self.manifest = {
                "schema": SCHEMA,
                "status": "running",
                "request": dict(request),
                **inputs,
                **(told or {}),
                "versions": versions(),
                "git": git_state(),
                "diagnosis": None,
                "shards": {"expected": None, "done": 0, "files": {}},
            }
            return
        self.manifest = read_table(found)
        if self.manifest.get("schema") != SCHEMA:
            raise StoreError(
                f"{self.path} has schema {self.manifest.get('schema')!r}, this version writes "
                f"{SCHEMA}; choose another --out"
            )
        held(found, self.manifest, contract.MANIFEST)
        for what, mine in {"request": dict(request), **inputs}.items():
            if what in LATER and what not in self.manifest:
                continue
            theirs = self.manifest.get(what)
            if theirs == json.loads(json.dumps(mine)):
                continue
            differing = difference(what, theirs, mine)
            passed = [name for name in PASSABLE if str(request.get(name, "")).endswith(PASSED)]
            if "model" in passed and what in DIFFERING:
                raise StoreError(
                    f"{self.path} holds a run of another module: {DIFFERING[what]} of the one "
                    f"passed in differ ({what}); give another out or pass that module"
                )
            if passed:
                raise StoreError(
                    f"{self.path} holds a run of another spec: {differing}; give another out or "
                    "repeat that call"
                )
            raise StoreError(
                f"{self.path} holds a run of another spec: {differing}; choose another --out or "
                "repeat that command"
            )

    def write_spec(self, resolved: Mapping[str, Any]) -> None:
        """Write spec.toml."""
        write_atomic(self.path / "spec.toml", tomli_w.dumps(resolved).encode())

    def read_diagnosis(self) -> dict[str, Any] | None:
        """The stored diagnosis, or None if there is none whose hash is right."""
        path = self.path / "diagnosis.json"
        listed = self.manifest["diagnosis"]
        return read_json(path) if listed and listed == file_hash(path) else None

    def write_diagnosis(self, diagnosis: Mapping[str, Any]) -> None:
        """Keep the tested facts, so that a resumed run plans as the interrupted one did."""
        self.manifest["diagnosis"] = write_json(self.path / "diagnosis.json", diagnosis)
        self.save()

    def missing_shards(self, expected: int) -> list[int]:
        """Numbers of the shards that are not there, not as they were written, or not finished.

        A shard that was left for lack of time stays listed until it is done again.
        """
        for leftover in self.path.glob("**/.*.tmp"):  # of a run that was killed while writing
            leftover.unlink(missing_ok=True)
        self.manifest["shards"]["expected"] = expected
        files = self.manifest["shards"]["files"]
        for name, entry in list(files.items()):
            if any(file_hash(self.path / file) != sha for file, sha in entry["sha256"].items()):
                del files[name]
        done = [number for number in range(expected) if self._done(number)]
        if files and len(done) < expected:
            self._refuse_other_versions()
        self.manifest["shards"]["done"] = len(done)
        self.manifest["status"] = "running"
        self.save()
        return [number for number in range(expected) if number not in set(done)]

    def _done(self, number: int) -> bool:
        """Whether a shard is listed, and was not left for lack of time."""
        entry = self.manifest["shards"]["files"].get(shard_name(number))
        return entry is not None and entry.get("over") != OUT_OF_TIME

    def _refuse_other_versions(self) -> None:
        """A run must not be half one version's and half another's."""
        theirs, mine = self.manifest.get("versions"), versions()
        if theirs != mine:
            raise StoreError(
                f"{self.path} was begun with other versions: "
                f"{difference('versions', theirs, mine)}; go on with those, or choose another --out"
            )

    def list_shard(self, number: int, entry: Mapping[str, Any]) -> None:
        """List a shard whose files are on disk; from here on it counts."""
        shards = self.manifest["shards"]
        shards["files"][shard_name(number)] = dict(entry)
        shards["files"] = dict(sorted(shards["files"].items()))
        shards["done"] = sum(self._done(n) for n in range(shards["expected"]))
        self.save()

    def read_answers(self) -> pd.DataFrame:
        """Those of the shards that are listed; see answers.COLUMNS."""
        return read_answers(listed(self.path, self.manifest, "corruptions/"))

    def read_certificates(self) -> list[certificates.Certificate]:
        """Those of the shards that are listed."""
        return _certificates(self.path, self.manifest)

    def finish(self, findings: list[dict[str, Any]], summary: Mapping[str, Any]) -> None:
        """Write findings and summary, then mark the run complete, or stopped for lack of time."""
        write_json(self.path / "findings.json", findings)
        write_json(self.path / "summary.json", summary)
        shards = self.manifest["shards"]
        self.manifest["status"] = "complete" if shards["done"] == shards["expected"] else STOPPED
        self.save()

    def save(self) -> None:
        """Write the manifest."""
        write_json(self.path / "manifest.json", self.manifest)

    def _refuse_foreign_files(self) -> None:
        strangers = [p.name for p in self.path.iterdir() if p.name not in (*WRITTEN_FIRST, ".lock")]
        strangers = [name for name in strangers if not name.endswith(".tmp")]
        if strangers:
            raise StoreError(
                f"{self.path} is not a run folder and is not empty (it holds {strangers[0]!r}); "
                "choose another --out"
            )


@dataclass(frozen=True)
class Run:
    """A run, read from its folder; opening it loads neither torch nor the model.

    Attributes:
        path: the folder.
        spec: spec.toml.
        manifest: manifest.json; of a run that was read in part its intact shards only.
        summary: summary.json; of a run that was read in part recomputed from what is there.
        findings: findings.json; likewise those of the pilot.
        gap: what is not there, of a run that was read in part; None for a whole one.
    """

    path: Path
    spec: dict[str, Any]
    manifest: dict[str, Any]
    summary: dict[str, Any]
    findings: list[dict[str, Any]]
    gap: Gap | None = None

    @property
    def stopped(self) -> bool:
        """Whether the time limit ended it: the same command with more time finishes it."""
        return bool(self.manifest["status"] == STOPPED)

    @property
    def pilot_of(self) -> int | None:
        """How many samples it speaks of, if it only looked at a few to test an evaluation."""
        tested, looked = self.summary.get("tested"), self.summary.get("samples")
        if isinstance(tested, int) and isinstance(looked, int) and tested > looked:
            return tested
        return None

    @property
    def missing(self) -> int | None:
        """Samples without any verdict: 0 for a whole run, None if it is not known how many."""
        return 0 if self.gap is None else self.gap.missing

    @property
    def digest(self) -> str:
        """A name for all that its shards hold, wherever the folder lies."""
        files = self.manifest["shards"]["files"]
        held = json.dumps([entry["sha256"] for entry in files.values()], sort_keys=True)
        return hashlib.sha256(held.encode()).hexdigest()

    @property
    def adversarial(self) -> list[Path]:
        """The files of the worst proposals, as safetensors; see Outcome.pictures."""
        return [
            self.path / name
            for entry in self.manifest["shards"]["files"].values()
            for name in entry["sha256"]
            if name.startswith("adversarial/")
        ]

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row per (sample, attack): see records.COLUMNS. Empty for a run of certificates."""
        table = read_records(listed(self.path, self.manifest, "records/"))
        _refuse_other_records(self, table)
        return table

    @cached_property
    def certificates(self) -> pd.DataFrame:
        """One row per certificate: see certificates.COLUMNS. Empty for a run of attacks."""
        table = read_certificates(listed(self.path, self.manifest, "certificates/"))
        if self.spec.get("command") == "certify" and len(table) != self.summary["samples"]:
            raise StoreError(
                f"{self.path}: there are certificates of {len(table)} samples, summary.json says "
                f"{self.summary['samples']}; {AGAIN}"
            )
        return table

    @cached_property
    def answers(self) -> pd.DataFrame:
        """One row per (sample, corruption, severity): see answers.COLUMNS. Else empty."""
        return read_answers(listed(self.path, self.manifest, "corruptions/"))

    def check(self) -> None:
        """StoreError if a file of its numbers is not as it was written, or holds what it cannot.

        Pictures are looked at where they are shown.
        """
        _ = self.records, self.certificates, self.answers

    @cached_property
    def samples(self) -> pd.DataFrame:
        """One row per sample, with what came of it: see verdicts.SAMPLES."""
        block = self.summary.get("stochastic")
        draws = block["draws"] if block else None
        return verdicts.samples_of(self.records, self.certificates, draws)

    @cached_property
    def attacks(self) -> pd.DataFrame:
        """One row per attack, in the order they were run: see verdicts.ATTACKS."""
        return verdicts.attacks_of(self.summary["attacks"])

    def __repr__(self) -> str:
        return notebook.line_of(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return notebook.html_of(self)


def load_run(path: Path | str, partial: bool = False) -> Run:
    """A finished run from its folder; StoreError if it is missing, unfinished or altered.

    One that was stopped by its time limit is read as well: see Run.stopped. With ``partial`` an
    unfinished or damaged one is read as far as it is intact: see Run.gap.
    """
    path = Path(path)
    manifest = _manifest(path)
    if manifest["status"] == "running" and not partial:
        shards = manifest["shards"]
        raise StoreError(
            f"{path} is not finished ({shards.get('done')} of {shards.get('expected')} shards); "
            "run the same command again to go on, or read what is there with --partial"
        )
    spec = _spec(path)
    if partial:
        return Run(path, spec, *in_part(path, manifest, spec))
    summary, findings = outcome_of(path, spec)
    return Run(path, spec, manifest, summary, findings)


def folders_of(paths: Iterable[Path]) -> tuple[list[Path], list[str]]:
    """Run folders, those of a curve in place of its own, and the threats a curve has no run of."""
    folders, left = [], []
    for path in paths:
        file = path / "curve.json"
        if not there(file):
            folders.append(path)
            continue
        table = read_json(file)
        refuse_other_schema(file, table)
        if isinstance(table, dict) and not table.get("points"):
            raise StoreError(f"{path} is a curve without points; run its command again")
        held(file, table, contract.CURVE)
        folders += [path / point["run"] for point in table["points"]]
        begun = {point.get("threat") for point in table["points"]}
        left += [threat for threat in table.get("asked") or [] if threat not in begun]
    return folders, left


def _manifest(path: Path) -> dict[str, Any]:
    if not there(path):
        raise StoreError(f"{path} is not there; name the folder of a run")
    if not path.is_dir():
        raise StoreError(f"{path} is a file; name the folder of a run")
    if not there(path / "manifest.json"):
        if there(path / "curve.json"):
            runs = ", ".join(str(found.parent) for found in sorted(path.glob("*/manifest.json")))
            raise StoreError(
                f"{path} is the folder of a curve, which is several runs; name one of them: "
                f"{runs or 'none was begun'}"
            )
        raise StoreError(
            f"{path} is not a run folder: it has no manifest.json; name the --out of a run"
        )
    found = read_table(path / "manifest.json")
    refuse_other_schema(path / "manifest.json", found)
    return dict(held(path / "manifest.json", found, contract.MANIFEST))


def _spec(path: Path) -> dict[str, Any]:
    file = path / "spec.toml"
    try:
        spec = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as cause:
        raise StoreError(f"{file} cannot be read: {why(cause)}; {AGAIN}") from cause
    refuse_other_schema(file, spec)
    return dict(held(file, spec, contract.SPEC))


def _refuse_other_records(run: Run, records: pd.DataFrame) -> None:
    """StoreError if the records are not those that the summary is about."""
    told = [attack["name"] for attack in run.summary.get("attacks", [])]
    found = [] if records.empty else list(records["attack"].unique())
    if {*told} != {*found}:
        stranger = min({*told} ^ {*found})
        where = "summary.json and not in the records" if stranger in told else "the records only"
        raise StoreError(f"{run.path}: attack {stranger!r} is in {where}; {AGAIN}")
    if records.empty:
        return
    count, of = records["sample"].nunique(), run.summary["samples"]
    if count > of or (count < of and not run.stopped):
        raise StoreError(
            f"{run.path}: the records are of {count} samples, summary.json says {of}; {AGAIN}"
        )
    if (records["clean_correct"].dtype == bool) == bool(run.summary.get("stochastic")):
        raise StoreError(
            f"{run.path}: summary.json and the records differ in whether the defence is random; "
            f"{AGAIN}"
        )


def shard_name(number: int) -> str:
    """The name that a shard's files share."""
    return f"shard-{number:05d}"


def read_table(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; StoreError if it holds anything else."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise StoreError(f"{path} is no manifest: it holds a {type(value).__name__}; {AGAIN}")
    return value


def difference(path: str, theirs: Any, mine: Any) -> str:
    """The first place where two nested values differ, as ``path: theirs there, mine here``."""
    if isinstance(theirs, dict) and isinstance(mine, Mapping):
        for key in {**theirs, **mine}:
            if theirs.get(key) != json.loads(json.dumps(mine.get(key))):
                return difference(f"{path}.{key}", theirs.get(key), mine.get(key))
    return f"{path} is {theirs!r} there and {mine!r} here"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": sys.version.split()[0]}
    for package in VERSIONED:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def git_state() -> dict[str, Any] | None:
    """Commit of this package's checkout and whether it is dirty; None outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


def _certificates(path: Path, manifest: Mapping[str, Any]) -> list[certificates.Certificate]:
    rows = []
    for name, data in listed(path, manifest, "certificates/"):
        rows += certificates.from_lines(data, name)
    return rows
