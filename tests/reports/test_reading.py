"""Run folders that are unfinished, damaged or of another make: a sentence, or what is intact."""

import dataclasses
import hashlib
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tomli_w

import robustcode
from robustcode.certificates import Certificate, Status, read_certificates
from robustcode.certificates import from_lines as proofs_from_lines
from robustcode.certificates import table_of as table_of_proofs
from robustcode.certificates import to_lines as proofs_to_lines
from robustcode.certified import summarise_proofs
from robustcode.cli import app, call
from robustcode.errors import RobustcodeError, StoreError
from robustcode.records import Record, from_lines, read_records, table_of, to_lines
from robustcode.reports import report
from robustcode.reports.compose import compose
from robustcode.statistics import proportion
from robustcode.store import folders_of, load_run
from robustcode.summary import summarise

SHARD = 3
COST = {"seconds": 0.5, "cpu_seconds": 0.4, "peak_memory_mb": 100.0}
FACTS = {"stochastic": False, "differentiable": True, "batch_coupled": False, "classes": 3}
FINDING = {
    "code": "noise-as-strong",
    "severity": "warning",
    "what": "noise did as much as the attack",
    "remedy": "use a stronger attack",
    "figures": {"noise": 0.5, "attack": 0.5},
    "samples": [0, 2],
}
LOOKED = {
    "code": "noise-as-strong",
    "group": "attack",
    "status": "warning",
    "said": "noise did as much",
    "forwards": 3,
    "backwards": 0,
}
# What a careless program may put in place of any value.
STRANGE: list[Any] = [
    *(None, True, False, -1, 0, 1, 7, 0.5, -0.25, 1.5, 1e308, 10**400, math.nan, math.inf),
    *("", "x", "5", "\ud800", "../../x", [], {}, [1], {"x": 1}, [[1]], [None], "linf:-1", 2**63),
]


def records_of(shard: int, draws: int | None) -> list[Record]:
    """Three samples under noise and PGD: one held, one broken, one wrong to begin with."""
    rows = []
    for place in range(SHARD):
        clean = place != 2
        for attack in ("noise", "pgd"):
            right = clean and (attack == "noise" or place == 0)
            of = draws or 1
            votes = (of, 0, 0) if right else (1, of - 1, 0)
            clean_votes = (of, 0, 0) if clean else (0, of, 0)
            rows.append(
                Record(
                    sample=shard * SHARD + place,
                    label=0,
                    clean=0 if clean else 1,
                    attack=attack,
                    prediction=0 if right else 1,
                    correct=right if draws is None else votes[0] / of,
                    votes=None if draws is None else votes,
                    choosing=None if draws is None else votes[0] / of,
                    clean_correct=clean if draws is None else clean_votes[0] / of,
                    clean_votes=None if draws is None else clean_votes,
                    selected=attack == "pgd" and place == 1,
                    distance=0.1 if clean else 0.0,
                    forwards=21,
                    backwards=20,
                    seed=0,
                )
            )
    return rows


def attack_run(folder: Path, shards: int = 2, draws: int | None = None) -> Path:
    """A finished run of attacks, as the engine writes one."""
    parts = {f"shard-{n:05d}": records_of(n, draws) for n in range(shards)}
    cost = {**COST, "judge_forwards": 3, "attack_seconds": {"noise": 0.1, "pgd": 0.2}}
    files = {
        name: {
            "sha256": {
                f"{kind}/{name}.{end}": _write(folder / f"{kind}/{name}.{end}", data)
                for kind, end, data in (
                    ("adversarial", "safetensors", _tensors()),
                    ("records", "jsonl", to_lines(rows)),
                )
            },
            "samples": SHARD,
            "over": None,
            "verdicts": len(rows),
            "cost": cost,
        }
        for name, rows in parts.items()
    }
    summary = summarise(
        table_of([row for rows in parts.values() for row in rows]),
        [
            {"name": "noise", "settings": {"tries": 10}, "control": True},
            {"name": "pgd", "settings": {"steps": 20}, "control": False},
        ],
        draws,
        list(files.values()),
    )
    attacks = [{"name": "noise", "tries": 10}, {"name": "pgd", "steps": 20}]
    spec = {"schema": 1, "command": "attack", "attacks": attacks, "draws": draws or 100}
    return _finish(folder, spec, files, summary, {**FACTS, "stochastic": draws is not None})


def proof_run(folder: Path, shards: int = 2) -> Path:
    """A finished run of certificates."""
    parts = {
        f"shard-{n:05d}": [
            Certificate(
                sample=n * SHARD + place,
                label=0,
                prediction=None if place == 2 else 0,
                status=[Status.CERTIFIED, Status.UNDECIDED, Status.ABSTAINED][place],
                radius=[0.1, 0.0, 0.0][place],
                forwards=5,
            )
            for place in range(SHARD)
        ]
        for n in range(shards)
    }
    files = {
        name: {
            "sha256": {
                f"certificates/{name}.jsonl": _write(
                    folder / f"certificates/{name}.jsonl", proofs_to_lines(rows)
                )
            },
            "samples": SHARD,
            "over": None,
            "verdicts": len(rows),
            "cost": COST,
        }
        for name, rows in parts.items()
    }
    summary = summarise_proofs(
        table_of_proofs([row for rows in parts.values() for row in rows]),
        list(files.values()),
        method="crown",
        subject="identity",
        threat="linf:0.1",
        eps=0.1,
        radii=[0.05, 0.1],
    )
    spec = {"schema": 1, "command": "certify", "method": {"name": "crown"}, "radii": [0.05]}
    return _finish(folder, spec, files, summary, FACTS)


def curve_run(folder: Path) -> Path:
    """Two runs of attacks under ascending eps, as one curve."""
    points = []
    for place, threat in enumerate(("linf:0.05", "linf:0.1")):
        run = attack_run(folder / f"eps-{place:02d}")
        for name in ("spec.toml", "summary.json"):
            text = (run / name).read_text().replace("linf:0.1", threat)
            (run / name).write_text(text)
        points.append({"eps": 0.05 * (place + 1), "threat": threat, "run": run.name})
    asked = [point["threat"] for point in points]
    content = {"schema": 1, "stopped": False, "asked": asked, "points": points}
    (folder / "curve.json").write_text(json.dumps(content))
    return folder


def _finish(
    folder: Path,
    spec: dict[str, Any],
    files: dict[str, Any],
    summary: dict[str, Any],
    facts: dict[str, Any],
) -> Path:
    samples = SHARD * len(files)
    asked = {
        **{"model": "digits_cnn", "data": "digits", "threat": "linf:0.1", "samples": samples},
        **{"seed": 0, "defense": {"name": "identity"}, "adversary": {"name": "solo"}, **spec},
    }
    short = {key: FINDING[key] for key in ("code", "severity", "what", "remedy")}
    figures = {"eps": [[0.0, 1.0], [0.1, 0.5], [1.0, 0.0]], "samples": 3, "loss": [0.1, 0.4, 0.9]}
    pilot = {"checks": [LOOKED], "repairs": [], "figures": figures}
    labels = {
        **{"model": "digits_cnn", "checkpoint": "", "defense": "identity", "data": "digits"},
        **{"threat": "linf:0.1", "adversary": "solo", "suite": "", "tested": None, "next": None},
    }
    named = {**summary, "findings": [short], **pilot, **labels}
    diagnosis = {
        **{"facts": facts, "findings": [FINDING], **pilot, "forwards": 9, "backwards": 9},
        **{"seconds": 0.1, "cpu_seconds": 0.1},
    }
    manifest = {
        "schema": 1,
        "status": "complete",
        "request": asked,
        "versions": {"python": "3.11.7"},
        "checkpoint_sha256": "c" * 64,
        "data_sha256": {"digits": "d" * 64},
        "diagnosis": _write(folder / "diagnosis.json", json.dumps(diagnosis).encode()),
        "shards": {"expected": len(files), "done": len(files), "files": files},
    }
    _write(folder / "spec.toml", tomli_w.dumps(asked).encode())
    _write(folder / "manifest.json", json.dumps(manifest).encode())
    _write(folder / "summary.json", json.dumps(named).encode())
    _write(folder / "findings.json", json.dumps([FINDING]).encode())
    return folder


def _tensors() -> bytes:
    header = b'{"x_adv":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    return len(header).to_bytes(8, "little") + header + b"\0"


def _write(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def set_right(run: Path) -> None:
    """List the hashes of the files as they are now, so that only their content is wrong."""
    file = run / "manifest.json"
    try:
        manifest = json.loads(file.read_text())
        for entry in manifest["shards"]["files"].values():
            for name in entry["sha256"]:
                if (run / name).is_file():
                    data = (run / name).read_bytes()
                    entry["sha256"][name] = hashlib.sha256(data).hexdigest()
        if (run / "diagnosis.json").is_file():
            diagnosis = (run / "diagnosis.json").read_bytes()
            manifest["diagnosis"] = hashlib.sha256(diagnosis).hexdigest()
    except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError):
        return  # it is the manifest that was spoilt
    file.write_text(json.dumps(manifest))


def spoil(folder: Path, chance: random.Random) -> str:
    """Damage one file or one value of a folder; what was done, in words."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = chance.choice(files)
    if path.suffix == ".safetensors" or chance.random() < 0.25:
        how = chance.choice(list(FILE_FAULTS))
        FILE_FAULTS[how](path, chance)
        said = f"{path.name}: {how}"
    else:
        said = f"{path.name}: {_spoil_value(path, chance)}"
    if chance.random() < 0.8:
        for manifest in folder.rglob("manifest.json"):
            set_right(manifest.parent)
        said += ", hashes made right"
    return said


def _cut(path: Path, chance: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(len(data))])


def _flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _folder_instead(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _elsewhere(path: Path, chance: random.Random) -> None:
    others = [other for other in sorted(path.parent.iterdir()) if other.is_file()]
    shutil.copy(chance.choice(others), path.with_name("copy"))
    path.with_name("copy").replace(path)


FILE_FAULTS: dict[str, Callable[[Path, random.Random], Any]] = {
    "missing": lambda path, _: path.unlink(),
    "empty": lambda path, _: path.write_bytes(b""),
    "truncated": _cut,
    "a bit flipped": _flip,
    "no text": lambda path, _: path.write_bytes(b"\xff\xfe\x00{"),
    "a folder": _folder_instead,
    "null": lambda path, _: path.write_bytes(b"null"),
    "a list": lambda path, _: path.write_bytes(b"[]"),
    "an object": lambda path, _: path.write_bytes(b"{}"),
    "deep": lambda path, _: path.write_bytes(b"[" * 100_000),
    "another file": _elsewhere,
}


def _spoil_value(path: Path, chance: random.Random) -> str:
    """Put something strange in place of one value in a file, or leave one out."""
    text = path.read_text()
    if path.suffix == ".jsonl":
        lines = text.splitlines()
        place = chance.randrange(len(lines))
        how = chance.choice(["value", "value", "value", "twice", "gone"])
        if how == "value":
            row = json.loads(lines[place])
            how = _strange(row, chance)
            lines[place] = json.dumps(row)
        elif how == "twice":
            lines.append(lines[place])
        else:
            del lines[place]
        path.write_text("".join(f"{line}\n" for line in lines))
        return f"line {place + 1}: {how}"
    value = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    how = _strange(value, chance)
    try:
        path.write_text(tomli_w.dumps(value) if path.suffix == ".toml" else json.dumps(value))
    except (TypeError, UnicodeEncodeError):
        path.write_text("x = [")  # TOML has no null
    return how


def _strange(value: Any, chance: random.Random) -> str:
    places = list(_places(value))
    if not places:
        return "nothing"
    holder, key, at = chance.choice(places)
    if isinstance(holder, dict) and chance.random() < 0.2:
        del holder[key]
        return f"{at} gone"
    holder[key] = chance.choice(STRANGE)
    return f"{at} = {str(holder[key])[:20]!r}"


def _places(value: Any, at: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Each place in nested lists and objects: what holds it, its key, and a name."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(inner):
        yield value, key, f"{at}.{key}"
        if isinstance(entry, dict | list):
            yield from _places(entry, f"{at}.{key}")


# --- what a good folder says


@pytest.mark.parametrize("draws", [None, 50])
def test_columns_are_what_records_one_by_one_would_give(draws: int | None) -> None:
    rows = [records_of(n, draws) for n in range(3)]
    files = [(f"file {n}", to_lines(part)) for n, part in enumerate(rows)]
    slow = table_of([row for name, data in files for row in from_lines(data, name)])
    pd.testing.assert_frame_equal(read_records(files), slow)
    pd.testing.assert_frame_equal(
        slow,
        pd.DataFrame([vars(r) for p in rows for r in p]).astype(
            {"correct": "boolean" if draws is None else "float64"}
        ),
    )
    assert [type(vote) for vote in read_records(files)["votes"]] == [
        type(row.votes) for part in rows for row in part
    ]


def test_columns_of_an_older_make_have_what_was_not_yet_there() -> None:
    row = vars(records_of(0, None)[0]).copy()
    for name in ("carried", "finished", "proved", "rebatched"):
        del row[name]
    table = read_records([("old", json.dumps(row).encode() + b"\n")])
    pd.testing.assert_frame_equal(table, table_of(records_of(0, None)[:1]))


def test_proofs_are_read_as_one_by_one(tmp_path: Path) -> None:
    run = proof_run(tmp_path / "run")
    files = [(p.name, p.read_bytes()) for p in sorted(run.glob("certificates/*"))]
    slow = table_of_proofs([row for name, data in files for row in proofs_from_lines(data, name)])
    pd.testing.assert_frame_equal(read_certificates(files), slow)


@pytest.mark.parametrize("make", [attack_run, proof_run])
def test_a_whole_run_lacks_nothing_also_when_read_in_part(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    folder = make(tmp_path / "run")
    run, part = load_run(folder), load_run(folder, partial=True)
    assert run == part
    assert (part.gap, part.missing) == (None, 0)


# --- damage in one place, and the sentence about it


def edit(file: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Change the value that a JSON file or the first line of JSON lines holds."""

    def spoil_it(run: Path) -> None:
        path = run / file
        first, *rest = path.read_text().splitlines(keepends=path.suffix == ".jsonl")
        text = first if path.suffix == ".jsonl" else path.read_text()
        value = json.loads(text)
        changed = change(value)
        text = json.dumps(value if changed is None else changed)
        path.write_text("".join([text + "\n", *rest]) if path.suffix == ".jsonl" else text)
        if file != "manifest.json":
            set_right(run)

    return spoil_it


def put(file: str, *keys: Any) -> Callable[[Path], None]:
    """Put the last of ``keys`` where the others lead to."""
    *path, last, new = keys

    def change(value: Any) -> None:
        for key in path:
            value = value[key]
        value[last] = new

    return edit(file, change)


def without(file: str, *keys: Any) -> Callable[[Path], None]:
    *path, last = keys

    def change(value: Any) -> None:
        for key in path:
            value = value[key]
        del value[last]

    return edit(file, change)


def bytes_in(file: str, data: bytes) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        (run / file).write_bytes(data)
        if file != "manifest.json":
            set_right(run)

    return write


def empty_folder(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def file_instead(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("{}")


def twice(run: Path) -> None:
    with (run / RECORDS).open("a") as file:
        file.write((run / RECORDS).read_text().splitlines()[0] + "\n")
    set_right(run)


def one_less(run: Path) -> None:
    lines = (run / RECORDS).read_text().splitlines(keepends=True)
    (run / RECORDS).write_text("".join(lines[1:]))
    set_right(run)


RECORDS = "records/shard-00000.jsonl"
DAMAGE: list[tuple[Callable[[Path], Any], str]] = [
    (shutil.rmtree, "is not there; name the folder"),
    (file_instead, "is a file; name the folder"),
    (empty_folder, "has no manifest.json"),
    (bytes_in("manifest.json", b"{"), "manifest.json cannot be read: Expecting"),
    (bytes_in("manifest.json", b"\xff\xfe"), "manifest.json cannot be read: 'utf-8'"),
    (bytes_in("manifest.json", b"[]"), "manifest.json is no manifest: it holds a list"),
    (bytes_in("manifest.json", b"[" * 9999), "manifest.json cannot be read: it is nested"),
    (without("manifest.json", "shards"), "manifest.json: shards is missing"),
    (put("manifest.json", "shards", "files", []), "shards.files is a list, not an object"),
    (put("manifest.json", "status", 3), "status is 3, not a status"),
    (put("manifest.json", "status", "running"), "is not finished .2 of 2 shards..*--partial"),
    (put("manifest.json", "schema", 2), "manifest.json has schema 2; this version reads 1"),
    (
        put("manifest.json", "shards", "files", "shard-00000", "sha256", {"/etc/x": "a" * 64}),
        "which is not in the folder",
    ),
    (bytes_in("spec.toml", b"x = ["), "spec.toml cannot be read"),
    (bytes_in("spec.toml", b"schema = 3"), "spec.toml has schema 3"),
    (lambda run: (run / "summary.json").unlink(), "summary.json cannot be read: No such file"),
    (bytes_in("summary.json", b'{"schema": 1'), "summary.json cannot be read"),
    (put("summary.json", "schema", "1"), "summary.json has schema '1'"),
    (put("summary.json", "robust", "accuracy", "x"), "robust.accuracy is 'x', not a number"),
    (put("summary.json", "robust", "low", math.nan), "summary.json cannot be read: NaN"),
    (put("summary.json", "clean", "high", 0.1), "clean.accuracy is .*outside its interval"),
    (put("summary.json", "attacks", 1, "low", 2), r"attacks\[1\].low is 2, not a number from 0"),
    (without("summary.json", "attacks", 0, "name"), r"attacks\[0\].name is missing"),
    (put("summary.json", "attacks", 1, "name", "noise"), "an attack is there twice"),
    (put("summary.json", "attacks", 1, "name", "fgsm"), "'fgsm' is in summary.json and not in"),
    (put("summary.json", "samples", 0), "samples is 0, not a whole number from 1 on"),
    (put("summary.json", "samples", 7), "records are of 6 samples, summary.json says 7"),
    (lambda run: (run / "findings.json").unlink(), "findings.json cannot be read: No such file"),
    (bytes_in("findings.json", b"{}"), "findings.json: the file is an object, not a list"),
    (bytes_in("findings.json", b"[3]"), r"findings.json: \[0\] is 3, not an object"),
    (lambda run: (run / RECORDS).unlink(), "is missing or altered.*--partial"),
    (lambda run: (run / RECORDS).write_text("{}"), "is missing or altered"),
    (bytes_in(RECORDS, b'{"sample": 0}\n'), "line 1: label is missing"),
    (bytes_in(RECORDS, b"{}\n{"), "line 2 is no JSON"),
    (bytes_in(RECORDS, b"3\n"), "line 1 is 3, not an object"),
    (bytes_in(RECORDS, b"\xff"), "is no text"),
    (put(RECORDS, "label", -1), "line 1: label is -1, not a whole number"),
    (put(RECORDS, "label", True), "label is True, not a whole number"),
    (put(RECORDS, "correct", 0.5), "correct is 0.5, not true or false"),
    (put(RECORDS, "correct", None), "correct is missing, and the attack is finished"),
    (put(RECORDS, "distance", -0.1), "distance is -0.1, not a number from 0 on"),
    (put(RECORDS, "attack", "fgsm"), "sample 0 has no record of attack|no record of attack"),
    (put(RECORDS, "carried", "fgsm"), "carried is 'fgsm', not one of noise, pgd"),
    (put(RECORDS, "votes", [1, "x"]), "votes are no counts"),
    (put(RECORDS, "clean", 2), "clean differs from that of the same sample"),
    (put(RECORDS, "colour", "red"), "'colour' is no known key"),
    (twice, "sample 0 is there twice for attack 'noise'"),
    (one_less, "sample 0 has no record of attack 'noise'"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGE)
def test_damage_is_one_sentence_and_nothing_is_written(
    damage: Callable[[Path], Any], said: str, tmp_path: Path
) -> None:
    run = attack_run(tmp_path / "run")
    damage(run)
    with pytest.raises(StoreError, match=said) as error:
        report([run], tmp_path / "out")
    assert "\n" not in str(error.value)
    assert "; " in str(error.value)  # what is wrong, and what to do about it
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("correct", True, "correct is True"),
        ("correct", 1.5, "correct is 1.5, not a number from 0 to 1"),
        ("votes", [50, 0], "votes are no counts for the classes"),
        ("label", 3, "label is 3, and votes are for 3 classes"),
        ("selected", 1, "selected is 1, not true or false"),
    ],
)
def test_damage_of_a_random_run(key: str, value: Any, said: str, tmp_path: Path) -> None:
    run = attack_run(tmp_path / "run", draws=50)
    put("records/shard-00000.jsonl", key, value)(run)
    with pytest.raises(StoreError, match=said):
        load_run(run).check()


def test_two_worst_proposals_of_a_sample_are_refused() -> None:
    rows = [dataclasses.replace(row, selected=True) for row in records_of(0, None)]
    with pytest.raises(StoreError, match="line 2: sample 0 has two worst proposals"):
        read_records([("here", to_lines(rows))])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be read"),
        (b"[]", "is a list, not an object"),
        (b'{"schema": 1, "points": []}', "is a curve without points"),
        (b'{"schema": 2, "points": [{"run": "x"}]}', "has schema 2"),
        (b'{"schema": 1, "points": [{"run": 3}]}', "run is 3, not"),
        (b'{"schema": 1, "points": [{"run": "../../x"}]}', "run is '../../x', not"),
    ],
)
def test_a_damaged_curve_is_one_sentence(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "curve.json").write_bytes(content)
    with pytest.raises(StoreError, match=said):
        report([tmp_path], tmp_path / "out")


def test_runs_of_two_schemas_make_no_report(tmp_path: Path) -> None:
    runs = [attack_run(tmp_path / name) for name in ("old", "new")]
    put("summary.json", "schema", 2)(runs[1])
    with pytest.raises(StoreError, match=r"new/summary\.json has schema 2; this version reads 1"):
        report(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    run = attack_run(tmp_path / "run")
    run.chmod(0)
    try:
        with pytest.raises(StoreError, match="Permission denied"):
            load_run(run)
    finally:
        run.chmod(0o700)


def test_what_cannot_be_looked_at_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, also for root: a name no file system takes, and a file that is refused."""
    with pytest.raises(StoreError, match="cannot be read: File name too long"):
        load_run(tmp_path / ("x" * 5000))
    run = attack_run(tmp_path / "run")

    def refuse(path: Path, **_: Any) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(StoreError, match=r"manifest\.json cannot be read: Permission denied"):
        load_run(run)


def test_the_command_ends_with_2_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["robustcode", "report", str(tmp_path), "--out", "out"])
    monkeypatch.chdir(tmp_path)
    assert call(app) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "has no manifest.json" in said.err
    assert not (tmp_path / "out").exists()


MAKERS: dict[str, Callable[[Path], Path]] = {
    "attack": attack_run,
    "random": lambda path: attack_run(path, draws=50),
    "proof": proof_run,
    "curve": curve_run,
}


def read_all(folder: Path, partial: bool) -> None:
    """All that a report reads and says, but for drawing it."""
    paths, left = folders_of([folder])
    runs = [load_run(path, partial) for path in paths]
    for run in runs:
        run.check()
        assert run._repr_html_()
        assert repr(run)
        assert len(run.samples)
    compose(runs, left)


@pytest.mark.parametrize(("kind", "times"), [("attack", 45), ("random", 30), ("proof", 30)])
def test_whatever_is_damaged_is_one_sentence_or_harmless(
    kind: str, times: int, tmp_path: Path
) -> None:
    good = MAKERS[kind](tmp_path / "good")
    ended = []
    for seed in range(times):
        run = tmp_path / f"run{seed}"
        shutil.copytree(good, run)
        how = spoil(run, random.Random(seed))
        for partial in (False, True):
            said = refusal(how, read_all, run, partial)
            assert said is None or "\n" not in said, how
            ended.append(said is None)
    assert 0.25 < sum(ended) / len(ended) < 0.9  # not all damage is harmless, nor all of it fatal


def refusal(how: str, act: Callable[..., Any], *given: Any) -> str | None:
    """What an act was refused with, if it was; anything but a refusal is a failure."""
    try:
        act(*given)
    except RobustcodeError as error:
        return str(error)
    except Exception as error:
        raise AssertionError(how) from error
    return None


@pytest.mark.long
@pytest.mark.parametrize("kind", list(MAKERS))
def test_whatever_is_damaged_is_one_sentence_or_a_report(kind: str, tmp_path: Path) -> None:
    good = MAKERS[kind](tmp_path / "good")
    for seed in range(1000, 1150):
        run, out = tmp_path / f"run{seed}", tmp_path / f"out{seed}"
        shutil.copytree(good, run)
        how = spoil(run, random.Random(seed))
        for partial in (False, True):
            said = refusal(how, report, [run], out, partial)
            assert said is None or "\n" not in said, how
            assert (out / "report.html").is_file() == (said is None) or partial, how


# --- what is intact


def unfinished(run: Path, *lost: str) -> Path:
    """As a run is left that is killed: without its end, and without some shards."""
    for name in ("summary.json", "findings.json"):
        (run / name).unlink()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["status"] = "running"
    for name in lost:
        del manifest["shards"]["files"][name]
    (run / "manifest.json").write_text(json.dumps(manifest))
    return run


@pytest.mark.parametrize("draws", [None, 50])
def test_an_unfinished_run_is_what_its_shards_say(draws: int | None, tmp_path: Path) -> None:
    run = load_run(unfinished(attack_run(tmp_path / "a", 3, draws), "shard-00001"), partial=True)
    whole = load_run(attack_run(tmp_path / "b", 3, draws))
    assert run.missing == 3
    assert run.gap is not None
    assert (run.gap.asked, run.gap.said) == (9, "3 of 9 samples are missing")
    there = whole.records[~whole.records["sample"].between(3, 5)].reset_index(drop=True)
    pd.testing.assert_frame_equal(run.records, there)
    assert run.summary["samples"] == 6
    assert [a["name"] for a in run.summary["attacks"]] == ["noise", "pgd"]
    assert run.summary["attacks"][1]["settings"] == {"steps": 20}
    if draws is None:
        value, low, high = proportion(2, 6)
        robust = run.summary["robust"]
        assert (robust["accuracy"], robust["low"], robust["high"]) == (value, low, high)
    else:
        assert run.summary["stochastic"]["draws"] == draws
        # One sample of three held, one is right in 1 of 50 draws, one in none without attack.
        assert run.summary["robust"]["accuracy"] == pytest.approx((1 + 1 / 50) / 3)
    assert [f["code"] for f in run.findings] == ["noise-as-strong"]  # of the pilot
    whole_costs, costs = whole.summary["cost"], run.summary["cost"]
    assert costs["forwards"] == 9 + 2 * 3 + 6 * 2 * 21 < whole_costs["forwards"] + 9


def test_an_unfinished_run_of_proofs_is_what_its_shards_say(tmp_path: Path) -> None:
    folder = proof_run(tmp_path / "run", 3)
    (folder / "certificates/shard-00002.jsonl").unlink()
    run = load_run(folder, partial=True)
    assert (run.missing, run.summary["samples"]) == (3, 6)
    value, low, high = proportion(2, 6)
    said = run.summary["certified"]
    assert (said["accuracy"], said["low"], said["high"]) == (value, low, high)
    assert said["method"] == "crown"
    assert [point["radius"] for point in said["curve"]] == [0.05, 0.1]


def test_how_many_are_missing_is_unknown_where_the_folder_does_not_say(tmp_path: Path) -> None:
    """All samples of the data were asked for, and the last shard is not there to count them."""
    for lost, missing in (("shard-00002", None), ("shard-00001", 3)):
        folder = unfinished(attack_run(tmp_path / lost, 3), lost)
        spec = tomllib.loads((folder / "spec.toml").read_text())
        del spec["samples"]
        (folder / "spec.toml").write_text(tomli_w.dumps(spec))
        run = load_run(folder, partial=True)
        assert run.missing == missing
        assert run.gap is not None
        known = "3 of 9 samples are missing"
        assert run.gap.said == (known if missing else "an unknown number of samples is missing")


def test_a_run_that_was_killed_before_its_spec_was_written_is_not_finished(tmp_path: Path) -> None:
    run = unfinished(attack_run(tmp_path / "run"))
    (run / "spec.toml").unlink()
    with pytest.raises(StoreError, match="is not finished"):
        load_run(run)


@pytest.mark.parametrize("partial", [False, True])
def test_nothing_intact_gives_no_report(partial: bool, tmp_path: Path) -> None:
    run = unfinished(attack_run(tmp_path / "run"), "shard-00000", "shard-00001")
    with pytest.raises(StoreError, match=r"no intact shard|not finished"):
        report([run], tmp_path / "out", partial)
    assert not (tmp_path / "out").exists()


def test_pictures_that_are_lost_take_no_verdict_with_them(tmp_path: Path) -> None:
    folder = attack_run(tmp_path / "run")
    (folder / "adversarial/shard-00001.safetensors").unlink()
    run = load_run(folder, partial=True)
    assert run.missing == 0
    assert run.gap is not None
    assert run.gap.damaged == ("adversarial/shard-00001.safetensors",)
    assert [path.name for path in run.adversarial] == ["shard-00000.safetensors"]


def test_what_is_missing_is_said_with_every_number(tmp_path: Path) -> None:
    """In one report, and beside a whole run, whose tables and rows say nothing of it."""
    run = unfinished(attack_run(tmp_path / "run", 3), "shard-00001")
    files = report([run], tmp_path / "out", partial=True)
    said = "3 of 9 samples are missing"
    page = json.loads(files["json"].read_text())
    assert said in page["verdict"]
    assert "easier or harder" in page["verdict"]
    assert "read-in-part" in [finding["code"] for finding in page["findings"]]
    assert {row["missing"] for row in page["rows"]} == {3}
    table = pd.read_csv(files["csv"])
    assert set(table["missing"]) == {3}
    for form in ("md", "tex"):
        lines = files[form].read_text().splitlines()
        # In Markdown what stands under a figure is its caption.
        captions = [lines[i + 2] for i, line in enumerate(lines) if line.startswith("![")]
        captions += [line for line in lines if line.startswith("Table ") or "\\caption{" in line]
        assert captions
        assert all(said in line for line in captions), form
    html = files["html"].read_text()
    for part in ("caption", "figcaption"):
        shown = [end.partition(f"</{part}>")[0] for end in html.split(f"<{part}")[1:]]
        assert shown
        # That of the samples is written by their script, from what is missing in their data.
        assert all(said in text or "explorer-caption" in text for text in shown), part
    assert '"missing":3' in html
    other = attack_run(tmp_path / "whole", 3)
    put("summary.json", "title", "the whole one")(other)
    both = json.loads(report([run, other], tmp_path / "both", True)["json"].read_text())
    missing = {(row["run"], row["missing"]) for row in both["rows"]}
    assert missing == {("digits_cnn", 3), ("the whole one", None)}
    captions = [
        line
        for line in (tmp_path / "both/report.md").read_text().splitlines()
        if line.startswith("Table ")
    ]
    assert any(said in line for line in captions)
    assert any("the whole one" in line and said not in line for line in captions)


# --- a run that is killed


SMALL = {
    **{"model": "digits_cnn", "data": "digits", "threat": "linf:0.1", "samples": 60},
    **{"batch_size": 15, "attacks": ["pgd:steps=40,until_broken=false,restarts=25"]},
}


def command(out: Path) -> list[str]:
    options = ["--model", "digits_cnn", "--data", "digits", "--threat", "linf:0.1"]
    options += ["--samples", "60", "--batch-size", "15", "--attack", str(SMALL["attacks"][0])]  # type: ignore[index]
    return [sys.executable, "-m", "robustcode", "attack", *options, "--out", str(out)]


def listed_in(run: Path) -> dict[str, Any]:
    """The shards of a run that is being written."""
    file = run / "manifest.json"
    return json.loads(file.read_text())["shards"]["files"] if file.exists() else {}


def same_times(run: Path) -> Path:
    """Without what differs from time to time: seconds and memory."""
    summary = json.loads((run / "summary.json").read_text())
    for entry in (summary["cost"], *summary["attacks"]):
        for name in ("seconds", "cpu_seconds", "peak_memory_mb"):
            if name in entry:
                entry[name] = 1.0
    (run / "summary.json").write_text(json.dumps(summary))
    return run


@pytest.mark.long
def test_a_run_that_is_killed_is_read_in_part_and_then_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with subprocess.Popen(
        command(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not listed_in(run):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    done = 15 * len(listed_in(run))
    assert 0 < done < 60
    with pytest.raises(StoreError, match=r"not finished.*--partial"):
        report([run], tmp_path / "none")
    files = report([run], tmp_path / "part", partial=True)
    page = json.loads(files["json"].read_text())
    assert f"{60 - done} of 60 samples are missing" in page["verdict"]
    assert {row["samples"] for row in page["rows"] if row["kind"] == "clean"} == {done}
    whole = robustcode.attack(out=tmp_path / "whole/run", progress=False, **SMALL)  # type: ignore[arg-type]
    assert subprocess.run(command(run), capture_output=True).returncode == 0
    again = report([same_times(run)], tmp_path / "a")
    never = report([same_times(whole.path)], tmp_path / "b")
    assert set(again) == set(never)
    for name, file in again.items():
        assert file.read_bytes() == never[name].read_bytes(), name
