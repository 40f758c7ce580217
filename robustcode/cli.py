"""The ``robustcode`` command. stdout is the product, stderr the progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from robustcode.errors import EngineError, RobustcodeError

app = typer.Typer(
    name="robustcode",
    help="How robust is a trained image classifier, really?",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

# What Typer exits with when a command was interrupted.
INTERRUPTED = 130

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


@app.command()
def attack(
    model: Model,
    data: Data,
    threat: Annotated[str, typer.Option(help="NORM:EPS, e.g. linf:8/255, l2:0.5 or l1:12.")],
    out: Annotated[Path, typer.Option(help="The run folder; the same command resumes it.")],
    checkpoint: Checkpoint = None,
    mean: Mean = None,
    std: Std = None,
    samples: Annotated[
        int | None, typer.Option(help="The first N samples of the split; all if not given.")
    ] = None,
    indices: Annotated[
        Path | None, typer.Option(help="A file of sample indices instead: JSON list or numbers.")
    ] = None,
    defense: Annotated[
        str, typer.Option(help="NAME:key=value,.. (see `list defenses`).")
    ] = "identity",
    suite: Annotated[
        str | None, typer.Option(help="quick, standard or adaptive; quick if no --attack is given.")
    ] = None,
    attack: Annotated[
        list[str] | None, typer.Option(help="NAME:key=value,.. (see `list attacks`); repeatable.")
    ] = None,
    cascade: Annotated[
        bool | None,
        typer.Option(
            "--cascade/--each",
            help="Give an attack what those before it left standing, or every sample; "
            "a suite is a cascade if neither is given.",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option(help="Decisions of the judge per proposal, for stochastic defences.")
    ] = 100,
    seed: Seed = 0,
    batch_size: BatchSize = 128,
    device: Device = "cpu",
    threads: Threads = 1,
    workers: Annotated[int, typer.Option(help="Processes; the records are the same bytes.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Attack a checkpoint: clean and robust accuracy with intervals, per sample, with findings."""
    from robustcode.config import describe, read_indices

    spec = describe(
        model=model,
        data=data,
        threat=threat,
        checkpoint=checkpoint,
        mean=mean,
        std=std,
        samples=samples,
        indices=None if indices is None else read_indices(indices),
        defense=defense,
        suite=suite,
        attacks=attack or (),
        cascade=cascade,
        draws=draws,
        seed=seed,
        batch_size=batch_size,
        device=device,
        threads=threads,
        workers=workers,
    )
    _evaluate(spec, out, quiet)


@app.command()
def run(
    spec: Annotated[Path, typer.Argument(help="A spec in TOML, e.g. RUN/spec.toml.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The run folder; else `out` in the file, else the spec's name + -run."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes, instead of the file's.")] = None,
    quiet: Quiet = False,
) -> None:
    """Run an evaluation described in a file."""
    import dataclasses

    from robustcode.config import read_spec

    described, named = read_spec(spec)
    if workers is not None:
        described = dataclasses.replace(described, workers=workers)
    if out is None:
        out = spec.parent / named if named else _beside(spec)
    _evaluate(described, out, quiet)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several make a comparison.")],
    out: Annotated[Path, typer.Option(help="Where the report is written.")],
) -> None:
    """Write report.html, .md, .tex, .csv and .json from run folders."""
    from robustcode.reports import report as render

    for path in render(runs, out).values():
        typer.echo(path)


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
    from robustcode.config import numbers
    from robustcode.training import Optimizer, Schedule, TrainSpec
    from robustcode.training import train as train_classifier

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
        str, typer.Argument(help="attacks, defenses, models, data, recipes, methods or suites.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """What is registered, built in and from plug-ins."""
    from robustcode.listing import listing

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
    kind: Annotated[str, typer.Argument(help="attack or defense.")],
    name: Annotated[str, typer.Argument(help="NAME or NAME:key=value,..")],
) -> None:
    """The contract suite on one component: what it promises, tried."""
    from robustcode.testing import check_component

    for line in check_component(kind, name):
        typer.echo(line)


def main() -> None:
    """Run the command; an error made on purpose is one sentence and its exit code."""
    sys.exit(call(app))


def call(command: Callable[..., Any]) -> int:
    """The exit code of a command: 0 done, 2 wrong request, 3 broken contract, 4 incomplete."""
    try:
        command(standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            return _interrupted()
        return end.code if isinstance(end.code, int) else 0
    except RobustcodeError as wrong:
        print(f"robustcode: {' '.join(str(wrong).split())}", file=sys.stderr)
        return wrong.exit_code
    except KeyboardInterrupt:
        return _interrupted()
    return 0


def _interrupted() -> int:
    print("robustcode: interrupted; the same command goes on from here", file=sys.stderr)
    return EngineError.exit_code


def _evaluate(spec: Any, out: Path, quiet: bool) -> None:
    from robustcode.engine import evaluate

    finished = evaluate(spec, out, show=not quiet)
    summary = finished.summary
    table = Table(box=None, pad_edge=False)
    for head in ("", "accuracy", "95 % interval", f"of {summary['samples']}"):
        # Names are told whole: two attacks may differ in their last setting only.
        table.add_column(head, justify="left" if not head else "right", overflow="fold")
    rows = [("clean", summary["clean"])]
    rows += [(row["name"], row) for row in summary["attacks"]]
    rows += [("worst case", summary["robust"])]
    for name, row in rows:
        table.add_row(
            name,
            f"{row['accuracy']:.4f}",
            f"{row['low']:.4f} to {row['high']:.4f}",
            f"{row['correct']:g}",
        )
    console = Console(file=sys.stdout, highlight=False, markup=False)
    console.print(table)
    for finding in summary["findings"]:
        said = f"{finding['severity']}: {finding['code']}: {finding['what']}"
        console.print(said, soft_wrap=True)
        console.print(f"    {finding['remedy']}", soft_wrap=True)
    console.print(f"{out}", soft_wrap=True)


def _beside(spec: Path) -> Path:
    """Where a spec runs by default: next to it, never into the folder it came from."""
    if (spec.parent / "manifest.json").exists():
        return spec.resolve().parent.with_name(f"{spec.resolve().parent.name}-repeat")
    return spec.with_name(f"{spec.stem}-run")
