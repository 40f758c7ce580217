"""A defence may refuse to decide: what is declared of it, judged of it, and searched against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from robustcode.accepted import accepted
from robustcode.attacks import ATTACKS, Attack
from robustcode.cli import app
from robustcode.components import Component
from robustcode.config import describe
from robustcode.data import Dataset, from_arrays
from robustcode.defenses import ABSTAIN, Confidence, Defense, Identity
from robustcode.engine import evaluate
from robustcode.errors import ContractError
from robustcode.findings import Facts
from robustcode.judge import Verdict, judge, moved
from robustcode.plan import PlannedAttack
from robustcode.progress import Silent
from robustcode.records import Record, from_lines, table_of
from robustcode.refusal import flat_rejection, refuses, rejection_varies, sizes_of
from robustcode.reports.render import report
from robustcode.seeds import Streams
from robustcode.shard import Trial, run_shard
from robustcode.subject import Given, Subject
from robustcode.summary import summarise
from robustcode.target import DefendedTarget, Ledger
from robustcode.testing.defense_contract import check_defense
from robustcode.threat import DUAL, Norm, ThreatModel

VALUES = 24
SHAPE = (3, 4, 4)
SAMPLES = torch.tensor([3, 10, 17])
ONLY_ZEROS = torch.zeros(3, dtype=torch.int64)
# The samples' critical eps, relative to the smallest.
SPREAD = torch.tensor([1.0, 1.3, 1.7])


def numbers(purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(1)).normal(*shape)[0]


LEADING, REFUSING = numbers("leading", VALUES), numbers("refusing", VALUES)


class TwoClasses(nn.Module):
    """The lead of class 0 is linear in the first half of the values."""

    def forward(self, x: Tensor) -> Tensor:
        lead = (x - 0.5).flatten(1)[:, : len(LEADING)] @ LEADING.to(x)
        return torch.stack([lead / 2, -lead / 2], dim=1)


@dataclass(frozen=True, kw_only=True)
class HalfSpace(Defense):
    """Refuses by the second half of the values, and the more the less class 0 leads.

    An input that is wrong has lost ``tie`` times its lead; what is then missing to be accepted is
    to be made up by the second half. The two halves do not act on each other in linf, and are at
    right angles in l2.
    """

    detector: ClassVar[bool] = True

    model: nn.Module
    tie: float
    offset: float
    unit: float = 1.0

    @property
    def passes(self) -> int:
        return 1

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        return scores

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        first, second = (x - 0.5).flatten(1).split(VALUES, dim=1)
        refused = second @ REFUSING.to(x) - self.tie * (first @ LEADING.to(x)) + self.offset
        return self.unit * refused


@dataclass(frozen=True)
class Known:
    """A detector and samples of class 0 whose nearest wrong and accepted input is known."""

    defense: HalfSpace
    x: Tensor
    wrong: Tensor  # distance to the nearest wrong input, whether or not it is refused
    critical: Tensor  # distance to the nearest one that is wrong and accepted


def known(norm: Norm, unit: float = 1.0) -> Known:
    """In linf the farther of two half-spaces, in l2 the corner of both.

    A quarter of what is missing at the edge of class 0 is to spare at the sample itself: clean
    inputs are right and accepted.
    """
    away, back = (
        float(torch.linalg.vector_norm(part, ord=DUAL[norm])) for part in (LEADING, REFUSING)
    )
    size = 0.03 if norm is Norm.LINF else 0.15
    lead, missing = 0.6 * size * away, size * back
    tie = missing / (0.8 * lead)
    first, second = (0.02 * numbers("inputs", 3, 2 * VALUES)).split(VALUES, dim=1)
    first = first + _toward(LEADING, SPREAD * lead - first @ LEADING)
    second = second + _toward(REFUSING, (SPREAD - 1) * missing - second @ REFUSING)
    x = 0.5 + torch.cat([first, second], dim=1).view(3, *SHAPE)
    both = torch.tensor([lead / away, missing / back])
    critical = both.max() if norm is Norm.LINF else both.norm()
    defense = HalfSpace(model=TwoClasses(), tie=tie, offset=missing, unit=unit)
    return Known(defense, x, SPREAD * lead / away, SPREAD * critical)


def _toward(direction: Tensor, by: Tensor) -> Tensor:
    return by[:, None] * direction / direction.square().sum()


def facts_of(defense: Defense, x: Tensor, samples: Tensor) -> Facts:
    """As an examination finds them."""
    streams = Streams.of(0, "facts", samples)
    sizes = sizes_of(defense, x, samples, streams, Ledger(samples))
    return Facts(
        stochastic=defense.stochastic,
        differentiable=True,
        batch_coupled=False,
        classes=2,
        detector=defense.detector,
        lead=sizes.lead,
        rejection=sizes.rejection,
    )


def attack_of(name: str) -> Attack:
    attack: Attack = Component.parse(name).build(ATTACKS, "attack")
    return attack


def searched(name: str, problem: Known, norm: Norm, share: float, knowing: bool = True) -> Tensor:
    """Which samples an attack gets wrong and accepted, each at this share of its critical eps."""
    facts = facts_of(problem.defense, problem.x, SAMPLES)
    facts = facts if knowing else replace(facts, detector=False)
    facing = accepted(problem.defense, facts, SAMPLES, ONLY_ZEROS)
    target = DefendedTarget(facing, Ledger(SAMPLES), stochastic=False, differentiable=True)
    streams = Streams.of(0, "search", SAMPLES)
    found = []
    for row, critical in enumerate(problem.critical.tolist()):
        rows = slice(row, row + 1)
        threat = ThreatModel(norm=norm, eps=share * critical)
        x_adv = attack_of(name).perturb(
            target, problem.x[rows], ONLY_ZEROS[rows], threat, streams[rows]
        )
        threat.check(x_adv, problem.x[rows], by=name)
        found.append(problem.defense.decide(x_adv, streams[rows]) == 1)
    return torch.cat(found)


@pytest.mark.parametrize(
    ("name", "norm", "unit"),
    [
        ("apgd-ce", Norm.LINF, 1.0),
        ("apgd-ce", Norm.LINF, 1e-4),
        ("apgd-dlr", Norm.LINF, 1e4),
        ("apgd-dlr", Norm.L2, 1.0),
        ("fmn", Norm.L2, 1.0),
    ],
)
def test_what_is_wrong_and_accepted_is_found_where_it_is_and_nowhere_else(
    name: str, norm: Norm, unit: float
) -> None:
    problem = known(norm, unit)
    # Fast minimum norm shortens its steps only so far.
    assert searched(name, problem, norm, 1.1 if name == "fmn" else 1.05).all()
    assert not searched(name, problem, norm, 0.95).any()


def test_an_attack_that_does_not_know_of_the_detector_is_refused() -> None:
    problem = known(Norm.LINF)
    assert (1.05 * problem.critical > problem.wrong).all()
    assert not searched("apgd-ce", problem, Norm.LINF, 1.05, knowing=False).any()


@pytest.mark.parametrize("name", ["square:queries=1000", "pgd:loss=ce,steps=100,step=0.05"])
def test_scores_and_steps_of_one_length_lead_there_too(name: str) -> None:
    assert searched(name, known(Norm.LINF), Norm.LINF, 1.5).all()


def test_scores_are_wrong_just_where_an_input_is_wrong_and_accepted() -> None:
    problem = known(Norm.LINF)
    count = 200
    samples, y = torch.arange(count), torch.arange(count) % 2
    streams = Streams.of(0, "near", samples)
    x = 0.5 + 0.1 * streams.normal(*SHAPE)
    facing = accepted(problem.defense, facts_of(problem.defense, x, samples), samples, y)
    label = problem.defense.decide(x, streams)
    wrong = (label != ABSTAIN) & (label != y)
    assert 20 < int(wrong.sum()) < int((label == ABSTAIN).sum()) < 180
    # Rows in any order: the sample says whose class it is.
    rows = torch.arange(count).flip(0)
    assert torch.equal(facing.logits(x[rows], streams[rows]).argmax(1) != y[rows], wrong[rows])


def test_a_rejection_that_only_says_yes_or_no_is_searched_by_its_sign() -> None:
    problem = known(Norm.LINF)

    class YesOrNo(HalfSpace):
        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return (super().rejection(x, streams) > 0).to(x)

    flag = YesOrNo(model=problem.defense.model, tie=0.5, offset=0.0)
    samples, y = torch.arange(50), torch.zeros(50, dtype=torch.int64)
    streams = Streams.of(0, "near", samples)
    x = 0.5 + 0.1 * streams.normal(*SHAPE)
    facing = accepted(flag, facts_of(flag, x, samples), samples, y)
    label = flag.decide(x, streams)
    assert 3 < int((label == 1).sum()) < int((label != 0).sum()) < 45
    assert torch.equal(facing.logits(x, streams).argmax(1) == 1, label == 1)


def test_what_is_no_detector_is_searched_as_it_is() -> None:
    defense = Identity(model=TwoClasses())
    x = known(Norm.LINF).x
    assert accepted(defense, facts_of(defense, x, SAMPLES), SAMPLES, ONLY_ZEROS) is defense


# ---- decisions


@dataclass(frozen=True, kw_only=True)
class Told(Defense):
    """Scores and rejections of each vote, by a table: votes x (lead of class 0, rejection)."""

    stochastic: ClassVar[bool] = True
    detector: ClassVar[bool] = True

    model: nn.Module
    table: tuple[tuple[float, float], ...]
    votes: int
    mean: bool = False

    def _row(self, streams: Streams) -> tuple[float, float]:
        start = Streams.of(0, "told", torch.arange(1))
        keys = [int(start.child("vote", vote).keys) for vote in range(self.votes)]
        return self.table[keys.index(int(streams.keys))]

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        lead = self._row(streams)[0]
        return torch.tensor([[lead, -lead]])

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        return torch.tensor([self._row(streams)[1]])


@pytest.mark.parametrize(
    ("table", "voted", "meant"),
    [
        (((1, -1),), 0, 0),
        (((1, 0),), 0, 0),  # accepted is what is not positive
        (((1, 1),), ABSTAIN, ABSTAIN),
        (((1, math.nan),), ABSTAIN, ABSTAIN),
        (((1, -1), (1, -1), (1, 1)), 0, 0),
        (((1, -1), (1, 1)), ABSTAIN, 0),  # as many refusals as votes
        (((1, -1), (1, -1), (-1, -1), (1, 9)), 0, ABSTAIN),
        (((1, 1), (1, 1), (-1, -5)), ABSTAIN, 0),
    ],
)
def test_a_draw_that_refuses_is_a_vote_for_abstaining(
    table: tuple[tuple[float, float], ...], voted: int, meant: int
) -> None:
    streams = Streams.of(0, "told", torch.arange(1))
    for mean, expected in ((False, voted), (True, meant)):
        defense = Told(model=nn.Identity(), table=table, votes=len(table), mean=mean)
        assert defense.decide(torch.zeros(1, 1), streams).tolist() == [expected]


def test_confidence_refuses_what_is_less_probable_than_its_threshold() -> None:
    scores = 3 * numbers("scores", 200, 5)
    streams = Streams.of(0, "rows", torch.arange(200))
    refused = scores.softmax(1).amax(1) < 0.8
    defense = Confidence(model=nn.Identity(), threshold=0.8)
    assert 20 < int(refused.sum()) < 180
    assert torch.equal(defense.rejection(scores, streams) > 0, refused)
    assert torch.equal(defense.decide(scores, streams) == ABSTAIN, refused)


# ---- the judge


def test_a_refusal_is_right_of_a_perturbed_input_and_wrong_of_a_clean_one() -> None:
    y = torch.tensor([0, 0, 0])
    votes = torch.tensor([[0, 0], [3, 1], [1, 1]])
    clean = Verdict(votes, 4, torch.zeros(3, dtype=torch.bool))
    attacked = Verdict(votes, 4, torch.ones(3, dtype=torch.bool))
    plain = Verdict(votes, 4)
    assert clean.share_right(y).tolist() == plain.share_right(y).tolist() == [0, 0.75, 0.25]
    assert attacked.share_right(y).tolist() == [1, 0.75, 0.75]
    assert attacked.majority().tolist() == [ABSTAIN, 0, ABSTAIN]


def test_a_detector_that_mostly_refuses_decides_nothing_by_majority() -> None:
    votes, perturbed = torch.tensor([[2, 0], [3, 0]]), torch.ones(2, dtype=torch.bool)
    assert Verdict(votes, 5, perturbed).majority().tolist() == [ABSTAIN, 0]
    assert Verdict(votes, 5).majority().tolist() == [0, 0]


def test_where_a_sample_stands_for_a_proposal_it_is_judged_strictly() -> None:
    y, refused = torch.tensor([0, 0]), torch.zeros(2, 2, dtype=torch.int64)
    attacked = Verdict(refused.clone(), 1, torch.ones(2, dtype=torch.bool))
    attacked.take(torch.tensor([True, False]), Verdict(refused, 1, torch.zeros(2).bool()))
    assert attacked.share_right(y).tolist() == [0, 1]


@dataclass(frozen=True, kw_only=True)
class Unsure(Defense):
    """Refuses by chance, whatever the input."""

    stochastic: ClassVar[bool] = True
    detector: ClassVar[bool] = True

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        return scores

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        return (streams.uniform(1)[:, 0] - 0.6).to(x)


# Distances to the edge between the classes, in linf; the detector refuses up to .02 of it.
DISTANCES = torch.tensor([0.01, 0.03, 0.05, 0.09])
ROBUST_AT_6 = {10: False, 13: False, 16: True, 19: True}
# Nearest and farthest, for the odd samples of the set are not asked for.
CHOSEN = torch.tensor([10, 13, 16, 19])


def by_distance() -> Dataset:
    away = LEADING.abs().sum()
    x = torch.full((20, 2 * VALUES), 0.5)
    x[CHOSEN, :VALUES] += _toward(LEADING, DISTANCES * away)
    return from_arrays(x.view(20, *SHAPE), torch.zeros(20, dtype=torch.int64), classes=2)


def confident() -> Confidence:
    refused = 0.02 * float(LEADING.abs().sum())
    return Confidence(model=TwoClasses(), threshold=1 / (1 + math.exp(-refused)))


def records_of(
    defense: Defense, eps: float, folder: Path, size: int = 4, draws: int = 1
) -> list[Record]:
    data = by_distance()
    subject = Subject(defense, data, CHOSEN, torch.device("cpu"))
    trial = Trial(
        subject=subject,
        facts=facts_of(defense, *_first(subject)),
        attacks=[PlannedAttack("apgd-ce", attack_of("apgd-ce")), _planned("noise")],
        threat=ThreatModel(norm=Norm.LINF, eps=eps),
        draws=draws,
        seed=0,
    )
    rows: list[Record] = []
    for number, samples in enumerate(CHOSEN.split(size)):
        entry = run_shard(trial, samples, folder, number, Silent())
        name = next(name for name in entry["sha256"] if name.startswith("records"))
        rows += from_lines((folder / name).read_bytes(), name)
    return rows


def _planned(name: str) -> PlannedAttack:
    return PlannedAttack(name, attack_of(name))


def _first(subject: Subject) -> tuple[Tensor, Tensor]:
    return subject.batch(CHOSEN)[0], CHOSEN


def test_a_sample_falls_only_to_what_is_wrong_and_accepted(tmp_path: Path) -> None:
    records = {r.sample: r for r in records_of(confident(), 0.06, tmp_path) if r.selected}
    # At .03 from the edge .05 is needed, at .05 .07: there it can be refused at most.
    assert {sample: r.correct for sample, r in records.items()} == ROBUST_AT_6
    assert (records[10].clean, records[10].clean_correct) == (None, False)
    assert (records[13].prediction, records[13].clean) == (1, 0)
    assert records[16].prediction is None
    assert records[19].prediction == 0


def test_the_size_of_a_batch_changes_no_record(tmp_path: Path) -> None:
    assert records_of(confident(), 0.06, tmp_path, 1) == records_of(confident(), 0.06, tmp_path, 4)


@pytest.mark.parametrize("random", [False, True])
def test_with_no_room_to_move_robust_is_clean(tmp_path: Path, random: bool) -> None:
    """A perturbed refusal would be right: on eps = 0 nothing is perturbed."""
    defense = Unsure(model=TwoClasses()) if random else confident()
    draws = 100 if random else 1
    for record in records_of(defense, 0.0, tmp_path, draws=draws):
        # Two estimates of .6 on 100 draws each: four standard errors of their difference are .28.
        apart = abs(float(record.clean_correct) - float(record.correct or 0))
        assert apart <= (0.28 if random else 0)
        assert not random or abs(float(record.clean_correct) - 0.6) < 0.2


def test_refused_shares_add_up(tmp_path: Path) -> None:
    records = table_of(records_of(confident(), 0.06, tmp_path))
    summary = _summary(records, None, detector=True)
    assert summary["detector"] == {"clean_refused": 0.25, "attacked_refused": 0.25}
    assert summary["clean"]["accuracy"] == 0.75
    assert summary["robust"]["accuracy"] == 0.5
    assert _summary(records, None, detector=False)["detector"] is None


def test_of_a_random_detector_refusals_of_perturbed_inputs_are_held(tmp_path: Path) -> None:
    draws = 100
    records = table_of(records_of(Unsure(model=TwoClasses()), 0.02, tmp_path, draws=draws))
    block = _summary(records, draws, detector=True)
    # Only .01 from the edge is within .02: the others stay right, or are refused.
    worst = records[records.selected].set_index("sample")
    assert worst.correct[10] == pytest.approx(1 - worst.votes[10][1] / draws)
    assert worst.correct[10] < 0.6
    assert block["detector"]["clean_refused"] == pytest.approx(0.4, abs=0.15)
    assert block["stochastic"]["expected"]["accuracy"] == block["robust"]["accuracy"]
    assert block["stochastic"]["clean"]["majority"]["accuracy"] == 1.0


def _summary(records: pd.DataFrame, draws: int | None, detector: bool) -> dict[str, Any]:
    names = ("apgd-ce", "noise")
    attacks = [{"name": name, "settings": {}, "control": name == "noise"} for name in names]
    cost = {"judge_forwards": 0, "seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0}
    shards = [{"cost": {**cost, "attack_seconds": dict.fromkeys(names, 0.0)}}]
    return summarise(records, attacks, draws, shards, detector=detector)


def test_a_run_and_its_report_say_what_was_refused(tmp_path: Path) -> None:
    spec = describe(
        model="two classes",
        data="by distance",
        threat="linf:0.06",
        attacks=["apgd-ce"],
        defense=f"confidence:threshold={confident().threshold!r}",
    )
    data = by_distance()
    given = Given(
        model=TwoClasses(),
        data=from_arrays(data.images(CHOSEN), ONLY_ZEROS.new_zeros(4), classes=2),
    )
    run = evaluate(spec, tmp_path / "run", given, show=False)
    assert run.summary["detector"] == {"clean_refused": 0.25, "attacked_refused": 0.25}
    assert run.summary["robust"]["accuracy"] == 0.5
    report([tmp_path / "run"], tmp_path / "report")
    told = (tmp_path / "report" / "report.md").read_text()
    assert "refused 25.0 % of decisions on clean inputs, counted as wrong" in told
    assert "25.0 % on the worst perturbed ones, counted as held" in told


def test_no_certificate_is_given_of_a_detector(tmp_path: Path) -> None:
    line = "certify --model digits_cnn --data digits --samples 4 --threat linf:0.01 --method crown"
    arguments = [*line.split(), "--defense", "confidence", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert getattr(done.exception, "exit_code", done.exit_code) == 2
    assert "may refuse to decide" in str(done.exception) + done.output


# ---- what is declared


@dataclass(frozen=True, kw_only=True)
class Silent0(Defense):
    """Decides nothing on what is bright, and does not say so."""

    model: nn.Module

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        scores: Tensor = self.model(x)
        return scores

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        bright = x.flatten(1).mean(1) > 0.5
        return super().decide(x, streams).where(~bright, ABSTAIN)


class Declared(Silent0):
    """Says so, but its rejection is another."""

    detector: ClassVar[bool] = True

    @property
    def passes(self) -> int:
        return 1

    def rejection(self, x: Tensor, streams: Streams) -> Tensor:
        return x.flatten(1).mean(1) - 0.52


class Even(Defense):
    """Two votes by chance, a rule of its own: half of its decisions are ties."""

    stochastic: ClassVar[bool] = True

    def __init__(self) -> None:
        object.__setattr__(self, "model", nn.Identity())
        object.__setattr__(self, "votes", 2)

    def logits(self, x: Tensor, streams: Streams) -> Tensor:
        return streams.normal(2)

    @torch.no_grad()
    def decide(self, x: Tensor, streams: Streams) -> Tensor:
        return super().decide(x, streams.child("own"))


def told_of(defense: Defense) -> tuple[bool, str | None]:
    samples = torch.arange(16)
    streams = Streams.of(0, "facts", samples)
    x = streams.child("x").uniform(*SHAPE)
    found, finding = refuses(defense, x, samples, streams, Ledger(samples))
    return found, None if finding is None else finding.code


def test_who_refuses_and_does_not_say_so_is_found_out() -> None:
    assert told_of(Silent0(model=TwoClasses())) == (False, "declared-decisive")


def test_who_says_so_and_refuses_nothing_is_found_out() -> None:
    # Of 2 classes one has half of the probability at least.
    assert told_of(Confidence(model=TwoClasses(), threshold=0.5)) == (True, "declared-detector")
    assert told_of(Confidence(model=TwoClasses(), threshold=0.9)) == (True, None)


def test_a_rejection_that_is_not_what_is_decided_is_found_out() -> None:
    assert told_of(Declared(model=TwoClasses())) == (True, "declared-rejection")


def test_ties_by_chance_are_no_refusals() -> None:
    assert told_of(Even()) == (False, None)
    assert told_of(Identity(model=TwoClasses())) == (False, None)


def test_a_rejection_without_a_gradient_is_found_out() -> None:
    problem = known(Norm.LINF)
    streams = Streams.of(0, "facts", SAMPLES)
    given = (problem.x, SAMPLES, streams, Ledger(SAMPLES))

    class Cut(HalfSpace):
        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return super().rejection(x, streams).detach()

    class Mended(Cut):
        def rejection_surrogate(self, x: Tensor, streams: Streams) -> Tensor:
            return HalfSpace.rejection(self, x, streams)

    settings = {"model": TwoClasses(), "tie": 1.0, "offset": 0.0}
    flat = flat_rejection(Cut(**settings), *given)  # type: ignore[arg-type]  # by name
    assert flat is not None
    assert flat.code == "flat-rejection"
    assert flat_rejection(Mended(**settings), *given) is None  # type: ignore[arg-type]  # by name


def test_a_random_rejection_beside_sure_scores_is_noticed() -> None:
    x, streams = known(Norm.LINF).x, Streams.of(0, "facts", SAMPLES)
    for defense, random in ((Unsure(model=TwoClasses()), True), (confident(), False)):
        assert rejection_varies(defense, x, SAMPLES, streams, Ledger(SAMPLES)) is random


def broken() -> Sequence[tuple[type[Defense], str]]:
    class Restless(Confidence):
        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return super().rejection(x, streams) + streams.normal(1)[:, 0]

    class Coupled(Confidence):
        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return super().rejection(x, streams) - x.mean()

    class Otherwise(Confidence):
        def rejection_surrogate(self, x: Tensor, streams: Streams) -> Tensor:
            return 2 * self.rejection(x, streams)

    class Cheap(Confidence):
        @property
        def passes(self) -> int:
            return 1

    class Secret(Confidence):
        detector: ClassVar[bool] = False

        @property
        def passes(self) -> int:
            return 1

        @torch.no_grad()
        def decide(self, x: Tensor, streams: Streams) -> Tensor:
            return super().decide(x, streams).where(self.rejection(x, streams) <= 0, ABSTAIN)

    class Flat(Confidence):
        def rejection(self, x: Tensor, streams: Streams) -> Tensor:
            return super().rejection(x, streams).sign().detach()

    return [
        (Restless, "two draws are"),
        (Coupled, "by themselves get rejections"),
        (Otherwise, "away from rejection"),
        (Cheap, "it declares passes"),
        (Secret, "declared no detector"),
        (Flat, "no gradient"),
    ]


@pytest.mark.parametrize(("kind", "said"), broken())
def test_the_contract_notices_each_broken_promise_of_a_detector(
    kind: type[Confidence], said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        check_defense(lambda model, mates: kind(model=model, threshold=0.5))


def test_what_moved_is_what_differs_anywhere() -> None:
    x = known(Norm.LINF).x
    other = x.clone()
    other[1, 0, 0, 0] += 1e-3
    assert moved(other, x).tolist() == [False, True, False]


def test_the_judge_counts_what_is_missing_as_abstained() -> None:
    streams = Streams.of(0, "judge", CHOSEN)
    x, _ = _first(Subject(confident(), by_distance(), CHOSEN, torch.device("cpu")))
    assert judge(confident(), x, streams, 1, 2).abstained.tolist() == [1, 0, 0, 0]
