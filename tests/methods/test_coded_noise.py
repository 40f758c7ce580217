"""Smoothing of a batch that is adversarial as a whole, where a linear model says what it proves."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scipy.stats import norm as gaussian
from torch import Tensor, nn

from robustcode.adversary import Batch, Solo
from robustcode.certificates import Certificate, Status
from robustcode.defenses import CodedSmoothing
from robustcode.errors import ConfigError
from robustcode.methods import METHODS, Claim
from robustcode.methods.coded_mixing import mixing
from robustcode.methods.coded_noise import CodedNoise
from robustcode.methods.course import Estimator
from robustcode.methods.smoothing import Smoothing
from robustcode.seeds import Streams
from robustcode.threat import Norm, ThreatModel

K = 8
SIGMA = 0.3
SHAPE = (1, 3, 3)


def images(count: int, purpose: str) -> Tensor:
    samples = torch.arange(count)
    return Streams.of(0, purpose, samples).uniform(*SHAPE, dtype=torch.float64)


def linear() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2)).double().eval().requires_grad_(False)
    values = Streams.of(0, "weights", torch.arange(1)).normal(2, 9, dtype=torch.float64)[0]
    model[1].weight.data = values
    model[1].bias.data = torch.tensor([0.3, -0.3]).double() - values.sum(1) / 2
    return model


def claim(eps: float, norm: Norm = Norm.L2, *more: float) -> Claim:
    defense = CodedSmoothing(model=linear(), mates=images(40, "pool"), k=K, fixed=True)
    return Claim(
        defense=defense.facing(Batch(), torch.arange(0), images(0, "x")),
        threat=ThreatModel(norm, eps),
        radii=tuple(sorted((eps, *more))),
        classes=2,
        example=images(1, "x"),
        adversary=Batch(),
    )


def streams_of(count: int) -> Streams:
    samples = torch.arange(count)
    return Streams.of(0, "noise", samples, samples // K)


def prove(method: CodedNoise, asked: Claim, count: int = K) -> list[Certificate]:
    x = images(count, "x")
    y = asked.defense.logits(x, streams_of(count)).argmax(1)
    return method.prepare(asked).prove(x, y, streams_of(count), lambda _: None)


def test_of_a_linear_network_no_more_is_proved_than_holds_and_nearly_as_much_as_can_be() -> None:
    """Each sample's critical eps is its margin over the sum of gains times the weights' length.

    Noise on all samples shows the root of the sum of squared gains instead, and each sample is
    given 1 / sqrt(k) of that radius.
    """
    asked = claim(0.001)
    method = CodedNoise(sigma=SIGMA, estimator=Estimator.FIXED, draws=600, selection=20)
    found = prove(method, asked)
    x, streams = images(K, "x"), streams_of(K)
    mixed = mixing(asked.defense, x, streams)  # type: ignore[arg-type]
    gains = (mixed.decoder @ mixed.encoder)[0]
    scores = asked.defense.logits(x, streams)
    weight = next(linear().parameters())
    margin = (scores[:, 0] - scores[:, 1]).abs() / (weight[0] - weight[1]).norm()
    critical = margin / gains.abs().sum(1)
    joint = margin / gains.norm(dim=1)
    for row, proof in enumerate(found):
        assert proof.radius <= float(critical[row])
        # What so many draws show of the true probability, twice the standard error and more away.
        true = gaussian.cdf(float(joint[row]) / SIGMA)
        shown = gaussian.ppf(true - 6 * (true * (1 - true) / 600) ** 0.5 - 0.003)
        assert proof.radius >= SIGMA * shown / K**0.5
    assert sum(proof.status is Status.CERTIFIED for proof in found) > K / 2


@pytest.mark.parametrize(
    ("norm", "noise", "share"),
    [
        (Norm.L2, "gaussian", K**-0.5),
        (Norm.LINF, "gaussian", (9 * K) ** -0.5),
        (Norm.L1, "laplace", 1 / K),
    ],
)
def test_a_radius_is_shared_by_the_samples_of_a_batch(norm: Norm, noise: str, share: float) -> None:
    method = CodedNoise(sigma=SIGMA, noise=noise, draws=2000)  # type: ignore[arg-type]
    prover = method.prepare(claim(0.01, norm))
    assert prover.unit == pytest.approx(share)  # type: ignore[attr-defined]
    assert prover.claim.radii == (0.01,)  # type: ignore[attr-defined]


def test_batches_are_proved_one_by_one_and_share_their_draws_within() -> None:
    method, asked = CodedNoise(sigma=SIGMA, draws=60, selection=10), claim(0.01)
    both = prove(method, asked, 2 * K)
    assert both[:K] == prove(method, asked)
    assert both == prove(method, replace(asked, rows=5), 2 * K)


def test_of_one_sample_among_clean_mates_it_proves_what_smoothing_does() -> None:
    asked = replace(claim(0.01), adversary=Solo())
    asked = replace(asked, defense=asked.defense.facing(Solo(), torch.arange(0), images(0, "x")))
    settings = {"sigma": SIGMA, "draws": 100, "selection": 10}
    streams = Streams.of(0, "noise", torch.arange(2))
    x, y = images(2, "x"), torch.tensor([0, 1])
    found = [
        method(**settings).prepare(asked).prove(x, y, streams, lambda _: None)  # type: ignore[arg-type]
        for method in (CodedNoise, Smoothing)
    ]
    assert found[0] == found[1]


def test_a_radius_beyond_the_draws_is_refused_with_how_far_the_batch_moves() -> None:
    with pytest.raises(ConfigError, match=r"8 samples that move by 0.5 each move by 1.41.* draws"):
        CodedNoise(sigma=SIGMA, draws=100).prepare(claim(0.5))


def test_it_is_known_by_its_name() -> None:
    assert METHODS.get("coded-noise") is CodedNoise
