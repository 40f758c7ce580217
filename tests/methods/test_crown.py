"""Certificates of plain networks: ibp, crown and lipschitz beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustcode.adversary import Batch
from robustcode.bounds import Region, crown_bounds, linear_bounds, margins, network_of, relaxed
from robustcode.certificates import Certificate, Status
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import JPEG, BitDepth, Defense, GaussianNoise, Identity
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Claim
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"
DETERMINISTIC = ["ibp", "crown", "lipschitz"]
CIFAR_A = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)


def claim_of(
    defense: Defense, threat: str, example: Tensor, radii: tuple[float, ...] = ()
) -> Claim:
    model = ThreatModel.parse(threat)
    return Claim(
        defense=defense, threat=model, radii=radii or (model.eps,), classes=10, example=example
    )


def digits(count: int) -> tuple[Identity, Tensor, Tensor]:
    data = load_data("digits")
    defense = Identity(model=load_classifier("digits_cnn:adversarial", classes=10))
    return defense, data.images(range(count)), torch.as_tensor(data.labels[:count])


def certified(
    method: str, claim: Claim, x: Tensor, y: Tensor, samples: list[int] | None = None
) -> list[Certificate]:
    numbers = torch.arange(len(x)) if samples is None else torch.tensor(samples)
    prover = METHODS.get(method)().prepare(claim)
    return prover.prove(x, y, Streams.of(0, "certify", numbers), lambda count: None)


@pytest.mark.parametrize("threat", ["linf:0.005", "l2:0.01", "l1:0.01"])
def test_lines_prove_what_intervals_prove_and_more(threat: str) -> None:
    defense, x, y = digits(25)
    claim = claim_of(defense, threat, x[:1])
    proved = {
        name: [proof.status for proof in certified(name, claim, x, y)].count(Status.CERTIFIED)
        for name in DETERMINISTIC
    }
    assert 0 < proved["ibp"] <= proved["crown"]
    assert 0 < proved["lipschitz"] <= proved["crown"] + 2


def test_a_certificate_is_what_the_bounds_say() -> None:
    defense, x, y = digits(12)
    y[5] = (y[5] + 1) % 10  # a label that the prediction is not
    radii = (0.01, 0.02, 0.05, 0.1)
    found = certified("crown", claim_of(defense, "linf:0.05", x[:1], radii), x, y)
    network = network_of(defense.model, x[:1])
    least = {}
    # An attack may overshoot by its rounding, and a proof must hold there too.
    beyond = ThreatModel.parse("linf:0.05").rounding(x)
    for radius in radii:
        size = torch.full((12,), radius + beyond, dtype=torch.float64)
        region = Region(x.double(), size, Norm.LINF, 0.0, 1.0)
        lines = relaxed(network, crown_bounds(network, region))
        least[radius] = linear_bounds(network, region, lines, margins(y, 10)).lower.amin(1)
    right = defense.model(x).argmax(1) == y
    for i, proof in enumerate(found):
        assert (proof.sample, proof.label, proof.alpha) == (i, int(y[i]), 0.0)
        assert proof.prediction == int(defense.model(x[i : i + 1]).argmax())
        if not right[i]:
            assert (proof.status, proof.radius, proof.bound) == (Status.WRONG, 0.0, None)
            assert (proof.forwards, proof.backwards) == (1, 0)
            continue
        held = [radius for radius in radii if least[radius][i] > 0]
        assert proof.radius == (max(held) if held else 0.0)
        assert (proof.status is Status.CERTIFIED) == (least[0.05][i] > 0)
        # Where intervals decide, lines are not asked.
        assert proof.bound is not None
        assert proof.backwards > 0 or proof.bound > 0
        if proof.backwards:
            assert proof.bound >= float(least[0.05][i]) - 1e-6
    assert {proof.radius for proof in found} >= {0.05, 0.1}


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_what_is_found_for_a_sample_does_not_depend_on_the_others(name: str) -> None:
    defense, x, y = digits(9)
    claim = claim_of(defense, "linf:0.03", x[:1], (0.01, 0.03, 0.06))
    together = certified(name, claim, x, y)
    for i in (0, 4, 8):
        (alone,) = certified(name, claim, x[i : i + 1], y[i : i + 1], [i])
        assert alone.status == together[i].status
        assert alone.radius == pytest.approx(together[i].radius, rel=1e-9)
        assert alone.bound == pytest.approx(together[i].bound, rel=1e-9)
        assert alone.backwards == together[i].backwards


@pytest.mark.parametrize("norm", Norm)
def test_of_a_linear_model_the_distance_to_its_boundary_is_proved(norm: Norm) -> None:
    """The distance is the margin over the dual norm of the difference of two rows."""
    weight = Streams.of(0, "weight", torch.arange(10)).normal(64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval().requires_grad_(False)
    model.state_dict()["1.weight"].copy_(weight)
    # Far from the sides of the box, which would hold an adversary back.
    x = 0.45 + 0.1 * Streams.of(0, "images", torch.arange(6)).uniform(1, 8, 8)
    scores = model(x)
    y = scores.argmax(1)
    dual = {Norm.LINF: 1, Norm.L2: 2, Norm.L1: np.inf}[norm]
    apart = torch.linalg.vector_norm(weight[y][:, None] - weight, ord=dual, dim=2)
    gaps = (scores.gather(1, y[:, None]) - scores) / apart
    distance = gaps.scatter(1, y[:, None], torch.inf).amin(1)
    eps = float(distance.min())
    defense = Identity(model=model)
    # Intervals see a box even around a ball.
    for name in DETERMINISTIC if norm is Norm.LINF else DETERMINISTIC[1:]:
        below = claim_of(defense, f"{norm}:{0.999 * eps}", x[:1])
        above = claim_of(defense, f"{norm}:{1.001 * eps}", x[:1])
        assert all(proof.status is Status.CERTIFIED for proof in certified(name, below, x, y))
        found = certified(name, above, x, y)
        left = [proof.status is Status.UNDECIDED for proof in found]
        assert left == (distance == distance.min()).tolist()
        for proof, most in zip(found, distance.tolist(), strict=True):
            assert proof.radius <= most * (1 + 1e-6)


def test_a_lipschitz_constant_proves_radii_that_nobody_asked_for() -> None:
    defense, x, y = digits(12)
    found = certified("lipschitz", claim_of(defense, "l2:0.3", x[:1]), x, y)
    between = [proof for proof in found if 0 < proof.radius < 0.3]
    assert len(between) > 3
    for proof in between:
        assert proof.status is Status.UNDECIDED
        again = claim_of(defense, f"l2:{proof.radius}", x[:1])
        i = proof.sample
        (lines,) = certified("crown", again, x[i : i + 1], y[i : i + 1])
        assert lines.status is Status.CERTIFIED


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_defences_that_have_no_bounds_are_refused_by_name(name: str) -> None:
    defense, x, _ = digits(1)
    model = defense.model
    for other in (JPEG(model=model), BitDepth(model=model)):
        message = f"method {name} cannot bound what {type(other).__name__} does to an image"
        with pytest.raises(ConfigError, match=message):
            METHODS.get(name)().prepare(claim_of(other, "linf:0.01", x))
    noisy = claim_of(GaussianNoise(model=model, sigma=0.1), "linf:0.01", x)
    with pytest.raises(ConfigError, match=r"GaussianNoise is random .* take smoothing, or coded"):
        METHODS.get(name)().prepare(noisy)
    whole = Claim(
        defense=defense,
        threat=ThreatModel.parse("linf:0.01"),
        radii=(0.01,),
        classes=10,
        example=x,
        adversary=Batch(),
    )
    with pytest.raises(ConfigError, match="take the adversary solo"):
        METHODS.get(name)().prepare(whole)


def test_layers_that_have_no_bounds_are_refused_before_anything_runs() -> None:
    _, x, _ = digits(1)
    tanh = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(64, 10)).eval()
    pool = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 10)).eval()
    for name, model, layer in (("crown", tanh, "Tanh"), ("lipschitz", pool, "MaxPool")):
        with pytest.raises(ConfigError, match=rf"layer '.' \({layer}"):
            METHODS.get(name)().prepare(claim_of(Identity(model=model), "linf:0.01", x))


class Published(NamedTuple):
    """Samples out of 200 that auto_LiRPA's CROWN verified; section 2.2 of the research notes."""

    checkpoint: str
    data: str
    eps: str
    verified: int


PUBLISHED = [
    Published("cifar_cnn_a_adv", "cifar10", "2/255", 71),
    Published("cifar_cnn_a_adv4", "cifar10", "2/255", 83),
    Published("cifar_cnn_a_mix", "cifar10", "2/255", 47),
    Published("mnist_cnn_a_adv", "mnist", "0.3", 2),
]


def published(listed: Published, count: int) -> tuple[Claim, Tensor, Tensor]:
    checkpoint = SHARED / "checkpoints" / "verification" / f"{listed.checkpoint}.model"
    subsets = SHARED / "results" / "verification_subsets.json"
    if not (checkpoint.exists() and subsets.exists()):
        pytest.skip(f"needs the published checkpoint {listed.checkpoint} in ../shared/data")
    short = listed.data.removesuffix("10")
    samples = json.loads(subsets.read_text())[f"{short}_sdp"]["test_indices"][:count]
    data = load_data(f"{listed.data}:{SHARED / listed.data}")
    norms = CIFAR_A if short == "cifar" else ((), ())
    model = load_classifier(f"{short}_cnn_a", checkpoint, *norms).requires_grad_(False)
    x, y = data.images(samples), torch.as_tensor(data.labels[samples])
    return claim_of(Identity(model=model), f"linf:{listed.eps}", x[:1]), x, y


@pytest.mark.long
@pytest.mark.parametrize("listed", PUBLISHED, ids=lambda listed: listed.checkpoint)
def test_as_many_are_verified_as_by_an_independent_program(listed: Published) -> None:
    """One more may be: here values behind tightened ones are bounded by intervals as well."""
    claim, x, y = published(listed, 200)
    found = [proof.status for proof in certified("crown", claim, x, y)].count(Status.CERTIFIED)
    assert listed.verified <= found <= listed.verified + 1


def test_a_share_of_a_published_network_is_verified() -> None:
    """Of the first 24 of its 200 images, where 83 of 200 are; and none that an attack breaks."""
    claim, x, y = published(PUBLISHED[1], 24)
    found = [proof.status is Status.CERTIFIED for proof in certified("crown", claim, x, y)]
    assert 3 <= sum(found) <= 17  # three standard deviations
    model, here = claim.defense.model, x
    for _ in range(20):
        here = here.detach().requires_grad_()
        nn.functional.cross_entropy(model(here), y, reduction="sum").backward()
        assert here.grad is not None
        here = claim.threat.project(here + 0.002 * here.grad.sign(), x)
    assert (model(here).argmax(1) == y)[torch.tensor(found)].all()
