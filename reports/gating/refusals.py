"""Runs of which a gate gives no verdict: a part of one, an altered one, one held against itself."""

from __future__ import annotations

from robustcode.errors import ConfigError, StoreError
from robustcode.reports.sections.findings import silenced
from robustcode.reports.source import Source, as_text


def refuse_itself(source: Source, baseline: Source) -> None:
    """ConfigError for a run that is its own baseline: it could lose nothing."""
    if source.run.path.resolve() == baseline.run.path.resolve():
        raise ConfigError(
            f"{source.run.path} is named as its own baseline, which nothing is ever lost against; "
            "name the folder of an earlier run"
        )


def refuse_altered(source: Source) -> None:
    """StoreError where the summary does not fit to the files beside it."""
    run = source.run
    threats = [run.summary.get("threat"), run.spec.get("threat")]
    if None not in threats and as_text(threats[0]) != as_text(threats[1]):
        raise StoreError(
            f"{run.path}/summary.json is of threat {threats[0]} and spec.toml of {threats[1]}: one "
            "was altered; run its command again into another folder"
        )
    if lost := silenced(source):
        raise StoreError(
            f"{run.path}/summary.json tells of the finding {lost[0]!r} and findings.json does "
            "not: one was altered; run its command again into another folder"
        )


def refuse_part(source: Source) -> None:
    """ConfigError if the run is a part of an evaluation, or was read in part."""
    if source.run.gap is not None:
        raise ConfigError(
            f"{source.run.path} was read in part ({source.run.gap.said}), and what is missing may "
            "be anything; run its command again to finish it"
        )
    if tested := source.run.pilot_of:
        raise ConfigError(
            f"{source.run.path} is a test of an evaluation, on {source.run.summary['samples']} of "
            f"{tested} samples; run the evaluation itself and gate that"
        )
