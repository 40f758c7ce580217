"""Which publications stand behind a report: those of the methods that were run, and no others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from robustcode.reports.bibtex import FILE, Entry, read, write
from robustcode.reports.comparison.compare import INVERTED, MCNEMAR
from robustcode.reports.source import Source
from robustcode.reports.table import Row, tables

APGD = ("croce2020reliable",)
# By the registered name of an attack; of a library's attacks the name of the library.
ATTACKS: dict[str, tuple[str, ...]] = {
    "noise": ("carlini2019evaluating",),
    "fgsm": ("goodfellow2015explaining",),
    "pgd": ("madry2018towards",),
    "warm": ("madry2018towards",),
    "mended": ("athalye2018obfuscated",),
    "transfer": ("papernot2016transferability",),
    "transfer-pgd": ("croce2022evaluating",),
    "apgd-ce": APGD,
    "apgd-dlr": APGD,
    "apgd-t": APGD,
    "apgd-margin": (*APGD, "carlini2017towards"),
    "apgd-pm": (*APGD, "xie2024towards"),
    "scout": ("liu2022practical", "xie2024towards", *APGD, "andriushchenko2020square"),
    "fab": ("croce2020minimally",),
    "fab-t": ("croce2020minimally", *APGD),
    "deepfool": ("moosavi2016deepfool",),
    "ddn": ("rony2019decoupling",),
    "fmn": ("pintor2021fast",),
    "cw": ("carlini2017towards",),
    "nes": ("ilyas2018black",),
    "spsa": ("uesato2018adversarial", "spall1992multivariate"),
    "hopskipjump": ("chen2020hopskipjump",),
    "aggmo": ("sitawarin2022demystifying", "lucas2019aggregated"),
    "square": ("andriushchenko2020square",),
    "autoattack": APGD,
    "foolbox": ("rauber2020foolbox",),
    "torchattacks": ("kim2020torchattacks",),
}
DEFENSES: dict[str, tuple[str, ...]] = {
    "gaussian-noise": ("cohen2019certified", "liu2018towards"),
    "smoothing": ("cohen2019certified",),
    "random-resize-pad": ("xie2018mitigating",),
    "random-ensemble": ("pinot2020randomization",),
    "bit-depth": ("xu2018feature",),
    "jpeg": ("dziugaite2016study", "guo2018countering"),
    "confidence": ("hendrycks2017baseline",),
    "coded-smoothing": ("moradi2025coded",),
    "mixup-inference": ("pang2020mixup",),
}
METHODS: dict[str, tuple[str, ...]] = {
    "smoothing": ("cohen2019certified",),
    "ibp": ("gowal2018effectiveness",),
    "crown": ("zhang2018efficient",),
    "alpha-crown": ("xu2021fast",),
    "bab": ("wang2021beta", "bunel2020branch"),
    "lipschitz": ("hein2017formal", "weng2018towards"),
    # The proofs for coded batches are ours; what they rest on is not.
    "coded": ("zhang2018efficient",),
    "coded-noise": ("cohen2019certified",),
}
# Nothing was published of these: the model as it is.
OURS = frozenset({"identity"})
# Their own gradient says nothing: attacks go around it.
SURROGATE = frozenset({"bit-depth", "jpeg"})
NOISES = {"uniform": "yang2020randomized", "laplace": "teng2020certificates"}
ESTIMATORS = {
    "fixed": ("clopper1934use",),
    "sequential": ("armitage1969repeated", "robbins1970statistical"),
    "anytime": ("robbins1970statistical",),
}
TESTS = {MCNEMAR: "mcnemar1947note", INVERTED: "lehmann2005testing"}
CONTROL = "noise"
INTERVALS, GRADIENT = "intervals", "gradient of a random defence"


@dataclass(frozen=True)
class Reference:
    """A publication and what it was needed for."""

    uses: tuple[str, ...]
    entry: Entry

    @property
    def text(self) -> str:
        """What it was needed for, and the publication in words."""
        return f"{', '.join(self.uses)}: {self.entry.sentence}"


def references(sources: Sequence[Source], rows: Iterable[Row] = ()) -> tuple[Reference, ...]:
    """Each publication once: of attacks, defences and proofs as they were run, then of statistics.

    ``rows`` are those of the report; by them it is known which tests were made. A name without an
    entry, such as a plug-in's, is passed over.
    """
    uses: dict[str, list[str]] = {}
    for source in sources:
        for what, keys in (*_searched(source), *_defended(source), *_proved(source)):
            for key in keys:
                uses.setdefault(key, []).append(what)
    for what, key in _computed(sources, list(rows)):
        uses.setdefault(key, []).append(what)
    uses["robustcode"] = ["this report"]
    entries = {**_entries(), "robustcode": _software(sources)}
    return tuple(Reference(tuple(dict.fromkeys(of)), entries[key]) for key, of in uses.items())


def bibtex(cited: Iterable[Reference]) -> str:
    """The publications as the text of a BibTeX file."""
    return write(reference.entry for reference in cited)


@cache
def _entries() -> Mapping[str, Entry]:
    return read(FILE.read_text(encoding="utf-8"))


def _searched(source: Source) -> Iterator[tuple[str, tuple[str, ...]]]:
    norm = source.fact("threat").partition(":")[0]
    random = False
    for attack in source.attacks:
        name, settings = _registered(str(attack["name"])), attack.get("settings") or {}
        yield "noise (a control)" if name == CONTROL else name, ATTACKS.get(name, ())
        if name == "mended":
            inner = _registered(str(settings.get("attack", "")))
            yield inner, ATTACKS.get(inner, ())
        if norm == "l1" and name == "pgd":
            yield "pgd in l1", ("tramer2019adversarial",)
        if norm == "l1" and name.startswith("apgd"):
            yield "apgd in l1", ("croce2021mind",)
        if settings.get("order") == "malt":
            yield "order of targets", ("melamed2024malt",)
        random |= name != CONTROL
    if random and source.draws:
        yield GRADIENT, ("athalye2018synthesizing",)


def _defended(source: Source) -> Iterator[tuple[str, tuple[str, ...]]]:
    name = _registered(source.fact("defense"))
    yield name, DEFENSES.get(name, ())
    if name in SURROGATE and source.attacks:
        yield f"surrogate gradient of {name}", ("athalye2018obfuscated",)


def _proved(source: Source) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The method of a run of certificates, or of one that a run of attacks was held against."""
    certified = source.run.summary.get("certified") or {}
    name = _registered(str(certified.get("method") or ""))
    yield name, METHODS.get(name, ())
    settings = source.run.spec.get("method")
    if not source.proves or not isinstance(settings, Mapping):
        return
    noise = str(settings.get("noise"))
    if noise in NOISES:
        yield f"{noise} noise", (NOISES[noise],)
    estimator = str(settings.get("estimator"))
    yield f"{estimator} estimate", ESTIMATORS.get(estimator, ())


def _computed(sources: Sequence[Source], rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Statistics by what they are for."""
    measured = [source for source in sources if source.run.summary.get("clean")]
    if measured:
        yield INTERVALS, "clopper1934use"
    differences = any(row.kind == "difference" for row in rows)
    if differences or any(source.draws for source in measured):
        yield INTERVALS, "korn1998confidence"
    if any((source.run.summary.get("stochastic") or {}).get("any_of") for source in measured):
        yield "any of several tries", "halmos1946theory"
    for test, key in TESTS.items():
        if any(row.p_value is not None and row.settings == test for row in rows):
            yield "differences", key
    if any(row.p_holm is not None for row in rows):
        yield "several differences", "holm1979simple"
    if any(row.kind == "corruption" for row in rows):
        yield "corruptions", "hendrycks2019benchmarking"
    if any(row.calibration is not None for row in rows):
        yield "calibration error", "guo2017calibration"
        yield "calibration error", "kumar2019verified"


def _software(sources: Sequence[Source]) -> Entry:
    """This package, in the versions that made the runs."""
    entry = _entries()["robustcode"]
    found = [source.run.manifest.get("versions") for source in sources]
    versions = sorted({str(v["robustcode"]) for v in tables(found) if v.get("robustcode")})
    safe = [version for version in versions if version.replace(".", "").isalnum()]
    if not safe:
        return entry
    note = f"{'Version' if len(safe) == 1 else 'Versions'} {' and '.join(safe)}"
    return replace(entry, fields={**entry.fields, "note": note})


def _registered(name: str) -> str:
    """The name under which a component is registered; a library's attacks have its name.

    >>> _registered("pgd:steps=40,loss=margin"), _registered("foolbox:LinfPGD:steps=40")
    ('pgd', 'foolbox')
    """
    return name.partition(":")[0]
