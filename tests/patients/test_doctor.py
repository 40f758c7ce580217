"""The doctor says what ails each patient, and nothing of models that are what they look."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

import robustcode
from robustcode.store import Run
from robustcode.testing.patients import PATIENTS


class Honest(Protocol):
    """See conftest.Honest."""

    @property
    def spec(self) -> dict[str, str]: ...
    @property
    def samples(self) -> int: ...
    @property
    def files(self) -> tuple[Path, ...]: ...


Doctored = Callable[..., Run]

# What is raised of a search that its gradient does not lead anywhere.
LED_NOWHERE = {"gradient-free-better", "large-eps-above-chance", "noise-as-strong"}
# And where not even the whole box as budget leads to another class.
STUCK = {*LED_NOWHERE, "whole-box-holds"}
# Beside what each patient is to be caught by: what follows from its flaw, and is found as well.
ALSO: dict[str, set[str]] = {
    "saturated_softmax": STUCK,
    "scaled_logits": {*LED_NOWHERE, "weak-loss"},
    "quantised": {*STUCK, "unstable-loss"},
    "thermometer": {*STUCK, "unstable-loss"},
    "JPEGWithoutSurrogate": {*STUCK, "unstable-loss", "behind-transfer"},
    "sign_activation": {*STUCK, "unstable-loss"},
    "winners_take_all": STUCK,
    "clipped_gradient": STUCK,
    "detached_input": STUCK,
    "noisy_input": set(),
    "random_resize": set(),
    "barrage": set(),
    "SureOrSilent": set(),
    "purified": {*STUCK, "unstable-loss", "declared-differentiable"},
    "batch_norm_in_training": set(),
    "nearest_mates": {*LED_NOWHERE, "weak-loss"},
    "rows_before": {
        *{"batch-size-matters", "null-test", "not-converged", "weak-loss"},
        *{"large-eps-above-chance", "whole-box-holds", "noise-as-strong"},
    },
    "coded_joint_gradient": set(),
    "kernel_scores": {*STUCK, "declared-differentiable", "probabilities-as-logits"},
    "cached_answers": set(),
    "growing_exemplars": set(),
}
# True of some samples and not of others: a few scores that are not all 0 and 1, two survivors.
AT_TIMES = {
    "saturated_softmax": {"declared-differentiable", "low-precision"},
    "SureOrSilent": {"gradient-free-better"},
    "barrage": {"fixed-draw-holds"},
    "nearest_mates": {"not-converged", "loss-still-rising"},
    "rows_before": {"gradient-free-better", "loss-still-rising"},
}
# It speaks of other evaluations than this one, whose attacks see the detector: an info.
OF_OTHERS = {"detector-unseen"}
# Above two seconds of CPU time, or one of a kind of which another is tested.
DEAR = {"nearest_mates", "coded_joint_gradient", "noise and a vote", "trades", "resnet20"}
DEAR |= {"barrage", "cifar_cnn_a_mix"}
HONEST = (
    *("plain", "adversarial", "noise and a vote", "trades", "resnet20"),
    *("cifar_cnn_a_adv", "cifar_cnn_a_mix", "mnist_cnn_a_adv", "WK17a"),
)
# Hidden state and nothing hidden; hidden randomness, and a dependence on the batch.
EACH_KIND = ("cached_answers", "plain", "noisy_input", "rows_before")
TOGETHER = 64


def long_where(dear: Collection[str], names: Collection[str]) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.long if name in dear else ()) for name in names]


@pytest.fixture(scope="session")
def doctored(tmp_path_factory: pytest.TempPathFactory) -> Doctored:
    """The doctor's run on a subject of so many samples; each is made once."""
    done: dict[str, Run] = {}

    def look(spec: Mapping[str, str], samples: int, **how: int) -> Run:
        wanted: dict[str, Any] = {**spec, "samples": samples, "batch_size": TOGETHER, **how}
        key = json.dumps(wanted, sort_keys=True)
        if key not in done:
            out = tmp_path_factory.mktemp("doctor") / "run"
            done[key] = robustcode.doctor(**wanted, out=out, progress=False)
        return done[key]

    return look


def raised(run: Run, *severities: str) -> set[str]:
    return {finding["code"] for finding in run.findings if finding["severity"] in severities}


@pytest.mark.parametrize("name", long_where(DEAR, PATIENTS))
def test_a_patient_is_caught_by_what_names_its_flaw_and_by_what_follows_from_it(
    name: str, doctored: Doctored
) -> None:
    patient = PATIENTS[name]
    run = doctored(patient.spec, TOGETHER)
    found = raised(run, "warning", "failure") | (raised(run, "info") & OF_OTHERS)
    caught_by = set(patient.caught_by)
    assert caught_by <= found
    assert ALSO[name] <= found
    assert found <= caught_by | ALSO[name] | AT_TIMES.get(name, set())


@pytest.mark.parametrize("name", long_where(DEAR, HONEST))
def test_nothing_is_held_against_an_honest_model(
    name: str, doctored: Doctored, honest_ones: Mapping[str, Honest]
) -> None:
    honest = honest_ones[name]
    for file in honest.files:
        if not file.exists():
            pytest.skip(f"needs {file.name} in ../shared/data")
    run = doctored(honest.spec, honest.samples)
    assert raised(run, "warning", "failure") == set()
    # Nor does it pass because nobody looked.
    lines = [check["status"] for check in run.summary["checks"]]
    assert lines.count("passed") + lines.count("info") >= 20
    assert "untested" not in lines


def test_every_honest_model_is_looked_at(honest_ones: Mapping[str, Honest]) -> None:
    assert set(HONEST) == set(honest_ones)


@pytest.mark.parametrize(
    ("name", "workers"),
    [
        ("cached_answers", 1),
        *(pytest.param(name, 2, marks=pytest.mark.long) for name in EACH_KIND),
    ],
)
def test_the_diagnosis_is_the_same_in_small_batches_and_by_many_workers(
    name: str, workers: int, doctored: Doctored, honest_ones: Mapping[str, Honest]
) -> None:
    spec = PATIENTS[name].spec if name in PATIENTS else honest_ones[name].spec
    runs = [doctored(spec, TOGETHER), doctored(spec, TOGETHER, batch_size=8, workers=workers)]
    assert diagnosis(runs[0]) == diagnosis(runs[1])
    one, other = ([(line["code"], line["status"]) for line in r.summary["checks"]] for r in runs)
    assert one == other


def diagnosis(run: Run) -> dict[str, Any]:
    kept = json.loads((run.path / "diagnosis.json").read_text())
    return {key: kept[key] for key in kept.keys() - {"seconds", "cpu_seconds"}}
