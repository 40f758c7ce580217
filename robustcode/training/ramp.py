"""How a recipe grows harder: along a straight line over a part of the run."""

from __future__ import annotations

from robustcode.errors import ConfigError


def climbed(done: float, start: float, length: float) -> float:
    """How far a ramp is climbed after the fraction ``done`` of a run, in [0, 1].

    It is 0 before ``start`` and 1 from ``start + length`` on, all three fractions of the run.

    >>> [climbed(done, start=0.25, length=0.5) for done in (0.125, 0.5, 0.75)]
    [0.0, 0.5, 1.0]
    """
    if done < start:
        return 0.0
    # A ramp of no length is a step.
    return 1.0 if done - start >= length else (done - start) / length


def check_share(name: str, value: float, of: str) -> None:
    """Raise ConfigError unless the setting ``name`` is a share, in [0, 1], ``of`` something."""
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} = {value:g}: it is a share of {of}, in [0, 1]")
