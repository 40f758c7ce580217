"""How long a large report takes: 10,000 samples under 6 attacks, with pictures, on one core.

    python benchmarks/report.py [--samples 10000] > benchmarks/report.md

The run folder is synthetic and the same every time: records by the contract, worst proposals of
the size of CIFAR images. Everything but its making is what `robustcode report` does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from robustcode.records import Record, read_records, to_lines
from robustcode.store import RunFolder, shard_name, write_atomic
from robustcode.summary import summarise

SHARD = 250
SHAPE = (3, 32, 32)
EPS = 8 / 255
CLASSES = 10
CLEAN = 0.85  # share of samples that are right without attack
# What each attack leaves of those, and the passes it takes on one that holds.
ATTACKS = {
    "noise": (0.99, 10),
    "fgsm": (0.75, 1),
    "pgd": (0.62, 40),
    "apgd-ce": (0.60, 100),
    "apgd-dlr": (0.61, 100),
    "square": (0.70, 1000),
}
# The part that a report may take.
MOST_SECONDS, MOST_BYTES = 10.0, 8_000_000


def write_run(folder: Path, samples: int) -> Path:
    """A finished run of ``samples`` under all attacks; the same bytes for the same number."""
    chance = np.random.default_rng(0)
    run = RunFolder(folder)
    folder.mkdir(parents=True)
    attacks = [{"name": name} for name in ATTACKS]
    asked = {"schema": 1, "command": "attack", "model": "synthetic", "data": "synthetic"}
    asked |= {"threat": "linf:8/255", "samples": samples, "seed": 0, "batch_size": SHARD}
    asked |= {"defense": {"name": "identity"}, "adversary": {"name": "solo"}, "attacks": attacks}
    run.open(asked, {"checkpoint_sha256": "c" * 64, "data_sha256": {"synthetic": "d" * 64}})
    run.write_spec(asked)
    run.missing_shards(-(-samples // SHARD))
    parts = []
    for number, first in enumerate(range(0, samples, SHARD)):
        places = np.arange(first, min(first + SHARD, samples))
        rows, worst = _records(places, chance)
        data = {"records": ("jsonl", to_lines(rows)), "adversarial": _pictures(worst, chance)}
        parts.append(("records", to_lines(rows)))
        hashes = {}
        for kind, (end, content) in data.items():
            name = f"{kind}/{shard_name(number)}.{end}"
            hashes[name] = write_atomic(folder / name, content)
        cost: dict[str, Any] = {"judge_forwards": 7 * len(places), "seconds": 1.0}
        cost |= {"cpu_seconds": 1.0, "peak_memory_mb": 100.0}
        cost |= {"attack_seconds": dict.fromkeys(ATTACKS, 0.1)}
        run.list_shard(
            number,
            {"sha256": hashes, "samples": len(places), "verdicts": len(rows), "cost": cost},
        )
    described = [{"name": n, "settings": {}, "control": n == "noise"} for n in ATTACKS]
    shards = list(run.manifest["shards"]["files"].values())
    labels = {"model": "synthetic", "defense": "identity", "data": "synthetic"}
    summary = summarise(read_records(parts), described, None, shards) | labels
    run.finish([], summary | {"threat": "linf:8/255", "adversary": "solo"})
    return folder


def _records(
    places: NDArray[np.int64], chance: np.random.Generator
) -> tuple[list[Record], dict[str, NDArray[np.generic]]]:
    """The verdicts on a shard, and which proposal is the worst of each sample."""
    labels = chance.integers(0, CLASSES, len(places))
    clean = np.where(chance.random(len(places)) < CLEAN, labels, (labels + 1) % CLASSES)
    right = clean == labels
    # Whether one sample holds under several attacks goes together.
    strength = chance.random(len(places))
    rows, held = [], {}
    for name, (left, passes) in ATTACKS.items():
        level = np.clip(strength + chance.normal(0, 0.05, len(places)), 0, 1)
        held[name] = right & (level < left)
        spent = np.where(held[name], passes, chance.integers(1, passes + 1, len(places)))
        for n, sample in enumerate(places.tolist()):
            ok = bool(held[name][n])
            rows.append(
                Record(
                    sample=sample,
                    label=int(labels[n]),
                    clean=int(clean[n]),
                    attack=name,
                    prediction=int(labels[n] if ok else (labels[n] + 1) % CLASSES),
                    correct=ok,
                    votes=None,
                    choosing=None,
                    clean_correct=bool(right[n]),
                    clean_votes=None,
                    selected=False,
                    distance=EPS * float(0.9 + 0.1 * strength[n]) if right[n] else 0.0,
                    forwards=int(spent[n]) if right[n] else 0,
                    backwards=int(spent[n]) if right[n] else 0,
                    seed=0,
                )
            )
    broken = ~np.stack(list(held.values()))
    worst = np.where(right, np.where(broken.any(0), broken.argmax(0), len(ATTACKS) - 1), 0)
    names = list(ATTACKS)
    chosen = {(int(s), names[w]) for s, w in zip(places, worst, strict=True)}
    rows.sort(key=lambda row: row.sample)
    rows = [Record(**(vars(r) | {"selected": (r.sample, r.attack) in chosen})) for r in rows]
    return rows, {
        "sample": places,
        "attack": worst,
        "broken": np.asarray(broken.any(0)),
        "moved": right,
    }


def _pictures(
    worst: dict[str, NDArray[np.generic]], chance: np.random.Generator
) -> tuple[str, bytes]:
    """What a run keeps of its inputs; see robustcode.proposals.Outcome.pictures."""
    count, moved = len(worst["sample"]), worst["moved"].astype(bool)
    x = chance.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    # Smooth, so that pictures compress as photographs do.
    x = np.cumsum(x // 64, axis=-1, dtype=np.uint8)
    sign = np.where(chance.random((count, *SHAPE)) < 0.5, -1, 1) * moved[:, None, None, None]
    x_adv = np.clip(x / 255 + EPS * sign, 0, 1).astype(np.float32)
    tensors = {**worst, "x_adv": x_adv, "x": x[moved], "scale": np.array([255.0], np.float32)}
    return "safetensors", save({name: np.ascontiguousarray(t) for name, t in tensors.items()})


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    started = time.process_time()
    yield
    stages[name] = time.process_time() - started


def stages_of(run: Path, out: Path) -> dict[str, float]:
    """CPU seconds of the parts of a report, one after the other in this process."""
    stages: dict[str, float] = {}
    with _timed(stages, "import"):
        from robustcode.reports.compose import compose
        from robustcode.reports.render import render
        from robustcode.store import load_run
    with _timed(stages, "read manifest, summary, findings"):
        read = load_run(run)
    with _timed(stages, "read records, with their hashes"):
        read.check()
    with _timed(stages, "compose the page"):
        page = compose([read])
    with _timed(stages, "render all formats and figures"):
        files = render(page)
    with _timed(stages, "write"):
        out.mkdir()
        for name, content in files.items():
            (out / name).write_bytes(content)
    return stages


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--stages", nargs=2, type=Path, metavar=("RUN", "OUT"))
    given = parser.parse_args()
    if given.stages:
        print(json.dumps(stages_of(*given.stages)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        run = write_run(Path(scratch, "run"), given.samples)
        size = sum(file.stat().st_size for file in run.rglob("*.*")) / 1e6
        command = [sys.executable, "-m", "robustcode", "report", str(run)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        subprocess.run(
            [*command, "--out", str(Path(scratch, "out"))], check=True, stdout=subprocess.DEVNULL
        )
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        busy = os.getloadavg()[0]
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        page = Path(scratch, "out", "report.html").stat().st_size
        again = [sys.executable, __file__, "--stages", str(run), str(Path(scratch, "again"))]
        done = subprocess.run(again, check=True, capture_output=True, text=True)
        stages: dict[str, float] = json.loads(done.stdout)
    print(f"# A report of {given.samples:,} samples under {len(ATTACKS)} attacks\n")
    print("    python benchmarks/report.py > benchmarks/report.md\n")
    print(f"The run folder has {size:,.0f} MB, with CIFAR-sized pictures. One core, one thread.\n")
    print("| `robustcode report`, whole | |\n|---|--:|")
    print(f"| seconds by the clock (at most {MOST_SECONDS:g}) | {wall:.1f} |")
    print(f"| seconds of CPU | {cpu:.1f} |")
    print(f"| other work on the machine meanwhile, processes | {max(0.0, busy - 1):.1f} |")
    print(f"| peak memory, MB | {after.ru_maxrss / 1024:.0f} |")
    print(f"| report.html, MB (at most {MOST_BYTES / 1e6:g}) | {page / 1e6:.2f} |\n")
    print("| part, in a process of its own | seconds of CPU |\n|---|--:|")
    for name, seconds in stages.items():
        print(f"| {name} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
