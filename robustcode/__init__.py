"""How robust is a trained image classifier, really?

``attack`` evaluates a classifier with or without a defence into a run folder, ``report`` sets run
folders side by side, ``load_run`` reads one as data. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from robustcode.data import Dataset
    from robustcode.store import Run

__all__ = ["attack", "load_run", "report"]


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
            in [0, 1] to logits.
        data: a name as for ``--data``, a data set, or (images, labels).
        threat: the norm and its budget, e.g. ``linf:8/255``.
        out: the run folder.
        suite: quick, standard or adaptive; quick if neither it nor ``attacks`` is given.
        attacks: more attacks, as ``NAME:key=value,..``.
        defense: what is around the model, as ``NAME:key=value,..``.
        progress: show a bar on stderr.
        spec: the remaining fields of ``config.RunSpec``: checkpoint, mean, std, samples, indices,
            draws, seed, batch_size, device, threads, workers.
    """
    from robustcode.config import describe
    from robustcode.engine import evaluate
    from robustcode.subject import Given, as_dataset

    named_model = model if isinstance(model, str) else f"{type(model).__name__} (passed in)"
    dataset = None if isinstance(data, str) else as_dataset(data)
    given = Given(None if isinstance(model, str) else model, dataset)
    described = describe(
        model=named_model,
        data=data if isinstance(data, str) else f"{dataset.name if dataset else ''} (passed in)",
        threat=threat,
        suite=suite,
        attacks=attacks,
        defense=defense,
        **spec,
    )
    return evaluate(described, Path(out), given, show=progress)


def report(runs: Sequence[str | Path] | str | Path, out: str | Path) -> dict[str, Path]:
    """Write report.html, .md, .tex, .csv and .json of one run, or of several side by side.

    Returns the path of each format.
    """
    from robustcode.reports import report as render

    listed = [runs] if isinstance(runs, str | Path) else list(runs)
    return render(listed, out)


def load_run(path: str | Path) -> Run:
    """A finished run: its summary, findings, spec, and a pandas DataFrame of its records."""
    from robustcode.store import load_run as load

    return load(path)
