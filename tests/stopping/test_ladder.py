"""Many radii on one stream: what one certifies, all below it do, and the error is that of one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robustcode.errors import ConfigError
from robustcode.stopping import (
    Ladder,
    Verdict,
    anytime,
    ladder,
    nested,
    probability_at,
    sequential,
)
from robustcode.stopping.ladder import Verdicts

RUNGS = ladder([probability_at(r, 1.0) for r in (0.0, 0.25, 0.5, 1.0, 1.5)], 0.02, 2_000)


def followed(rungs: Ladder, probability: float, streams: int, seed: int) -> Verdicts:
    """The verdicts on simulated streams after the last look."""
    generator = np.random.default_rng(seed)
    verdicts, successes = rungs.start(streams), np.zeros(streams, np.int64)
    for look, step in enumerate(np.diff(rungs.looks, prepend=0)):
        successes += generator.binomial(step, probability, streams)
        before = verdicts
        verdicts = rungs.after(look, successes, verdicts)
        decided = before != Verdict.OPEN
        assert (verdicts[decided] == before[decided]).all()
        # Certified ones come first, given up ones last.
        assert (np.diff(verdicts.astype(int), axis=1) <= 0).all()
    assert (verdicts != Verdict.OPEN).all()
    return verdicts


@pytest.mark.parametrize("rung", [0, 2, 4])
def test_any_false_claim_is_as_rare_as_the_lowest_false_one(rung: int) -> None:
    """At a rung's own probability that rung and all above are false."""
    truth, streams = RUNGS.rungs[rung].probability, 50_000
    certified = followed(RUNGS, truth, streams, rung) == Verdict.CERTIFIED
    false = certified[:, rung:].any(axis=1)
    np.testing.assert_array_equal(false, certified[:, rung])
    exact = RUNGS.error(truth)
    assert exact == RUNGS.rungs[rung].error()
    assert 0.9 * 0.02 < exact <= 0.02
    assert abs(false.mean() - exact) < 4 * math.sqrt(exact / streams)


def test_each_rung_is_decided_as_if_it_were_alone() -> None:
    verdicts = followed(RUNGS, 0.75, 50_000, 7)
    for number, rung in enumerate(RUNGS.rungs):
        power = rung.power(0.75)
        share = (verdicts[:, number] == Verdict.CERTIFIED).mean()
        assert abs(share - power) <= 4 * math.sqrt(power * (1 - power) / 50_000) + 1e-12


def test_between_rungs_the_error_is_that_of_the_next() -> None:
    between = (RUNGS.rungs[1].probability + RUNGS.rungs[2].probability) / 2
    assert RUNGS.error(between) == RUNGS.rungs[2].power(between) < RUNGS.rungs[2].error()
    assert RUNGS.error(0.99) == 0


def test_rungs_that_lie_close_are_raised_until_they_nest() -> None:
    close = [probability_at(r, 1.0) for r in np.arange(1.0, 1.1, 0.005)]
    assert not nested([sequential(p, 0.001, 1_000) for p in close])
    raised = ladder(close, 0.001, 1_000)
    assert nested(raised.rungs)
    assert all(0 < rung.error() <= 0.001 for rung in raised.rungs)


def test_rungs_that_cross_are_refused() -> None:
    low, high = (sequential(p, 0.01, 500) for p in (0.6, 0.8))
    with pytest.raises(ConfigError, match="cross"):
        Ladder(rungs=(high, low))
    with pytest.raises(ConfigError, match="cross"):
        Ladder(rungs=(low, dataclasses.replace(low, probability=0.55)))
    with pytest.raises(ConfigError, match="different looks"):
        Ladder(rungs=(low, sequential(0.8, 0.01, 400)))
    lax = dataclasses.replace(high, give_up=np.append(high.give_up[:-1] * 0 - 1, high.give_up[-1]))
    with pytest.raises(ConfigError, match="cross"):
        Ladder(rungs=(low, lax))
    with pytest.raises(ConfigError, match="no rungs"):
        Ladder(rungs=())


def test_other_designs_make_ladders_too() -> None:
    rungs = ladder([0.5, 0.7, 0.9], 0.01, 1_000, anytime)
    assert [rung.probability for rung in rungs.rungs] == [0.5, 0.7, 0.9]
    assert (followed(rungs, 1.0, 3, 0) == Verdict.CERTIFIED).all()
    assert (followed(rungs, 0.1, 3, 0) == Verdict.GIVEN_UP).all()
