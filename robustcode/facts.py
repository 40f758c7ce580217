"""What a defence declares, put to the test; and whether an attack has anything to follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robustcode.attacks.losses import cross_entropy, negative_margin
from robustcode.defenses.base import Defense
from robustcode.errors import ContractError
from robustcode.findings import Facts, Finding, Severity
from robustcode.gradients import gradient_noise, noisy_gradient
from robustcode.memory import rows_at_once
from robustcode.seeds import Streams

Scores = Callable[[Tensor, Streams], Tensor]

# The contract of every model here: images in [0, 1].
LOW, HIGH = 0.0, 1.0
# Draws that are compared, and at least so many (sample, draw) pairs on a small pilot: a defence
# that is random on one pair in twenty is then missed with probability .04.
DRAWS = 4
PAIRS = 64
# Differences below this share of a logit, of the row's two top ones and of most rows' two top ones
# are rounding: sums in another order move float32 logits by about 1e-6.
ROUNDING = 1e-5
# Another batch size chooses other kernels, whose rounding a deep network can amplify.
COUPLING = 1e-3
# Pilot samples on which the noise of gradients is measured, and what stands for infinity in JSON.
NOISE_SAMPLES = 16
LARGEST_NOISE = 1e9
# Above this share of pilot samples a fault moves the accuracy by more than a remark is worth.
SERIOUS = 0.1


def test_facts(
    defense: Defense, x: Tensor, samples: Tensor, seed: int, training: Sequence[str]
) -> tuple[Facts, list[Finding]]:
    """The facts an evaluation may go by, and a finding for each that is not as declared.

    ``x`` are pilot inputs, (batch, channels, height, width); ``samples`` their indices in the
    split, (batch,); ``training`` names the modules that came in training mode. The model must
    be in eval mode by now. Costs a sample about 8 forward and 2 backward passes, twice that if the
    defence is stochastic or its declared gradient is not there, and 16 of each more for the noise
    of a stochastic one's gradients on half of the pilot.
    """
    streams = Streams.of(seed, "facts", samples)
    draws = max(DRAWS, math.ceil(PAIRS / len(x)))
    with torch.no_grad():
        first = defense.logits(x, streams.child("draw", 0))
        _check_shape(first, x)
        again = defense.logits(x, streams.child("draw", 0))
        others = [defense.logits(x, streams.child("draw", draw)) for draw in range(1, draws)]
        half = (len(x) + 1) // 2
        alone = defense.logits(x[:half], streams.child("draw", 0)[:half])
    unsteady = _differ(first, again)
    varied = torch.stack([unsteady, *(_differ(first, other) for other in others)]).any(0)
    stochastic = bool(varied.any())
    finite = torch.stack([scores.isfinite().all(1) for scores in (first, *others)]).all(0)
    findings = [
        _train_mode(training),
        _inputs_outside_box(x, samples),
        _non_finite_logits(finite, samples),
        _probabilities_as_logits(first[finite]),
        _declared_deterministic(defense, varied, draws, samples),
        _declared_stochastic(defense, stochastic, draws),
        _not_reproducible(unsteady, samples),
        _declared_uncoupled(defense, _differ(first[:half], alone, COUPLING) & ~unsteady[:half]),
    ]
    differentiable, faults = _test_gradients(
        defense, x[finite], samples[finite], streams[finite], 2 if stochastic else 1
    )
    noise = 0.0
    if stochastic:
        rows = finite.nonzero().squeeze(1)[:NOISE_SAMPLES]
        followed = defense.logits if differentiable else defense.surrogate
        at_once = rows_at_once(len(x), defense.passes, x.device)
        noise = gradient_noise(followed, x[rows], streams[rows].child("noise"), at_once)
        faults.append(noisy_gradient(noise, samples[rows]))
    facts = Facts(
        stochastic=stochastic,
        differentiable=differentiable,
        batch_coupled=defense.batch_coupled,
        classes=first.shape[1],
        noise=min(noise, LARGEST_NOISE),
    )
    return facts, [finding for finding in [*findings, *faults] if finding is not None]


def _train_mode(training: Sequence[str]) -> Finding | None:
    """``train-mode``: the model came in training mode.

    Raised when any of its modules did. Why it matters: dropout and batch statistics make it
    another model; what is evaluated here is not what the caller's code evaluates. What to do: call
    ``model.eval()``.
    """
    if not training:
        return None
    named = ", ".join(training[:3]) + (", .." if len(training) > 3 else "")
    return Finding(
        code="train-mode",
        severity=Severity.WARNING,
        what=f"{len(training)} modules came in training mode ({named}); they were evaluated in "
        "eval mode and given back as they came",
        remedy="call model.eval() before the evaluation, and wherever the model is used",
        figures={"modules": float(len(training))},
    )


def _inputs_outside_box(x: Tensor, samples: Tensor) -> Finding | None:
    """``inputs-outside-box``: clean inputs that no adversary may use.

    Raised when a pilot input has a value outside [0, 1], or NaN. Why it matters: attacks clip to
    the box, so the first step changes such an input by more than eps allows. What to do: scale
    the images to [0, 1] and normalise inside the model.
    """
    outside = ~((x >= LOW) & (x <= HIGH)).flatten(1).all(1)
    if not outside.any():
        return None
    lowest, highest = (float(value) for value in x.nan_to_num().aminmax())
    return Finding(
        code="inputs-outside-box",
        severity=Severity.FAILURE,
        what=f"{int(outside.sum())} of {len(x)} inputs have values outside [{LOW:g}, {HIGH:g}]: "
        f"they span [{lowest:.4g}, {highest:.4g}]",
        remedy="scale images to [0, 1] and put the normalisation inside the model (mean, std)",
        figures={"lowest": lowest, "highest": highest, **_shares(outside)},
        samples=_chosen(samples, outside),
    )


def _non_finite_logits(finite: Tensor, samples: Tensor) -> Finding | None:
    """``non-finite-logits``: scores that are NaN or infinite.

    Raised when a pilot sample has one in any draw. Why it matters: such a sample has no
    decision and no gradient, and would pass for a robust or a broken one by accident. What to do:
    find the division, logarithm or overflow; the other samples are tested as usual.
    """
    if finite.all():
        return None
    return Finding(
        code="non-finite-logits",
        severity=Severity.FAILURE,
        what=f"on {int((~finite).sum())} of {len(finite)} samples a logit is NaN or infinite",
        remedy="look for a division by zero, a logarithm of zero or half precision in the model",
        figures=_shares(~finite),
        samples=_chosen(samples, ~finite),
    )


def _probabilities_as_logits(scores: Tensor) -> Finding | None:
    """``probabilities-as-logits``: the model ends in a softmax.

    Raised when every row of scores lies in [0, 1] and sums to one. Why it matters: a second
    softmax inside the loss flattens its gradient, and saturated probabilities have none. What to
    do: return the layer before the softmax; the predictions stay the same.
    """
    if len(scores) == 0:
        return None
    error = float((scores.sum(1) - 1).abs().max())
    # 1e-3 is the rounding of a half-precision softmax.
    if scores.min() < 0 or scores.max() > 1 + 1e-3 or error > 1e-3:
        return None
    return Finding(
        code="probabilities-as-logits",
        severity=Severity.WARNING,
        what=f"all {len(scores)} rows of scores lie in [0, 1] and sum to one within {error:.1g}: "
        "they are probabilities, not logits",
        remedy="return the layer before the softmax; predictions do not change, gradients do",
        figures={"samples": float(len(scores)), "error": error},
    )


def _declared_deterministic(
    defense: Defense, varied: Tensor, draws: int, samples: Tensor
) -> Finding | None:
    """``declared-deterministic``: it says it is deterministic and is not.

    Raised when scores of one input differ between calls by more than rounding. Why it matters:
    judged by one draw, a lucky draw passes for a broken sample, or the reverse. What to do:
    declare ``stochastic = True``; this run treats it so.
    """
    if defense.stochastic or not varied.any():
        return None
    return Finding(
        code="declared-deterministic",
        severity=Severity.FAILURE,
        what=f"declared deterministic, but on {int(varied.sum())} of {len(varied)} samples the "
        f"scores of {draws + 1} calls differ; it is evaluated as stochastic",
        remedy="declare stochastic = True and draw from the streams given, or remove the "
        "randomness (dropout, noise) from inference",
        figures=_shares(varied),
        samples=_chosen(samples, varied),
    )


def _declared_stochastic(defense: Defense, stochastic: bool, draws: int) -> Finding | None:
    """``declared-stochastic``: it says it is stochastic and is not.

    Raised when several draws give the same scores on every pilot sample. Why it matters: the
    randomness is switched off or lost (a sigma of 0, a seed set inside), so this is not the
    defence that was meant. What to do: check its settings; this run treats it as deterministic.
    """
    if stochastic or not defense.stochastic:
        return None
    return Finding(
        code="declared-stochastic",
        severity=Severity.WARNING,
        what=f"declared stochastic, but {draws} draws give equal scores on every sample; it is "
        "evaluated as deterministic",
        remedy="check its settings, and that it draws from the streams it is given",
        figures={"draws": float(draws)},
    )


def _not_reproducible(unsteady: Tensor, samples: Tensor) -> Finding | None:
    """``not-reproducible``: randomness that no seed of this run controls.

    Raised when two calls with equal streams differ by more than rounding. Why it matters: a
    repeated or resumed run can give other records, and an attack that holds a draw fixed does
    not. What to do: take all randomness from ``streams``.
    """
    if not unsteady.any():
        return None
    return Finding(
        code="not-reproducible",
        severity=Severity.WARNING,
        what=f"on {int(unsteady.sum())} of {len(unsteady)} samples two calls with equal random "
        "streams give different scores",
        remedy="draw all randomness from the streams passed to logits, not from torch's global "
        "generator; otherwise records differ between runs",
        figures=_shares(unsteady),
        samples=_chosen(samples, unsteady),
    )


def _declared_uncoupled(defense: Defense, changed: Tensor) -> Finding | None:
    """``declared-uncoupled``: a prediction depends on its batch and it does not say so.

    Raised when the scores of half the samples or more change once the rest of their batch is
    gone; fewer may be rounding that a quantiser made visible. Why it matters: attacks drop broken
    samples from the batch, which would change the verdicts on the others. What to do: declare
    ``batch_coupled = True`` and fill batches up with mates, or normalise by stored statistics.
    """
    if defense.batch_coupled or 2 * int(changed.sum()) < len(changed):
        return None
    return Finding(
        code="declared-uncoupled",
        severity=Severity.FAILURE,
        what=f"on {int(changed.sum())} of {len(changed)} samples the scores depend on the other "
        "inputs in the batch, which is not declared",
        remedy="use stored statistics in batch norm, or declare batch_coupled = True",
        figures=_shares(changed),
    )


class _Slopes(NamedTuple):
    """Sizes of loss gradients at each sample's own prediction, the largest over some draws."""

    reached: bool  # a graph leads from the scores to the input
    finite: Tensor  # bool (batch,)
    cross_entropy: Tensor  # (batch,), largest absolute entry
    margin: Tensor  # likewise

    def useful(self) -> Tensor:
        """Samples on which some loss has a gradient, bool of shape (batch,)."""
        return _alive(self.cross_entropy) | _alive(self.margin)


def _test_gradients(
    defense: Defense, x: Tensor, samples: Tensor, streams: Streams, draws: int
) -> tuple[bool, list[Finding | None]]:
    """Whether ``logits`` is to be differentiated, and what is wrong with what attacks will follow.

    ``declared-differentiable`` is raised when it declares a gradient and has none on any sample.
    Why it matters: every gradient attack then stands still, and the accuracy under it is clean
    accuracy by another name. What to do: declare ``differentiable = False`` and give a
    ``surrogate``, which attacks follow in its place (BPDA).
    """
    if len(x) == 0:
        return defense.differentiable, []
    findings: list[Finding | None] = []
    at_once = rows_at_once(len(x), defense.passes, x.device)
    differentiable = defense.differentiable
    followed, name = (
        (defense.logits, "logits") if differentiable else (defense.surrogate, "surrogate")
    )
    slopes = _slopes(followed, x, streams, draws, at_once)
    if differentiable and not slopes.useful().any():
        differentiable = False
        findings.append(
            Finding(
                code="declared-differentiable",
                severity=Severity.FAILURE,
                what=f"declared differentiable, but on all {len(x)} samples its logits have no "
                "gradient in the input; attacks follow its surrogate",
                remedy="declare differentiable = False and give a surrogate with a gradient (BPDA)",
                figures=_shares(~slopes.useful()),
                samples=tuple(samples.tolist()),
            )
        )
        if type(defense).surrogate is not Defense.surrogate:
            slopes, name = _slopes(defense.surrogate, x, streams, draws, at_once), "surrogate"
    findings.append(_missing_gradient(slopes, name, samples))
    if slopes.reached:
        findings.append(_non_finite_gradient(slopes, name, samples))
        findings.append(_zero_gradient(slopes, name, samples))
        findings.append(_vanishing_loss(slopes, samples))
    return differentiable, findings


def _slopes(scores_of: Scores, x: Tensor, streams: Streams, draws: int, at_once: int) -> _Slopes:
    """Over ``draws`` draws, of ``at_once`` rows at a time."""
    finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
    sizes = [x.new_zeros(len(x)), x.new_zeros(len(x))]
    reached = False
    for draw in range(draws):
        own = streams.child("gradient", draw)
        for rows in torch.arange(len(x), device=x.device).split(at_once):
            leaf = x[rows].detach().clone().requires_grad_()
            with torch.enable_grad():
                scores = scores_of(leaf, own[rows])
                if not scores.requires_grad:
                    continue
                y = scores.detach().argmax(1)
                losses = [cross_entropy(scores, y).sum(), negative_margin(scores, y).sum()]
            for number, loss in enumerate(losses):
                (gradient,) = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)
                if gradient is None:
                    continue
                reached = True
                finite[rows] &= gradient.isfinite().flatten(1).all(1)
                # As the target does: what is NaN is not followed.
                size = gradient.nan_to_num(nan=0.0).abs().flatten(1).amax(1)
                sizes[number][rows] = sizes[number][rows].maximum(size)
    return _Slopes(reached, finite, *sizes)


def _alive(size: Tensor) -> Tensor:
    # Below this the smaller entries of a gradient have underflowed, and with them its direction.
    info = torch.finfo(size.dtype)
    return size > info.tiny / info.eps


def _missing_gradient(slopes: _Slopes, name: str, samples: Tensor) -> Finding | None:
    """``missing-gradient``: the graph is cut.

    Raised when no gradient reaches the input from the scores an attack follows: a detach, a
    no_grad, a conversion to numpy. Why it matters: gradient attacks return their start. What to
    do: remove the cut, or give a surrogate for the backward pass.
    """
    if slopes.reached:
        return None
    return Finding(
        code="missing-gradient",
        severity=Severity.FAILURE,
        what=f"no gradient reaches the input through {name} on any of {len(samples)} samples: the "
        "graph is cut, so gradient attacks stand still",
        remedy="remove detach, no_grad or numpy from the forward pass, or give a surrogate (BPDA)",
        figures={"samples": float(len(samples)), "share": 1.0},
        samples=tuple(samples.tolist()),
    )


def _non_finite_gradient(slopes: _Slopes, name: str, samples: Tensor) -> Finding | None:
    """``non-finite-gradient``: gradients that are NaN or infinite where the scores are not.

    Raised when a pilot sample has one. Why it matters: attacks take NaN for zero and search in
    fewer dimensions. What to do: find the root or the division at zero.
    """
    faulty = ~slopes.finite
    if not faulty.any():
        return None
    return Finding(
        code="non-finite-gradient",
        severity=_severity(faulty),
        what=f"on {int(faulty.sum())} of {len(faulty)} samples the gradient of {name} has entries "
        "that are NaN or infinite",
        remedy="look for a square root, a norm or a division at zero, and give it a small offset",
        figures=_shares(faulty),
        samples=_chosen(samples, faulty),
    )


def _zero_gradient(slopes: _Slopes, name: str, samples: Tensor) -> Finding | None:
    """``zero-gradient``: nothing to follow, whatever the loss.

    Raised when on some samples the gradients of cross-entropy and of the margin are both zero or
    underflow; a failure from a tenth of them on. Why it matters: such a sample counts as robust
    because the attack stood still. What to do: give rounding or saturation a surrogate, and
    run attacks that need no gradient.

    Source: gradient masking, Athalye et al. 2018, arXiv:1802.00420, section 3.
    """
    zero = ~slopes.useful() & slopes.finite
    if not zero.any():
        return None
    return Finding(
        code="zero-gradient",
        severity=_severity(zero),
        what=f"on {int(zero.sum())} of {len(zero)} samples the gradient of every loss through "
        f"{name} is zero",
        remedy="give rounding, clipping or saturation a surrogate (BPDA), and run attacks that "
        "need no gradient: noise, transfer",
        figures=_shares(zero),
        samples=_chosen(samples, zero),
    )


def _vanishing_loss(slopes: _Slopes, samples: Tensor) -> Finding | None:
    """``vanishing-loss``: cross-entropy has no gradient where the margin has one.

    Raised when on some samples the gradient of cross-entropy alone is zero or underflows. Why it
    matters: logits that are scaled up, or very confident, saturate the softmax, and an attack
    on cross-entropy stands still where there is a way down. What to do: attack with loss=margin or
    loss=dlr.

    Source: Carlini and Wagner 2017, arXiv:1608.04644, section IV; Croce and Hein 2020,
    arXiv:2003.01690, section 4.
    """
    vanished = ~_alive(slopes.cross_entropy) & _alive(slopes.margin) & slopes.finite
    if not vanished.any():
        return None
    return Finding(
        code="vanishing-loss",
        severity=Severity.WARNING,
        what=f"on {int(vanished.sum())} of {len(vanished)} samples the gradient of cross-entropy "
        "is zero and that of the margin is not",
        remedy="attack with loss=margin or loss=dlr: the logits are too large for cross-entropy",
        figures=_shares(vanished),
        samples=_chosen(samples, vanished),
    )


def _check_shape(scores: Tensor, x: Tensor) -> None:
    if scores.ndim != 2 or len(scores) != len(x) or scores.shape[1] < 2:
        raise ContractError(
            f"the defence returned scores of shape {tuple(scores.shape)} for {len(x)} inputs; "
            f"logits have shape ({len(x)}, classes), with 2 classes or more"
        )
    if not scores.is_floating_point():
        raise ContractError(
            f"the defence returned scores of type {scores.dtype}; logits are real numbers"
        )


def _differ(first: Tensor, second: Tensor, tolerance: float = ROUNDING) -> Tensor:
    """Rows that are not the same up to rounding, bool of shape (batch,); NaN equals NaN."""
    gone = (first.isfinite() != second.isfinite()).any(1)
    first, second = (t.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0) for t in (first, second))
    # A logit near zero can be the rounded sum of larger terms. The row's largest would not do: a
    # class that is masked by -1e9 would hide that the others differ.
    top = torch.maximum(_top_size(first), _top_size(second))
    size = top.maximum(top.median()).maximum(first.abs()).maximum(second.abs())
    return gone | ((first - second).abs() > tolerance * size).any(1)


def _top_size(scores: Tensor) -> Tensor:
    """The larger size of the two top logits, shape (batch, 1)."""
    return scores.topk(min(2, scores.shape[1]), dim=1).values.abs().amax(1, keepdim=True)


def _severity(faulty: Tensor) -> Severity:
    serious = int(faulty.sum()) >= SERIOUS * len(faulty)
    return Severity.FAILURE if serious else Severity.WARNING


def _shares(faulty: Tensor) -> dict[str, float]:
    count = float(faulty.sum())
    return {"faulty": count, "samples": float(len(faulty)), "share": count / len(faulty)}


def _chosen(samples: Tensor, rows: Tensor) -> tuple[int, ...]:
    return tuple(samples[rows].tolist())
