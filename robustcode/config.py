"""One evaluation, described: from flags or a TOML file to a spec, and back."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

from robustcode.components import Component, convert, number
from robustcode.corruptions import named
from robustcode.errors import ConfigError
from robustcode.registry import suggestion
from robustcode.threat import ThreatModel
from robustcode.values import (
    component_of,
    components_of,
    counted_of,
    distinct_of,
    floats_of,
    indices_of,
    numbers,
    parted,
    text_of,
    threat_of,
    truth_of,
    whole_of,
)

SPEC_SCHEMA = 1
# Keys that say how a run is worked through and not what it measures: a run may be resumed with
# other values of these.
HOW = ("workers", "max_seconds")


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What is evaluated, on which samples, and how: common to all commands that make runs.

    Attributes:
        model: a registered architecture, ``timm:NAME``, ``FILE.py:CALLABLE`` or
            ``package.module:CALLABLE``.
        data: a data set, ``NAME`` or ``NAME:PATH``.
        checkpoint: weights for the model; None for models that bring their own.
        mean: per channel, put inside the model; empty for none.
        std: likewise.
        samples: how many of the split, from its beginning; None for all.
        indices: samples by index instead; empty for ``samples``.
        defense: what is around the model; its name may be ``FILE.py:CLASS`` or
            ``package.module:CLASS``, as may those of attacks.
        adversary: what the adversary controls of the batch that a sample is classified in.
        seed: names all randomness of the run.
        batch_size: samples in a shard, which is also the largest batch of a pass.
        device: cpu, cuda, cuda:1, ..
        threads: threads of each process on the CPU; part of the spec since sums round differently.
        workers: processes.
    """

    command: ClassVar[str]

    model: str
    data: str
    checkpoint: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    samples: int | None = None
    indices: tuple[int, ...] = ()
    defense: Component = field(default_factory=lambda: Component("identity"))
    adversary: Component = field(default_factory=lambda: Component("solo"))
    seed: int = 0
    batch_size: int = 128
    device: str = "cpu"
    threads: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        for name in ("draws", "batch_size", "threads", "workers", "max_passes"):
            value = getattr(self, name, None)
            if value is not None and value < 1:
                raise ConfigError(f"{name} = {value}: at least 1 is needed")
        if self.samples is not None and self.samples < 1:
            raise ConfigError(
                f"samples = {self.samples}: a run needs at least 1 sample to say anything"
            )
        if self.samples is not None and self.indices:
            raise ConfigError("samples and indices both choose the samples; give one of them")
        if len(self.mean) != len(self.std):
            raise ConfigError(
                f"mean has {len(self.mean)} values and std {len(self.std)}; give one of each "
                "per channel"
            )

    def request(self) -> dict[str, Any]:
        """What was asked, as plain values; equal requests are the same run."""
        return {key: value for key, value in self.to_dict().items() if key not in HOW}

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a spec file; what is unset is left out."""
        values: dict[str, Any] = {"schema": SPEC_SCHEMA, "command": self.command}
        for f in dataclasses.fields(self):
            value = getattr(self, f.name)
            if value is None or value == ():
                continue
            values[f.name] = _plain(value)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], path: str) -> Self:
        """A spec from plain values; ``path`` names their file in an error."""
        values = dict(values)
        _schema(values, path, cls.command)
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise ConfigError(
                    f"{path}: unknown key {key!r}.{suggestion(key, fields)} "
                    f"Known: {', '.join(sorted(fields))}."
                )
        for name, f in fields.items():
            needed = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
            if needed and name not in values:
                raise ConfigError(f"{path}: the key {name!r} is missing")
        return cls(**{key: _read(key, value, path) for key, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class ThreatSpec(Spec):
    """What is evaluated against an adversary.

    Attributes:
        threat: what the adversary may do.
    """

    threat: ThreatModel


@dataclass(frozen=True, kw_only=True)
class RunSpec(ThreatSpec):
    """Everything that decides the numbers of one attack run.

    Attributes:
        suite: a named list of attacks; None for ``attacks`` alone.
        attacks: attacks besides the suite's.
        cascade: whether each attack is given only what all before it left standing; None for
            what a suite does and attacks named one by one do not.
        warm: the folder of an earlier run, at a smaller eps as a rule, whose proposals are offered
            and gone on from before any other attack; see attacks.warm.
        proved: samples, by index, that are proved robust under this threat: they are not
            attacked and count as right.
        certified: the folder of a run of certificates for the same samples: a sample that is both
            certified and broken ends the run.
        skip_certified: whether samples that it certifies are taken for proved.
        max_passes: model passes, forward and backward, that the attacks may spend on a sample, as
            the mean over each shard; None for no limit.
        max_seconds: wall-clock time after which no attack is gone on with; what is left is
            finished by the same request with more time.
        draws: decisions of the judge per proposal, when the defence is stochastic.
    """

    command: ClassVar[str] = "attack"

    suite: str | None = None
    attacks: tuple[Component, ...] = ()
    cascade: bool | None = None
    warm: str | None = None
    proved: tuple[int, ...] = ()
    certified: str | None = None
    skip_certified: bool = False
    max_passes: int | None = None
    max_seconds: float | None = None
    draws: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_seconds is not None and not 0 < self.max_seconds < math.inf:
            raise ConfigError(
                f"max_seconds = {self.max_seconds:g}: a time limit is a positive number of seconds"
            )
        if self.suite is None and not self.attacks:
            raise ConfigError("no attack was asked for; give --suite quick or --attack NAME")
        if self.skip_certified and self.certified is None:
            raise ConfigError(
                "skip_certified leaves out samples that certified names, which is not given; "
                "give --certified RUN"
            )

    @property
    def cascaded(self) -> bool:
        """Whether the attacks are run as a cascade."""
        return self.suite is not None if self.cascade is None else self.cascade

    def to_dict(self) -> dict[str, Any]:
        """See Spec.to_dict. A switch that is off is left out, as it was before there was one."""
        values = super().to_dict()
        if not self.skip_certified:
            del values["skip_certified"]
        return values


@dataclass(frozen=True, kw_only=True)
class CertifySpec(ThreatSpec):
    """Everything that decides the numbers of one run of certificates.

    Attributes:
        method: how is proved.
        radii: more radii than the threat's eps, in its norm, for a curve.
    """

    command: ClassVar[str] = "certify"

    method: Component
    radii: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.threat.eps == 0:
            raise ConfigError(
                f"threat = {self.threat}: nothing moves, so there is nothing to prove; give an eps "
                "above 0"
            )
        for radius in self.radii:
            if not 0 < radius < math.inf:
                raise ConfigError(f"radii: {radius:g} is no radius; give positive numbers")

    @property
    def curve(self) -> tuple[float, ...]:
        """All radii that something is to be said of, ascending; eps is one of them."""
        return tuple(sorted({self.threat.eps, *self.radii}))


@dataclass(frozen=True, kw_only=True)
class CorruptSpec(Spec):
    """Everything that decides the numbers of one run of corruptions.

    Attributes:
        corruptions: which; empty for all that are built in.
        severities: which of 1 to 5; empty for all.
        scale: whose strengths, see corruptions.Scale; None for those that fit the images' size.
        draws: decisions per image, when the defence is stochastic.
    """

    command: ClassVar[str] = "corrupt"

    corruptions: tuple[Component, ...] = ()
    severities: tuple[int, ...] = ()
    scale: str | None = None
    draws: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adversary != Component("solo"):
            raise ConfigError(
                f"adversary = {self.adversary}: nobody chooses a corruption; leave out adversary"
            )
        for what, given in (
            ("corruptions", [corruption.name for corruption in self.corruptions]),
            ("severities", self.severities),
        ):
            twice = [value for value in given if list(given).count(value) > 1]
            if twice:
                raise ConfigError(f"{what} name {twice[0]} twice; name each once")


SPECS: dict[str, type[Spec]] = {spec.command: spec for spec in (RunSpec, CertifySpec, CorruptSpec)}


def describe(
    *,
    threat: str,
    suite: str | None = None,
    attacks: Sequence[str] = (),
    defense: str = "identity",
    adversary: str = "solo",
    **plain: Any,
) -> RunSpec:
    """A RunSpec from text as people write it on the command line; suite quick if none is named."""
    given = _converted(RunSpec, plain)
    if suite is None and not attacks:
        suite = "quick"
    return RunSpec(
        threat=ThreatModel.parse(str(threat)),
        suite=suite,
        attacks=tuple(map(Component.parse, [attacks] if isinstance(attacks, str) else attacks)),
        defense=Component.parse(defense),
        adversary=Component.parse(adversary),
        **given,
    )


def describe_proof(
    *,
    threat: str,
    method: str,
    defense: str = "identity",
    adversary: str = "solo",
    **plain: Any,
) -> CertifySpec:
    """A CertifySpec from text as people write it on the command line."""
    return CertifySpec(
        threat=ThreatModel.parse(str(threat)),
        method=Component.parse(method),
        defense=Component.parse(defense),
        adversary=Component.parse(adversary),
        **_converted(CertifySpec, plain),
    )


def describe_corruptions(
    *,
    corruptions: Sequence[str] | str = (),
    severities: Sequence[int] | str = (),
    defense: str = "identity",
    **plain: Any,
) -> CorruptSpec:
    """A CorruptSpec from text as people write it on the command line.

    A group of corruptions stands for all built in that are of it, and commas or several texts
    separate them: ``noise,frost``. A text with settings is one of its own.
    """
    texts = [corruptions] if isinstance(corruptions, str) else list(corruptions)
    words = [
        word
        for text in texts
        for word in ([text.strip()] if ":" in text else parted(text, "corruptions"))
    ]
    names = [name for word in words for name in named(word)]
    if isinstance(severities, str):
        listed = parted(severities, "severities")
        severities = [convert(word, int, "severities") for word in listed]
    return CorruptSpec(
        corruptions=tuple(map(Component.parse, names)),
        severities=tuple(counted_of(severity, "severities") for severity in severities),
        defense=Component.parse(defense),
        **_converted(CorruptSpec, plain),
    )


def _converted(spec: type[Spec], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, of the types of a spec's fields; a setting it has not is refused."""
    known = {f.name for f in dataclasses.fields(spec)}
    for key in plain:
        if key not in known:
            raise ConfigError(f"unknown setting {key!r}.{suggestion(key, known)}")
    given = {key: value for key, value in plain.items() if value is not None}
    for key in ("mean", "std", "radii"):
        if isinstance(given.get(key), str):
            given[key] = numbers(given[key], key)
        elif key in given:
            given[key] = tuple(number(value, key) for value in given[key])
    for key in ("checkpoint", "device", "warm", "certified", "scale"):
        if key in given:
            given[key] = str(given[key])
    for key in ("cascade", "skip_certified"):
        if key in given:
            given[key] = truth_of(given[key], key)
    if "max_seconds" in given:
        given["max_seconds"] = number(given["max_seconds"], "max_seconds")
    for key in ("samples", "draws", "seed", "batch_size", "threads", "workers", "max_passes"):
        if key in given:
            given[key] = counted_of(given[key], key)
    if "indices" in given:
        given["indices"] = indices_of(list(given["indices"]), "indices")
    if "proved" in given:
        given["proved"] = distinct_of(list(given["proved"]), "proved")
    return given


def read_spec(file: Path) -> tuple[Spec, str | None]:
    """The spec in a TOML file and the ``out`` folder it names, if it does."""
    try:
        values = tomllib.loads(file.read_text())
    except OSError as cause:
        raise ConfigError(f"spec {str(file)!r} cannot be read: {cause.strerror}") from cause
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as cause:
        raise ConfigError(f"spec {str(file)!r} is not TOML: {cause}") from cause
    out = values.pop("out", None)
    command = values.get("command", RunSpec.command)
    if not isinstance(command, str) or command not in SPECS:
        raise ConfigError(
            f"{file.name}: command = {command!r} cannot be run; known: {', '.join(SPECS)}"
        )
    return SPECS[command].from_dict(values, file.name), None if out is None else str(out)


def _schema(values: dict[str, Any], path: str, mine: str) -> None:
    schema, command = values.pop("schema", SPEC_SCHEMA), values.pop("command", mine)
    if schema != SPEC_SCHEMA:
        raise ConfigError(f"{path}: schema {schema!r} is not known; this version reads 1")
    if command != mine:
        raise ConfigError(f"{path}: command = {command!r} cannot be run; it must be {mine!r}")


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return {"name": value.name, **value.settings}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, ThreatModel) else value


def _read(key: str, value: Any, path: str) -> Any:
    reader: Callable[[Any, str], Any] = _READERS.get(key, text_of)
    return reader(value, f"{path}: {key}")


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "threat": threat_of,
    "mean": floats_of,
    "std": floats_of,
    "samples": whole_of,
    "indices": indices_of,
    "defense": component_of,
    "adversary": component_of,
    "attacks": components_of,
    "cascade": truth_of,
    "skip_certified": truth_of,
    "method": component_of,
    "radii": floats_of,
    "corruptions": components_of,
    "severities": indices_of,
    "proved": distinct_of,
    "max_passes": whole_of,
    "max_seconds": number,
    "draws": whole_of,
    "seed": whole_of,
    "batch_size": whole_of,
    "threads": whole_of,
    "workers": whole_of,
}
