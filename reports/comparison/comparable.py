"""Why a run may not be set beside others, or not be ranked with them: in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from robustcode.reports.grids import counted
from robustcode.reports.source import Source, as_text

NAMED = 6  # attacks that a sentence names before "and n more"
UNLIKE = "The runs were not attacked alike: one that was attacked less may look better than it is."
CHOSEN = (
    "{} gave these runs different attacks, by what each defence is and by what its checks found: "
    "what a run keeps is what is left by those that were chosen for it."
)
# What else an attack's strength hangs on: key of the spec, in words, and what it is if not given.
LIMITS = (("adversary", "adversary", "solo"), ("max_passes", "limit of passes a sample", "none"))


def unlike(group: Sequence[Source], source: Source) -> str:
    """Why ``source`` cannot be compared with the runs of ``group``; empty if it can be.

    They must agree in the threat, in the data by their sha256, and in the labels of the samples
    that all of them have. Data without a sha256 are taken by their name.
    """
    first = group[0]
    for run, whose in ((source, "its samples"), (first, f"the samples of {first.label}")):
        if run.verdicts.empty:
            return f"None of {whose} was attacked."
        if run.run.pilot_of:
            return f"Of {whose} a few were looked at, to test an evaluation and not to make it."
        if not run.whole:
            return (
                f"Some of {whose} were left unfinished by a budget, and those that are finished "
                "are those that were easy to break."
            )
    threat, other = source.fact("threat"), first.fact("threat")
    if threat != other:
        return f"Its threat is {threat}, that of {first.label} is {other}."
    if not _same_data(first, source):
        return (
            f"Its data ({source.fact('data')}) are not those of {first.label} "
            f"({first.fact('data')})."
        )
    common = common_samples([*group, source])
    if not common:
        return f"It has no sample in common with {', '.join(run.label for run in group)}."
    ours, theirs = (run.verdicts["label"].loc[common] for run in (source, first))
    relabelled = ours.index[ours != theirs]
    if len(relabelled):
        sample = relabelled[0]
        return (
            f"{len(relabelled)} of the {counted(len(common), 'sample')} in common with "
            f"{first.label} are of another class there: sample {sample} of class {ours[sample]} "
            f"here, of class {theirs[sample]} there."
        )
    return ""


def unequal(first: Source, source: Source) -> str:
    """Why two runs that may be compared may not be ranked; empty if they may.

    Ranks are for the same samples under the same attacks, or under what one suite made of them.
    """
    ours, theirs = source.verdicts.index, first.verdicts.index
    if not ours.equals(theirs):
        return (
            f"It has {counted(len(ours), 'sample')}, {first.label} has {len(theirs)}, and "
            f"{len(ours.intersection(theirs))} of them are the same."
        )
    return otherwise_attacked(first, source)


def otherwise_attacked(first: Source, source: Source) -> str:
    """How ``source`` was attacked otherwise than ``first``, so that no suite accounts for it.

    One suite may choose other attacks for each defence and still is one suite, of one version of
    this package: that is told by ``chosen_of``, and is empty here. Attacks that were named one by
    one must be the same, with all their settings.
    """
    for name, what, usual in LIMITS:
        mine, other = source.fact(name) or usual, first.fact(name) or usual
        if mine != other:
            return f"Its {what} is {mine}, that of {first.label} is {other}."
    # The fewer draws there are, the less surely the worst proposal is the one that is chosen.
    if source.draws and first.draws and source.draws != first.draws:
        return f"It was judged by {source.draws} draws, {first.label} by {first.draws}."
    if source.spared != first.spared:
        return (
            f"{counted(len(source.spared), 'sample')} of it and {len(first.spared)} of "
            f"{first.label}, not the same ones, were given as proved and not attacked."
        )
    if _attacks(source) == _attacks(first):
        return ""
    suites = source.fact("suite"), first.fact("suite")
    if not all(suites) or _further(source) != _further(first):
        ways = attacked_by(source), attacked_by(first)
        same = ", with other settings" if ways[0] == ways[1] else ""
        return f"It was attacked by {ways[0]}, and {first.label} by {ways[1]}{same}."
    if suites[0] != suites[1]:
        return f"It was attacked by the suite {suites[0]}, and {first.label} by {suites[1]}."
    versions = [_version(run) for run in (source, first)]
    if None in versions or versions[0] != versions[1]:
        ours, theirs = (version or "of an unknown version" for version in versions)
        return (
            f"It was attacked by the suite {suites[0]} of robustcode {ours}, and "
            f"{first.label} by that of {theirs}."
        )
    return ""


def unfit(source: Source, failed: Iterable[str]) -> str:
    """Why a run may not be ranked with any other; empty if it may. ``failed`` are labels."""
    if not source.attacks or source.verdicts.empty:
        return "It was not attacked."
    if not source.searched:
        return "It was attacked by noise alone, which is a control and leaves nearly all standing."
    if source.run.gap is not None:
        return f"It was read in part: {source.run.gap.said}."
    if not source.whole or source.run.stopped:
        return "It is not finished."
    if source.label in failed:
        return "A check of its evaluation failed, so that its numbers are not to be relied on."
    if hashes_of(source) is None:
        return "Its folder has no sha256 of the data, so it is not known what was attacked."
    return ""


def doubt_of(members: Sequence[Source]) -> str:
    """What to know of how some runs were attacked; empty if all had the same attacks."""
    attacked = [member for member in members if member.attacks]
    if any(otherwise_attacked(attacked[0], other) for other in attacked[1:]):
        return UNLIKE
    return CHOSEN.format(f"The suite {attacked[0].fact('suite')}") if chosen_of(attacked) else ""


def chosen_of(members: Sequence[Source]) -> dict[str, str]:
    """By label, the attacks of each run that not all of them had; empty if all had the same.

    Of an attack that others had with other settings those that differ are named.
    """
    had = [[_attack(attack) for attack in member.attacks] for member in members]
    common = set.intersection(*({as_text(one) for one in own} for own in had)) if had else set()
    chosen = {}
    for member, own in zip(members, had, strict=True):
        others = [one for theirs in had if theirs is not own for one in theirs]
        names = [_apart(one, others) for one in own if as_text(one) not in common]
        if names:
            chosen[member.label] = ", ".join(names)
    return chosen


def _apart(attack: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> str:
    """An attack with those of its settings that others of its name had not."""
    namesakes = [other for other in others if other["name"] == attack["name"]]
    differing = {
        key: value
        for key, value in attack.items()
        if any(other.get(key) != value for other in namesakes)
    }
    return as_text({"name": attack["name"], **differing})


def attacked_by(source: Source) -> str:
    """The suite of a run, or its attacks, in words."""
    suite, further = source.fact("suite"), _further(source)
    if suite:
        return f"the suite {suite}" + (f" and {further}" if further else "")
    names = [str(attack["name"]) for attack in source.attacks]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"a list of attacks ({', '.join(names[:NAMED])}{more})"


def common_samples(members: Iterable[Source]) -> list[int]:
    """The samples that all have, ascending."""
    return sorted(set.intersection(*(set(member.verdicts.index) for member in members)))


def hashes_of(source: Source) -> list[str] | None:
    """The sha256 of each of a run's data files, whatever these are called; None if not known."""
    held = source.run.manifest.get("data_sha256")
    if not held:
        return None
    return sorted(map(str, held.values())) if isinstance(held, dict) else [str(held)]


def _same_data(first: Source, second: Source) -> bool:
    hashes = [hashes_of(first), hashes_of(second)]
    if None in hashes:
        return first.fact("data") == second.fact("data")
    return hashes[0] == hashes[1]


def _attacks(source: Source) -> tuple[bool, list[str]]:
    """Whether they went on from another run, and each with all its settings, as it is called."""
    warm = bool(_asked(source).get("warm"))
    return warm, [as_text(_attack(attack)) for attack in source.attacks]


def _attack(attack: Mapping[str, Any]) -> dict[str, Any]:
    """As it is called, with all its settings."""
    return {"name": str(attack["name"]).partition(":")[0], **(attack.get("settings") or {})}


def _further(source: Source) -> str:
    """Attacks that were asked for besides a suite."""
    asked = _asked(source)
    return as_text([*(asked.get("attacks") or []), *(["warm"] if asked.get("warm") else [])])


def _version(source: Source) -> str | None:
    """That of this package which made the run; None if not known."""
    versions = source.run.manifest.get("versions")
    version = versions.get("robustcode") if isinstance(versions, dict) else None
    return None if version is None else str(version)


def _asked(source: Source) -> dict[str, Any]:
    """The request as it was made; the spec of a run has its suite spelt out."""
    asked = source.run.manifest.get("request")
    return asked if isinstance(asked, dict) else {}
