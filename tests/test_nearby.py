"""Windows are answered for as whole images are: every size, every place, every convolution."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from robustcode.attacks import Square
from robustcode.attacks.base import Edit, Nearby
from robustcode.budget import Witness
from robustcode.checkpoint import load_classifier
from robustcode.data import load_data
from robustcode.defenses import Identity
from robustcode.fast import for_search
from robustcode.models.normalize import Normalize
from robustcode.seeds import Streams
from robustcode.target import DefendedTarget, Ledger
from robustcode.threat import Norm, ThreatModel

# Kernel, stride, padding of two convolutions, and the sides of the images.
NETWORKS = [
    ((4, 2, 1), (4, 2, 1), (24, 28)),
    ((3, 1, 1), (2, 2, 0), (10, 12)),
    ((3, 1, 0), (4, 2, 1), (20, 16)),
    ((5, 1, 2), (6, 3, 2), (26, 23)),
]
Convolution = tuple[int, int, int]


def network(
    first: Convolution, second: Convolution, size: tuple[int, int], mean: bool
) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        *([Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))] if mean else []),
        nn.Conv2d(3, 5, first[0], first[1], first[2]),
        nn.ReLU(),
        nn.Conv2d(5, 4, second[0], second[1], second[2], bias=False),
        nn.ReLU(),
        nn.Flatten(),
    ]
    sides = nn.Sequential(*layers)(torch.zeros(1, 3, *size)).shape[1]
    return nn.Sequential(*layers, nn.Linear(sides, 7), nn.ReLU(), nn.Linear(7, 4)).double().eval()


def target_of(model: nn.Module, x: Tensor, witness: Witness | None = None) -> DefendedTarget:
    return DefendedTarget(
        for_search(Identity(model=model.requires_grad_(False)), x[:2]),
        Ledger(torch.arange(len(x))),
        stochastic=False,
        differentiable=True,
        width=2,
        witness=witness,
    )


def known_of(target: DefendedTarget, x: Tensor, size: tuple[int, int]) -> Nearby | None:
    return target.nearby(x, Streams.of(0, "test", torch.arange(len(x))), size)


def images(count: int, *size: int) -> Tensor:
    return Streams.of(0, "images", torch.arange(count)).uniform(3, *size, dtype=torch.float64)


def everywhere(size: tuple[int, int], image: tuple[int, int], samples: int) -> Edit:
    """A window at every place, each in the next sample."""
    places = itertools.product(range(image[0] - size[0] + 1), range(image[1] - size[1] + 1))
    top, left = torch.tensor(list(places)).unbind(1)
    batch = torch.arange(len(top))
    values = Streams.of(1, "values", batch).uniform(3, size[0] * size[1], dtype=torch.float64)
    return Edit(batch % samples, size, top, left, values)


def written(x: Tensor, edit: Edit) -> Tensor:
    made = x[edit.rows]
    for one, top, left, values in zip(made, edit.top, edit.left, edit.values, strict=True):
        one[:, top : top + edit.size[0], left : left + edit.size[1]] = values.unflatten(
            1, edit.size
        )
    return made


@pytest.mark.parametrize("mean", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize(("first", "second", "image"), NETWORKS, ids=str)
def test_a_window_is_answered_for_as_the_whole_image(
    first: Convolution, second: Convolution, image: tuple[int, int], mean: bool
) -> None:
    model, x = network(first, second, image, mean), images(3, *image)
    served = 0
    for size in ((1, 1), (2, 2), (3, 3), (1, 4), (5, 2)):
        target = target_of(model, x)
        known = known_of(target, x, size)
        if known is None:
            continue
        served += 1
        edit = everywhere(size, image, len(x))
        found = known.changed(edit)
        torch.testing.assert_close(found, model(written(x, edit)), rtol=1e-9, atol=1e-9)
        # Twice, since one window must not be left behind in the next.
        torch.testing.assert_close(known.changed(edit), found, rtol=0, atol=0)
    assert served > 1


def test_what_is_taken_is_known_from_then_on() -> None:
    first, second, image = NETWORKS[0]
    model, x = network(first, second, image, mean=True), images(3, *image)
    known = known_of(target_of(model, x), x, (2, 3))
    assert known is not None
    one = everywhere((2, 3), image, len(x))
    known.changed(one)
    taken = torch.tensor([40, 5])  # of samples 1 and 2
    known.take(taken)
    x[one.rows[taken]] = written(x, one.at(taken))
    edit = everywhere((2, 3), image, len(x))
    torch.testing.assert_close(known.changed(edit), model(written(x, edit)), rtol=1e-9, atol=1e-9)


def test_every_answer_is_paid_for_by_its_sample_and_seen() -> None:
    first, second, image = NETWORKS[0]
    model, x = network(first, second, image, mean=False), images(3, *image)
    samples = torch.arange(len(x))
    y = model(x).argmax(1)
    witness = Witness(x, y, samples, ThreatModel(Norm.LINF, 1.0))
    ledger = Ledger(samples)
    target = DefendedTarget(
        for_search(Identity(model=model.requires_grad_(False)), x[:2]),
        ledger,
        stochastic=False,
        differentiable=True,
        witness=witness,
    )
    known = known_of(target, x, (2, 2))
    assert known is not None
    assert ledger.forwards.tolist() == [1, 1, 1]
    edit = everywhere((2, 2), image, len(x)).at(torch.tensor([0, 1, 3, 4]))
    strong = edit._replace(values=edit.values * 50)  # outside of the box: allowed by no threat
    known.changed(strong)
    assert ledger.forwards.tolist() == [1 + 2, 1 + 2, 1]
    assert not witness.found.any()
    y[:] = -1  # now everything is wrong, and what is allowed is kept
    known.changed(edit)
    assert witness.found.tolist() == [True, True, False]
    torch.testing.assert_close(witness.x_adv[:2], written(x, edit)[:2])


def test_nothing_is_offered_where_nothing_is_saved() -> None:
    first, second, image = NETWORKS[0]
    model, x = network(first, second, image, mean=False), images(3, *image)
    assert known_of(target_of(model, x), x, (20, 20)) is None
    # The last row of images is seen by no output of the second convolution.
    first, second, _ = NETWORKS[1]
    odd, y = network(first, second, (9, 12), mean=False), images(3, 9, 12)
    assert known_of(target_of(odd, y), y, (2, 2)) is None
    other = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 11 * 13, 3)
    )
    assert known_of(target_of(other.double().eval(), x), x, (2, 2)) is None


def test_square_finds_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = load_classifier("digits_cnn", classes=10).eval(), load_data("digits")
    rows = torch.arange(24)
    x, y = data.images(rows).double(), data.targets(rows)
    target = target_of(model.double(), x)
    attack, threat = Square(queries=400), ThreatModel(Norm.LINF, 0.06)
    streams = Streams.of(0, "test", rows)
    # The sums are added in another order: in float64 that never decides between two proposals.
    near = attack.perturb(target, x, y, threat, streams)
    monkeypatch.setattr(DefendedTarget, "nearby", lambda *_: None)
    assert torch.equal(near, attack.perturb(target, x, y, threat, streams))
