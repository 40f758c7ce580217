"""The suites beside the official AutoAttack and torchattacks': verdicts, cost, passes.

    python benchmarks/autoattack.py [--official DIR] [--samples 256] [--parts] [--out DIR]

The work is that of ../shared/data/results/autoattack_official.json: its checkpoints, budgets and
images, all in one batch. Every measurement is a process of its own on one thread, and within one
network the tools take turns. What each tool proposes is judged by the original model; what is
not allowed breaks nothing. Ours is the main job, robustcode.attack: its time, memory and passes
include the checks of the evaluation, the copy of the model, the judge and the run folder.

The official code is not on the registry. Without it its rows are left out, and the others run.
``--out`` keeps every measurement there, goes on from what it finds, and adds the curve of robust
accuracy over passes, on all the networks of that file.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from _cascades import OFFICIAL, OURS, PART_TOOLS, PARTS, TOOLS
from _curve import CURVE_HEAD, CURVE_NOTE, Point, curve_rows, draw, fraction, points
from _measuring import RESULTS, Bench, Measurement, entries, measure, measure_part

HERE = Path(__file__).resolve().parent
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
WHERE = "AUTOATTACK"  # the environment variable that may stand in for --official
FETCH = (
    "the official AutoAttack is not importable, so its rows are left out; for them run "
    "'git clone https://github.com/fra31/auto-attack DIR && git -C DIR checkout a392200' and "
    f"pass --official DIR or set {WHERE}=DIR"
)

# The networks whose cost is compared; the curve is of all in the file.
COSTED = ("cifar_cnn_a_adv@0.007843", "cifar_cnn_a_adv@0.031373", "mnist_cnn_a_adv@0.300000")
COST_TOOLS = (OFFICIAL, "standard", "torchattacks")


COST_HEAD = """\
| network | eps | images | tool | robust | differs | CPU s | speed | MB | memory | passes |
|---|---|---|---|---|---|---|---|---|---|---|"""
COST_NOTE = """\
differs: samples whose verdict is not that of the official code as listed. CPU s, MB: one thread;
peak above what the process held with data, model and library loaded. speed, memory: times as
fast as, and as much memory as, the official code in this run. passes: forward and backward per
sample that is right by itself, checks and judge included."""


def cost_rows(bench: Bench, key: str) -> Iterator[str]:
    """The whole suites on one entry, as Markdown."""
    taken = {tool: bench(tool, key) for tool in COST_TOOLS if tool in bench.tools}
    peer = taken.get(OFFICIAL)
    entry = entries(bench.data)[key]
    images = min(bench.samples, entry["samples"])
    listed = {i for i in entry["robust_idx"] if i < images}
    for tool, one in taken.items():
        yield (
            f"| {_title(entry, key)} | {images} | {tool} | {len(one.robust)} "
            f"| {len(listed ^ set(one.robust))} | {one.seconds:.1f} "
            f"| {_times(peer, one, 'seconds')} | {one.megabytes:.0f} "
            f"| {_times(one, peer, 'megabytes')} | {one.passes:.0f} |"
        )


PART_HEAD = """\
| network | eps | attack | tool | given | left | CPU s | speed | MB | memory | forward | backward \
| in the model |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""
PART_NOTE = """\
Each attack alone, on the samples that the official cascade gives it, in one batch. forward,
backward: passes per sample given. in the model: share of the time spent in those passes; the rest
is the attack's own arithmetic."""


def part_rows(bench: Bench, key: str, name: str) -> Iterator[str]:
    """One attack alone on one entry, as Markdown."""
    taken = {tool: bench(tool, key, name) for tool in PART_TOOLS if tool in (OURS, *bench.tools)}
    peer = taken.get(OFFICIAL)
    for tool, one in taken.items():
        given = max(1, one.clean)
        yield (
            f"| {_title(entries(bench.data)[key], key)} | {name} | {tool} | {one.clean} "
            f"| {len(one.robust)} | {one.seconds:.2f} "
            f"| {_times(peer, one, 'seconds')} | {one.megabytes:.0f} "
            f"| {_times(one, peer, 'megabytes')} | {one.forwards / given:.0f} "
            f"| {one.backwards / given:.0f} | {one.inside / one.seconds:.0%} |"
        )


def _title(entry: dict[str, Any], key: str) -> str:
    return f"{key.partition('@')[0]} | {fraction(entry['eps'])}"


def _times(one: Measurement | None, other: Measurement | None, what: str) -> str:
    """How many times as much one took as the other; nothing where one was not measured."""
    if one is None or other is None:
        return ""
    return f"{getattr(one, what) / getattr(other, what):.2f}"


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=256, help="images of each network")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="those whose key has this")
    parser.add_argument("--parts", action="store_true", help="each attack of the cascade alone too")
    parser.add_argument("--out", type=Path, help="folder for measurements, curve.csv, curve.svg")
    parser.add_argument("--official", type=Path, default=os.environ.get(WHERE), metavar="DIR")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    # This file has the name of the official package, and Python looks beside a script first.
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != HERE]
    if given.official is not None:
        os.environ[WHERE] = str(Path(given.official).resolve())
        sys.path.insert(0, os.environ[WHERE])
    if given.one is not None:
        tool, key, samples, data, part = json.loads(given.one)
        took = partial(measure_part, name=part) if part else measure
        print(json.dumps(asdict(took(tool, key, samples, Path(data)))))
        return 0
    refusal = _refusal(given.data)
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return 2
    official = _package("autoattack")
    if not official:
        print(FETCH, file=sys.stderr)
    chosen = [key for key in entries(given.data) if _asked(key, given.only)]
    tools = [tool for tool in TOOLS if official or tool != OFFICIAL]
    bench = Bench(given.samples, given.data, given.out, Path(__file__), tools)
    costed = [key for key in chosen if key in COSTED]
    _print_table(COST_HEAD, (cost_rows(bench, key) for key in costed), COST_NOTE)
    if given.parts:
        parts = (part_rows(bench, key, name) for key in costed for name in PARTS)
        _print_table(PART_HEAD, parts, PART_NOTE)
    if given.out is not None:
        curves: list[list[Point]] = []

        def curve(key: str) -> Iterator[str]:
            curves.append(points(bench, key))
            return curve_rows(curves[-1])

        _print_table(CURVE_HEAD, map(curve, chosen), CURVE_NOTE)
        with (given.out / "curve.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(Point._fields)
            writer.writerows(point for found in curves for point in found)
        draw([found for found in curves if found], given.out / "curve.svg")
    return 0


def _package(name: str) -> bool:
    """Whether a package, not a mere file of that name, can be imported."""
    found = importlib.util.find_spec(name)
    return found is not None and found.submodule_search_locations is not None


def _print_table(head: str, blocks: Iterator[Iterator[str]], note: str) -> None:
    """Rows as they come, since each takes minutes."""
    print(head, flush=True)
    for block in blocks:
        for row in block:
            print(row, flush=True)
    print(f"\n{note}\n", flush=True)


def _asked(key: str, only: Sequence[str] | None) -> bool:
    return not only or any(word in key for word in only)


def _refusal(data: Path) -> str | None:
    """What is missing, as one sentence, or None."""
    if not (data / RESULTS).is_file():
        return f"{data / RESULTS} is absent; this benchmark needs the published data, see --data"
    for entry in entries(data).values():
        if not (data / entry["checkpoint"]).is_file():
            return f"{data / entry['checkpoint']} is absent; see --data"
    if not Path("/proc/self/clear_refs").exists():
        return "memory is read from /proc/self, which this system does not have; run it on Linux"
    if not _package("torchattacks"):
        return "torchattacks is not installed; pip install --no-deps torchattacks tqdm"
    return None


if __name__ == "__main__":
    sys.exit(main())
