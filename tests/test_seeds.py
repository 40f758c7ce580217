"""Random numbers belong to their names: (run seed, purpose, sample, attack, draw)."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from robustcode.seeds import Streams, seed_of

# Printed by the reference implementation, https://prng.di.unimi.it/splitmix64.c, for seed 1234567.
REFERENCE = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]
MASK = (1 << 64) - 1
# A correct generator fails a test at this level once in 10,000 changes of the seed; with the
# seeds fixed here it passes always.
LEVEL = 1e-4


def streams(samples: int, purpose: str = "judge", seed: int = 1) -> Streams:
    return Streams.of(seed, purpose, torch.arange(samples))


def splitmix64(seed: int, count: int) -> list[int]:
    """Steele, Lea and Flood 2014, figure 17, in Python's unbounded integers."""
    outputs = []
    for _ in range(count):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = seed
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def unsigned(bits: Tensor) -> list[int]:
    return [number & MASK for number in bits.tolist()]


def test_bits_are_those_the_reference_prints() -> None:
    keys = torch.tensor([1234567])
    assert unsigned(Streams(keys, keys).bits(5)[0]) == REFERENCE


@given(key=st.integers(-(1 << 63), (1 << 63) - 1))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_bits_are_splitmix64_for_any_key(key: int) -> None:
    keys = torch.tensor([key])
    assert unsigned(Streams(keys, keys).bits(9)[0]) == splitmix64(key & MASK, 9)


def draws(of: Streams) -> list[Tensor]:
    """Every kind of number a stream can give, shape (batch, ...)."""
    return [
        of.bits(3),
        of.uniform(3, 5),
        of.uniform(7, dtype=torch.float64),
        of.normal(3, 5),
        of.normal(7, dtype=torch.float64),
        of.integers(10, 4),
        of.permutation(6),
        of.child("restart", 2).normal(4),
    ]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(map(torch.equal, left, right))


def test_a_sample_draws_the_same_in_any_batch() -> None:
    whole = draws(streams(12))
    for rows in (torch.tensor([7]), torch.tensor([11, 0, 7, 3]), torch.arange(12).flip(0)):
        alone = draws(Streams.of(1, "judge", rows))
        assert same(alone, [numbers[rows] for numbers in whole])


@pytest.mark.parametrize(
    "rows",
    [slice(3, 9), torch.tensor([4, 4, 0]), torch.arange(12) % 3 == 1],
    ids=["slice", "indices", "mask"],
)
def test_rows_keep_their_streams(rows: slice | Tensor) -> None:
    all_rows = streams(12)
    chosen = all_rows[rows]
    assert torch.equal(chosen.samples, all_rows.samples[rows])
    assert len(chosen) == len(chosen.samples)
    assert same(draws(chosen), [numbers[rows] for numbers in draws(all_rows)])


def test_no_rows_draw_nothing() -> None:
    none = streams(12)[torch.zeros(12, dtype=torch.bool)]
    assert [len(numbers) for numbers in draws(none)] == [0] * 8


def test_drawing_twice_gives_the_same() -> None:
    """Streams are values: nothing advances."""
    one = streams(5)
    assert same(draws(one), draws(one))


def test_a_longer_draw_begins_with_the_bits_of_a_shorter_one() -> None:
    assert torch.equal(streams(5).bits(100)[:, :7], streams(5).bits(7))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_have_the_dtype_and_shape_asked_for(dtype: torch.dtype) -> None:
    assert streams(5).uniform(3, 2, dtype=dtype).dtype is dtype
    assert streams(5).normal(3, 2, dtype=dtype).dtype is dtype
    assert streams(5).uniform(3, 2, dtype=dtype).shape == (5, 3, 2)
    assert streams(5).normal(3, 3, dtype=dtype).shape == (5, 3, 3)
    assert streams(5).integers(4, 2, 2).shape == (5, 2, 2)
    assert streams(5).integers(4, 2, 2).dtype is torch.int64


def test_names_differ_in_every_part() -> None:
    samples = torch.arange(3)
    base = Streams.of(1, "judge", samples)
    others = [
        Streams.of(2, "judge", samples),
        Streams.of(1, "attack", samples),
        Streams.of(1, "judge", samples + 3),
        base.child("draw"),
        base.child("draw", 0),
        base.child("draw", 1),
        base.child(0, "draw"),
        base.child("draw").child("draw"),
        Streams.of(-1, "judge", samples),
        Streams.of(1 + (1 << 63), "judge", samples),
    ]
    keys = torch.cat([base.keys, *(other.keys for other in others)])
    assert len(keys.unique()) == len(keys)


def test_a_child_of_children_is_the_child_of_all_their_names() -> None:
    base = streams(4)
    assert torch.equal(
        base.child("restart", 2, "draw").keys, base.child("restart", 2).child("draw").keys
    )


def test_names_do_not_collide() -> None:
    """2 purposes x 500 samples x 4 restarts x 25 draws: 100,000 keys, all different.

    Among random 64-bit keys a collision would have probability 3e-10.
    """
    keys = [
        Streams.of(0, purpose, torch.arange(500)).child("restart", restart, "draw", draw).keys
        for purpose in ("judge", "attack")
        for restart in range(4)
        for draw in range(25)
    ]
    assert torch.cat(keys).unique().numel() == 100_000


NEIGHBOURS = {
    "purposes": (streams(1), streams(1, "attack")),
    "samples": (streams(2)[:1], streams(2)[1:]),
    "draws": (streams(1).child("draw", 0), streams(1).child("draw", 1)),
    "seeds": (streams(1, seed=1), streams(1, seed=2)),
    "parent and child": (streams(1), streams(1).child(0)),
}


@pytest.mark.parametrize("pair", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_neighbouring_names_are_independent(pair: tuple[Streams, Streams]) -> None:
    left, right = (of.uniform(20_000, dtype=torch.float64)[0].numpy() for of in pair)
    assert stats.pearsonr(left, right).pvalue > LEVEL
    # A shift by one place would show streams that are the same sequence from another start.
    assert stats.pearsonr(left[1:], right[:-1]).pvalue > LEVEL
    assert not set(left) & set(right)


def test_the_first_numbers_of_many_names_are_uniform() -> None:
    """Across samples, not along a stream: this is what a batch of one draw each looks like."""
    first = streams(20_000).uniform(1, dtype=torch.float64).flatten().numpy()
    assert stats.kstest(first, "uniform").pvalue > LEVEL
    assert stats.pearsonr(first[1:], first[:-1]).pvalue > LEVEL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_is_uniform(dtype: torch.dtype) -> None:
    numbers = streams(2).uniform(20_000, dtype=dtype).double()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    for row in numbers.numpy():
        assert stats.kstest(row, "uniform").pvalue > LEVEL


def test_uniform_halves_of_one_output_are_independent() -> None:
    """In float32 each 64-bit output serves two values."""
    numbers = streams(1).uniform(40_000)[0].numpy()
    assert stats.pearsonr(numbers[:20_000], numbers[20_000:]).pvalue > LEVEL


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normal_is_normal(dtype: torch.dtype) -> None:
    for row in streams(2).normal(20_000, dtype=dtype).double().numpy():
        assert stats.kstest(row, "norm").pvalue > LEVEL
        assert stats.pearsonr(row[:10_000], row[10_000:]).pvalue > LEVEL
        # Squares too: cosine and sine of one angle are uncorrelated but need not be independent.
        assert stats.pearsonr(row[:10_000] ** 2, row[10_000:] ** 2).pvalue > LEVEL


def key_of(output: int) -> int:
    """The key whose first output is ``output``: every step of SplitMix64 can be undone."""
    z = output
    z ^= (z >> 31) ^ (z >> 62)
    z = (z * pow(0x94D049BB133111EB, -1, 1 << 64)) & MASK
    z ^= (z >> 27) ^ (z >> 54)
    z = (z * pow(0xBF58476D1CE4E5B9, -1, 1 << 64)) & MASK
    z ^= (z >> 30) ^ (z >> 60)
    key = (z - 0x9E3779B97F4A7C15) & MASK
    return key - (1 << 64) if key >> 63 else key


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_least_and_the_largest_bits_are_numbers_too(dtype: torch.dtype) -> None:
    """They come up once in 2^64 draws, so no sample of draws would show a log of zero."""
    keys = torch.tensor([key_of(0), key_of(MASK)])
    ends = Streams(keys, keys)
    assert unsigned(ends.bits(1).flatten()) == [0, MASK]
    assert ends.uniform(1, dtype=dtype)[0] == 0
    assert ends.uniform(1, dtype=dtype)[1] < 1
    assert ends.integers(7, 1).flatten().tolist() == [0, (MASK >> 11) % 7]
    # The least radius bits are as far out as a normal goes: sqrt(-2 log(2^-33)) = 6.76 sigma.
    far, near = ends.normal(1, dtype=dtype).flatten().tolist()
    assert far == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)
    assert abs(near) < 1e-4


def test_normal_tails_are_as_heavy_as_they_should_be() -> None:
    far = streams(200).normal(10_000).abs()
    # P(|z| > 4) = 6.3e-5: 127 of two million are expected, +- 4 standard deviations of 11.3.
    assert int((far > 4).sum()) == pytest.approx(2e6 * 2 * stats.norm.sf(4), abs=4 * 11.3)


def test_integers_are_uniform() -> None:
    numbers = streams(1).integers(7, 20_000)[0]
    assert stats.chisquare(numbers.bincount(minlength=7).numpy()).pvalue > LEVEL
    assert numbers.max() == 6


def test_every_permutation_is_equally_likely() -> None:
    rows = streams(24_000).permutation(4)
    assert (rows.sort(dim=1).values == torch.arange(4)).all()
    codes = (rows * torch.tensor([64, 16, 4, 1])).sum(1)
    counts = codes.unique(return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > LEVEL


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = draws(streams(5))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert same(draws(streams(5)), first)


def test_moving_to_a_device_keeps_the_numbers() -> None:
    assert same(draws(streams(5).to("cpu")), draws(streams(5)))


def test_seed_of_is_a_number_for_its_names() -> None:
    seeds = {seed_of(seed, "shuffle", epoch) for seed in range(50) for epoch in range(50)}
    assert len(seeds) == 2_500
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert seed_of(3, "shuffle", 1) == seed_of(3, "shuffle", 1)


# ---- samples that share a batch


def sharing(samples: int, size: int, purpose: str = "judge") -> Streams:
    rows = torch.arange(samples)
    return Streams.of(1, purpose, rows, rows // size)


def batches(of: Streams) -> Streams:
    assert of.together is not None
    return of.together


def test_samples_of_one_batch_have_one_stream_together() -> None:
    together = batches(sharing(12, 4))
    assert together.samples.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert len(together.keys.unique()) == 3
    assert len(torch.cat([together.keys, sharing(12, 4).keys]).unique()) == 3 + 12


def test_a_batch_is_named_by_its_number_and_not_by_who_is_in_it() -> None:
    few = Streams.of(1, "judge", torch.tensor([9, 5]), torch.tensor([2, 1]))
    assert torch.equal(batches(few).keys, batches(sharing(12, 4)).keys[[9, 5]])


def test_a_sample_draws_what_it_would_draw_by_itself() -> None:
    assert streams(12).together is None
    assert same(draws(sharing(12, 4)), draws(streams(12)))


NUMBERS = torch.arange(12) // 4 + 7
PICKED = torch.tensor([11, 0, 0, 6])
STEPS: dict[str, Callable[[Streams], Streams]] = {
    "child": lambda of: of.child("restart", 2, "draw", 1),
    "each": lambda of: of.each(NUMBERS),
    "slice": lambda of: of[3:9],
    "indices": lambda of: of[PICKED],
    "mask": lambda of: of[torch.arange(12) % 3 == 1],
    "device": lambda of: of.to("cpu"),
    "joined": lambda of: Streams.joined([of, of.child(3), of[PICKED]]),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_the_stream_of_a_batch_goes_along(step: Callable[[Streams], Streams]) -> None:
    """What is done to the streams of samples is done to those of their batches."""
    shared = sharing(12, 4)
    after = batches(step(shared))
    assert torch.equal(after.keys, step(batches(shared)).keys)
    assert torch.equal(after.samples, step(batches(shared)).samples)
    assert torch.equal(step(shared).keys, step(streams(12)).keys)


def test_a_number_of_each_row_makes_a_batch_of_those_with_equal_numbers() -> None:
    together = batches(sharing(8, 4).each(torch.tensor([0, 1, 0, 1, 0, 1, 0, 1])))
    groups = together.keys.unique(return_inverse=True)[1].tolist()
    assert [groups[row] for row in (0, 1, 4, 5)] == [groups[row] for row in (2, 3, 6, 7)]
    assert len(set(groups)) == 4


def test_who_shares_no_batch_joins_as_such() -> None:
    assert Streams.joined([streams(3), streams(3, "attack")]).together is None


# ---- several draws that stand for all randomness


@pytest.mark.parametrize("shared", [False, True])
def test_parts_are_the_draws_of_their_numbers(shared: bool) -> None:
    of = sharing(6, 3) if shared else streams(6)
    parts = of.parts(5)
    assert len(parts) == 5
    for number, part in enumerate(parts):
        draw = of.child("draw", number)
        assert torch.equal(part.keys, draw.keys)
        assert torch.equal(part.samples, draw.samples)
        assert same(draws(part), draws(draw))
        if shared:
            assert torch.equal(batches(part).keys, batches(draw).keys)


def apart(parts: list[Tensor]) -> Tensor:
    """Gaps between what the parts of each row drew, around the circle, (batch, parts)."""
    ordered = torch.stack(parts, dim=1).sort(dim=1).values
    return torch.cat([ordered.diff(dim=1), 1 + ordered[:, :1] - ordered[:, -1:]], dim=1)


@pytest.mark.parametrize("count", [1, 2, 7, 20])
def test_even_numbers_lie_equally_far_apart_over_parts(count: int) -> None:
    drawn = [part.even() for part in streams(500).parts(count)]
    assert all(((numbers >= 0) & (numbers < 1)).all() for numbers in drawn)
    torch.testing.assert_close(
        apart(drawn), torch.full((500, count), 1 / count, dtype=torch.float64), atol=1e-14, rtol=0
    )
    # Cells of that width have one each, whatever the start.
    cells = (torch.stack(drawn, dim=1) * count).long().sort(dim=1).values
    assert torch.equal(cells, torch.arange(count).expand(500, -1))


def test_even_numbers_of_each_part_are_uniform() -> None:
    of = streams(20_000)
    for even in (of.even(), *(part.even() for part in of.parts(3))):
        assert even.dtype is torch.float64
        assert stats.kstest(even.numpy(), "uniform").pvalue > LEVEL
    # The start is a number of its own, and none that a child or the sample itself draws.
    start = of.parts(3)[0].even().numpy()
    for other in (of, of.child("draw", 0), of.parts(3)[0]):
        drawn = other.uniform(1, dtype=torch.float64)[:, 0].numpy()
        assert stats.pearsonr(start, drawn).pvalue > LEVEL


def test_starts_of_other_questions_are_other_ones() -> None:
    of = streams(20_000)
    left, right = (of.child("step", step).parts(4)[2].even().numpy() for step in (0, 1))
    assert stats.pearsonr(left, right).pvalue > LEVEL


def test_what_is_asked_within_a_part_is_no_part() -> None:
    """Votes and restarts within it are independent of those within the others."""
    part = streams(20_000).parts(2)[1]
    assert part.part is not None
    for step in (part.child("vote", 0), part.each(torch.zeros(20_000, dtype=torch.int64))):
        assert step.part is None
    zero, one = (part.child("vote", 0).even().numpy() for part in streams(20_000).parts(2))
    assert stats.pearsonr(zero, one).pvalue > LEVEL
    assert stats.kstest((one - zero) % 1, "uniform").pvalue > LEVEL


@pytest.mark.parametrize(
    "rows", [slice(3, 9), PICKED, torch.arange(12) % 3 == 1], ids=["slice", "indices", "mask"]
)
def test_rows_of_a_part_are_of_that_part(rows: slice | Tensor) -> None:
    part = streams(12).parts(3)[2]
    assert torch.equal(part[rows].even(), part.even()[rows])
    assert torch.equal(part.to("cpu").even(), part.even())
    assert Streams.joined([part[:2], part[2:]]).part is None


def test_numbers_never_change_between_versions() -> None:
    """Records are repeated from their spec by a later version: these may change with the schema."""
    named = Streams.of(7, "judge", torch.tensor([41])).child("pgd", "draw", 3)
    assert named.keys.tolist() == [706912236065727092]
    assert seed_of(7, "shuffle", 1) == 149674828653920915
