"""What every method of certification promises, tried on a plane and on a small network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from robustcode.certificates import Certificate, Status, status_of
from robustcode.defenses import Defense
from robustcode.defenses.coded_smoothing import CodedSmoothing
from robustcode.defenses.identity import Identity
from robustcode.errors import ConfigError, ContractError
from robustcode.methods import Claim, Method
from robustcode.seeds import Streams
from robustcode.testing.check import Check, require, trial
from robustcode.testing.problems import LinearProblem, two_cells
from robustcode.testing.surroundings import global_state_kept
from robustcode.threat import Norm, ThreatModel

SHAPE = (1, 6, 6)
CLASSES = 3
ROWS = 5
POOL = 16
# Rounding of a float32 network may take a distance this much too far, relative to it.
ROUNDING = 1e-4
# Ascent steps and starts of the attack on what is certified; the network is small.
STEPS = 30


def method_checks() -> tuple[Check[Method], ...]:
    """The promises of a method."""
    return (
        Check("it leaves everything it was given, and every global generator, alone", _tidy),
        Check("it gives each sample one certificate that says one thing", _consistent),
        Check("it gives a sample the same certificate whatever is beside it", _row_by_row),
        Check("it gives the same certificates however few inputs are in memory", _in_pieces),
        Check("it proves nothing beyond a boundary whose distance is known", _plane),
        Check("what it proves at an eps it proves at half of it", _monotone),
        Check("no attack breaks what it proves for certain", _attacked, lambda m: not m.random),
    )


def check_method(method: Method) -> list[str]:
    """The promises that ``method`` keeps; ContractError at the first that is broken."""
    return list(trial(method_checks(), method))


def _tidy(method: Method) -> None:
    claim, x, y, streams = _set_up(method)
    model = claim.defense.model
    before = copy.deepcopy(model.state_dict())
    given = [x.clone(), y.clone(), streams.keys.clone()]
    with global_state_kept():
        method.prepare(claim).prove(x, y, streams, _ignore)
    kept = all(bool((value == before[name]).all()) for name, value in model.state_dict().items())
    require(kept and not model.training, "the model is another one afterwards")
    now = (x, y, streams.keys)
    require(
        all(torch.equal(old, new) for old, new in zip(given, now, strict=True)),
        "what was passed in is changed",
    )


def _consistent(method: Method) -> None:
    claim, x, y, streams = _set_up(method)
    told = 0

    def count(samples: int) -> None:
        nonlocal told
        told += samples

    proofs = method.prepare(claim).prove(x, y, streams, count)
    require(told == len(x), f"it reported {told} of {len(x)} samples as decided")
    require(
        [proof.sample for proof in proofs] == streams.samples.tolist(),
        "the certificates are not those of the samples, in order",
    )
    for proof, label in zip(proofs, y.tolist(), strict=True):
        require(proof.label == label, f"sample {proof.sample} has label {label}")
        said = status_of(proof.prediction, label, proof.radius, claim.threat.eps)
        require(proof.status == said, f"sample {proof.sample} is {said}, not {proof.status}")
        require(
            method.random or proof.alpha == 0,
            f"alpha = {proof.alpha:g}, and random = {method.random} is declared",
        )
        require(proof.forwards > 0, "a certificate without a single pass of the model")


def _row_by_row(method: Method) -> None:
    claim, x, y, streams = _set_up(method)
    prover = method.prepare(claim)
    whole = prover.prove(x, y, streams, _ignore)
    for rows in ([3], [4, 0]):
        chosen = torch.tensor(rows)
        alone = prover.prove(x[chosen], y[chosen], streams[chosen], _ignore)
        _require_same([whole[row] for row in rows], alone, f"rows {rows} by themselves")


def _in_pieces(method: Method) -> None:
    claim, x, y, streams = _set_up(method)
    whole = method.prepare(claim).prove(x, y, streams, _ignore)
    pieces = method.prepare(dataclasses.replace(claim, rows=3))
    _require_same(whole, pieces.prove(x, y, streams, _ignore), "3 rows at once")


def _plane(method: Method) -> None:
    for norm in sorted(method.norms):
        problem = two_cells("a plane", norm, SHAPE, scale=1.0)
        critical = problem.critical
        radii = tuple(sorted({*(0.5 * critical).tolist(), *(1.02 * critical).tolist()}))
        threat = ThreatModel(norm, radii[0])
        claim = _claim(method, _plane_network(problem), threat, problem.x, radii)
        streams = Streams.of(0, "certify", problem.samples)
        proofs = method.prepare(claim).prove(problem.x, problem.y, streams, _ignore)
        for proof, furthest in zip(proofs, critical.tolist(), strict=True):
            require(
                proof.radius <= furthest * (1 + ROUNDING) or proof.prediction != proof.label,
                f"in {norm} it proves radius {proof.radius:g} where the boundary is at "
                f"{furthest:g}",
            )


def _monotone(method: Method) -> None:
    claim, x, y, streams = _set_up(method)
    proofs = method.prepare(claim).prove(x, y, streams, _ignore)
    eps = claim.threat.eps / 2
    threat = dataclasses.replace(claim.threat, eps=eps)
    nearer = method.prepare(dataclasses.replace(claim, threat=threat, radii=(eps,)))
    for far, near in zip(proofs, nearer.prove(x, y, streams, _ignore), strict=True):
        lost = far.status == Status.CERTIFIED and near.status != Status.CERTIFIED
        # A random method may err on the smaller radius alone; not on samples of such margin.
        require(not lost, f"sample {far.sample} is proved at {claim.threat.eps:g}, not at {eps:g}")


def _attacked(method: Method) -> None:
    for norm in sorted(method.norms):
        claim, x, y, streams = _set_up(method, norm)
        if type(claim.defense) is not Identity:
            continue  # whoever certifies another defence attacks it in tests of its own
        proofs = method.prepare(claim).prove(x, y, streams, _ignore)
        sure = torch.tensor([proof.status == Status.CERTIFIED for proof in proofs])
        if not sure.any():
            continue
        broken = _attack(claim.defense.model, x[sure], y[sure], claim.threat, streams[sure])
        require(not broken, f"an attack breaks a certified sample in {norm}")


def _attack(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams) -> bool:
    """Whether steepest ascent from a random start finds a wrong decision."""
    x_adv = threat.random(x, streams.child("start"))
    wrong = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(STEPS):
        x_adv = x_adv.detach().requires_grad_()
        scores = model(x_adv)
        wrong |= scores.argmax(1) != y
        own = scores.gather(1, y[:, None]).squeeze(1)
        others = scores.scatter(1, y[:, None], -torch.inf).amax(1)
        (gradient,) = torch.autograd.grad((others - own).sum(), x_adv)
        step = 0.2 * threat.eps * threat.steepest(gradient, x_adv.detach())
        x_adv = threat.project(x_adv.detach() + step, x)
    return bool(wrong.any())


def _require_same(
    expected: Sequence[Certificate], found: Sequence[Certificate], where: str
) -> None:
    for one, other in zip(expected, found, strict=True):
        for name in ("sample", "prediction", "status", "radius", "draws"):
            old, new = getattr(one, name), getattr(other, name)
            require(old == new, f"{where}: {name} of sample {one.sample} is {new}, not {old}")


def _set_up(method: Method, norm: Norm | None = None) -> tuple[Claim, Tensor, Tensor, Streams]:
    """A claim that the method accepts, of a small network, with samples that it gets right."""
    norm = norm or min(method.norms)
    x = _numbers("inputs", ROWS).clamp(-2, 2).mul(0.1).add(0.5)
    model = _network()
    y = model(x).argmax(1)
    eps = {Norm.LINF: 0.004, Norm.L2: 0.02, Norm.L1: 0.02}[norm]
    claim = _claim(method, model, ThreatModel(norm, eps), x, (eps,))
    return claim, x, y, Streams.of(0, "certify", torch.arange(ROWS) * 7 + 3)


def _claim(
    method: Method, model: nn.Module, threat: ThreatModel, x: Tensor, radii: tuple[float, ...]
) -> Claim:
    """Of the plain network, or else of it in coded batches: some methods speak of those alone."""
    mates = _numbers("mates", POOL).clamp(-2, 2).mul(0.1).add(0.5)
    defenses: tuple[Defense, ...] = (
        Identity(model=model),
        CodedSmoothing(model=model, mates=mates, k=4),
    )
    refused: ConfigError | None = None
    for defense in defenses:
        claim = Claim(defense=defense, threat=threat, radii=radii, classes=CLASSES, example=x[:1])
        try:
            method.prepare(claim)
        except ConfigError as cause:
            refused = refused or cause
        else:
            return claim
    raise ContractError(f"it refuses even a small network of linear layers: {refused}")


def _plane_network(problem: LinearProblem) -> nn.Module:
    """The problem's classifier, of layers that every method knows."""
    weight = problem.model.weight.detach()
    inputs, classes = weight.shape
    linear = nn.Linear(inputs, classes)
    with torch.no_grad():
        linear.weight.copy_(weight.T)
        linear.bias.copy_(problem.model.bias - 0.5 * weight.sum(0))
    return nn.Sequential(nn.Flatten(), linear).eval().requires_grad_(False)


def _network() -> nn.Module:
    """A convolution and two linear layers, of fixed weights."""
    streams = Streams.of(0, "network", torch.arange(1))
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(108, 8), nn.ReLU()
    )
    network = nn.Sequential(*layers, nn.Linear(8, CLASSES)).eval().requires_grad_(False)
    for number, values in enumerate(network.parameters()):
        inputs = values[0].numel() if values.ndim > 1 else 1
        values.copy_(streams.child(number).normal(*values.shape)[0] / inputs**0.5)
    return network


def _numbers(purpose: str, rows: int) -> Tensor:
    return Streams.of(0, purpose, torch.arange(rows)).normal(*SHAPE)


def _ignore(samples: int) -> None:
    pass
