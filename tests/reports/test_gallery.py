"""The gallery: what the run kept is what is shown, and it is chosen without flattering."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
import struct
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file
from torch.nn import functional

from robustcode.components import Component
from robustcode.config import RunSpec
from robustcode.data import load_data
from robustcode.engine import evaluate
from robustcode.errors import StoreError
from robustcode.partial import Gap
from robustcode.proposals import as_levels
from robustcode.records import Record, to_lines
from robustcode.reports.drawing import drawn
from robustcode.reports.formats.web import _environment
from robustcode.reports.numbers.picture import SIDE, VALUES, Shown, shrinking, triple
from robustcode.reports.parts import Part
from robustcode.reports.sections.gallery import choose, part_of, spread
from robustcode.reports.source import Source
from robustcode.store import Run
from robustcode.threat import ThreatModel

EPS = 8 / 255
Floats = NDArray[np.float32]


def pixels(picture: Shown) -> NDArray[np.uint8]:
    """A picture as whole numbers of shape (channels, height, width)."""
    image = np.asarray(Image.open(io.BytesIO(picture.png)))
    return image[None] if image.ndim == 2 else image.transpose(2, 0, 1)


def images(shape: tuple[int, ...], seed: int) -> tuple[Floats, Floats]:
    """Samples of 8 bits, and proposals at a distance of EPS or less in linf."""
    draw = np.random.default_rng(seed)
    x = draw.integers(0, 256, shape).astype(np.float32) / np.float32(255)
    moved = x + draw.uniform(-EPS, EPS, shape).astype(np.float32)
    return x, moved.clip(0, 1)


def record(sample: int, **changed: Any) -> Record:
    """One of a sample that was right and was broken by pgd."""
    told = {
        "label": sample % 3,
        "clean": sample % 3,
        "attack": "pgd",
        "prediction": (sample + 1) % 3,
        "correct": False,
        "votes": None,
        "choosing": None,
        "clean_correct": True,
        "clean_votes": None,
        "selected": True,
        "distance": 0.03,
        "forwards": 1,
        "backwards": 1,
        "seed": 0,
    }
    return Record(sample=sample, **{**told, **changed})


def write_run(
    folder: Path,
    records: list[Record],
    x: Floats,
    x_adv: Floats,
    shards: int = 1,
    old: int = 0,
    **summary: Any,
) -> Source:
    """A run folder of those records, one a sample; the first ``old`` shards without samples."""
    files: dict[str, Any] = {}
    for number, rows in enumerate(np.array_split(np.arange(len(records)), shards)):
        name = f"shard-{number:05d}"
        moved = (x_adv[rows] != x[rows]).any((1, 2, 3))
        tensors: dict[str, NDArray[Any]] = {
            "sample": np.array([records[row].sample for row in rows]),
            "x_adv": x_adv[rows],
            "moved": moved,
            "x": np.rint(x[rows][moved] * 255).astype(np.uint8),
            "scale": np.array([255]),
        }
        if number < old:
            tensors = {key: tensors[key] for key in ("sample", "x_adv")}
        for kind in ("adversarial", "records"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / f"adversarial/{name}.safetensors")
        lines = to_lines([records[row] for row in rows])
        (folder / f"records/{name}.jsonl").write_bytes(lines)
        written = [f"adversarial/{name}.safetensors", f"records/{name}.jsonl"]
        files[name] = {
            "sha256": {f: hashlib.sha256((folder / f).read_bytes()).hexdigest() for f in written}
        }
    attacks = [{"name": name} for name in dict.fromkeys(row.attack for row in records)]
    told = {"samples": len(records), "attacks": attacks, "threat": "linf:8/255", **summary}
    manifest = {"status": "complete", "shards": {"files": files}}
    return Source("a", Run(folder, {"command": "attack"}, manifest, told, []), pd.DataFrame())


def gallery(source: Source, runs: int = 1) -> Part:
    part = part_of(source, 1, runs)
    assert part is not None
    return part


def html(part: Part) -> str:
    return _environment().get_template("gallery.html").render(part=part)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


# What a run keeps.


def test_a_run_keeps_the_samples_its_attacks_moved_and_to_the_last_bit(tmp_path: Path) -> None:
    spec = RunSpec(
        model="digits_cnn",
        data="digits",
        threat=ThreatModel.parse("linf:0.1"),
        attacks=(Component("fgsm"),),
        samples=30,
        batch_size=15,
    )
    run = evaluate(spec, tmp_path / "run", show=False)
    whole, right = load_data("digits"), run.records.set_index("sample")["clean_correct"]
    for file in run.adversarial:
        kept = load_file(file)
        clean = whole.images(kept["sample"]).numpy()
        moved = (kept["x_adv"] != clean).any((1, 2, 3))
        assert (moved == kept["moved"]).all()
        assert (moved == right[kept["sample"]].to_numpy()).all(), "what is wrong is not attacked"
        assert kept["x"].dtype == np.uint8
        assert kept["scale"] == 16, "the digits have 17 levels"
        assert (kept["x"].astype(np.float32) / np.float32(16) == clean[moved]).all()
    assert any(not load_file(file)["moved"].all() for file in run.adversarial)
    source = Source("a", run, pd.DataFrame())
    for picture in gallery(source).gallery:
        clean = whole.images([picture.sample]).numpy()[0]
        assert (pixels(picture.triple.clean) == np.rint(clean * 255)).all()


@given(
    st.integers(1, 255),
    arrays.arrays(np.uint8, arrays.array_shapes(min_dims=4, max_dims=4, max_side=4)),
)
def test_samples_are_kept_at_the_least_scale_that_loses_nothing(
    levels: int, stored: NDArray[np.uint8]
) -> None:
    x = torch.from_numpy(np.minimum(stored, levels).astype(np.float32) / np.float32(levels))
    kept, scale = as_levels(x)
    assert kept.dtype == torch.uint8
    assert torch.equal(kept.float() / scale, x)
    for less in range(1, scale):
        assert not torch.equal((x * less).round() / less, x)


@pytest.mark.parametrize("odd", [0.31415927, -1 / 255, 256 / 255, torch.nan, 1e-40])
def test_samples_of_no_whole_levels_are_kept_as_they_are(odd: float) -> None:
    x = torch.zeros(2, 1, 40, 40)
    x[1, 0, 39, 39] = odd  # behind all that is sifted
    kept, scale = as_levels(x)
    assert scale == 1
    assert kept is x


# What is seen.


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(1, 12)),
    st.integers(0, 2**32 - 1),
    st.floats(1e-3, 1),
)
def test_pictures_are_the_tensors(shape: tuple[int, int, int], seed: int, size: float) -> None:
    draw = np.random.default_rng(seed)
    x = draw.random(shape, dtype=np.float32)
    x_adv = (x + size * draw.uniform(-1, 1, shape)).clip(0, 1).astype(np.float32)
    seen = triple(x, x_adv)
    before, after = x.astype(float), x_adv.astype(float)
    if shape[0] not in (1, 3):
        before, after = before.mean(0, keepdims=True), after.mean(0, keepdims=True)
    change = (0.5 + seen.factor * (after - before)).clip(0, 1)
    for picture, expected in (
        (seen.clean, before),
        (seen.change, change),
        (seen.adversarial, after),
    ):
        assert (pixels(picture) == np.rint(expected * 255)).all()
        assert (picture.width, picture.height) == shape[:0:-1]
    # The largest change fills the range, as far as a factor of two digits lets it.
    assert 0.45 < seen.factor * np.abs(after - before).max() < 0.5001
    assert float(f"{seen.factor:.1e}") == seen.factor


def test_no_change_is_grey_and_a_change_of_eps_is_the_whole_range() -> None:
    x = np.full((1, 2, 2), 0.5, np.float32)
    assert (pixels(triple(x, x).change) == 128).all()
    moved = x + np.array([[[0.1, -0.1], [0, 0]]], np.float32)
    seen = triple(x, moved)
    assert seen.times == "5"
    assert pixels(seen.change).tolist() == [[[255, 0], [128, 128]]]


@pytest.mark.parametrize(
    "shape",
    [
        (3, 224, 224),
        (1, 300, 200),
        (3, 197, 31),
        (1, 1, 4096),
        (3, 4096, 1),
        (4, 333, 5),
        (3, 91, 91),
    ],
)
def test_large_pictures_are_means_as_torch_pools_them(shape: tuple[int, int, int]) -> None:
    x, x_adv = images(shape, 0)
    seen = triple(x, x_adv)
    assert max(seen.clean.width, seen.clean.height) <= SIDE
    pooled = [torch.from_numpy(image).double()[None] for image in (x, x_adv)]
    if shape[0] == 4:
        pooled = [image.mean(1, keepdim=True) for image in pooled]
    assert seen.shrunk > 1
    size = seen.shrunk
    before, after = (
        functional.avg_pool2d(image, size, ceil_mode=True, count_include_pad=False)[0].numpy()
        for image in pooled
    )
    change = (0.5 + seen.factor * (after - before)).clip(0, 1)
    for picture, expected in (
        (seen.clean, before),
        (seen.change, change),
        (seen.adversarial, after),
    ):
        assert np.abs(pixels(picture) - expected * 255).max() <= 0.5 + 1e-6


@given(st.sampled_from([1, 3]), st.integers(1, 4096), st.integers(1, 4096))
def test_a_picture_is_shrunk_as_far_as_needed_and_no_further(
    channels: int, height: int, width: int
) -> None:
    def small(factor: int) -> bool:
        h, w = -(-height // factor), -(-width // factor)
        return max(h, w) <= SIDE and h * w * channels <= VALUES

    factor = shrinking(channels, height, width)
    assert small(factor)
    assert factor == 1 or not small(factor - 1)


def test_the_largest_input_is_shown() -> None:
    x = np.zeros((1, 4096, 4096), np.float32)
    seen = triple(x, x)
    assert (seen.clean.width, seen.clean.height, seen.shrunk) == (152, 152, 27)


def test_a_file_holds_pixels_and_nothing_else() -> None:
    x, x_adv = images((3, 5, 4), 0)
    png, chunks = triple(x, x_adv).clean.png, []
    at = 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        chunks.append(png[at + 4 : at + 8])
        at += length + 12
    assert set(chunks) == {b"IHDR", b"IDAT", b"IEND"}
    assert triple(x, x_adv) == triple(x, x_adv)


@pytest.mark.parametrize(
    ("shape", "most"),
    [((1, 8, 8), 0.06), ((3, 32, 32), 0.5), ((3, 224, 224), 2.0), ((3, 90, 90), 2.5)],
    ids=str,
)
def test_the_gallery_is_small_whatever_its_pictures(
    tmp_path: Path, shape: tuple[int, int, int], most: float
) -> None:
    """Noise is what no file format can make smaller; 90 x 90 pixels are the most that is shown."""
    x, x_adv = images((30, *shape), 0)
    part = gallery(write_run(tmp_path, [record(n) for n in range(30)], x, x_adv))
    assert len(part.gallery) == 24
    assert len(html(part).encode()) < most * 1e6
    if shape[1] == 90:
        assert all(len(content) < 1e6 for content in drawn(part.drawings[0]).values())


# What is chosen.


def pool_of(seed: int, count: int) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sample": draw.permutation(count),
            "place": draw.choice(4, count, p=[0.7, 0.2, 0.07, 0.03]),
            "label": draw.integers(0, 5, count),
            "distance": draw.random(count).round(1),
            "share": draw.random(count).round(1),
            "broken": draw.random(count) < 0.7,
        }
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(1, 24))
def test_the_choice_spreads_over_attacks_and_does_not_depend_on_the_order(
    seed: int, count: int, most: int
) -> None:
    pool = pool_of(seed, count)
    chosen = spread(pool, most)
    assert len(chosen) == min(most, count)
    taken = chosen["place"].value_counts()
    left = set(pool["place"]) if len(chosen) < count else set()
    for place in left:
        of = int((pool["place"] == place).sum())
        mine = int(taken.get(place, 0))
        assert mine == of or mine >= taken.max() - 1, "no attack is shown less than it could be"
    again = spread(pool.sample(frac=1, random_state=1), most)
    assert list(again["sample"]) == list(chosen["sample"])
    assert list(spread(pool, most + 3)["sample"])[: len(chosen)] == list(chosen["sample"])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_most_of_what_is_chosen_was_broken_and_some_stood(seed: int, count: int) -> None:
    pool = pool_of(seed, count)
    chosen = choose(pool, 24)
    broken, stood = int(pool["broken"].sum()), int((~pool["broken"]).sum())
    assert int((~chosen["broken"]).sum()) == min(4, stood)
    assert int(chosen["broken"].sum()) == min(24 - min(4, stood), broken)
    assert chosen["broken"].is_monotonic_decreasing


def test_of_a_random_defence_the_lowest_shares_come_first() -> None:
    pool = pool_of(0, 50).assign(place=0, label=0, distance=0.1)
    assert (spread(pool, 10)["share"].to_numpy() == np.sort(pool["share"])[:10]).all()


def test_only_samples_that_were_right_and_moved_are_shown(tmp_path: Path) -> None:
    x, x_adv = images((6, 1, 4, 4), 0)
    x_adv[4] = x[4]
    records = [
        record(0),
        record(1, clean=2, clean_correct=False),  # wrong by itself
        record(2, prediction=2, correct=True),  # stood
        record(3, finished=False, correct=None),
        record(4),  # nothing was changed
        record(5, selected=False),
    ]
    part = gallery(write_run(tmp_path, records, x, x_adv))
    assert [(p.sample, p.broken) for p in part.gallery] == [(0, True), (2, False)]
    assert "1 of the 1 that were broken and 1 of the 1 that stood are shown" in part.notes[0]
    text = " ".join(Tags(html(part)).text.split())
    assert "0 → 1 sample 0, pgd, linf 0.03 clean change " in text
    assert "2 → 2 stood sample 2" in text
    assert text.count("adversarial") == text.count("as attacked, still right") == 1
    assert part.notes[2] == (
        "What stood under these attacks may fall to another: a failure is no proof."
    )


def test_a_detector_that_refuses_what_was_changed_is_not_broken(tmp_path: Path) -> None:
    x, x_adv = images((1, 1, 4, 4), 0)
    refused = [record(0, prediction=None, correct=True)]
    part = gallery(write_run(tmp_path / "a", refused, x, x_adv, detector={"refused": 1}))
    assert [(p.after, p.verdict) for p in part.gallery] == [("", "refused")]
    text = " ".join(Tags(html(part)).text.split())
    assert "0 → no class refused" in text
    assert text.endswith("as attacked, refused")
    lost = [record(0, prediction=None)]
    assert gallery(write_run(tmp_path / "b", lost, x, x_adv)).gallery[0].broken


def test_a_random_defence_shows_in_how_many_draws_it_was_wrong(tmp_path: Path) -> None:
    """Its vote decides, also where fewer than half of the draws are right."""
    x, x_adv = images((2, 3, 4, 4), 0)
    before = {"clean_correct": 0.98, "clean_votes": (49, 1, 0), "choosing": 0.0}
    broken = record(0, correct=0.06, votes=(3, 47, 0), **before)
    held = record(3, correct=0.4, votes=(20, 15, 15), prediction=0, **before)
    part = gallery(write_run(tmp_path, [broken, held], x, x_adv, stochastic={"draws": 50}))
    text = " ".join(Tags(html(part)).text.split())
    assert "linf 0.03, wrong in 47 of 50 draws (1 without the change) clean" in text
    assert "0 → 0 stood sample 3, pgd, linf 0.03, wrong in 30 of 50 draws" in text
    assert text.endswith("as attacked, vote still right")
    assert "wrong in 47/50" in part.drawings[0].said
    assert "fewest draws" in part.notes[0]


def test_a_carried_proposal_is_that_of_the_attack_that_made_it(tmp_path: Path) -> None:
    x, x_adv = images((1, 1, 4, 4), 0)
    rows = [record(0, attack="pgd", selected=False), record(0, attack="square", carried="pgd")]
    source = write_run(tmp_path, rows, x.repeat(2, 0), x_adv.repeat(2, 0), samples=1)
    assert [p.attack for p in gallery(source).gallery] == ["pgd"]


def test_runs_that_share_a_page_share_the_pictures(tmp_path: Path) -> None:
    x, x_adv = images((40, 1, 4, 4), 0)
    source = write_run(tmp_path, [record(n) for n in range(40)], x, x_adv)
    assert [len(gallery(source, runs).gallery) for runs in (1, 2, 6, 20)] == [24, 12, 4, 4]
    assert gallery(source, 2).title == "Adversarial examples: a"


def test_the_pictures_of_a_sample_are_its_own_wherever_it_lies(tmp_path: Path) -> None:
    """Shards, samples that were not moved before it, and numbers out of order."""
    x, x_adv = images((11, 1, 4, 4), 0)
    x_adv[[0, 3, 8]] = x[[0, 3, 8]]
    numbers = random.Random(0).sample(range(100), 11)
    source = write_run(tmp_path, [record(n) for n in numbers], x, x_adv, shards=3)
    found = {p.sample: p for p in gallery(source).gallery}
    assert sorted(found) == sorted(n for row, n in enumerate(numbers) if row not in (0, 3, 8))
    for row, number in enumerate(numbers):
        if number in found:
            seen = found[number].triple
            assert (pixels(seen.clean) == np.rint(x[row] * 255)).all()
            assert (pixels(seen.adversarial) == np.rint(x_adv[row] * 255)).all()


def test_only_what_is_shown_is_read(tmp_path: Path) -> None:
    x, x_adv = images((200, 3, 64, 64), 0)
    source = write_run(tmp_path, [record(n) for n in range(200)], x, x_adv, shards=20)
    size = max(file.stat().st_size for file in source.run.adversarial)
    gallery(source)  # imports and caches
    tracemalloc.start()
    gallery(source)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One file at a time is hashed, and 24 pictures are held as PNG.
    assert peak < 2 * size + 3e6 < sum(f.stat().st_size for f in source.run.adversarial) / 2


# What is there when something is not.


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "other"])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: str) -> None:
    x, x_adv = images((4, 1, 4, 4), 0)
    source = write_run(tmp_path, [record(n) for n in range(4)], x, x_adv, shards=2)
    file = source.run.adversarial[1]
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        changed = {
            "flipped": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
            "cut": content[:50],
            "other": source.run.adversarial[0].read_bytes(),
        }
        file.write_bytes(changed[damage])
    with pytest.raises(StoreError, match=r"shard-00001.safetensors is missing or altered") as said:
        part_of(source, 1)
    assert said.value.exit_code == 2
    assert "\n" not in str(said.value)


def test_a_folder_of_before_samples_were_kept_is_reported_and_says_so(tmp_path: Path) -> None:
    x, x_adv = images((4, 1, 4, 4), 0)
    records = [record(n) for n in range(4)]
    part = gallery(write_run(tmp_path / "old", records, x, x_adv, shards=2, old=2))
    assert not part.gallery
    assert not part.drawings
    assert "2 files of this run kept the proposals of the attacks without the samples" in str(part)
    mixed = gallery(write_run(tmp_path / "mixed", records, x, x_adv, shards=2, old=1))
    assert {p.sample for p in mixed.gallery} == {2, 3}
    assert "1 file of this run kept" in mixed.notes[-1]


def test_a_run_read_in_part_shows_what_is_left(tmp_path: Path) -> None:
    x, x_adv = images((4, 1, 4, 4), 0)
    source = write_run(tmp_path, [record(n) for n in range(4)], x, x_adv, shards=2)
    lost = "adversarial/shard-00000.safetensors"
    del source.run.manifest["shards"]["files"]["shard-00000"]["sha256"][lost]
    source = replace(source, run=replace(source.run, gap=Gap(0, 4, (lost,))))
    part = gallery(source)
    assert {p.sample for p in part.gallery} == {2, 3}
    assert part.notes[-1] == "1 file of pictures could not be read; others are shown."


def test_where_nothing_was_changed_it_is_said(tmp_path: Path) -> None:
    x, _ = images((2, 1, 4, 4), 0)
    part = gallery(write_run(tmp_path, [record(0), record(1)], x, x))
    assert part.notes == (
        "No sample that was right by itself was changed by an attack: there is no picture.",
    )


def test_certificates_have_no_pictures(tmp_path: Path) -> None:
    run = Run(tmp_path, {"command": "certify"}, {"shards": {"files": {}}}, {}, [])
    assert part_of(Source("a", run, pd.DataFrame()), 1) is None


# How it is written.


def test_hostile_names_are_text(tmp_path: Path) -> None:
    x, x_adv = images((9, 1, 4, 4), 0)
    names = ['"><script>alert(1)</script>', "$\\write18{x}$ & _", "<img src=x>" * 100]
    source = write_run(tmp_path, [record(n) for n in range(9)], x, x_adv)
    source.run.manifest["class_names"] = names
    part = gallery(source)
    page = Tags(html(part))
    assert {tag for tag, _ in page.tags} == {"div", "figure", "figcaption", "span", "img"}
    assert names[0] in page.text
    sources = [str(attrs["src"]) for _, attrs in page.tags if "src" in attrs]
    assert all(address.startswith("data:image/png;base64,") for address in sources)
    assert len(html(part)) < 60_000, "long names are cut"
    assert drawn(part.drawings[0])["svg"].count(b"<image") == 8


def test_every_picture_has_a_place_a_size_and_words(tmp_path: Path) -> None:
    x, x_adv = images((30, 3, 8, 6), 0)
    part = gallery(write_run(tmp_path, [record(n) for n in range(30)], x, x_adv))
    page = Tags(html(part))
    anchors = [attrs["id"] for tag, attrs in page.tags if tag == "figure"]
    assert anchors == [f"sample-1-{picture.sample}" for picture in part.gallery]
    assert len(set(anchors)) == 24
    seen = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(seen) == 72
    assert {(attrs["width"], attrs["height"]) for attrs in seen} == {("6", "8")}
    assert len({attrs["alt"] for attrs in seen}) == 72
    assert all(attrs.get("class") == "coarse" for attrs in seen), "few pixels are seen as squares"


def test_the_sheet_for_paper_shows_eight_as_they_are(tmp_path: Path) -> None:
    x, x_adv = images((30, 3, 8, 6), 0)
    part = gallery(write_run(tmp_path, [record(n) for n in range(30)], x, x_adv))
    (sheet,) = part.drawings
    svg = drawn(sheet)["svg"]
    assert drawn(sheet)["svg"] == svg, "same numbers, same bytes"
    assert len(sheet.said.split("; ")) == 8
    strips = [
        np.asarray(Image.open(io.BytesIO(decoded)).convert("RGB")).transpose(2, 0, 1)
        for decoded in map(base64.b64decode, re.findall(rb"base64,([^\"]+)\"", svg))
    ]
    assert len(strips) == 8
    titles = {p.sample: p.triple for p in part.gallery}
    for strip in strips:
        # Three pictures of six pixels, and a pixel between them; matplotlib may turn it over.
        assert strip.shape == (3, 8, 20)
        found = [
            all(
                (turned[:, :, at : at + 6] == pixels(one)).all()
                for at, one in ((0, t.clean), (7, t.change), (14, t.adversarial))
            )
            for t in titles.values()
            for turned in (strip, strip[:, ::-1])
        ]
        assert sum(found) == 1
