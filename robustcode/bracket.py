"""Proofs and attacks on the same samples: between them lies the true robust accuracy."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import binom

from robustcode.certified import SAME, certified_of
from robustcode.components import Component, number
from robustcode.errors import ConfigError, ContractError
from robustcode.statistics import Proportion, clustered, proportion
from robustcode.store import LATER, Run

# A random defence that is proved right more often than not may still be wrong in most of a hundred
# draws. That it is so by chance with less than this probability is taken for a contradiction.
CHANCE = 1e-9
# What no proof about random decisions exceeds, though a bound of many votes may round to 1.
NEARLY = 1 - 1e-15

# What two runs must share by content, and in the names of their specs, to be of one defence.
INPUTS = (
    "checkpoint_sha256",
    "data_sha256",
    "model_code_sha256",
    "defense_files_sha256",
    "mates_sha256",
)
MODEL = ("model", "mean", "std")


class Proof(NamedTuple):
    """That a sample is right under a threat.

    Attributes:
        least: probability, at least, of a right decision on any input that is allowed; 1 where
            decisions are not random.
        says: what a person is told of it.
    """

    least: float
    says: str


@dataclass(frozen=True)
class Proofs:
    """What a run of certificates proves of an attacked defence under one threat."""

    by_sample: Mapping[int, Proof]

    @property
    def certain(self) -> frozenset[int]:
        """The samples that are right for certain, so that an attack on them is in vain."""
        return frozenset(sample for sample, proof in self.by_sample.items() if proof.least == 1)

    def refuse_broken(self, records: pd.DataFrame, files: str) -> None:
        """ContractError with both witnesses if an attack has broken what is proved.

        ``records`` are those of attacks, as records.table_of gives them; ``files`` says where
        their proposals are.
        """
        known = records[records["sample"].isin(self.by_sample) & records.finished]
        draws = _draws(records)
        for row in known.to_dict("records"):
            sample, taken = row["sample"], row["prediction"]
            proof = self.by_sample[sample]
            if _unlikely(row, proof.least, draws):
                as_what = "nothing" if pd.isna(taken) else f"class {int(taken)}"
                raise ContractError(
                    f"sample {sample} is both certified and broken, so one of the two is wrong: "
                    f"{proof.says}; attack {row['attack']} had it taken for {as_what} instead of "
                    f"class {row['label']} at distance {row['distance']:g} ({files}); report this "
                    "with both run folders"
                )


NO_PROOFS = Proofs({})


def _eps(threat: str) -> float:
    return number(threat.partition(":")[2], "eps")


def proofs_for(
    certified: Run,
    threat: str,
    defense: Component,
    adversary: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Any],
    origin: str,
) -> Proofs:
    """What ``certified`` proves where a defence is attacked under ``threat``.

    ``defense`` has all settings, ``spec`` holds the attack run's other keys as plain values,
    ``inputs`` the hashes of its manifest, and ``origin`` names that run in an error: ConfigError if
    the two are not about the same thing.
    """
    if certified.spec.get("command") != "certify":
        raise ConfigError(
            f"{certified.path} holds no certificates; name the folder of a `certify` run"
        )
    _refuse_other_things(certified, threat, defense, adversary, spec, inputs, origin)
    eps = _eps(threat)
    table = certified.certificates
    method = certified.summary["certified"]["method"]
    asked = [_eps(certified.spec["threat"]), *certified.spec.get("radii", [])]
    furthest = max(*asked, float(table.radius.max()))
    if eps * SAME > furthest:
        raise ConfigError(
            f"the certificates of {certified.path} reach to {furthest:g} at most, and {origin} has "
            f"eps = {eps:g}, of which they say nothing; certify with --radii {eps:g}"
        )
    proved = table[(table.radius >= eps * SAME) & (table.prediction == table.label).fillna(False)]
    # Shares are of the eps of the certificates; within a larger radius most decisions are right.
    shared = eps * SAME <= _eps(certified.spec["threat"])
    votes = int(defense.settings.get("votes", 1))
    majority = float(binom.sf(votes // 2, votes, 0.5))
    found = {}
    for row in proved.to_dict("records"):
        random = row["alpha"] > 0
        known = shared and not pd.isna(row["share"])
        share = min(float(row["share"]), NEARLY) if known else majority
        says = f"{method} proves it to radius {row['radius']:g} in {certified.path}"
        if random:
            says += f", falsely with probability {row['alpha']:g} at most"
        found[int(row["sample"])] = Proof(share if random else 1.0, says)
    return Proofs(found)


def _refuse_other_things(
    certified: Run,
    threat: str,
    defense: Component,
    adversary: str,
    spec: Mapping[str, Any],
    inputs: Mapping[str, Any],
    origin: str,
) -> None:
    """ConfigError if certificates and attacks are not about the same thing."""
    spoken = Component.parse(certified.summary["certified"]["subject"])
    norm = threat.partition(":")[0]
    theirs: dict[str, Any] = {"norm": certified.spec["threat"].partition(":")[0]}
    mine: dict[str, Any] = {"norm": norm}
    for what in INPUTS:
        theirs[what], mine[what] = certified.manifest.get(what), inputs.get(what)
    for what in LATER:
        if what in certified.manifest and what in inputs:
            theirs[what], mine[what] = certified.manifest[what], inputs[what]
    # Samples that are attacked together are each other's batch mates.
    named = MODEL if adversary == "solo" else (*MODEL, "samples", "indices")
    for what in named:
        theirs[what], mine[what] = certified.spec.get(what), spec.get(what)
    theirs["adversary"] = certified.spec["adversary"]["name"]
    mine["adversary"] = adversary
    theirs["defence"], mine["defence"] = spoken.name, defense.name
    if spoken.name == defense.name:
        # A proof holds whatever it does not mention, as the votes of a smoothed classifier.
        for key, value in spoken.settings.items():
            theirs[key], mine[key] = str(value), str(defense.settings.get(key))
    for what, value in theirs.items():
        if value != mine[what]:
            raise ConfigError(
                f"the certificates of {certified.path} speak of something else than {origin}: "
                f"{what} is {value!r} there and {mine[what]!r} here"
            )


def _draws(records: pd.DataFrame) -> int:
    """Decisions about each proposal, as far as records tell; abstentions are not in their votes."""
    most = 0
    for row in records[records.finished].to_dict("records"):
        if (votes := row["votes"]) is not None:
            right = votes[row["label"]]
            most = max(most, sum(votes), round(right / row["correct"]) if right else 0)
    return most


def _unlikely(row: Mapping[Hashable, Any], least: float, draws: int) -> bool:
    """Whether so few right decisions cannot be by chance; an abstention is not one."""
    votes = row["votes"]
    if votes is None:
        return not bool(row["correct"]) and 1 - least < CHANCE
    return bool(binom.cdf(votes[row["label"]], draws, least) < CHANCE)


@dataclass(frozen=True)
class Bracket:
    """What proofs and attacks leave open of one defence.

    Attributes:
        threat: that of the attacks.
        method: what proved from below.
        table: one row per sample of both runs: sample, label, state (certified, undecided, broken),
            robust (what the attacks left of it, a truth value or a share), proved (what is proved
            of it, likewise: ``certified`` is its mean).
        certified: share that is proved, with its interval over samples. Of random decisions the
            mean of what is proved of the probability that one is right, as ``attacked`` is of such.
        attacked: share that the attacks left, likewise.
    """

    threat: str
    method: str
    table: pd.DataFrame
    certified: Proportion
    attacked: Proportion

    @property
    def width(self) -> float:
        """How much is open: attacked less certified."""
        return self.attacked.value - self.certified.value


def bracket(certified: Run, attacked: Run) -> Bracket:
    """The bracket of two runs, over the samples they share.

    ConfigError if they are not about the same defence, threat and data; ContractError with both
    witnesses if a sample is certified and broken.
    """
    defense = component_of(attacked.spec["defense"])
    adversary = component_of(attacked.spec.get("adversary", "solo")).name
    threat = str(attacked.spec["threat"])
    proofs = proofs_for(
        certified,
        threat,
        defense,
        adversary,
        attacked.spec,
        attacked.manifest,
        str(attacked.path),
    )
    proofs.refuse_broken(attacked.records, f"{attacked.path}/adversarial")
    records = attacked.records
    left = records.groupby("sample").first()[["label", "clean_correct"]]
    chosen = records[records.selected].set_index("sample").correct
    robust = chosen.reindex(left.index).astype("float64")
    robust = robust.fillna(left.clean_correct.astype("float64"))
    shared = sorted(set(left.index) & set(certified.certificates["sample"]))
    if not shared:
        raise ConfigError(
            f"{certified.path} and {attacked.path} have no sample in common; certify and attack "
            "the same ones"
        )
    state = [
        "certified"
        if sample in proofs.by_sample
        else "broken"
        if robust[sample] == 0
        else "undecided"
        for sample in shared
    ]
    stochastic = attacked.summary["stochastic"]
    right = pd.Series([float(sample in proofs.by_sample) for sample in shared])
    if stochastic is not None:
        right = _decided(certified, proofs, shared, threat)
    table = pd.DataFrame(
        {
            "sample": shared,
            "label": left.label[shared].to_numpy(),
            "state": state,
            "robust": robust[shared].to_numpy(),
            "proved": right.to_numpy(),
        }
    )
    return Bracket(
        threat,
        certified.summary["certified"]["method"],
        table,
        _accuracy(right, stochastic),
        _accuracy(table.robust, stochastic),
    )


def _decided(certified: Run, proofs: Proofs, shared: list[int], threat: str) -> pd.Series:
    """From below, or without bias from what is below, how likely a decision is right by sample."""
    table = certified.certificates.set_index("sample").loc[shared]
    if _eps(threat) * SAME <= _eps(certified.spec["threat"]):
        if table["held"].notna().all():
            return table["held"]
        least = table["share"].fillna(0.0)
    else:
        least = pd.Series(0.0, index=shared)
    proved = [proofs.by_sample[n].least if n in proofs.by_sample else 0.0 for n in shared]
    return least.clip(lower=pd.Series(proved, index=shared))


def _accuracy(robust: pd.Series, stochastic: Mapping[str, Any] | None) -> Proportion:
    if stochastic is None:
        return proportion(int(robust.sum()), len(robust))
    return clustered(robust.to_numpy(), stochastic["draws"])


def certified_among(
    certified: Run, samples: Iterable[int], threat: str, eps: float
) -> dict[str, Any] | None:
    """What a run of certificates says of some samples; None if it has none of them."""
    table = certified.certificates
    among = table[table["sample"].isin(set(samples))]
    if among.empty:
        return None
    said = certified.summary["certified"]
    return certified_of(among, said["method"], said["subject"], threat, eps)


def component_of(value: Any) -> Component:
    """A component from a spec file, which writes it as text or as a table."""
    if isinstance(value, str):
        return Component.parse(value)
    return Component(value["name"], {k: v for k, v in value.items() if k != "name"})
