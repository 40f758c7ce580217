"""Security curves: robust accuracy over a range of eps, each run starting from the last."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustcode.budget import past
from robustcode.components import number
from robustcode.config import RunSpec
from robustcode.engine import evaluate
from robustcode.errors import ConfigError, StoreError
from robustcode.notebook import curve_html
from robustcode.store import Run, write_json
from robustcode.subject import Given
from robustcode.threat import Norm, ThreatModel
from robustcode.values import parted

SCHEMA = 1


@dataclass(frozen=True)
class Curve:
    """Runs that differ in eps alone, in ascending order.

    Attributes:
        path: the folder they are in, with curve.json.
        threats: all that were asked for.
        runs: those that were begun; fewer if the time limit ended one.
    """

    path: Path
    threats: tuple[ThreatModel, ...]
    runs: tuple[Run, ...]

    @property
    def stopped(self) -> bool:
        """Whether the time limit ended it: the same command with more time finishes it."""
        return len(self.runs) < len(self.threats) or any(run.stopped for run in self.runs)

    @property
    def points(self) -> list[dict[str, Any]]:
        """One plain table per eps: accuracies with their intervals, and what they cost."""
        return [
            {
                "eps": threat.eps,
                "threat": str(threat),
                "run": run.path.name,
                "samples": run.summary["samples"],
                "clean": run.summary["clean"],
                "robust": run.summary["robust"],
                "passes": sum(a["forwards"] + a["backwards"] for a in run.summary["attacks"]),
                "cost": run.summary["cost"],
            }
            for threat, run in zip(self.threats, self.runs, strict=False)
        ]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return curve_html(str(self.path), self.points, len(self.threats) - len(self.runs))


def threats_of(norm: str, eps: str | Sequence[float | str]) -> tuple[ThreatModel, ...]:
    """Threat models in ascending order of ``eps``, a list or text such as ``0,1/255,2/255``."""
    try:
        known = Norm(norm.strip().lower())
    except ValueError:
        raise ConfigError(
            f"threat {norm!r} is no norm; a curve takes {', '.join(Norm)}, and the budgets in eps"
        ) from None
    parts = parted(eps, "eps") if isinstance(eps, str) else eps
    values = {number(part, "eps"): str(part).strip().endswith("/255") for part in parts}
    if not values:
        raise ConfigError("eps names no budget; give a list such as 1/255,2/255,4/255")
    if len(values) != len(parts):
        raise ConfigError(f"eps = {eps!r} names a budget twice")
    return tuple(ThreatModel(known, value, over_255=values[value]) for value in sorted(values))


def trace(
    spec: RunSpec,
    threats: Sequence[ThreatModel],
    out: Path,
    given: Given | None = None,
    show: bool = True,
) -> Curve:
    """Run ``spec`` under each of ``threats``, ascending, into folders of their own in ``out``.

    What is broken at one eps is broken at every larger one, by the same input; the others are
    first attacked from where the last run left them. The time limit of ``spec`` is that of the
    whole curve, its limit of passes that of each run. The same call goes on where it stopped.
    """
    _check(spec, out)
    deadline = None if spec.max_seconds is None else time.monotonic() + spec.max_seconds
    runs: list[Run] = []
    for place, threat in enumerate(threats):
        if runs and past(deadline):
            break
        # From a run in which nothing may move there is nothing to go on from.
        warm = str(runs[-1].path) if runs and threats[place - 1].eps > 0 else None
        own = dataclasses.replace(spec, threat=threat, warm=warm, cascade=spec.cascade is not False)
        runs.append(evaluate(own, out / f"eps-{place:02d}", given, show, deadline))
        if runs[-1].stopped:
            break
    curve = Curve(out, tuple(threats), tuple(runs))
    asked = [str(threat) for threat in threats]
    content = {"schema": SCHEMA, "stopped": curve.stopped, "asked": asked, "points": curve.points}
    write_json(out / "curve.json", content)
    return curve


def _check(spec: RunSpec, out: Path) -> None:
    """Refuse what cannot become a curve before its first run is begun."""
    if any(component.name == "warm" for component in spec.attacks):
        raise ConfigError(
            "a curve puts the attack 'warm' before the others by itself; leave out --attack warm"
        )
    if (out / "manifest.json").exists():
        raise StoreError(f"{out} is the folder of a single run; choose another --out for a curve")
