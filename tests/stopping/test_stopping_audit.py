"""The audit tells what other people's stopping rules really do; what it says is checked by play."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, binom, binomtest, norm

from robustcode.errors import ConfigError, UnknownNameError
from robustcode.stopping import (
    RULES,
    Boundaries,
    Outcome,
    audit,
    fixed,
    needed,
    probability_at,
    sequential,
)
from robustcode.stopping.peers import ISS, Horvath, Voracek

TWO = probability_at(2.0, 1.0)


# Figures of the research notes, section 1.4 ---------------------------------------------------


def test_a_tie_breaks_the_rule_that_counts_its_first_draws_twice() -> None:
    found = audit("iss", 0.5)
    assert found.error == pytest.approx(0.0017, abs=0.00007)
    assert found.outcome is Outcome.EXCEEDS
    assert found.share > 1.6


@pytest.mark.parametrize("probability", [0.6, 0.8, TWO])
def test_without_a_tie_it_holds(probability: float) -> None:
    assert audit("iss", probability).outcome is Outcome.HOLDS


def test_the_bet_leaves_most_of_alpha_unused() -> None:
    """At geometric looks, for radii from 1 to 3 sigma."""
    errors = [audit("voracek:growth=1.15", probability_at(r, 1.0)).error for r in (1.0, 2.0, 3.0)]
    assert 0.00025 > errors[0] > errors[1] > errors[2] > 0.000015


def test_looked_at_after_each_draw_it_still_holds() -> None:
    found = audit("voracek", 0.5, draws=5_000)
    assert found.outcome is Outcome.HOLDS
    assert found.error > audit("voracek:growth=1.15", 0.5, draws=5_000).error


@pytest.mark.parametrize("rule", ["fixed", "sequential", "anytime", "horvath"])
@pytest.mark.parametrize("probability", [0.5, 0.84, TWO])
def test_sound_rules_hold(rule: str, probability: float) -> None:
    found = audit(rule, probability)
    assert found.outcome is Outcome.HOLDS
    assert found.rule == rule
    assert found.most == RULES.get(rule).most
    powers = list(found.power.values())
    assert powers[0] == found.error
    assert (np.diff(powers) > -1e-12).all()
    assert min(found.draws) == probability


def test_sequential_is_cheapest() -> None:
    """Of the rules that keep alpha, on a stream half way from p0 to 1."""
    rules = ("fixed", "horvath", "voracek:growth=1.15", "anytime", "sequential")
    found = [audit(rule, TWO) for rule in rules]
    draws = [list(one.draws.values())[2] for one in found]
    assert min(draws) == draws[-1]
    assert draws[-1] < draws[1] / 3 < draws[0] / 30


# By play --------------------------------------------------------------------------------------


def test_horvaths_stages_as_they_are_played() -> None:
    alpha, beta, sizes, p0, truth, games = 0.1, 0.2, (20, 60, 200), 0.7, 0.75, 5_000
    rule = Horvath(stages=sizes[:2], beta=beta).examined(p0, alpha, sizes[2])
    generator = np.random.default_rng(0)
    certified = taken = 0.0
    bounds = [
        [binomtest(k, n).proportion_ci(1 - 2 * alpha / 3, "exact").low for k in range(n + 1)]
        for n in sizes
    ]
    tops = [
        [binomtest(k, n).proportion_ci(1 - 2 * beta / 2, "exact").high for k in range(n + 1)]
        for n in sizes
    ]
    for _ in range(games):
        for stage, size in enumerate(sizes):
            successes = generator.binomial(size, truth)
            taken += size
            if bounds[stage][successes] > p0:
                certified += 1
                break
            if tops[stage][successes] < p0:
                break
    power = rule.power(truth)
    assert abs(certified / games - power) < 4 * math.sqrt(power * (1 - power) / games)
    assert taken / games == pytest.approx(rule.draws(truth), rel=0.05)


def test_the_bet_as_it_is_made() -> None:
    p0, alpha, most, games = 0.6, 0.05, 120, 4_000
    rule = Voracek().examined(p0, alpha, most)
    generator = np.random.default_rng(1)
    for truth in (0.6, 0.72):
        certified = 0
        for _ in range(games):
            successes, wealth = 0, 1.0
            for draw in range(most):
                guess = (successes + 0.5) / (draw + 1)
                hit = generator.random() < truth
                wealth *= guess / p0 if hit else (1 - guess) / (1 - p0)
                successes += hit
                if wealth > 1 / (2 * alpha):
                    certified += successes > p0 * (draw + 1)
                    break
        power = rule.power(truth)
        # Its thresholds, made to rise, stop a draw or two before the bet itself has won.
        assert abs(certified / games - power) < 4 * math.sqrt(power * (1 - power) / games) + 0.01


def bound(rule: ISS, alpha: float, count: float, total: int) -> float:
    return float(rule.sigma * norm.ppf(beta.ppf(alpha, count, total - count + 1)))


def plan_of(rule: ISS, alpha: float, draws: int) -> Callable[[int], int]:
    """Draws in all by the first count of the chosen class, as ``certify_iss.py`` finds it."""
    plan: dict[float, int] = {}
    for rate in 0.5 + 0.001 * np.arange(501):
        goal = bound(rule, alpha, draws * rate, draws) - rule.loss
        sizes = range(rule.batch, draws + 1, rule.batch)
        enough = (n for n in sizes if bound(rule, alpha, n * rate, n) >= goal)
        plan[rate] = 0 if goal <= 0 else next(enough)
    rates = list(plan)

    @functools.cache
    def planned(count: int) -> int:
        total = 0
        for end in binomtest(count, rule.first).proportion_ci(1 - alpha, "exact"):
            cell = next(i for i, rate in enumerate(rates) if end <= rate)
            total = max(total, plan[rates[max(0, cell - 1)]], plan[rates[cell]])
        return total

    return planned


@pytest.mark.parametrize("loss", [0.1, 0.02])
def test_the_plan_is_the_published_one(loss: float) -> None:
    rule = ISS(first=40, batch=20, loss=loss)
    ours, theirs = rule.examined(0.5, 0.05, 400).total, plan_of(rule, 0.05, 400)
    assert ours[20:].tolist() == [theirs(count) for count in range(20, 41)]


def test_the_planned_rule_as_it_is_played() -> None:
    rule, alpha, draws, games = ISS(first=40, batch=20, loss=0.1), 0.05, 400, 10_000
    planned, generator, false = plan_of(rule, alpha, draws), np.random.default_rng(2), 0
    for _ in range(games):
        first = int(generator.binomial(rule.first, 0.5))
        count = max(first, rule.first - first)
        total = planned(count)
        if total:
            count += int(generator.binomial(total - rule.first, 0.5))
            # A radius for a class that is no likelier than the other one.
            false += bound(rule, alpha, count, total) > 0
    exact = rule.examined(0.5, alpha, draws).power(0.5)
    assert exact > alpha
    assert abs(false / games - exact) < 4 * math.sqrt(exact / games)


# Tables and names -----------------------------------------------------------------------------


def write_csv(path: Path, rule: Boundaries) -> Path:
    rows = zip(rule.looks, rule.certify, rule.give_up, strict=True)
    lines = ["looks,certify,give_up", *(f"{n},{u},{low}" for n, u, low in rows)]
    path = path.with_suffix(".csv")
    path.write_text("\n".join(lines))
    return path


def write_json(path: Path, rule: Boundaries) -> Path:
    columns = {name: getattr(rule, name).tolist() for name in ("looks", "certify", "give_up")}
    path = path.with_suffix(".json")
    path.write_text(json.dumps(columns))
    return path


@pytest.mark.parametrize("write", [write_csv, write_json])
def test_a_table_from_a_file_is_audited(
    write: Callable[[Path, Boundaries], Path], tmp_path: Path
) -> None:
    rule = sequential(0.8, 0.01, 1_000)
    path = write(tmp_path / "rule", rule)
    found = audit(f"table:file={path}", 0.8, 0.01)
    assert found.error == rule.error()
    assert found.outcome is Outcome.HOLDS
    assert audit(f"table:file={path}", 0.8, 0.005).outcome is Outcome.EXCEEDS
    # Cut short it is another rule, whose last look decides.
    assert audit(f"table:file={path}", 0.8, 0.01, draws=500).error < rule.error()


def test_looking_ten_times_with_the_bound_of_one_look_exceeds_alpha(tmp_path: Path) -> None:
    looks = [100 * k for k in range(1, 11)]
    certify = [int(fixed(0.8, 0.01, n).certify[0]) for n in looks]
    path = tmp_path / "naive.csv"
    path.write_text(
        "looks,certify\n" + "\n".join(f"{n},{u}" for n, u in zip(looks, certify, strict=True))
    )
    found = audit(f"table:file={path}", 0.8, 0.01)
    assert found.outcome is Outcome.EXCEEDS
    assert 2 < found.share < 10


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "looks,certify\n10,8.5\n", "is no table of boundaries"),
        ("a.csv", "looks,enough\n10,8\n", "is no table of boundaries"),
        ("a.json", "[1, 2]", "is no table of boundaries"),
        ("a.json", '{"looks": [10], "certify": [true, 3]}', "2 numbers that certify"),
        ("a.json", '{"looks": [10], "certify": [8], "give_up": [1, 2]}', "2 that give up"),
        ("a.json", '{"looks": [10], "certify": [8.5]}', "not a whole number"),
        ("a.csv", "looks,certify\n", "no look"),
    ],
)
def test_files_that_are_no_tables_are_refused(
    name: str, text: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=says):
        audit(f"table:file={tmp_path / name}", 0.8)


def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        audit(f"table:file={tmp_path / 'absent.csv'}", 0.8)


@pytest.mark.parametrize(
    ("rule", "arguments", "says"),
    [
        ("fixed", (0.3,), "probability = 0.3"),
        ("fixed", (0.9, 0.0), "alpha = 0"),
        ("fixed", (0.9, 0.001, 0), "draws = 0"),
        ("fixed", (0.9, 0.001, 20), "allow 66 or more"),
        ("sequential:growth=1", (0.9,), "growth = 1"),
        ("voracek:growth=.5", (0.9,), "growth = 0.5"),
        ("horvath:stages=10+5", (0.9,), "do not rise"),
        ("iss:loss=.05", (0.9,), "fewer draws than the first"),
        ("iss:batch=0", (0.9,), "batch = 0"),
        ("iss:loss=0", (0.9,), "must be above 0"),
        ("iss", (0.9, 0.001, 100), "fewer than the first"),
        ("sequential:gamma=1", (0.9,), "unknown key 'gamma'"),
        ("table", (0.9,), "needs file"),
    ],
)
def test_refuses_with_a_sentence(rule: str, arguments: tuple[float, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        audit(rule, *arguments)  # type: ignore[arg-type]


def test_an_unknown_rule_is_not_guessed() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fixed'"):
        audit("fixd", 0.9)


def test_alpha_is_needed_in_draws() -> None:
    assert needed(TWO, 0.001) == 301
    assert audit("fixed", TWO, draws=301).error == pytest.approx(binom.pmf(301, 301, TWO))
