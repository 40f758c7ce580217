"""An assertion for a test: a model is attacked, and is shown to keep so much of its accuracy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from robustcode.data import Dataset
    from robustcode.store import Run


def assert_robust(
    model: str | nn.Module,
    data: str | Dataset | tuple[Any, Any],
    threat: str,
    at_least: float | str,
    *,
    out: str | Path | None = None,
    **spec: Any,
) -> Run:
    """See robustcode.assert_robust."""
    __tracebackhide__ = True
    from robustcode import attack
    from robustcode.errors import ConfigError
    from robustcode.reports.escape import plain
    from robustcode.reports.gating.asked import Asked, share
    from robustcode.reports.gating.gate import judge

    # Before the attack: what is asked wrongly should not cost one.
    asked = Asked(min_robust=share(at_least, "at_least"))
    folder = Path(tempfile.mkdtemp(prefix="robustcode-")) / "run" if out is None else Path(out)
    if not isinstance(model, str) and (folder / "manifest.json").exists():
        raise ConfigError(
            f"{folder} holds a run already, and by its weights alone it cannot be told whether "
            "that is of this model's code; name another folder, or none"
        )
    run = attack(model, data, threat, folder, **{"progress": False, **_place(model), **spec})
    verdict = judge(run, asked)
    if not verdict.holds:
        failed = " and ".join(condition.said for condition in verdict.failed)
        codes = ", ".join(dict.fromkeys(str(found.get("code")) for found in run.findings))
        raise AssertionError(
            f"the model is not shown to be robust: {failed} (run folder {folder}; findings: "
            f"{plain(codes) or 'none'})"
        )
    return run


def _place(model: str | nn.Module) -> dict[str, str]:
    """The device that a module is on: a test should not find it moved afterwards."""
    first = None if isinstance(model, str) else next(model.parameters(), None)
    return {} if first is None else {"device": str(first.device)}
