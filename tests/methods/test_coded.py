"""Coded certificates, against closed forms, plain bounds and an adversary who knows the draw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcode.adversary import Adversary, Batch, Collusion, Mates, Solo
from robustcode.bounds import Region, crown, margins, network_of
from robustcode.certificates import Certificate, Status
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import CodedSmoothing, Defense, Identity
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Claim
from robustcode.methods.coded import Coded
from robustcode.methods.coded_decisions import Reached, majority
from robustcode.methods.coded_margins import Joint, reach
from robustcode.methods.coded_mixing import Mixing, mixing
from robustcode.methods.course import Estimator
from robustcode.seeds import Streams
from robustcode.statistics import proportion
from robustcode.threat import Norm, ThreatModel

K, POOL, CLASSES = 8, 60, 4
SHAPE = (1, 4, 4)
EPS = {Norm.LINF: 0.03, Norm.L2: 0.1, Norm.L1: 0.2}
DUAL = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: torch.inf}
# What roundings in float64 take off a margin, with much to spare; in float32 see its own test.
ROUNDING = 1e-9


def images(count: int, purpose: str = "x", dtype: torch.dtype = torch.float64) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*SHAPE, dtype=dtype)


def weighted(*layers: nn.Module) -> nn.Sequential:
    model = nn.Sequential(*layers)
    weights = Streams.of(1, "weights", torch.arange(len(list(model.parameters()))))
    for row, parameter in enumerate(model.parameters()):
        values = weights[row : row + 1].normal(*parameter.shape)[0]
        parameter.data = 2 * values / parameter[0].numel() ** 0.5
    return model.double().eval().requires_grad_(False)


def network() -> nn.Module:
    return weighted(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 12),
        nn.ReLU(),
        nn.Linear(12, CLASSES),
    )


def linear() -> nn.Module:
    return weighted(nn.Flatten(), nn.Linear(16, CLASSES))


def coded(
    model: nn.Module, adversary: Adversary | None = None, **settings: object
) -> CodedSmoothing:
    defense = CodedSmoothing(model=model, mates=images(POOL, "pool"), k=K, **settings)  # type: ignore[arg-type]
    return defense.facing(adversary or Solo(), torch.arange(0), images(0))


def streams_of(count: int, adversary: Adversary | None = None, seed: int = 0) -> Streams:
    samples = torch.arange(count)
    batched = isinstance(adversary, Batch)
    return Streams.of(seed, "draw", samples, samples // K if batched else None)


def claim(
    defense: Defense,
    norm: Norm = Norm.LINF,
    radii: tuple[float, ...] | None = None,
    adversary: Adversary | None = None,
    rows: int = 256,
) -> Claim:
    eps = EPS[norm] if radii is None else radii[0]
    return Claim(
        defense=defense,
        threat=ThreatModel(norm, eps),
        radii=(eps,) if radii is None else tuple(sorted(radii)),
        classes=CLASSES,
        example=images(1),
        adversary=adversary or Solo(),
        rows=rows,
    )


def prove(
    asked: Claim, x: Tensor, y: Tensor, streams: Streams, method: Coded | None = None
) -> list[Certificate]:
    return (method or Coded()).prepare(asked).prove(x, y, streams, lambda _: None)


def joint(model: nn.Module, norm: Norm, rows: int = 256) -> Joint:
    return Joint(network_of(model, images(1)), ThreatModel(norm, EPS[norm]), torch.float64, rows)


def tasked(x: Tensor, mixed: Mixing) -> Tensor:
    return x.unflatten(0, mixed.decoder.shape[:2])


def least_margin(scores: Tensor, label: Tensor) -> Tensor:
    own = scores.gather(1, label[:, None])[:, 0]
    return own - scores.scatter(1, label[:, None], -torch.inf).amax(1)


# --- the mixing is the defence's own


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("adversary", [Solo(), Batch()], ids=["solo", "batch"])
@pytest.mark.parametrize("negligible", [1e-6, 1e-3])
@pytest.mark.parametrize("k", [8, 64])
def test_coded_images_and_weights_are_those_that_the_defence_runs(
    k: int, negligible: float, adversary: Adversary, fixed: bool
) -> None:
    """Also the rows that it leaves out: with 1e-3 it leaves out a third at k = 64."""
    model = network()
    defense = coded(model, adversary, fixed=fixed, negligible=negligible)
    defense = replace(defense, k=k, mates=images(90, "pool"))
    x, streams = images(5), streams_of(5, adversary)
    mixed = mixing(defense, x, streams)
    given = mixed.images(tasked(x, mixed))
    outputs = model(given.flatten(0, 1)).unflatten(0, given.shape[:2])
    scores = (mixed.decoder @ outputs).flatten(0, 1)
    torch.testing.assert_close(scores, defense.logits(x, streams), rtol=0, atol=1e-12)


@pytest.mark.parametrize("adversary", [Solo(), Batch()], ids=["solo", "batch"])
@pytest.mark.parametrize("ratio", [1.5, 0.75])
def test_coded_images_reach_the_ends_of_their_box_and_no_further(
    ratio: float, adversary: Adversary
) -> None:
    """In linf each value has its own extremes: the box of images cuts some of them off."""
    defense = coded(network(), adversary, ratio=ratio)
    x, streams, eps = images(K), streams_of(K, adversary), 0.3
    mixed = mixing(defense, x, streams)
    mine = tasked(x, mixed)
    rounded = torch.full_like(mixed.weight, 0.01)
    box = reach(mixed, mine, ThreatModel(Norm.LINF, eps), eps, rounded).box()
    low, high = (x - eps).clamp(min=0), (x + eps).clamp(max=1)
    for row in range(mixed.encoder.shape[1]):
        for sign, side in ((1, box.upper), (-1, box.lower)):
            gives = mixed.encoder[:, row].view(*mine.shape[:2], 1, 1, 1) * sign > 0
            furthest = torch.where(gives, tasked(high, mixed), tasked(low, mixed))
            end = side.unflatten(0, mixed.encoder.shape[:2])[:, row]
            expected = mixed.images(furthest)[:, row] + 0.01 * sign
            torch.testing.assert_close(end, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.L1])
def test_what_is_rounded_off_every_value_is_within_the_ball_of_coded_images(norm: Norm) -> None:
    defense = coded(network())
    x, streams = images(2), streams_of(2)
    mixed = mixing(defense, x, streams)
    rounded = torch.full_like(mixed.weight, 0.01)
    region = reach(mixed, x[:, None], ThreatModel(norm, 0.1), 0.1, rounded)
    off = ThreatModel(norm, 0.1).distance(region.x + 0.01, region.x)
    weight = mixed.encoder.abs().flatten()
    torch.testing.assert_close(region.radius, 0.1 * weight + off, rtol=0, atol=1e-12)


# --- closed forms and plain bounds


@pytest.mark.parametrize("norm", Norm)
def test_the_code_that_codes_nothing_has_the_bounds_of_the_plain_network(norm: Norm) -> None:
    # In l2 and l1 coded images are bounded without a box, so that one must not help the plain one.
    model, x = network(), images(6) if norm is Norm.LINF else 0.45 + 0.1 * images(6)
    y = model(x).argmax(1)
    one = torch.ones(6, 1, 1, dtype=torch.float64)
    trivial = Mixing(one, torch.zeros(6, 1, *SHAPE).double(), one[:, 0], one, 1)
    found, *_ = joint(model, norm).margins(
        trivial, x[:, None], y[:, None], one[:, 0] > 0, EPS[norm]
    )
    graph = network_of(model, images(1))
    radius = torch.full((6,), EPS[norm], dtype=torch.float64)
    box = (0.0, 1.0) if norm is Norm.LINF else (None, None)
    region = Region(x, radius, norm, *box)
    plain = crown(graph, region, margins(y, CLASSES))
    torch.testing.assert_close(
        found[:, 0], (plain.lower - plain.slack).amin(1), rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("adversary", [Solo(), Batch()], ids=["solo", "batch"])
@pytest.mark.parametrize("norm", Norm)
def test_a_linear_network_is_bounded_as_well_as_it_can_be(norm: Norm, adversary: Adversary) -> None:
    """The least margin is the clean one less, for each mover, eps times gain times dual norm."""
    model = linear()
    defense = coded(model, adversary)
    # Far from the ends of [0, 1], so that the box takes nothing away from the ball.
    x, streams = 0.45 + 0.1 * images(K), streams_of(K, adversary)
    label = defense.logits(x, streams).argmax(1)
    mixed = mixing(defense, x, streams)
    found, *_ = joint(model, norm).margins(
        mixed, tasked(x, mixed), label.view(mixed.decoder.shape[:2]), mixed.decoder[..., 0] < 9, 0.2
    )
    gains = (mixed.decoder @ mixed.encoder).abs().sum(2).flatten()
    weight = model[1].weight  # type: ignore[index]
    scores = defense.logits(x, streams)
    for row in range(K):
        own = int(label[row])
        expected = min(
            scores[row, own]
            - scores[row, other]
            - 0.2 * gains[row] * torch.linalg.vector_norm(weight[own] - weight[other], DUAL[norm])
            for other in range(CLASSES)
            if other != own
        )
        assert float(found.flatten()[row]) == pytest.approx(float(expected), abs=ROUNDING)


@pytest.mark.parametrize("norm", Norm)
def test_joint_bounds_are_never_below_the_sum_of_single_ones(norm: Norm) -> None:
    """And above it where coefficients of different coded images cancel."""
    model = network()
    defense = coded(model)
    x, streams, eps = 0.3 + 0.4 * images(6), streams_of(6), EPS[norm]
    label = defense.logits(x, streams).argmax(1)
    mixed = mixing(defense, x, streams)
    found, *_ = joint(model, norm).margins(
        mixed, x[:, None], label[:, None], mixed.decoder[..., 0] < 9, eps
    )
    graph = network_of(model, images(1))
    better = []
    for row in range(6):
        centres = mixed.images(x[:, None])[row]
        region = Region(centres, eps * mixed.encoder[row, :, 0].abs(), norm)
        spec = margins(label[row : row + 1], CLASSES)
        weighted_spec = mixed.decoder[row, 0][:, None, None] * spec
        apart = crown(graph, region, weighted_spec).lower.sum(0).amin()
        better.append(float(found[row, 0] - apart))
    assert min(better) >= -ROUNDING
    assert max(better) > 0.005


# --- nothing that is proved is broken


def worst_found(
    defense: CodedSmoothing, x: Tensor, label: Tensor, threat: ThreatModel, streams: Streams
) -> Tensor:
    """The least margin in the draw of ``streams`` that ascent and random corners find."""
    worst = least_margin(defense.logits(x, streams), label)
    for start in range(2):
        move = threat.geometry.random(x, streams.child("start", start))
        x_adv = threat.project(x + threat.eps * move, x)
        for step in range(15):
            x_adv.requires_grad_()
            loss = least_margin(defense.logits(x_adv, streams), label)
            (slope,) = torch.autograd.grad(loss.sum(), x_adv)
            worst = worst.minimum(loss.detach())
            ascent = threat.geometry.steepest(threat, -slope, x_adv.detach())
            length = threat.eps * (1 - step / 20)
            x_adv = threat.project(x_adv.detach() + length * ascent, x)
    return worst


@pytest.mark.parametrize("ratio", [1.5, 0.75])
@pytest.mark.parametrize("adversary", [Solo(), Batch(reach=99)], ids=["solo", "batch"])
@pytest.mark.parametrize("norm", Norm)
def test_an_adversary_who_knows_the_draw_finds_no_smaller_margin(
    norm: Norm, adversary: Adversary, ratio: float
) -> None:
    model = network()
    defense = coded(model, adversary, ratio=ratio)
    x, streams = images(2 * K), streams_of(2 * K, adversary)
    label = defense.logits(x, streams).argmax(1)
    worst = worst_found(defense, x, label, ThreatModel(norm, EPS[norm]), streams)
    for rows in torch.arange(2 * K).split(K):
        mixed = mixing(defense, x[rows], streams[rows])
        found, *_ = joint(model, norm).margins(
            mixed,
            tasked(x[rows], mixed),
            label[rows].view(mixed.decoder.shape[:2]),
            mixed.decoder[..., 0] < 9,
            EPS[norm],
        )
        assert (found.flatten() <= worst[rows]).all()
        # Not empty: some of it is proved, and the bound is not far off where it is.
        assert (found > 0).any()


@pytest.mark.parametrize("adversary", [Solo(), Batch(reach=99)], ids=["solo", "batch"])
def test_of_fixed_draws_the_proof_is_for_certain_and_the_attack_finds_nothing(
    adversary: Adversary,
) -> None:
    model = network()
    defense = coded(model, adversary, fixed=True, votes=3)
    x, streams = images(2 * K), streams_of(2 * K, adversary)
    label = defense.decide(x, streams)
    y = label.clone()
    y[0] = (y[0] + 1) % CLASSES
    found = prove(claim(defense, adversary=adversary), x, y, streams)
    for row, proof in enumerate(found):
        assert (proof.sample, proof.label, proof.prediction) == (row, int(y[row]), int(label[row]))
        assert (proof.alpha, proof.draws, proof.share) == (0, None, None)
        assert proof.bound is not None
        assert (proof.radius > 0) == (proof.bound > 0)
    assert found[0].status is Status.WRONG
    assert {proof.status for proof in found[1:]} == {Status.CERTIFIED, Status.UNDECIDED}
    worst = worst_found(defense, x, label, ThreatModel(Norm.LINF, EPS[Norm.LINF]), streams)
    assert (worst > 0)[torch.tensor([proof.radius > 0 for proof in found])].all()


@pytest.mark.parametrize("adversary", [Solo(), Batch(reach=99)], ids=["solo", "batch"])
def test_no_digit_that_is_proved_is_broken_by_one_who_knows_the_draw(adversary: Adversary) -> None:
    model = load_classifier("digits_cnn", classes=10).requires_grad_(False)
    data = load_data("digits")
    x, y = data.images(torch.arange(K)), data.targets(torch.arange(K))
    defense = CodedSmoothing(
        model=model, mates=data.images(torch.arange(100, 160)), k=K, fixed=True
    )
    defense = defense.facing(adversary, torch.arange(0), x[:0])
    streams, threat = streams_of(K, adversary), ThreatModel(Norm.LINF, 0.04)
    asked = Claim(
        defense=defense,
        threat=threat,
        radii=(threat.eps,),
        classes=10,
        example=x[:1],
        adversary=adversary,
    )
    found = prove(asked, x, y, streams)
    worst = worst_found(defense, x, y, threat, streams)
    for proof, least in zip(found, worst, strict=True):
        if proof.prediction == proof.label:
            assert proof.bound is not None
            assert proof.bound <= float(least)
    assert Status.CERTIFIED in {proof.status for proof in found}


@pytest.mark.parametrize(
    ("adversary", "deployed"),
    [
        (Solo(), {}),
        (Batch(reach=99), {}),
        (Solo(), {"votes": 3}),
        (Batch(reach=99), {"votes": 2, "mean": True}),
    ],
    ids=["solo", "batch", "votes", "batch-mean"],
)
def test_the_proved_share_of_draws_is_below_what_attacks_leave_right(
    adversary: Adversary, deployed: dict[str, object]
) -> None:
    """Each draw attacked by one who sees it: with the same draws, never more are proved."""
    model, draws = network(), 5
    defense = coded(model, adversary, **deployed)
    x, streams = images(K), streams_of(K, adversary)
    y = defense.decide(x, streams)
    method = Coded(draws=draws, selection=3, alpha=0.05)
    found = prove(claim(defense, adversary=adversary), x, y, streams, method)
    right = torch.zeros(K)
    for draw in range(draws):
        seen = streams.child("draw", draw)
        standing = torch.ones(K, dtype=torch.bool)
        for start in range(2):
            x_adv = attacked(defense, x, y, seen, start)
            standing &= defense.decide(x_adv, seen) == y
        right += standing
    shares = [proof.share for proof in found]
    assert all(
        share is not None and share <= proportion(int(hits), draws).value
        for share, hits in zip(shares, right, strict=True)
    )
    assert max(share or 0 for share in shares) > 0.2


def attacked(defense: CodedSmoothing, x: Tensor, y: Tensor, streams: Streams, start: int) -> Tensor:
    """Ascent on the mean margin of the votes of one known decision."""
    threat = ThreatModel(Norm.LINF, EPS[Norm.LINF])
    x_adv = threat.project(
        x + threat.eps * threat.geometry.random(x, streams.child("from", start)), x
    )
    for _ in range(8):
        x_adv.requires_grad_()
        votes = [
            least_margin(defense.logits(x_adv, streams.child("vote", vote)), y).sum()
            for vote in range(defense.votes)
        ]
        (slope,) = torch.autograd.grad(torch.stack(votes).sum(), x_adv)
        x_adv = threat.project(x_adv.detach() - 0.3 * threat.eps * slope.sign(), x)
    return x_adv


def test_a_mean_of_votes_is_bounded_jointly_over_all_of_its_draws() -> None:
    """On a linear network the bound of the mean is the mean of the bounds' scores, exactly."""
    model = linear()
    x, streams = 0.45 + 0.1 * images(4), streams_of(4)
    defense = coded(model, votes=3, mean=True)
    drawn = [streams.child("vote", vote) for vote in range(3)]
    mixed = Mixing.joined([mixing(defense, x, each) for each in drawn])
    scores = torch.stack([defense.logits(x, each) for each in drawn]).sum(0)
    label = scores.argmax(1)
    found, *_ = joint(model, Norm.L2).margins(
        mixed, x[:, None], label[:, None], label[:, None] >= 0, 0.1
    )
    gain = (mixed.decoder @ mixed.encoder).abs().flatten()
    weight = model[1].weight  # type: ignore[index]
    lost = torch.stack([(weight[own] - weight).norm(dim=1) for own in label])
    gap = scores.gather(1, label[:, None]) - scores - 0.1 * gain[:, None] * lost
    gap.scatter_(1, label[:, None], torch.inf)
    torch.testing.assert_close(found[:, 0], gap.amin(1), rtol=0, atol=ROUNDING)


def test_coded_images_of_little_weight_are_left_to_intervals_at_no_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the 96 of a batch of 64 most are light for each sample; without them it costs less."""
    model = network()
    defense = replace(coded(model, Batch()), k=64, mates=images(90, "pool"))
    x, streams = images(5), streams_of(5, Batch())
    label = defense.logits(x, streams).argmax(1)
    mixed = mixing(defense, x, streams)

    def least() -> tuple[Tensor, int]:
        found = joint(model, Norm.LINF).margins(mixed, x[None], label[None], label[None] >= 0, 0.03)
        return found.margin, int(found.backwards.sum())

    with_intervals, fewer = least()
    monkeypatch.setattr("robustcode.methods.coded_margins.LIGHT", 0.0)
    exact, more = least()
    assert (with_intervals <= exact).all()
    torch.testing.assert_close(with_intervals, exact, rtol=0, atol=1e-6)
    assert fewer < more


def test_a_majority_is_proved_by_more_than_half_of_the_votes() -> None:
    """And by votes for its own class: of three for 1, 1 and 2, both of 1 are needed."""

    def vote(label: int, level: int) -> Reached:
        one = torch.tensor([label])
        return Reached(one, torch.tensor([level]), torch.zeros(1), torch.ones(2, 1).long())

    cases = [
        ([(1, 2), (1, 3), (2, 5)], (1, 2)),
        ([(1, 0), (1, 3), (2, 5)], (1, 0)),
        ([(1, 4), (1, 3), (1, 5)], (1, 4)),
        ([(1, 4), (1, 3)], (1, 3)),
        ([(1, 4), (1, 3), (1, 2), (1, 1)], (1, 2)),
    ]
    for votes, (label, level) in cases:
        found = majority([vote(*one) for one in votes])
        assert (int(found.label), int(found.level)) == (label, level)
        assert found.passes.flatten().tolist() == [len(votes)] * 2


# --- radii, draws, memory


def test_radii_are_proved_from_the_smallest_on() -> None:
    defense = coded(network(), fixed=True)
    x, streams = images(16), streams_of(16)
    y = defense.decide(x, streams)
    radii = (0.08, 0.04, 0.12)
    found = prove(claim(defense, radii=radii), x, y, streams)
    alone = {eps: prove(claim(defense, radii=(eps,)), x, y, streams) for eps in sorted(radii)}
    for row, proof in enumerate(found):
        held = [eps for eps, proofs in alone.items() if proofs[row].radius]
        assert proof.radius == max(held, default=0)
        assert proof.bound == alone[0.08][row].bound
    assert {proof.radius for proof in found} == {0, *radii}


@pytest.mark.parametrize("adversary", [Solo(), Batch()], ids=["solo", "batch"])
def test_memory_and_other_batches_change_no_certificate(adversary: Adversary) -> None:
    defense = coded(network(), adversary)
    x, streams = images(2 * K), streams_of(2 * K, adversary)
    y = defense.decide(x, streams)
    method = Coded(draws=4, selection=2, alpha=0.1)

    def proved(rows: slice, memory: int) -> list[Certificate]:
        asked = claim(defense, adversary=adversary, rows=memory)
        found = prove(asked, x[rows], y[rows], streams[rows], method)
        # Sums in another order.
        return [
            replace(one, bound=None if one.bound is None else round(one.bound, 9)) for one in found
        ]

    whole = proved(slice(None), 1000)
    assert proved(slice(None), 7) == whole
    assert proved(slice(K), 64) + proved(slice(K, None), 64) == whole


def test_the_sequential_rule_ends_early_and_says_as_much_about_one_half() -> None:
    defense = coded(network())
    x, streams = images(8), streams_of(8)
    y = defense.decide(x, streams)
    asked = claim(defense)
    early = prove(
        asked, x, y, streams, Coded(draws=30, selection=2, estimator=Estimator.SEQUENTIAL)
    )
    late = prove(asked, x, y, streams, Coded(draws=30, selection=2))
    assert [one.status for one in early] == [one.status for one in late]
    assert Status.CERTIFIED in {one.status for one in early}
    for one in early:
        assert one.share == (0.5 if one.status is Status.CERTIFIED else 0)
    assert sum(one.draws or 0 for one in early) < sum(one.draws or 0 for one in late)


def test_bounds_are_those_of_clopper_and_pearson() -> None:
    """Nothing moves: every draw for the class is proved, and the others are not."""
    defense = coded(network(), ratio=0.75)
    x, streams = images(8), streams_of(8)
    y = defense.decide(x, streams)
    found = prove(claim(defense, radii=(0.0,)), x, y, streams, Coded(draws=30, alpha=0.025))
    for row, proof in enumerate(found):
        hits = sum(
            int(defense.decide(x[row : row + 1], streams[row : row + 1].child("draw", draw)))
            == int(y[row])
            for draw in range(30)
        )
        assert proof.share == pytest.approx(proportion(hits, 30).low, abs=1e-12)


def test_in_single_precision_a_margin_is_off_by_little_and_to_the_safe_side() -> None:
    model = network()
    defense = coded(model)
    single = replace(defense, model=network().float(), mates=defense.mates.float())
    x, streams = images(8, dtype=torch.float32), streams_of(8)
    scores = single.logits(x, streams)
    label = scores.argmax(1)
    graph = network_of(single.model, x[:1])
    bounds = Joint(graph, ThreatModel(Norm.LINF, 0.0), torch.float32, 256)
    found, *_ = bounds.margins(
        mixing(single, x, streams), x[:, None], label[:, None], label[:, None] >= 0, 0.0
    )
    off = least_margin(scores, label).double() - found[:, 0]
    assert (off > 0).all()
    assert (off < 1e-3).all()


# --- what is refused


def test_a_defence_that_codes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="Identity codes nothing"):
        Coded().prepare(claim(Identity(model=network())))


@pytest.mark.parametrize("adversary", [Mates(), Collusion(users=2)], ids=["mates", "collusion"])
def test_mates_of_the_adversarys_choice_are_uncertifiable(adversary: Adversary) -> None:
    defense = coded(network(), adversary)
    with pytest.raises(ConfigError, match="uncertifiable: batch integrity is required"):
        Coded().prepare(claim(defense, adversary=adversary))


def test_a_coded_module_is_refused_by_its_name() -> None:
    defense = coded(network(), module="2")
    with pytest.raises(ConfigError, match="from module '2' on; leave out module"):
        Coded().prepare(claim(defense))


def test_a_layer_without_bounds_is_refused() -> None:
    with pytest.raises(ConfigError, match="Tanh"):
        Coded().prepare(claim(coded(weighted(nn.Flatten(), nn.Tanh(), nn.Linear(16, CLASSES)))))


def test_too_few_draws_are_refused_with_the_number_it_would_take() -> None:
    with pytest.raises(ConfigError, match="10"):
        Coded(draws=9)
    assert Coded(draws=10).boundaries.certify.tolist() == [10]


@pytest.mark.parametrize("setting", [{"alpha": 0.0}, {"alpha": 1.0}, {"selection": 0}])
def test_settings_that_mean_nothing_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        Coded(**setting)  # type: ignore[arg-type]


def test_it_is_known_by_its_name() -> None:
    assert METHODS.get("coded") is Coded
    assert np.isclose(Coded().alpha, 0.001)
