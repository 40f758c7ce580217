"""What every attack promises, tried on classifiers whose answers are known."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import Tensor

from robustcode.attacks.base import Attack
from robustcode.attacks.losses import margin
from robustcode.testing.check import Check, require, trial
from robustcode.testing.problems import (
    CRITICAL,
    LinearProblem,
    Problem,
    bowl,
    open_problems,
    two_cells,
    walled_problem,
)
from robustcode.testing.situations import (
    CLEAN,
    NoisySlope,
    half_broken,
    noisy,
    rounded,
    unsaturated,
)
from robustcode.testing.surroundings import global_state_kept
from robustcode.testing.watched import Attempt, Query, attempt
from robustcode.threat import DUAL, Norm, ThreatModel

# A search that ends within this of the optimum has found it; what it misses by is its last steps.
SLACK = 0.05
# Between a batch and its parts the order of float64 sums may differ, and nothing else.
SAME = 1e-6
# The draws over which a gradient is averaged; the noise of one draw as a multiple of the gradient,
# with which one draw shows a sign rightly with probability .57 and the mean of all with .83; and
# the share of the possible gain that all must reach, or add to that of one draw.
DRAWS = 32
NOISE = 6.0
GOOD_GAIN, MORE_GAIN = 0.8, 0.2


def attack_checks() -> tuple[Check[Attack], ...]:
    """The promises of an attack, cheap ones first."""
    return (
        Check("it proposes the input itself when eps is 0", _nothing_for_nothing),
        Check("it leaves everything it was given, and every global generator, alone", _tidy),
        Check(
            "it asks for no gradient, as it declares",
            _no_gradient,
            lambda attack: not attack.needs_gradient,
        ),
        Check("it spends each query on the sample that it is charged to", _own_queries),
        Check("it gives each sample draws of its own", _own_draws),
        Check("it breaks nothing 5 % below the critical eps", _breaks_nothing),
        Check("it breaks every sample 5 % above its critical eps", _breaks_all, _searches_finely),
        Check(
            "it breaks every sample at twice its critical eps",
            _breaks_all_at_twice,
            lambda attack: attack.coarse,
        ),
        Check(
            "it breaks every sample 5 % above its critical eps with the box in its way",
            _breaks_at_walls,
            _iterates,
        ),
        Check("it finds the bottom of a curved score", _finds_the_bottom, _iterates),
        Check(
            "it proposes nothing worse than the best input it asked about",
            _keeps_the_best,
            lambda attack: not attack.one_step,
        ),
        Check(
            "it finds the nearest wrong input of a linear classifier within 5 %",
            _finds_the_nearest,
            lambda attack: attack.minimal,
        ),
        Check("it does not stop at a lucky draw", _unmoved_by_luck, _searches),
        Check("it gives the same bytes for the same streams", _reproducible),
        Check(
            "it gives a sample the same proposal, by the same draws, whatever its batch",
            _batch_independent,
        ),
        Check("it follows the mean over all the draws it is set to", _averages, _takes_draws),
    )


def check_attack(attack: Attack) -> list[str]:
    """The promises that ``attack`` keeps; ContractError at the first that it breaks."""
    return list(trial(attack_checks(), attack))


def _searches(attack: Attack) -> bool:
    return not attack.control


def _iterates(attack: Attack) -> bool:
    return not attack.control and not attack.one_step and not attack.coarse


def _searches_finely(attack: Attack) -> bool:
    return not attack.control and not attack.coarse


def _takes_draws(attack: Attack) -> bool:
    return not attack.control and "draws" in getattr(attack, "__dataclass_fields__", {})


def _norms(attack: Attack) -> list[Norm]:
    return [norm for norm in Norm if norm in attack.norms]


def _nothing_for_nothing(attack: Attack) -> None:
    for norm in _norms(attack):
        for problem in open_problems(norm):
            x_adv = attempt(attack, problem, ThreatModel(norm, 0.0)).x_adv
            require(
                torch.equal(x_adv, problem.x),
                f"on {problem.name} it moved a value by {(x_adv - problem.x).abs().max():g}",
            )


def _tidy(attack: Attack) -> None:
    for norm in _norms(attack):
        problem, threat = half_broken(norm)
        parameters = list(problem.model.parameters())
        before = [parameter.detach().clone() for parameter in parameters]
        with global_state_kept():
            found = attempt(attack, problem, threat)
        require(all(map(torch.equal, before, parameters)), "it changed the model's weights")
        require(all(p.grad is None for p in parameters), "parameters got a .grad")
        require(not found.x_adv.requires_grad, "proposals came with a graph")


def _reproducible(attack: Attack) -> None:
    for problem, threat, defense in unsaturated(_norms(attack)):
        one, other = (attempt(attack, problem, threat, defense).x_adv for _ in range(2))
        require(
            torch.equal(one, other),
            f"two runs on {problem.name} differ by up to {(one - other).abs().max():g}",
        )


def _no_gradient(attack: Attack) -> None:
    for norm in _norms(attack):
        problem, threat = half_broken(norm)
        asked = sum(query.y is not None for query in attempt(attack, problem, threat).queries)
        require(asked == 0, f"it asked for {asked} gradients")


def _own_queries(attack: Attack) -> None:
    for norm in _norms(attack):
        problem, threat = half_broken(norm)
        for query in attempt(attack, problem, threat).queries:
            rows = _rows_of(query, problem)
            labels = problem.y[rows]
            require(
                query.y is None or torch.equal(query.y, labels),
                "it asked with the streams of one sample and the label of another",
            )
            apart = torch.cdist(query.x.flatten(1), problem.x.flatten(1))
            least, nearest = apart.min(1)
            # A search for the nearest wrong input comes past others' inputs, but not upon them; so
            # does Auto-PGD in l1, which begins in larger balls.
            away = threat.distance(query.x, problem.x[rows]) > threat.eps
            roams = attack.minimal or norm is Norm.L1
            passing = away & (least > 0) if roams else torch.zeros_like(away)
            require(
                bool(((nearest == rows) | passing).all()), "it asked about another sample's input"
            )


def _batch_independent(attack: Attack) -> None:
    for problem, threat, defense in unsaturated(_norms(attack)):
        whole = attempt(attack, problem, threat, defense)
        known = _draws(whole)
        for rows in _parts(len(problem.x)):
            part = attempt(attack, problem, threat, defense, rows)
            apart = (part.x_adv - whole.x_adv[rows]).abs().max().item()
            require(
                apart <= SAME,
                f"on {problem.name} with {threat} rows {rows.tolist()} of a batch of "
                f"{len(problem.x)} get proposals {apart:g} away when they are attacked "
                "by themselves",
            )
            for sample, draws in _draws(part).items():
                require(
                    draws == known[sample],
                    f"on {problem.name} with {threat} sample {sample} gets {len(draws)} draws "
                    f"in a batch of {len(rows)} and {len(known[sample])} in a batch of "
                    f"{len(problem.x)}, of which {len(draws & known[sample])} are the same",
                )


def _own_draws(attack: Attack) -> None:
    problem, defense = noisy(_norms(attack)[0])
    threat = ThreatModel(problem.norm, CRITICAL[problem.norm])
    found = attempt(attack, problem, threat, defense)
    draws = _draws(found)
    shared = sum(map(len, draws.values())) - len(set().union(*draws.values()))
    require(shared == 0, f"{shared} draws were asked for by two samples or more")
    # The undefended model has no draws to choose from.
    ascents = [query for query in found.queries if query.stochastic and query.y is not None]
    if len(ascents) > 1:
        first = {int(query.streams.keys[0]) for query in ascents}
        require(len(first) > 1, f"all {len(ascents)} gradients of a sample are of one draw")


def _breaks_nothing(attack: Attack) -> None:
    for norm in _norms(attack):
        vectors, *_, cells = open_problems(norm)
        for problem in (vectors, cells, walled_problem(norm)):
            threat = rounded(norm, (1 - SLACK) * problem.critical.min().item())
            broken = _broken(problem, attempt(attack, problem, threat).x_adv)
            require(
                not broken.any(),
                f"on {problem.name} {int(broken.sum())} of {len(broken)} samples fell to {threat}",
            )


def _breaks_all(attack: Attack) -> None:
    for norm in _norms(attack):
        for problem in open_problems(norm):
            classes = problem.y.unique().numel()
            if classes == 2 or not attack.one_step:
                _break(attack, problem)


def _breaks_at_walls(attack: Attack) -> None:
    for norm in _norms(attack):
        _break(attack, walled_problem(norm))


def _breaks_all_at_twice(attack: Attack) -> None:
    for norm in _norms(attack):
        for problem in (*open_problems(norm), walled_problem(norm)):
            threat = rounded(norm, 2 * problem.critical.max().item())
            broken = _broken(problem, attempt(attack, problem, threat).x_adv)
            require(
                bool(broken.all()),
                f"on {problem.name} {int((~broken).sum())} of {len(broken)} samples stand with "
                f"{threat}, twice what the last of them takes",
            )


def _break(attack: Attack, problem: LinearProblem) -> None:
    """Each sample at its own eps, in the company of those that fall sooner and those that hold."""
    for critical in problem.critical.tolist():
        threat = rounded(problem.norm, (1 + SLACK) * critical)
        broken = _broken(problem, attempt(attack, problem, threat).x_adv)
        within = problem.critical <= critical
        require(
            bool(broken[within].all()),
            f"on {problem.name} {int((within & ~broken).sum())} of {int(within.sum())} samples "
            f"that can be broken by eps = {critical:.4g} stand with {threat}",
        )
        require(
            bool((within == broken).all()),
            f"on {problem.name} it broke samples with {threat} that nothing can break with it",
        )


def _finds_the_bottom(attack: Attack) -> None:
    for norm in _norms(attack):
        threat = ThreatModel(norm, 0.2)
        problem = bowl(threat.eps, reachable=True)
        broken = _broken(problem, attempt(attack, problem, threat).x_adv)
        require(
            bool(broken.all()),
            f"with {threat} {int((~broken).sum())} of {len(broken)} samples stand, all of which "
            "have wrong inputs within reach",
        )


def _finds_the_nearest(attack: Attack) -> None:
    for norm in _norms(attack):
        for problem in (*open_problems(norm), walled_problem(norm)):
            whole = ThreatModel(norm, 0.0).whole_box(problem.x[0].numel())
            threat = ThreatModel(norm, whole)
            x_adv = attempt(to_the_end(attack), problem, threat).x_adv
            ratio = threat.distance(x_adv, problem.x) / problem.critical
            missed = ~_broken(problem, x_adv) | (ratio > 1 + SLACK)
            require(
                not missed.any(),
                f"on {problem.name} in {norm} it found no wrong input of {int(missed.sum())} of "
                f"{len(missed)} samples within 5 % of the critical eps; the furthest proposal is "
                f"at {ratio.max():.3g} times that",
            )


def to_the_end(attack: Attack) -> Attack:
    """The same attack, set to shorten distances after a sample is broken, if that is a choice."""
    if "until_broken" not in getattr(attack, "__dataclass_fields__", {}):
        return attack
    again: Attack = dataclasses.replace(cast("Any", attack), until_broken=False)
    return again


def _keeps_the_best(attack: Attack) -> None:
    for norm in _norms(attack):
        threat = ThreatModel(norm, 0.2)
        problem = bowl(threat.eps, reachable=False)
        found = attempt(attack, problem, threat)
        offered = margin(problem.model(found.x_adv), problem.y)
        lowest = torch.full_like(offered, torch.inf)
        for query in found.queries:
            rows = _rows_of(query, problem)
            x = problem.x[rows]
            lead = margin(query.logits, problem.y[rows])
            lead[threat.distance(query.x, x) > threat.eps + threat.rounding(x)] = torch.inf
            lowest[rows] = lowest[rows].minimum(lead)
        # Leads here are of size one, and float32.
        worse = offered > lowest + SAME
        require(
            not worse.any(),
            f"{int(worse.sum())} of {len(worse)} proposals under {threat} have a lead up to "
            f"{(offered - lowest).max():g} higher than an allowed input that it had tried",
        )


def _unmoved_by_luck(attack: Attack) -> None:
    for norm in _norms(attack):
        problem, defense = noisy(norm)
        # As far beyond the plane as it was before it: the lowest accuracy is that of the mirror
        # image, 1 - CLEAN.
        threat = rounded(norm, 2 * problem.critical.max().item())
        x_adv = attempt(attack, problem, threat, defense).x_adv
        lead = margin(problem.model(x_adv), problem.y)
        spread = defense.sigma * (problem.model.weight[:, 0] - problem.model.weight[:, 1]).norm()
        # Of one draw of noise on a half-space, exactly: Cohen et al. 2019, arXiv:1902.02918.
        accuracy = torch.special.ndtr(lead / spread).mean().item()
        require(
            accuracy <= 1 - CLEAN + SLACK,
            f"on {problem.name} with {threat} the expected accuracy is {accuracy:.3f} where "
            f"{1 - CLEAN:.3f} is possible and {CLEAN:.3f} is that without attack",
        )


def _averages(attack: Attack) -> None:
    norm = _norms(attack)[0]
    one, many = (_gain(attack, norm, draws) for draws in (1, DRAWS))
    # A coarse attack gains half as much at best.
    share = 0.5 if attack.coarse else 1.0
    require(
        many >= share * min(GOOD_GAIN, one / share + MORE_GAIN),
        f"in {norm} it makes {many:.0%} of the possible gain with draws={DRAWS}, and {one:.0%} "
        "with draws=1",
    )


def _gain(attack: Attack, norm: Norm, draws: int) -> float:
    """How far ``attack`` lowers the mean lead, as a share of what is possible."""
    # Faint, so that every loss is linear in the scores and its mean slope that of the mean.
    problem = two_cells("a plane that leans at random", norm, (12,), scale=0.01)
    weight = problem.model.weight[:, 0] - problem.model.weight[:, 1]
    defense = NoisySlope(model=problem.model, sigma=NOISE * weight.square().mean().sqrt().item())
    threat = ThreatModel(norm, CRITICAL[norm])
    # Not every attack is a dataclass, but this one has the field: see _takes_draws.
    again: Attack = dataclasses.replace(cast("Any", attack), draws=draws)
    x_adv = attempt(again, problem, threat, defense).x_adv
    with torch.no_grad():
        fall = margin(problem.model(problem.x), problem.y) - margin(problem.model(x_adv), problem.y)
        possible = threat.eps * torch.linalg.vector_norm(weight, ord=DUAL[norm])
        return (fall.mean() / possible).item()


def _parts(count: int) -> list[Tensor]:
    """One row from the middle, and all of them backwards."""
    rows = torch.arange(count)
    return [rows[count // 2 :][:1], rows.flip(0)]


def _draws(found: Attempt) -> dict[int, set[int]]:
    """The names of the draws that each sample was given."""
    draws: dict[int, set[int]] = {}
    for query in found.queries:
        pairs = zip(query.streams.samples.tolist(), query.streams.keys.tolist(), strict=True)
        for sample, key in pairs:
            draws.setdefault(sample, set()).add(key)
    return draws


def _rows_of(query: Query, problem: Problem) -> Tensor:
    """Where in the problem the samples of a query are."""
    require(
        len(query.streams) == len(query.x),
        f"it asked about {len(query.x)} inputs with {len(query.streams)} streams",
    )
    rows = torch.searchsorted(problem.samples, query.streams.samples)
    known = problem.samples[rows.clamp(max=len(problem.samples) - 1)]
    require(torch.equal(known, query.streams.samples), "it asked about samples it was not given")
    return rows


@torch.no_grad()
def _broken(problem: Problem, x_adv: Tensor) -> Tensor:
    scores: Tensor = problem.model(x_adv)
    return scores.argmax(1) != problem.y
