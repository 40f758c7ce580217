"""How robust is a trained image classifier, really?

``attack`` evaluates a classifier with or without a defence into a run folder, ``doctor`` tests such
an evaluation on a few samples beforehand, ``curve`` attacks at a range of eps, ``certify`` proves
from below, ``corrupt`` measures what nobody chooses: noise, blur, weather and digital corruptions,
``report`` sets run folders side by side, ``gate`` holds one against what it must keep
and ``assert_robust`` does so in a test, ``load_run`` reads one as data. Nothing heavy is imported
before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from robustcode.config import RunSpec
    from robustcode.curves import Curve
    from robustcode.data import Dataset
    from robustcode.reports.gating.gate import Verdict
    from robustcode.store import Run
    from robustcode.subject import Given

__all__ = [
    "assert_robust",
    "attack",
    "certify",
    "corrupt",
    "curve",
    "doctor",
    "gate",
    "load_run",
    "report",
]


def __dir__() -> list[str]:
    """What is offered here, without what it is made with."""
    return __all__


def attack(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    threat: str,
    out: str | Path,
    *,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    defense: str = "identity",
    progress: bool = True,
    **spec: Any,
) -> Run:
    """Attack a classifier and keep every verdict in the run folder ``out``.

    The same call again goes on where an interrupted one stopped.

    Args:
        model: a name as for ``--model``, or a module from images (batch, channels, height, width)
            in [0, 1] to logits. A copy of it is evaluated, where one can be made: it stays as it
            is. A folder is gone on with for the same weights, code and settings only.
        data: a name as for ``--data``, a data set, or (images, labels).
        threat: the norm and its budget, e.g. ``linf:8/255``.
        out: the run folder.
        suite: quick, standard or adaptive; quick if neither it nor ``attacks`` is given.
        attacks: more attacks, as ``NAME:key=value,..``.
        defense: what is around the model, as ``NAME:key=value,..``.
        progress: show a bar on stderr.
        spec: the remaining fields of ``config.RunSpec``: checkpoint, mean, std, samples, indices,
            cascade, warm, proved, certified, skip_certified, max_passes, max_seconds, draws,
            adversary, seed, batch_size, device, threads, workers.
    """
    from robustcode.engine import evaluate

    described, given = _described(
        model, data, threat=threat, suite=suite, attacks=attacks, defense=defense, **spec
    )
    return evaluate(described, Path(out), given, show=progress)


def doctor(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    threat: str,
    out: str | Path,
    *,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    defense: str = "identity",
    progress: bool = True,
    **spec: Any,
) -> Run:
    """Test an evaluation on 32 of its samples, and keep what every check said in ``out``.

    ``summary["checks"]`` has a line for each check, ``summary["next"]`` the command to run next.

    Args:
        model: as in ``attack``.
        data: likewise.
        threat: likewise.
        out: the run folder.
        suite: the evaluation that is to be tested; noise and PGD if neither it nor ``attacks`` is
            given.
        attacks: as in ``attack``.
        defense: likewise.
        progress: show a bar on stderr.
        spec: the remaining fields of ``config.RunSpec``, as in ``attack``.
    """
    from robustcode.doctoring import doctor as examine
    from robustcode.doctoring import usual

    described, given = _described(
        model, data, threat=threat, suite=suite, attacks=attacks, defense=defense, **spec
    )
    if suite is None and not attacks:
        described = usual(described)
    return examine(described, Path(out), given, show=progress)


def certify(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    threat: str,
    method: str,
    out: str | Path,
    *,
    radii: Sequence[float | str] | str = (),
    defense: str = "identity",
    progress: bool = True,
    **spec: Any,
) -> Run:
    """Prove from below how robust a classifier is, and keep every certificate in ``out``.

    The same call again goes on where an interrupted one stopped.

    Args:
        model: as in ``attack``.
        data: likewise.
        threat: the norm and the radius that is to be proved, e.g. ``l2:0.5``.
        method: as for ``--method``, e.g. ``crown`` or ``smoothing:sigma=0.25``.
        out: the run folder.
        radii: more radii, for a curve, as numbers or as text like ``2/255``.
        defense: what is around the model, as ``NAME:key=value,..``.
        progress: show a bar on stderr.
        spec: the remaining fields of ``config.CertifySpec``: checkpoint, mean, std, samples,
            indices, adversary, seed, batch_size, device, threads, workers.
    """
    from robustcode.certification import certify as run
    from robustcode.config import describe_proof

    given, names = _given(model, data)
    described = describe_proof(
        **names, threat=threat, method=method, radii=radii, defense=defense, **spec
    )
    return run(described, Path(out), given, show=progress)


def corrupt(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    out: str | Path,
    *,
    corruptions: Sequence[str] | str = (),
    severities: Sequence[int] | str = (),
    defense: str = "identity",
    progress: bool = True,
    **spec: Any,
) -> Run:
    """Measure error, NLL and calibration under common corruptions, and keep each answer in ``out``.

    The same call again goes on where an interrupted one stopped.

    Args:
        model: as in ``attack``.
        data: likewise; grey or colour images.
        out: the run folder.
        corruptions: names and groups, e.g. ``["noise", "fog"]``; all fifteen if none is given.
        severities: which of 1 to 5; all if none is given.
        defense: what is around the model, as ``NAME:key=value,..``.
        progress: show a bar on stderr.
        spec: the remaining fields of ``config.CorruptSpec``: checkpoint, mean, std, samples,
            indices, scale, draws, seed, batch_size, device, threads, workers.
    """
    from robustcode.config import describe_corruptions
    from robustcode.corrupting import corrupt as run

    given, names = _given(model, data)
    described = describe_corruptions(
        **names, corruptions=corruptions, severities=severities, defense=defense, **spec
    )
    return run(described, Path(out), given, show=progress)


def curve(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    norm: str,
    eps: Sequence[float | str] | str,
    out: str | Path,
    *,
    progress: bool = True,
    **spec: Any,
) -> Curve:
    """Attack a classifier at each of several eps, each run starting from where the last one ended.

    The same call again goes on where an interrupted one stopped; ``report(out, ..)`` shows it.

    Args:
        model: as in ``attack``.
        data: likewise.
        norm: linf, l2 or l1.
        eps: the budgets, as numbers or as text like ``8/255``; 0 is the clean accuracy.
        out: the folder for one run folder per eps, and curve.json.
        progress: show a bar on stderr.
        spec: what ``attack`` takes: suite, attacks, defense and the fields of ``config.RunSpec``.
            max_seconds is that of the whole curve, max_passes that of each eps.
    """
    from robustcode.curves import threats_of, trace

    threats = threats_of(norm, eps)
    described, given = _described(model, data, threat=str(threats[0]), **spec)
    return trace(described, threats, Path(out), given, show=progress)


def _described(
    model: str | nn.Module, data: str | Dataset | tuple[Any, Any], **spec: Any
) -> tuple[RunSpec, Given]:
    """What was asked, and the objects that were passed instead of named."""
    from robustcode.config import describe

    given, names = _given(model, data)
    return describe(**names, **spec), given


def _given(
    model: str | nn.Module, data: str | Dataset | tuple[Any, Any]
) -> tuple[Given, dict[str, Any]]:
    """The objects that were passed instead of named, and what a spec calls both."""
    from robustcode.subject import Given, as_dataset

    named_model = model if isinstance(model, str) else f"{type(model).__name__} (passed in)"
    dataset = None if isinstance(data, str) else as_dataset(data)
    named_data = data if isinstance(data, str) else f"{dataset.name if dataset else ''} (passed in)"
    given = Given(None if isinstance(model, str) else model, dataset)
    return given, {"model": named_model, "data": named_data}


def report(
    runs: Sequence[str | Path | Run] | str | Path | Run, out: str | Path, partial: bool = False
) -> dict[str, Path]:
    """Write report.html, .md, .tex, .csv and .json of one run, or of several side by side.

    Runs are read from their folders. With ``partial`` an unfinished or damaged one is reported as
    far as it is intact, and what is missing is said with every number. Returns the path of each
    format.
    """
    from robustcode.reports import report as render
    from robustcode.store import Run

    listed = [runs] if isinstance(runs, str | Path | Run) else list(runs)
    return render([run.path if isinstance(run, Run) else run for run in listed], out, partial)


def gate(
    run: str | Path | Run,
    *,
    min_robust: float | str | None = None,
    min_clean: float | str | None = None,
    min_certified: float | str | None = None,
    baseline: str | Path | Run | None = None,
    alpha: float | str = 0.05,
    allow_findings: str = "warning",
) -> Verdict:
    """Hold a run against what it must keep; ``holds``, ``sentence`` and ``conditions`` say how.

    Args:
        run: a run, or its folder.
        min_robust: the least that the lower end of the worst case's 95 % interval may be, as a
            share or as text like ``45%``.
        min_clean: likewise of clean accuracy.
        min_certified: likewise of certified accuracy.
        baseline: an earlier run of the same evaluation, against which no accuracy may be lost on
            the samples that both have.
        alpha: of the two-sided tests of such a loss.
        allow_findings: the gravest findings that pass: failure, warning or none.
    """
    from robustcode.reports.gating.asked import asked_of
    from robustcode.reports.gating.gate import judge

    minima = {"min_robust": min_robust, "min_clean": min_clean, "min_certified": min_certified}
    asked = asked_of(minima, alpha, allow_findings)
    return judge(_read(run), asked, None if baseline is None else _read(baseline))


def _read(run: str | Path | Run) -> Run:
    return load_run(run) if isinstance(run, str | Path) else run


def assert_robust(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    threat: str,
    at_least: float | str,
    *,
    out: str | Path | None = None,
    **spec: Any,
) -> Run:
    """Attack a classifier; AssertionError if it is not shown to keep so much of its accuracy.

    The lower end of the 95 % interval counts, and a finding of severity failure fails as well.
    pytest has it as a fixture of this name.

    Args:
        model: as in ``attack``.
        data: likewise.
        threat: likewise.
        at_least: the least worst-case accuracy, as a share or as text like ``45%``.
        out: the run folder; a new temporary one if not given.
        spec: what else ``attack`` takes: suite, attacks, defense, samples, ..
    """
    __tracebackhide__ = True  # a test that fails points at its own line
    from robustcode.asserted import assert_robust as checked

    return checked(model, data, threat, at_least, out=out, **spec)


def load_run(path: str | Path, partial: bool = False) -> Run:
    """A finished run as data, which shows itself in a notebook.

    ``summary``, ``findings`` and ``spec`` are what its files hold. DataFrames of pandas are
    ``records`` (a row per sample and attack), ``certificates`` (per proof), ``samples`` (what came
    of each sample) and ``attacks``; their columns are told in ``records.COLUMNS``,
    ``certificates.COLUMNS``, ``verdicts.SAMPLES`` and ``verdicts.ATTACKS``. With ``partial`` an
    unfinished or damaged run is read as far as it is intact; ``missing`` counts what is not there.
    """
    from robustcode.store import load_run as load

    return load(path, partial)
