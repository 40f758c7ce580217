"""Run folders as a fault of a disk, a copy or a person may leave them."""

import hashlib
import json
import math
import random
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from robustcode.certificates import Certificate, Status
from robustcode.certificates import table_of as table_of_proofs
from robustcode.certificates import to_lines as proofs_to_lines
from robustcode.certified import summarise_proofs
from robustcode.records import Record, table_of, to_lines
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
            votes = (draws, 0, 0) if right else (1, (draws or 1) - 1, 0)
            clean_votes = (draws, 0, 0) if clean else (0, draws, 0)
            rows.append(
                Record(
                    sample=shard * SHARD + place,
                    label=0,
                    clean=0 if clean else 1,
                    attack=attack,
                    prediction=0 if right else 1,
                    correct=right if draws is None else votes[0] / draws,
                    votes=None if draws is None else votes,
                    choosing=None if draws is None else votes[0] / draws,
                    clean_correct=clean if draws is None else clean_votes[0] / draws,
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


def _places(value: Any, at: str = "") -> Any:
    """Each place in nested lists and objects: what holds it, its key, and a name."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in list(inner):
        yield value, key, f"{at}.{key}"
        if isinstance(entry, dict | list):
            yield from _places(entry, f"{at}.{key}")
