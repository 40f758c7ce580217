"""The doctor tried: who is caught by which check, what repairing brings, and what it costs.

    python benchmarks/doctor.py [--parts caught repaired cost] [--only NAME ..]
        [--data ../shared/data] > benchmarks/doctor.md

Patients are flawed on purpose (robustcode.testing.patients), honest models are as robust as they
look; those that are published need ``--data``. The attacks by hand are the ones of
tests/patients/conftest.py. One thread, a few minutes of CPU time a part.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import torch

import robustcode
from robustcode.checks.catalogue import every
from robustcode.store import Run
from robustcode.testing.patients import PATIENTS

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
# Samples that the doctor is given, and draws that a random patient is judged by.
SAMPLES, DRAWS = 64, 50
# What an accuracy may lie above the one by hand.
AS_GOOD = 0.02
MARKS = {"failure": "F", "warning": "W", "info": "i"}
# Checks that are named in the row of a subject's cost, the dearest ones.
DEAREST = 3

Spec = Mapping[str, str]


@dataclass(frozen=True)
class Priced:
    """A subject of the table of costs.

    Attributes:
        name: an honest model.
        threat: in place of its own.
        samples: that ``standard`` and the doctor are given.
        defense: likewise; its own if empty.
    """

    name: str
    threat: str
    samples: int = SAMPLES
    defense: str = ""


PRICED = (
    Priced("plain", "linf:0.1", 128),
    Priced("plain", "linf:0.3", 128),
    Priced("adversarial", "linf:0.1", 128),
    Priced("plain", "linf:0.1", 128, "gaussian-noise:sigma=0.1"),
    Priced("noise and a vote", "linf:0.1"),
    Priced("cifar_cnn_a_adv", "linf:2/255"),
    Priced("WK17a", "linf:0.1"),
    Priced("mnist_cnn_a_adv", "linf:0.3"),
)


def by_hand(data: Path) -> ModuleType:
    """The attacks by hand and the honest models, from the tests."""
    module = loaded("conftest")
    setattr(module, "SHARED", data)  # noqa: B010 - a module's names are not known to be writable
    return module


def loaded(name: str) -> ModuleType:
    """A module of the tests of patients."""
    file = ROOT / "tests" / "patients" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"patients_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def present(tests: ModuleType) -> dict[str, Any]:
    """The honest models whose files are there, by name."""
    found = {one.name: one for one in tests.honest_models()}
    return {name: one for name, one in found.items() if all(map(Path.exists, one.files))}


def doctored(spec: Mapping[str, Any]) -> Run:
    """What the doctor makes of it."""
    return robustcode.doctor(**spec, out=folder(), progress=False)


def folder() -> Path:
    """A new one, for a run."""
    return Path(tempfile.mkdtemp()) / "run"


def row(*cells: object) -> str:
    """Of a table in Markdown."""
    return f"| {' | '.join(map(str, cells))} |"


# ---- who is caught by what

CAUGHT = """\
## Who is caught by which check

The first {samples} samples of each are given, and the doctor looks at 32 of them. F is a failure, W
a warning, i an info; in bold is what names the flaw itself, as each patient states it. Honest
models are below the patients.
"""


def caught(tests: ModuleType, only: Sequence[str]) -> Iterator[str]:
    """The table of patients, honest models and what is raised on them."""
    specs: dict[str, tuple[Spec, int, tuple[str, ...]]] = {
        name: (patient.spec, SAMPLES, patient.caught_by) for name, patient in PATIENTS.items()
    }
    specs |= {name: (one.spec, one.samples, ()) for name, one in present(tests).items()}
    raised = {
        name: {
            finding["code"]: MARKS[finding["severity"]]
            # The gravest of several comes first.
            for finding in reversed(doctored({**spec, "samples": samples}).findings)
        }
        for name, (spec, samples, _) in specs.items()
        if not only or name in only
    }
    seen = set().union(*raised.values())
    order = [code for check in every() for code in (check.code, *check.also) if code in seen]
    legend = ", ".join(f"{number} `{code}`" for number, code in enumerate(order, 1))
    yield CAUGHT.format(samples=SAMPLES)
    yield textwrap.fill(f"By number: {legend}.", 100, break_on_hyphens=False) + "\n"
    yield row("", *range(1, len(order) + 1))
    yield "|---|" + ":-:|" * len(order)
    for name, found in raised.items():
        bold = {code: f"**{mark}**" for code, mark in found.items() if code in specs[name][2]}
        marks = found | bold
        yield row(f"`{name}`", *(marks.get(code, "") for code in order))
    honest = [found for name, found in raised.items() if name not in PATIENTS]
    doubts = sum(mark in "FW" for found in honest for mark in found.values())
    yield f"\nOf {len(honest)} honest models: {doubts} failures and warnings in all."


# ---- what repairing brings

REPAIRED = """\
## What `--suite adaptive` makes of it

Accuracy without attack on the first 128 test digits, and on 64 of those that are right: under 40
steps of PGD with cross-entropy through the patient's own gradient, judged by the patient as the
attack has left it; under an attack by somebody who has read the patient's code; and under `--suite
adaptive` with no setting (random patients by {draws} draws). The last column has the changes that
the findings asked for and that were kept, with the accuracy on the pilot before and after each.
By hand all images of a batch are moved at once. `adaptive` moves each for itself, beside clean
images where a patient's answer depends on its batch (`nearest_mates`, `rows_before`,
`batch_norm_in_training`): less is in its power there. For `nearest_mates` the attack by hand is one
in that setting; where the whole batch moves it leaves none.
"""


def repaired(tests: ModuleType, only: Sequence[str]) -> Iterator[str]:
    """The table of patients and attacks on them."""
    yield REPAIRED.format(draws=DRAWS)
    yield row("patient", "clean", "plain PGD", "by hand", "adaptive", "changes kept")
    yield "|---|---:|---:|---:|---:|---|"
    short = []
    for name, patient in PATIENTS.items():
        if only and name not in only:
            continue
        found = tests._measured(name)
        run = robustcode.attack(
            **patient.spec,
            out=folder(),
            suite="adaptive",
            indices=list(found.samples),
            draws=DRAWS,
            progress=False,
        )
        left = run.summary["robust"]["accuracy"]
        by_hand = found.by_hand
        if name == "nearest_mates":  # beside clean images, as it is evaluated
            by_hand = loaded("test_adaptive").beside_clean_images(found.samples)
        accuracies = (found.clean, found.plain, by_hand, left)
        changes = "; ".join(
            f"`{one['change']}` {one['before']:.3f} to {one['after']:.3f}"
            for one in run.summary["repairs"]
            if one["kept"]
        )
        yield row(f"`{name}`", *(f"{share:.3f}" for share in accuracies), changes)
        short += [f"`{name}`"] if left > by_hand + AS_GOOD else []
    yield f"\nMore than {AS_GOOD} above what is left by hand: {', '.join(short) or 'none'}."


# ---- what it costs

COST = """\
## What it costs

Passes, forward and backward, of the whole doctor (its checks, and PGD and noise on the 32 samples
it looks at), and of the attacks of `--suite standard` without its pilot: on all samples given, and
on the same 32 alone. Judging is counted on both sides. The last column has the dearest checks.
Where every sample falls to the first attack `standard` costs next to nothing itself, and the share
says nothing.
"""


def cost(tests: ModuleType, only: Sequence[str]) -> Iterator[str]:
    """The table of passes."""
    honest = present(tests)
    yield COST
    yield row(
        *("subject", "threat", "samples", "`standard` leaves", "doctor", "`standard`"),
        *("a sample", "share", "on the same 32", "share", "dearest checks"),
    )
    yield "|---|---|" + "---:|" * 8 + "---|"
    for one in PRICED:
        if one.name in honest and (not only or one.name in only):
            yield priced(one, {**honest[one.name].spec, "threat": one.threat})


def priced(one: Priced, spec: Spec) -> str:
    """A row of the table."""
    own = {"defense": one.defense} if one.defense else {}
    given: dict[str, Any] = {**spec, "samples": one.samples, **own}
    looked = doctored(given)
    run = robustcode.attack(**given, out=folder(), suite="standard", progress=False)
    pilot = json.loads((run.path / "diagnosis.json").read_text())
    records = run.records
    spent = records["forwards"] + records["backwards"]
    standard = both(run.summary["cost"]) - both(pilot)
    # A sample's part of the judging is taken to be that of any other.
    judging = (standard - int(spent.sum())) / one.samples
    same = records["sample"].isin(looked.records["sample"].unique())
    samples = looked.records["sample"].nunique()
    on_same = int(spent[same].sum()) + round(judging * samples)
    mine = both(looked.summary["cost"])
    checks = sorted(looked.summary["checks"], key=both, reverse=True)[:DEAREST]
    return row(
        ", ".join([one.name, *(f"`{text}`" for text in own.values())]),
        one.threat,
        one.samples,
        f"{run.summary['robust']['accuracy']:.3f}",
        *(f"{passes:,}" for passes in (mine, standard)),
        f"{standard / one.samples:,.0f}",
        f"{mine / standard:.3f}",
        f"{on_same:,}",
        f"{mine / on_same:.3f}",
        ", ".join(f"`{line['code']}` {both(line):,}" for line in checks),
    )


def both(spent: Mapping[str, int]) -> int:
    """Passes forward and backward."""
    return spent["forwards"] + spent["backwards"]


PAGE = """\
# The doctor, measured

    python benchmarks/doctor.py > benchmarks/doctor.md

on one thread of a CPU. `--parts` and `--only` choose what is measured.
"""

PARTS = {"caught": caught, "repaired": repaired, "cost": cost}


def main() -> None:
    """Print the page in Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--only", nargs="+", default=[], help="patients and honest models")
    parser.add_argument("--data", type=Path, default=SHARED)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    tests = by_hand(asked.data)
    print(PAGE)
    for part in asked.parts:
        for line in PARTS[part](tests, asked.only):
            print(line, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
