"""What every defence promises, tried around a small smooth network."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robustcode.defenses.base import ABSTAIN, Defense
from robustcode.findings import Severity
from robustcode.judge import judge
from robustcode.refusal import flat_rejection, refuses
from robustcode.seeds import Streams
from robustcode.target import Ledger
from robustcode.testing.check import Check, require, trial
from robustcode.testing.surroundings import global_state_kept

DefenseFactory = Callable[[nn.Module, Tensor], Defense]
"""(model, mates (pool, channels, height, width)) -> the defence; mates for those that need them."""

SHAPE = (3, 8, 8)
CLASSES = 5
ROWS = 6
# As many batch mates as the largest coded batch one would try on so small an image.
POOL = 64
# float32 sums of a few hundred terms in another order, on scores of size one.
ROUNDING = 1e-5
# A central difference with this half-width errs by its square, in float64, on scores of size one;
# the tolerance is a hundred times that.
WIDTH = 1e-4
DERIVATIVE = 1e-6
# Draws of the judge in each of two estimates, and how many standard errors they may be apart:
# five are one in a million.
JUDGED = 100
ERRORS = 5.0


class Network(nn.Module):
    """Smooth, of fixed weights, with scores of size one; it counts the images it has seen."""

    def __init__(self) -> None:
        super().__init__()
        channels, height, width = SHAPE
        self.filters = nn.Parameter(_normal("filters", 6, channels, 3, 3) / 3)
        self.head = nn.Parameter(_normal("head", CLASSES, 6 * height * width) / 10)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        """Scores of shape (batch, classes), in the precision of ``x``."""
        self.seen += len(x)
        maps = torch.tanh(F.conv2d(x, self.filters.to(x), padding=1))
        return maps.flatten(1) @ self.head.to(x).T


def defense_checks() -> tuple[Check[DefenseFactory], ...]:
    """The promises of a defence."""
    return (
        Check("it leaves everything it was given, and every global generator, alone", _tidy),
        Check("it gives equal scores for equal streams", _reproducible),
        Check("it gives a row the same scores whatever is beside it", _row_by_row),
        Check("its draws differ exactly if it declares itself stochastic", _stochastic),
        Check("mates matter exactly if it declares that it needs them", _needs_mates),
        Check("its scores have the gradient that it declares", _differentiable),
        Check("its surrogate has the same scores, and a gradient", _surrogate),
        Check("it decides for a class or abstains, by its streams alone", _decides),
        Check("it refuses where its rejection is positive, and else only ties", _refuses),
        Check("its rejection is that of a row and a draw, and can be followed", _rejects),
        Check("a row costs the passes that it declares", _passes),
        Check("its expected accuracy does not depend on who names the draws", _null),
    )


def check_defense(factory: DefenseFactory) -> list[str]:
    """The promises kept by what ``factory`` makes; ContractError at the first that is broken.

    For a dataclass with settings: ``lambda model, mates: MyDefense(model=model, sigma=0.1)``.
    """
    return list(trial(defense_checks(), factory))


@torch.no_grad()
def _reproducible(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    first = defense.logits(x, streams)
    require(
        first.shape == (ROWS, CLASSES),
        f"scores of {ROWS} images in {CLASSES} classes have shape {tuple(first.shape)}",
    )
    require(bool(first.isfinite().all()), "scores are NaN or infinite")
    apart = (first - defense.logits(x, streams)).abs().max().item()
    require(apart == 0, f"two calls with the same streams give scores {apart:g} apart")


@torch.no_grad()
def _row_by_row(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    whole = defense.logits(x, streams)
    for rows in ([4], [5, 1, 3], [2, 2], list(range(ROWS))[::-1]):
        chosen = torch.tensor(rows)
        apart = (defense.logits(x[chosen], streams[chosen]) - whole[chosen]).abs().max().item()
        require(
            apart <= ROUNDING,
            f"rows {rows} of a batch of {ROWS} get scores {apart:g} apart by themselves",
        )


@torch.no_grad()
def _stochastic(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    faces = [defense.logits, defense.rejection] if defense.detector else [defense.logits]
    apart = max(_apart(face(x, streams), face(x, _streams(seed=1))) for face in faces)
    require(
        (apart > 0) == defense.stochastic,
        f"it declares stochastic = {defense.stochastic} and two draws are {apart:g} apart",
    )


@torch.no_grad()
def _needs_mates(factory: DefenseFactory) -> None:
    x, streams = _images("inputs", ROWS), _streams()
    one, other = (factory(Network().eval(), _images(pool, POOL)) for pool in ("pool", "others"))
    apart = (one.logits(x, streams) - other.logits(x, streams)).abs().max().item()
    require(
        (apart > 0) == (one.batch_coupled or one.needs_mates),
        f"it declares batch_coupled = {one.batch_coupled}, needs_mates = {one.needs_mates} and "
        f"with other mates scores are {apart:g} apart",
    )


def _differentiable(factory: DefenseFactory) -> None:
    """Declared useful, the gradient is the derivative of the scores; else nothing is promised."""
    defense, x, streams = _set_up(factory)
    if not defense.differentiable:
        return
    x = x.double().requires_grad_()
    gradient = _gradient(defense.logits(x, streams), x)
    direction = _normal("direction", *x.shape).double()
    with torch.no_grad():
        up, down = (defense.logits(x + s * WIDTH * direction, streams) for s in (1, -1))
    measured = (_weighted(up) - _weighted(down)) / (2 * WIDTH)
    promised = (gradient * direction).flatten(1).sum(1)
    size = measured.abs().max().clamp(min=1)
    # A kink between two of these points is no fault, and does not meet most rows.
    wrong = (measured - promised).abs() > DERIVATIVE * size
    require(
        2 * int(wrong.sum()) < ROWS,
        f"it declares differentiable = True and the gradients of {int(wrong.sum())} of {ROWS} rows "
        f"are not the derivative of the scores: {promised[wrong][:1].tolist()} for "
        f"{measured[wrong][:1].tolist()}",
    )
    _require_slope(gradient, "it declares differentiable = True and logits")


def _surrogate(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    x.requires_grad_()
    scores = defense.surrogate(x, streams)
    apart = (scores - defense.logits(x, streams)).abs().max().item()
    require(apart <= ROUNDING, f"the surrogate's scores are {apart:g} away from those of logits")
    _require_slope(_gradient(scores, x), "the surrogate")


def _decides(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    label = defense.decide(x, streams)
    require(
        label.shape == (ROWS,) and label.dtype == torch.int64,
        f"decisions on {ROWS} images are {label.dtype} of shape {tuple(label.shape)}, not int64 "
        f"of shape ({ROWS},)",
    )
    known = (label == ABSTAIN) | ((label >= 0) & (label < CLASSES))
    require(
        bool(known.all()),
        f"it decided for {label[~known].tolist()}; classes are 0 to {CLASSES - 1}, and {ABSTAIN} "
        "is an abstention",
    )
    backwards = torch.arange(ROWS).flip(0)
    again = defense.decide(x[backwards], streams[backwards]).flip(0)
    changed = int((again != label).sum())
    require(changed == 0, f"{changed} of {ROWS} decisions changed in a batch of another order")


def _refuses(factory: DefenseFactory) -> None:
    """By the test that every run makes; that it refuses something is not asked for."""
    defense, x, streams = _set_up(factory)
    ledger = Ledger(streams.samples)
    _, finding = refuses(defense, x, streams.samples, streams, ledger)
    wrong = finding is not None and finding.severity is Severity.FAILURE
    require(not wrong, "" if finding is None else f"{finding.what}; {finding.remedy}")


def _rejects(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    if not defense.detector:
        return
    whole = defense.rejection(x, streams)
    require(whole.shape == (ROWS,), f"rejections of {ROWS} images have shape {tuple(whole.shape)}")
    require(not whole.isnan().any(), "a rejection is not a number")
    apart = _apart(whole, defense.rejection(x, streams))
    require(apart == 0, f"two calls with the same streams give rejections {apart:g} apart")
    chosen = torch.tensor([5, 1, 3])
    apart = _apart(whole[chosen], defense.rejection(x[chosen], streams[chosen]))
    require(apart <= ROUNDING, f"rows by themselves get rejections {apart:g} apart")
    leaf = x.clone().requires_grad_()
    followed = defense.rejection_surrogate(leaf, streams)
    apart = _apart(whole, followed)
    require(apart <= ROUNDING, f"rejection_surrogate is {apart:g} away from rejection")
    finding = flat_rejection(defense, x, streams.samples, streams, Ledger(streams.samples))
    require(finding is None, "" if finding is None else f"{finding.what}; {finding.remedy}")


def _tidy(factory: DefenseFactory) -> None:
    defense, x, streams = _set_up(factory)
    x.requires_grad_()
    given = (x, streams.keys, *defense.model.parameters())
    before = [tensor.detach().clone() for tensor in given]
    with global_state_kept():
        for face in (defense.logits, defense.surrogate, defense.decide, *_rejections(defense)):
            face(x, streams)
    names = ["the inputs", "the streams", *["the model"] * (len(given) - 2)]
    for name, old, new in zip(names, before, given, strict=True):
        require(torch.equal(old, new), f"{name} changed")
    require(x.grad is None, "the inputs got a .grad")
    require(all(p.grad is None for p in defense.model.parameters()), "parameters got a .grad")
    require(not defense.model.training, "the model was left in train mode")


@torch.no_grad()
def _passes(factory: DefenseFactory) -> None:
    model = Network().eval()
    defense = factory(model, _images("pool", POOL))
    model.seen = 0  # making the defence may cost something once
    for face in (defense.logits, *_rejections(defense)[:1]):
        face(_images("inputs", ROWS), _streams())
    require(
        model.seen == ROWS * defense.passes,
        f"{ROWS} rows took {model.seen} passes of the model; it declares passes = "
        f"{defense.passes} a row",
    )


@torch.no_grad()
def _null(factory: DefenseFactory) -> None:
    """Two estimates of the accuracy without attack, on draws of other names."""
    defense, x, streams = _set_up(factory)
    y = defense.model(x).argmax(1)
    one, other = (
        judge(defense, x, streams.child(name), JUDGED, CLASSES).share_right(y)
        for name in ("clean", "attacked")
    )
    mean = (one + other) / 2
    error = (2 * mean * (1 - mean) / JUDGED).sum().sqrt().item() / ROWS
    apart = (one.mean() - other.mean()).abs().item()
    require(
        math.isfinite(apart) and apart <= ERRORS * error + 1e-12,
        f"two estimates of the accuracy without attack, of {JUDGED} draws each, are {apart:.3f} "
        f"apart; their standard error is {error:.3f}",
    )


def example(factory: DefenseFactory) -> Defense:
    """The defence around the network, with its pool of mates."""
    return factory(Network().eval(), _images("pool", POOL))


def _rejections(defense: Defense) -> tuple[Callable[[Tensor, Streams], Tensor], ...]:
    """What a detector has besides its scores."""
    return (defense.rejection, defense.rejection_surrogate) if defense.detector else ()


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference; equal infinities have none."""
    same = one == other
    return (one - other).abs().masked_fill(same, 0.0).max().item()


def _set_up(factory: DefenseFactory) -> tuple[Defense, Tensor, Streams]:
    return example(factory), _images("inputs", ROWS), _streams()


def _streams(seed: int = 0) -> Streams:
    return Streams.of(seed, "contract", torch.arange(ROWS) * 7 + 3)


def _images(purpose: str, count: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(count)).uniform(*SHAPE)


def _normal(purpose: str, *shape: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(1)).normal(*shape)[0]


def _weighted(scores: Tensor) -> Tensor:
    """One number of each row in which every class has a part, shape (batch,)."""
    return scores @ torch.linspace(1, 2, scores.shape[1]).to(scores)


def _gradient(scores: Tensor, x: Tensor) -> Tensor:
    """Of each row's weighted scores, zero where there is none."""
    if not scores.requires_grad:
        return torch.zeros_like(x)
    (found,) = torch.autograd.grad(_weighted(scores).sum(), x, allow_unused=True)
    return torch.zeros_like(x) if found is None else found


def _require_slope(gradient: Tensor, of: str) -> None:
    require(bool(gradient.isfinite().all()), f"{of} has a gradient that is NaN or infinite")
    flat = (gradient == 0).flatten(1).all(1)
    require(not flat.any(), f"{of} has no gradient on {int(flat.sum())} of {ROWS} rows")
