"""The ``robustcode`` command. stdout is the product, stderr the progress."""

from __future__ import annotations

import json
import re
import shlex
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from robustcode.errors import EngineError, RobustcodeError
from robustcode.usage import UsageError, sentence_of
from robustcode.wording import percent

app = typer.Typer(
    name="robustcode",
    help="How robust is a trained image classifier, really?",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# What Typer exits with when a command was interrupted.
INTERRUPTED = 130
# What a wrong request ends with.
WRONG = 2
# What `gate` exits with when a run does not keep what was asked of it: no error, but no.
GATE_FAILED = 1
# Columns beside a line's head that are too few to wrap text in.
NARROW = 24
CASCADE = (
    "the accuracy left after this attack and those before it, controls aside; it was given only "
    "what they had left standing"
)
EXPECTED = (
    "expected: the mean probability that one decision of the random defence is right under attack, "
    "as far as it is proved"
)
CHOSEN = (
    "the worst proposal of each sample was chosen on other draws than those it is judged on, so "
    "the worst case may stand above a row"
)

Model = Annotated[
    str,
    typer.Option(
        help="A registered architecture (see `list models`), timm:NAME, FILE.py:CALLABLE or "
        "package.module:CALLABLE."
    ),
]
Data = Annotated[
    str,
    typer.Option(help="digits, cifar10:DIR, mnist:DIR, npz:FILE, folder:DIR, .. (`list data`)."),
]
Checkpoint = Annotated[
    Path | None, typer.Option(help="Weights: safetensors, or a torch file read as data only.")
]
Mean = Annotated[
    str | None, typer.Option(help="Normalisation inside the model, per channel: M,M,M.")
]
Std = Annotated[str | None, typer.Option(help="Likewise.")]
Seed = Annotated[int, typer.Option(help="Names all randomness.")]
BatchSize = Annotated[int, typer.Option(help="Samples in a batch, and in a shard of a run.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")]
Threads = Annotated[int, typer.Option(help="CPU threads of each process.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
# What an evaluation takes, of one eps or of several.
Samples = Annotated[
    int | None, typer.Option(help="The first N samples of the split; all if not given.")
]
Indices = Annotated[
    Path | None, typer.Option(help="A file of sample indices instead: JSON list or numbers.")
]
Defense = Annotated[
    str,
    typer.Option(
        help="NAME:key=value,.. (see `list defenses`); a class of your own is FILE.py:CLASS:.. or "
        "package.module:CLASS:.."
    ),
]
Adversary = Annotated[
    str,
    typer.Option(
        help="Of a defence that classifies batches: who in one is adversarial (`list adversaries`)."
    ),
]
Suite = Annotated[
    str | None, typer.Option(help="See `list suites`; quick if no --attack is given.")
]
Attacks = Annotated[
    list[str] | None,
    typer.Option("--attack", help="NAME:key=value,.. (see `list attacks`); repeatable."),
]
Cascade = Annotated[
    bool | None,
    typer.Option(
        "--cascade/--each",
        help="Give an attack what those before it left standing, or every sample; "
        "a suite is a cascade if neither is given.",
    ),
]
Proved = Annotated[
    Path | None,
    typer.Option(
        help="A file of samples that are proved robust under the threat: they are not attacked "
        "and count as right."
    ),
]
Certified = Annotated[
    Path | None,
    typer.Option(
        help="The folder of a `certify` run of the same samples: one that is both certified and "
        "broken ends the run with exit code 3."
    ),
]
SkipCertified = Annotated[
    bool,
    typer.Option("--skip-certified", help="Do not attack what --certified proves for certain."),
]
MaxPasses = Annotated[
    int | None,
    typer.Option(help="Model passes, forward and backward, per sample, as the mean of a shard."),
]
MaxSeconds = Annotated[
    float | None,
    typer.Option(help="Stop attacking after so long; the same command with more time goes on."),
]
Draws = Annotated[
    int, typer.Option(help="Decisions of the judge per proposal, for stochastic defences.")
]
Workers = Annotated[int, typer.Option(help="Processes; the records are the same bytes.")]


@app.callback(invoke_without_command=True)
def _whole(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"robustcode {installed('robustcode')}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(WRONG)


@app.command()
def attack(
    model: Model,
    data: Data,
    threat: Annotated[str, typer.Option(help="NORM:EPS, e.g. linf:8/255, l2:0.5 or l1:12.")],
    out: Annotated[Path, typer.Option(help="The run folder; the same command resumes it.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Samples = None,
    indices: Indices = None,
    defense: Defense = "identity",
    adversary: Adversary = "solo",
    suite: Suite = None,
    attack: Attacks = None,
    cascade: Cascade = None,
    warm: Annotated[
        Path | None,
        typer.Option(help="An earlier run on the same defence, whose proposals are gone on from."),
    ] = None,
    proved: Proved = None,
    certified: Certified = None,
    skip_certified: SkipCertified = False,
    max_passes: MaxPasses = None,
    max_seconds: MaxSeconds = None,
    draws: Draws = 100,
    seed: Seed = 0,
    batch_size: BatchSize = 128,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Attack a checkpoint: clean and robust accuracy with intervals, per sample, with findings."""
    spec = _described(
        model=model,
        data=data,
        threat=threat,
        checkpoint=checkpoint,
        mean=mean,
        std=std,
        samples=samples,
        indices=indices,
        defense=defense,
        adversary=adversary,
        suite=suite,
        attacks=attack or (),
        cascade=cascade,
        warm=warm,
        proved=proved,
        certified=certified,
        skip_certified=skip_certified or None,
        max_passes=max_passes,
        max_seconds=max_seconds,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )
    _evaluate(spec, out, quiet)


@app.command()
def doctor(
    model: Model,
    data: Data,
    threat: Annotated[str, typer.Option(help="NORM:EPS, e.g. linf:8/255, l2:0.5 or l1:12.")],
    out: Annotated[Path, typer.Option(help="The run folder; the page is in its folder report.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[
        int | None,
        typer.Option(
            help="The first N samples of the split, over which those looked at are spread; all if "
            "not given."
        ),
    ] = None,
    indices: Indices = None,
    defense: Defense = "identity",
    adversary: Adversary = "solo",
    suite: Annotated[
        str | None,
        typer.Option(
            help="The evaluation to test (`list suites`); noise and PGD if none is named."
        ),
    ] = None,
    attack: Attacks = None,
    draws: Draws = 100,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Test an evaluation on 32 samples: can its number be trusted, and what to run next."""
    from robustcode.commands import INDICES
    from robustcode.doctoring import doctor as examine
    from robustcode.doctoring import usual
    from robustcode.reports import report as render

    spec = _described(
        model=model,
        data=data,
        threat=threat,
        checkpoint=checkpoint,
        mean=mean,
        std=std,
        samples=samples,
        indices=indices,
        defense=defense,
        adversary=adversary,
        suite=suite,
        attacks=attack or (),
        cascade=False,
        draws=draws,
        seed=seed,
        device=device,
        threads=threads,
    )
    found = examine(usual(spec) if suite is None and not attack else spec, out, show=not quiet)
    _print_checks(found.summary)
    page = render([out], out / "report")["html"]
    if command := found.summary["next"]:
        if indices is not None:
            command = command.replace(
                f"--indices {INDICES}", shlex.join(["--indices", str(indices)])
            )
        _say(f"next: {command}")
    _say(f"page: {page}")


@app.command()
def certify(
    model: Model,
    data: Data,
    threat: Annotated[str, typer.Option(help="NORM:EPS, e.g. l2:0.5 or linf:2/255.")],
    method: Annotated[
        str, typer.Option(help="NAME:key=value,.. (see `list methods`), e.g. smoothing:sigma=0.25.")
    ],
    out: Annotated[Path, typer.Option(help="The run folder; the same command resumes it.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Samples = None,
    indices: Indices = None,
    defense: Defense = "identity",
    adversary: Adversary = "solo",
    radii: Annotated[
        str | None,
        typer.Option(help="More radii besides eps, for a curve: 0.25,0.5,1.0 or 1/255,2/255."),
    ] = None,
    seed: Seed = 0,
    batch_size: BatchSize = 128,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Prove from below how robust a checkpoint is: certified accuracy, per sample."""
    from robustcode.config import describe_proof

    _certify(
        describe_proof(
            model=model,
            data=data,
            threat=threat,
            method=method,
            checkpoint=checkpoint,
            mean=mean,
            std=std,
            samples=samples,
            indices=_indices(indices),
            defense=defense,
            adversary=adversary,
            radii=radii,
            seed=seed,
            batch_size=batch_size,
            device=device,
            threads=threads,
            workers=workers,
        ),
        out,
        quiet,
    )


@app.command()
def corrupt(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="The run folder; the same command resumes it.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Samples = None,
    indices: Indices = None,
    defense: Defense = "identity",
    corruptions: Annotated[
        str | None,
        typer.Option(
            help="Names (see `list corruptions`) and groups: noise, blur, weather, digital; all if "
            "not given."
        ),
    ] = None,
    severities: Annotated[
        str | None, typer.Option(help="Which of 1 to 5: 1,3,5; all if not given.")
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="Whose strengths: cifar-10-c, tiny-imagenet-c or imagenet-c; by the images' size "
            "if not given."
        ),
    ] = None,
    draws: Annotated[int, typer.Option(help="Decisions per image, for stochastic defences.")] = 10,
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Images in a pass.")] = 128,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Fifteen common corruptions at five severities: error, NLL and calibration error."""
    from robustcode.config import describe_corruptions

    _corrupt(
        describe_corruptions(
            model=model,
            data=data,
            checkpoint=checkpoint,
            mean=mean,
            std=std,
            samples=samples,
            indices=_indices(indices),
            defense=defense,
            corruptions=corruptions or (),
            severities=severities or (),
            scale=scale,
            draws=draws,
            seed=seed,
            batch_size=batch_size,
            device=device,
            threads=threads,
            workers=workers,
        ),
        out,
        quiet,
    )


@app.command()
def curve(
    model: Model,
    data: Data,
    threat: Annotated[str, typer.Option(help="The norm alone: linf, l2 or l1.")],
    eps: Annotated[str, typer.Option(help="The budgets: 1/255,2/255,4/255; 0 is allowed.")],
    out: Annotated[Path, typer.Option(help="Where a run folder per eps and curve.json go.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Samples = None,
    indices: Indices = None,
    defense: Defense = "identity",
    adversary: Adversary = "solo",
    suite: Suite = None,
    attack: Attacks = None,
    cascade: Cascade = None,
    max_passes: MaxPasses = None,
    max_seconds: MaxSeconds = None,
    draws: Draws = 100,
    seed: Seed = 0,
    batch_size: BatchSize = 128,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Workers = 1,
    quiet: Quiet = False,
) -> None:
    """Robust accuracy over a range of eps, each run starting from the last; see `report`."""
    from robustcode.curves import threats_of, trace

    threats = threats_of(threat, eps)
    spec = _described(
        model=model,
        data=data,
        threat=str(threats[0]),
        checkpoint=checkpoint,
        mean=mean,
        std=std,
        samples=samples,
        indices=indices,
        defense=defense,
        adversary=adversary,
        suite=suite,
        attacks=attack or (),
        cascade=cascade,
        max_passes=max_passes,
        max_seconds=max_seconds,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )
    traced = trace(spec, threats, out, show=not quiet)
    _print_curve(traced)
    if traced.stopped:
        raise typer.Exit(EngineError.exit_code)


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(help="A spec in TOML, e.g. RUN/spec.toml.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder; else `out` in the file, else the spec's name + -run."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, instead of the file's.")] = None,
    max_seconds: MaxSeconds = None,
    quiet: Quiet = False,
) -> None:
    """Run an evaluation described in a file."""
    import dataclasses

    from robustcode.config import CertifySpec, CorruptSpec, RunSpec, read_spec
    from robustcode.errors import ConfigError

    described, named = read_spec(spec)
    if workers is not None:
        described = dataclasses.replace(described, workers=workers)
    if out is None:
        out = spec.parent / named if named else _beside(spec)
    if isinstance(described, CertifySpec | CorruptSpec):
        certifies = isinstance(described, CertifySpec)
        if max_seconds is not None:
            what = "certificates" if certifies else "corruptions"
            raise ConfigError(f"max_seconds ends attacks, and this spec is of {what}; leave it out")
        (_certify if certifies else _corrupt)(described, out, quiet)
        return
    if max_seconds is not None and isinstance(described, RunSpec):
        described = dataclasses.replace(described, max_seconds=max_seconds)
    _evaluate(described, out, quiet)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several make a comparison.")],
    out: Annotated[Path, typer.Option(help="Where the report is written.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Report what is intact of unfinished or damaged runs.")
    ] = False,
) -> None:
    """Write report.html, .md, .tex, .csv and .json, figures and tables from run folders."""
    from robustcode.reports import report as render

    written = render(runs, out, partial)
    reports = [path for path in written.values() if path.stem == "report"]
    for path in reports:
        typer.echo(path)
    typer.echo(f"{len(written) - len(reports)} figures, tables and other files are beside them")


@app.command()
def gate(
    run: Annotated[Path, typer.Argument(help="A run folder of `attack`, `certify` or `corrupt`.")],
    min_robust: Annotated[
        str | None,
        typer.Option(help="The least worst-case accuracy: .45 or 45%. The interval's lower end."),
    ] = None,
    min_clean: Annotated[str | None, typer.Option(help="Likewise of clean accuracy.")] = None,
    min_certified: Annotated[
        str | None, typer.Option(help="Likewise of certified accuracy.")
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="An earlier run of the same evaluation: no accuracy may be lost."),
    ] = None,
    alpha: Annotated[str, typer.Option(help="Of the tests of a loss, two-sided.")] = "0.05",
    allow_findings: Annotated[
        str, typer.Option(help="The gravest findings that pass: failure, warning or none.")
    ] = "warning",
    junit: Annotated[Path | None, typer.Option(help="JUnit XML to write.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="SARIF to write.")] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(
            help="A model card, such as README.md, to put the results into; or a new one."
        ),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Where the report can be seen; the model card names it as source.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Hold a run against what it must keep: exit code 0 if it does, 1 if it does not."""
    from robustcode.reports.gating.asked import asked_of
    from robustcode.reports.gating.files import write_files
    from robustcode.reports.gating.gate import judge
    from robustcode.store import load_run

    minima = {"min_robust": min_robust, "min_clean": min_clean, "min_certified": min_certified}
    asked = asked_of(minima, alpha, allow_findings, typed=True)
    earlier = None if baseline is None else load_run(baseline)
    verdict = judge(load_run(run), asked, earlier)
    written = write_files(verdict, junit=junit, sarif=sarif, model_card=model_card, url=url)
    if as_json:
        found = {**verdict.plain(), "written": [str(file) for file in written]}
        typer.echo(json.dumps(found, indent=2, allow_nan=False))
    else:
        # The sentence tells the decisive one.
        for condition in verdict.conditions:
            if condition is not verdict.decisive:
                _say(f"{'holds' if condition.holds else 'fails'}: {condition.said}")
        for finding in verdict.let_through:
            _say(f"let through: {finding.said}")
        for file in written:
            _say(f"wrote: {file}")
        _say(verdict.sentence)
    if not verdict.holds:
        raise typer.Exit(GATE_FAILED)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="RECIPE:key=value,.. (see `list recipes`).")],
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="The checkpoint to write, FILE.safetensors.")],
    epochs: Annotated[int, typer.Option(help="Passes over the train split.")] = 30,
    seed: Seed = 0,
    samples: Annotated[int | None, typer.Option(help="Train on so many samples only.")] = None,
    batch_size: BatchSize = 128,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    lr: Annotated[float | None, typer.Option(help="Learning rate; 0.001, or 0.1 with sgd.")] = None,
    schedule: Annotated[str, typer.Option(help="cosine or constant.")] = "cosine",
    weight_decay: Annotated[float, typer.Option(help="Factor of the l2 penalty's gradient.")] = 0.0,
    augment: Annotated[bool, typer.Option("--augment", help="Random crops and mirroring.")] = False,
    mean: Mean = None,
    std: Std = None,
    device: Device = "cpu",
    threads: Threads = 1,
    quiet: Quiet = False,
) -> None:
    """Train a classifier; the same command goes on from the last finished epoch."""
    from robustcode.components import convert
    from robustcode.training import Optimizer, Schedule, TrainSpec
    from robustcode.training import train as train_classifier
    from robustcode.values import numbers

    chosen = convert(optimizer, Optimizer, "optimizer")
    spec = TrainSpec(
        recipe=recipe,
        model=model,
        data=data,
        epochs=epochs,
        seed=seed,
        samples=samples,
        batch_size=batch_size,
        optimizer=chosen,
        lr=lr if lr is not None else {Optimizer.ADAM: 1e-3, Optimizer.SGD: 0.1}[chosen],
        schedule=convert(schedule, Schedule, "schedule"),
        weight_decay=weight_decay,
        augment=augment,
        mean=numbers(mean or "", "mean"),
        std=numbers(std or "", "std"),
    )
    result = train_classifier(spec, out, device=device, threads=threads, progress=not quiet)
    if not result.trained:
        typer.echo("finished before; nothing was trained")
    for name in ("epochs", "loss", "train_accuracy", "test_accuracy", "seconds", "sha256"):
        typer.echo(f"{name.replace('_', ' ')}: {getattr(result, name)}")
    typer.echo(out)


@app.command()
def audit(
    rule: Annotated[
        str,
        typer.Argument(
            help="NAME:key=value,.. (see `list rules`), or table:file=FILE with a rule's looks and "
            "boundaries."
        ),
    ],
    probability: Annotated[
        float | None, typer.Option(help="The probability that certification says is exceeded.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Instead, with --radius: the scale of Gaussian noise.")
    ] = None,
    radius: Annotated[float | None, typer.Option(help="Likewise: the l2 radius.")] = None,
    alpha: Annotated[
        float, typer.Option(help="The error that the rule says it makes at most.")
    ] = 0.001,
    draws: Annotated[
        int | None, typer.Option(help="Draws of a stream at most; the rule's own if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """The true error of a stopping rule for random draws, computed exactly: no simulation."""
    from dataclasses import asdict

    from robustcode.errors import ConfigError
    from robustcode.noise import Gaussian
    from robustcode.stopping.audit import audit as examine

    if probability is None and sigma is not None and radius is not None:
        if sigma <= 0 or radius < 0:
            raise ConfigError(
                f"sigma = {sigma:g} must be above 0, and radius = {radius:g} not below"
            )
        probability = Gaussian(sigma=sigma).probability(radius)
    elif probability is None or sigma is not None or radius is not None:
        raise ConfigError("name the bound as --probability P, or as --sigma S with --radius R")
    found = examine(rule, probability, alpha, draws)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "outcome": found.outcome}, indent=2))
        return
    cells = [
        (f"{truth:.6f}", f"{found.power[truth]:.3g}", f"{found.draws[truth]:,.0f}", "")
        for truth in found.power
    ]
    notes = [
        "the first row is the bound itself, where a certificate is an error: its probability is "
        f"{found.error:.4g}, {found.share:.3f} times alpha = {found.alpha:g}; {found.rule} "
        f"{found.outcome}"
    ]
    _print_table(("true probability", "certifies", "mean draws", ""), cells, notes)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where runs and report are written.")] = Path("demo"),
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    quiet: Quiet = False,
) -> None:
    """The main job on embedded data and checkpoints: attack, compare, report. No network."""
    from robustcode.demo import run_demo

    typer.echo(run_demo(out, workers=workers, show=not quiet))


@app.command("list")
def list_(
    what: Annotated[
        str | None,
        typer.Argument(
            help="attacks, defenses, adversaries, models, data, recipes, methods, corruptions, "
            "rules, suites, checks, or the attacks of a library: torchattacks, foolbox; their "
            "names if not given."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What is registered, built in and from plug-ins."""
    from robustcode.listing import kinds, listing

    if what is None:
        typer.echo(json.dumps(kinds(), indent=2) if as_json else "\n".join(kinds()))
        return
    entries = listing(what)
    if as_json:
        typer.echo(json.dumps(entries, indent=2))
        return
    width = max((len(entry["name"]) for entry in entries), default=0)
    for entry in entries:
        typer.echo(f"{entry['name']:{width}}  {entry['summary']}".rstrip())
        if entry["settings"]:
            pairs = (f"{k}={'..' if v is None else v}" for k, v in entry["settings"].items())
            typer.echo(f"{'':{width}}  {', '.join(pairs)}")


@app.command()
def check(
    kind: Annotated[str, typer.Argument(help="attack, defense or method.")],
    name: Annotated[str, typer.Argument(help="NAME or NAME:key=value,..")],
) -> None:
    """The contract suite on one component: what it promises, tried."""
    from robustcode.testing import check_component

    for line in check_component(kind, name):
        typer.echo(line)


@app.command()
def explain(
    code: Annotated[str, typer.Argument(help="Of a check or finding (see `list checks`).")],
) -> None:
    """The page of a check: when it is raised, why it matters, what to do, and how it can err."""
    from robustcode.checks.pages import told

    for place, paragraph in enumerate(told(code)):
        if place:
            _say("")
        _tell("", paragraph)


def main() -> None:
    """Run the command; an error made on purpose is one sentence and its exit code."""
    sys.exit(call(app))


def call(command: Callable[..., Any]) -> int:
    """The exit code of a command: 0 done, 2 wrong request, 3 broken contract, 4 incomplete.

    `gate` alone ends with 1 as well, where a run fails it.
    """
    try:
        code = command(standalone_mode=False)
    except SystemExit as end:
        code = end.code
    except UsageError as wrong:
        return _refused(sentence_of(wrong), WRONG)
    except RobustcodeError as wrong:
        return _refused(str(wrong), wrong.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        said = "interrupted; the same command goes on from here"
        return _refused(said, EngineError.exit_code)
    return code if isinstance(code, int) else 0


def _refused(said: str, code: int) -> int:
    print(f"robustcode: {' '.join(said.split())}", file=sys.stderr)
    return code


def _described(*, indices: Path | None, proved: Path | None = None, **named: Any) -> Any:
    """A RunSpec from the options, files read."""
    from robustcode.config import describe
    from robustcode.values import read_proved

    return describe(
        indices=_indices(indices),
        proved=None if proved is None else read_proved(proved),
        **named,
    )


def _indices(file: Path | None) -> Any:
    from robustcode.values import read_indices

    return None if file is None else read_indices(file)


def _certify(spec: Any, out: Path, quiet: bool) -> None:
    """Run and print what came of it."""
    from robustcode.certification import certify
    from robustcode.certified import told
    from robustcode.summary import tally

    summary = certify(spec, out, show=not quiet).summary
    certified, count = summary["certified"], summary["samples"]
    heads = ("", "accuracy", "95 % interval", f"of {count}")
    rows = [("clean", summary["clean"])]
    for row in certified["curve"]:
        rows.append((f"certified at {told(row['radius'])}", row))
    cells = [(name, *_measured(row, count), _right(row, count)) for name, row in rows]
    if certified["expected"]:
        cells.append(("expected, at least", *_measured(certified["expected"], count), ""))
    notes = [
        f"by {certified['method']}; clean counts the class that the method found",
        *([EXPECTED] if certified["expected"] else []),
        f"{certified['abstained']} abstained, {certified['undecided']} right but not proved at "
        f"{summary['threat']}, {certified['wrong']} wrong",
    ]
    if certified["alpha"] and certified["correct"]:
        notes.append(
            f"each proof is false with probability {certified['alpha']:g} at most: with "
            f"probability 99 % no more than {certified['false_at_most']} of the "
            f"{certified['correct']} at {summary['threat']}"
        )
    _print_table(heads, cells, notes)
    _print_findings(summary["findings"])
    _say(f"checks: {tally(line['status'] for line in summary['checks'])}")
    typer.echo(out)


def _corrupt(spec: Any, out: Path, quiet: bool) -> None:
    """Run and print error in percent, NLL and calibration error, by corruption and on average."""
    from robustcode.corrupted import notes_of
    from robustcode.corrupting import corrupt
    from robustcode.summary import tally

    summary = corrupt(spec, out, show=not quiet).summary
    means = summary["corruption_means"]
    severities = sorted({cell["severity"] for cell in summary["corruptions"]})
    errors = {
        (cell["corruption"], cell["severity"]): percent(1 - cell["accuracy"], None)
        for cell in summary["corruptions"]
    }
    none = [""] * len(severities)
    cells = [("clean", *none, *_averages(summary["clean"]))]
    for name, row in means["corruptions"].items():
        cells.append((name, *(errors[name, severity] for severity in severities), *_averages(row)))
    groups = means["groups"] if len(means["groups"]) > 1 else {}
    cells += [(f"mean of {group}", *none, *_averages(row)) for group, row in groups.items()]
    cells.append((f"mean of all {means['all']['cells']}", *none, *_averages(means["all"])))
    heads = ("error, %", *map(str, severities), "mean", "95 %", "NLL", "calib.")
    counted = "95 %: the interval of the mean; a sample counts once in it, however often spoilt"
    _print_table(heads, cells, [counted, *notes_of(summary)])
    _print_findings(summary["findings"])
    _say(f"checks: {tally(line['status'] for line in summary['checks'])}")
    typer.echo(out)


def _averages(row: Any) -> tuple[str, ...]:
    """Error and its interval in percent, NLL, and calibration error."""
    low, high = (percent(1 - row[end], None) for end in ("high", "low"))
    told = [f"{row[what]:.3f}" if row[what] is not None else "" for what in ("nll", "calibration")]
    return (percent(1 - row["accuracy"], None), f"{low}-{high}", *told)


def _evaluate(spec: Any, out: Path, quiet: bool) -> None:
    """Run, print what came of it, and leave with 4 if the time limit ended it."""
    from robustcode.engine import evaluate
    from robustcode.summary import tally

    finished = evaluate(spec, out, show=not quiet)
    summary = finished.summary
    heads = ("", "accuracy", "95 % interval", f"of {summary['samples']}")
    rows = [("clean", summary["clean"])]
    for row in summary["attacks"]:
        rows.append((f"after {row['name']}" if row["after"] else row["name"], row))
    rows += [("worst case", summary["robust"])]
    if summary["certified"]:
        rows += [("certified", summary["certified"])]
    cells = [
        (name, *_measured(row, summary["samples"]), _right(row, summary["samples"]))
        for name, row in rows
    ]
    notes = []
    if summary["stochastic"]:
        draws = summary["stochastic"]["draws"]
        notes.append(f"accuracies are expectations over {draws} draws of the defence; {CHOSEN}")
    if summary["detector"]:
        notes.append(
            f"the defence refused {summary['detector']['clean_refused']:.1%} of decisions on clean "
            f"inputs, counted as wrong, and {summary['detector']['attacked_refused']:.1%} on the "
            "worst perturbed ones, counted as held"
        )
    if any(row["after"] for row in summary["attacks"]):
        notes.append(f"after: {CASCADE}")
    if summary["proved"]:
        notes.append(f"{summary['proved']} proved robust beforehand, not attacked")
    _print_table(heads, cells, notes)
    _print_findings(summary["findings"])
    _say(f"checks: {tally(line['status'] for line in summary['checks'])}")
    _say(str(out))
    if finished.stopped:
        raise typer.Exit(EngineError.exit_code)


def _print_findings(findings: Sequence[Any], before: str = "") -> None:
    """Each with its remedy; those that an added attack has answered in a line an attack."""
    from robustcode.summary import ANSWERED

    answered: dict[str, list[str]] = {}
    for finding in findings:
        what, _, by = finding["what"].partition(ANSWERED)
        if by:
            answered.setdefault(by, []).append(finding["code"])
            continue
        _tell(f"{before}{finding['severity']}: {finding['code']}: ", what, 4)
        _tell("    ", finding["remedy"])
    for by, codes in answered.items():
        _tell(f"{before}answered: ", f"{', '.join(codes)}: {by}", 4)


def _print_checks(summary: Any) -> None:
    """What was looked at, one line a check, what to do, and how far the number can be trusted."""
    from robustcode.repair import LEFT
    from robustcode.summary import ANSWERED, tally

    tested, of = summary["samples"], summary["tested"]
    _tell(f"{summary['data']}: ", f"{tested} of {of} samples" + ", spread over all" * (tested < of))
    rows = [("clean", summary["clean"]), *((a["name"], a) for a in summary["attacks"])]
    rows += [("worst case", summary["robust"])]
    right = ", ".join(f"{name} {row['accuracy']:.1%}" for name, row in rows)
    _tell(f"right in {summary['threat']}: ", right)
    made = [line for line in summary["checks"] if line["status"] != "not applicable"]
    status = max((len(line["status"]) for line in made), default=0)
    code = max((len(line["code"]) for line in made), default=0)
    group = None
    for line in made:
        if line["group"] != group:
            group = line["group"]
            _say(f"{group}:")
        said, by, _ = line["said"].partition(ANSWERED)
        _tell(f"  {line['status']:{status}}  {line['code']:{code}}  ", said + by.rstrip(": "))
    answered = [finding for finding in summary["findings"] if ANSWERED in finding["what"]]
    _print_findings(answered)
    weak = [finding for finding in summary["findings"] if finding["severity"] != "info"]
    # What no attack can answer comes first: until it is mended, an attack is spent in vain.
    for head, found in (
        (
            "to mend first; then this again with another --out",
            [f for f in weak if f["code"] in LEFT],
        ),
        ("to attack with, or to mend", [f for f in weak if f["code"] not in LEFT]),
    ):
        if found:
            _say(f"{head}:")
        for finding in found:
            _tell(f"  {finding['severity']}: {finding['code']}: ", finding["remedy"], 4)
    _say(f"checks: {tally(line['status'] for line in summary['checks'])}")
    grave = any(finding["severity"] == "failure" for finding in weak)
    verdict = f"nothing was found that weakens the evidence, on {tested} of {of} samples"
    if answered:
        verdict = (
            f"what was found is answered by attacks that were added, on {tested} of {of} samples"
        )
    if weak:
        verdict = "do not rely on these accuracies" if grave else "the evidence is weakened"
    _say(f"verdict: {verdict}")


def _print_curve(traced: Any) -> None:
    cells = []
    for point in traced.points:
        robust = point["robust"]
        passes = f"{point['passes']:,}"
        right = _right(robust, point["samples"])
        cells.append((point["threat"], *_measured(robust, point["samples"]), right, passes))
    count = traced.points[0]["samples"]
    _print_table(("", "accuracy", "95 % interval", f"of {count}", "passes"), cells, [])
    for threat in traced.threats[len(traced.runs) :]:
        _say(f"{threat} was not begun: the same command with more time goes on")
    for point, run in zip(traced.points, traced.runs, strict=True):
        _print_findings(run.summary["findings"], f"{point['threat']}: ")
    _say(str(traced.path))


def _measured(row: Any, samples: int) -> tuple[str, str]:
    """An accuracy, or between what it lies if some are unfinished, and its interval."""
    left, accuracy = row.get("unfinished"), f"{row['accuracy']:.4f}"
    if left:
        accuracy += f" to {row['accuracy_high']:.4f} ({left} of {samples} unfinished)"
    return accuracy, f"{row['low']:.4f} to {row['high']:.4f}"


def _right(row: Any, samples: int) -> str:
    """How many were right, of how many if that is not all of ``samples``."""
    of = row.get("samples", samples)
    most = f" to {row['accuracy_high'] * of:g}" if row.get("unfinished") else ""
    return f"{row['correct']:g}{most}" + (f" of {of}" if of != samples else "")


def _print_table(heads: Sequence[str], cells: Sequence[Sequence[str]], notes: list[str]) -> None:
    console = Console(file=sys.stdout, highlight=False, markup=False)
    table = Table(box=None, pad_edge=False)
    numbers = [max(map(len, column)) for column in zip(heads, *cells, strict=True)][1:]
    # Two spaces stand between columns; where numbers alone fill a line, names get this much.
    width = max(20, console.width - sum(numbers) - 2 * len(numbers))
    for head in heads:
        # Names are told whole: two attacks may differ in their last setting only.
        table.add_column(head, justify="left" if not head else "right", overflow="fold")
    for name, *others in cells:
        table.add_row(_folded(name, width), *others)
    console.print(table)
    for note in notes:
        _say(note)


def _folded(name: str, width: int) -> str:
    """A name in lines that end after a space, comma or colon, where it has them."""
    lines = [""]
    for part in re.split(r"(?<=[ ,:])", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("  ")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _tell(head: str, text: str, indent: int | None = None) -> None:
    """Head and text: one line for programs, on a terminal as many as it takes under the text.

    ``indent`` is where further lines begin; under the text if None.
    """
    console = Console(file=sys.stdout)
    if not console.is_terminal:
        _say(head + text)
        return
    under = len(head) if indent is None else indent
    if console.width - under < NARROW:
        under = 4
    for line in textwrap.wrap(
        head + text,
        console.width,
        subsequent_indent=" " * under,
        # Not within a name: attacks and codes are to be copied.
        break_long_words=False,
        break_on_hyphens=False,
    ):
        _say(line)


def _say(text: str) -> None:
    Console(file=sys.stdout, highlight=False, markup=False).print(text, soft_wrap=True)


def _beside(spec: Path) -> Path:
    """Where a spec runs by default: next to it, never into the folder it came from."""
    if (spec.parent / "manifest.json").exists():
        return spec.resolve().parent.with_name(f"{spec.resolve().parent.name}-repeat")
    return spec.with_name(f"{spec.stem}-run")
