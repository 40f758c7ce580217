"""Data sets give the right samples, the same whatever the layout, or one sentence."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from robustcode.data import DATA, Dataset, from_arrays, load_data
from robustcode.data.arrays import array_sha256
from robustcode.errors import ConfigError, DataError, UnknownNameError

SHARED = Path(__file__).parents[1] / ".." / "shared" / "data"
COUNT = 12

Bytes = NDArray[np.uint8]


def real(name: str) -> str:
    """The spec of a real data set under shared/data; skips where it is absent."""
    if not (SHARED / name).is_dir():
        pytest.skip(f"shared/data/{name} is absent")
    return f"{name}:{SHARED / name}"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


@pytest.fixture
def pixels(rng: np.random.Generator) -> Bytes:
    """Twelve colour images, NCHW as CIFAR keeps them."""
    return rng.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)


@pytest.fixture
def labels(rng: np.random.Generator) -> Bytes:
    return rng.integers(0, 10, COUNT, dtype=np.uint8)


def refusal(spec: str, split: str = "test") -> str:
    """What load_data says about a bad request: a DataError, in one line."""
    with pytest.raises(DataError) as caught:
        load_data(spec, split)
    text = str(caught.value)
    assert "\n" not in text
    return text


def holds(dataset: Dataset, pixels: Bytes, labels: NDArray[Any]) -> bool:
    """Whether all samples are those pixels over 255, bit by bit, with those labels."""
    x = dataset.images(range(len(dataset)))
    return (
        torch.equal(x, torch.from_numpy(pixels.astype(np.float32)) / 255)
        and dataset.targets(range(len(dataset))).tolist() == labels.tolist()
        and dataset.shape == pixels.shape[1:]
    )


# ---- the real ones


def test_cifar10_test_split_is_the_original_one() -> None:
    data = load_data(real("cifar10"))
    assert (len(data), data.shape, data.classes) == (10000, (3, 32, 32), 10)
    assert data.labels[:8].tolist() == [3, 8, 8, 0, 6, 6, 1, 6]
    assert data.class_names[3] == "cat"
    assert np.bincount(data.labels).tolist() == [1000] * 10
    x = data.images([0, 9999])
    assert x.dtype == torch.float32
    assert x.shape == (2, 3, 32, 32)
    # The first pixel of the first test image is (158, 112, 49): torchvision gives the same.
    assert (x[0, :, 0, 0] * 255).round().tolist() == [158, 112, 49]


def test_cifar10_train_split_is_the_original_one() -> None:
    data = load_data(real("cifar10"), "train")
    assert len(data) == 50000
    assert data.labels[:8].tolist() == [6, 9, 9, 4, 1, 1, 2, 7]
    assert np.bincount(data.labels).tolist() == [5000] * 10
    # Batches are in order: sample 10000 is the first of train_2.npz.
    with np.load(SHARED / "cifar10" / "train_2.npz") as second:
        first = torch.from_numpy(second["images"][0].transpose(2, 0, 1)) / 255
    assert torch.equal(data.images([10000])[0], first)


@pytest.mark.parametrize(
    ("name", "split", "count", "first", "mean"),
    [
        ("mnist", "test", 10000, [7, 2, 1, 0, 4], 0.1325),
        # .1307 and .2860 are the means that everyone normalises by.
        ("mnist", "train", 60000, [5, 0, 4, 1, 9], 0.1307),
        ("fashion_mnist", "test", 10000, [9, 2, 1, 1, 6], 0.2868),
        ("fashion_mnist", "train", 60000, [9, 0, 0, 3, 0], 0.2860),
    ],
)
def test_idx_sets_are_the_original_ones(
    name: str, split: str, count: int, first: list[int], mean: float
) -> None:
    data = load_data(real(name), split)
    assert (len(data), data.shape, data.classes) == (count, (1, 28, 28), 10)
    assert data.labels[:5].tolist() == first
    sums = [data.images(range(at, at + 1000)).double().sum() for at in range(0, count, 1000)]
    assert float(sum(sums)) / count / 28**2 == pytest.approx(mean, abs=5e-5)


def test_the_hash_is_that_of_the_file() -> None:
    data = load_data(real("mnist"))
    assert set(data.sha256) == {"t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"}
    for name, sha256 in data.sha256.items():
        assert sha256 == hashlib.sha256((SHARED / "mnist" / name).read_bytes()).hexdigest()


# ---- digits


def test_digits_are_split_as_promised() -> None:
    test, train = load_data("digits"), load_data("digits", "train")
    assert (len(train), len(test)) == (1297, 500)
    assert test.shape == train.shape == (1, 8, 8)
    # 500 / 1797 of 178 182 177 183 181 182 181 179 174 180, by largest remainders.
    assert np.bincount(test.labels).tolist() == [50, 51, 49, 51, 50, 51, 50, 50, 48, 50]


def test_the_digits_splits_are_a_partition_of_the_originals() -> None:
    from sklearn.datasets import load_digits

    values, target = load_digits(return_X_y=True)
    rows = np.asarray(values, dtype=np.uint8)
    originals = sorted(
        (bytes(row), int(label)) for row, label in zip(rows, np.asarray(target), strict=True)
    )
    ours: list[tuple[bytes, int]] = []
    for split in ("test", "train"):
        data = load_data("digits", split)
        x = (data.images(range(len(data))) * 16).to(torch.uint8).flatten(1).numpy()
        ours += [(bytes(row), int(label)) for row, label in zip(x, data.labels, strict=True)]
    assert sorted(ours) == originals


def test_the_digits_splits_never_change() -> None:
    # Checkpoints in the package were trained on this split; another would leak its test samples.
    assert load_data("digits").sha256["digits"] == (
        "f29eae1e3f36ee38ac7fcafc794b514439738aaafa11f68e2972b3c6633958eb"
    )
    assert load_data("digits", "train").sha256["digits"] == (
        "05083ce8c58b00902e6fe93abae77e571ce6586dc350c86df206843753f1fc25"
    )


def test_digits_take_no_path() -> None:
    assert "takes no path" in refusal("digits:somewhere")


# ---- CIFAR in its layouts


def python2_pickle(key: bytes, pixels: Bytes, labels: Bytes) -> bytes:
    """A batch as Python 2 wrote the originals: byte strings, and numpy's old module names."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    rows = pixels.reshape(len(pixels), -1)
    dtype = b"cnumpy\ndtype\n" + text(b"u1") + b"K\x00K\x01\x87R"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + number(-1) + number(-1) + b"K\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + text(b"b")
    array += b"\x87R(K\x01" + number(rows.shape[0]) + number(rows.shape[1]) + b"\x86" + dtype
    array += b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    listed = b"](" + b"".join(number(int(label)) for label in labels) + b"e"
    return b"\x80\x02}" + text(b"data") + array + b"s" + text(key) + listed + b"s."


def python3_pickle(key: bytes, pixels: Bytes, labels: Bytes, protocol: int) -> bytes:
    batch = {
        b"data": pixels.reshape(len(pixels), -1),
        key: labels.tolist(),
        b"filenames": [b"a.png"] * len(labels),
        b"batch_label": b"",
    }
    return pickle.dumps(batch, protocol=protocol)


def binary(pixels: Bytes, labels: Bytes, coarse: bool = False) -> bytes:
    head = b"\x07" if coarse else b""
    return b"".join(
        head + bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True)
    )


def packed(pixels: Bytes, labels: Bytes) -> bytes:
    file = io.BytesIO()
    images = pixels.transpose(0, 2, 3, 1)
    np.savez_compressed(file, images=images, labels=labels, exact=np.ones(len(labels), bool))
    return file.getvalue()


def written(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def test_a_handmade_python2_pickle_is_one(pixels: Bytes, labels: Bytes) -> None:
    batch = pickle.loads(python2_pickle(b"labels", pixels, labels), encoding="latin1")
    assert batch["labels"] == labels.tolist()
    assert np.array_equal(batch["data"].reshape(pixels.shape), pixels)


CIFAR10_TEST: dict[str, Callable[[Bytes, Bytes], bytes]] = {
    "test.npz": packed,
    "test_batch": lambda x, y: python2_pickle(b"labels", x, y),
    "cifar-10-batches-py/test_batch": lambda x, y: python2_pickle(b"labels", x, y),
    "test_batch.bin": binary,
    "cifar-10-batches-bin/test_batch.bin": binary,
}


@pytest.mark.parametrize("name", CIFAR10_TEST)
def test_cifar10_is_the_same_in_every_layout(
    name: str, tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    written(tmp_path, name, CIFAR10_TEST[name](pixels, labels))
    data = load_data(f"cifar10:{tmp_path}")
    assert holds(data, pixels, labels)
    assert data.classes == 10
    assert data.sha256 == {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_cifar10_pickled_anew_by_python3_is_the_same(
    protocol: int, tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    content = python3_pickle(b"labels", pixels, labels, protocol)
    written(tmp_path, "test_batch", content)
    assert holds(load_data(f"cifar10:{tmp_path}"), pixels, labels)


@pytest.mark.parametrize(
    ("names", "write"),
    [
        ("train_{}.npz", packed),
        ("data_batch_{}", lambda x, y: python2_pickle(b"labels", x, y)),
        ("data_batch_{}.bin", binary),
    ],
)
def test_cifar10_train_is_five_files_in_order(
    names: str, write: Any, tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    ends = [0, 2, 3, 5, 9, COUNT]
    for part in range(1, 6):
        chosen = slice(ends[part - 1], ends[part])
        written(tmp_path, names.format(part), write(pixels[chosen], labels[chosen]))
    data = load_data(f"cifar10:{tmp_path}", "train")
    assert holds(data, pixels, labels)
    assert len(data.sha256) == 5
    (tmp_path / names.format(4)).unlink()
    assert names.format(4) in refusal(f"cifar10:{tmp_path}", "train")


@pytest.mark.parametrize("place", ["", "cifar-100-python/"])
def test_cifar100_pickles_give_the_fine_labels(place: str, tmp_path: Path, pixels: Bytes) -> None:
    fine = np.arange(88, 100, dtype=np.uint8)
    names = [f"thing {label}" for label in range(100)]
    written(tmp_path, place + "test", python2_pickle(b"fine_labels", pixels, fine))
    written(tmp_path, place + "train", python2_pickle(b"fine_labels", pixels[:2], fine[:2]))
    written(tmp_path, place + "meta", pickle.dumps({b"fine_label_names": names}, protocol=2))
    data = load_data(f"cifar100:{tmp_path}")
    assert holds(data, pixels, fine)
    assert data.class_names == tuple(names)
    assert set(data.sha256) == {place + "test", place + "meta"}
    assert len(load_data(f"cifar100:{tmp_path}", "train")) == 2


def test_cifar100_binary_gives_the_fine_labels(tmp_path: Path, pixels: Bytes) -> None:
    fine = np.arange(88, 100, dtype=np.uint8)
    written(tmp_path, "cifar-100-binary/test.bin", binary(pixels, fine, coarse=True))
    data = load_data(f"cifar100:{tmp_path}")
    assert holds(data, pixels, fine)
    assert data.class_names[99] == "99"
    listed = "\n".join(f"thing{label}" for label in range(100))
    written(tmp_path, "cifar-100-binary/fine_label_names.txt", listed.encode())
    assert load_data(f"cifar100:{tmp_path}").class_names[99] == "thing99"


class Touch:
    """A pickle that creates a file when it is loaded without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_malicious_pickle_does_not_run(tmp_path: Path, labels: Bytes) -> None:
    proof = tmp_path / "ran"
    content = pickle.dumps({"labels": labels.tolist(), "data": Touch(proof)})
    written(tmp_path, "test_batch", content)
    assert "refused" in refusal(f"cifar10:{tmp_path}")
    assert not proof.exists()
    pickle.loads(content)  # the test is worth something: it does run elsewhere
    assert proof.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cnumpy._core.numeric\nload\n.",
        b"crobustcode.data.pickled\nread_pickle\n.",
    ],
)
def test_a_pickle_may_call_nothing_but_what_cifar_needs(program: bytes, tmp_path: Path) -> None:
    written(tmp_path, "test_batch", program)
    assert "refused" in refusal(f"cifar10:{tmp_path}")


def test_a_pickled_array_must_be_bytes(tmp_path: Path) -> None:
    for array in (np.zeros((2, 3072)), np.array([{}], dtype=object), np.zeros(4, "V4")):
        written(tmp_path, "test_batch", pickle.dumps({"data": array, "labels": [0, 1]}))
        assert "CIFAR has" in refusal(f"cifar10:{tmp_path}")


# ---- other layouts


def idx(values: Bytes) -> bytes:
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


@pytest.mark.parametrize("place", ["", "MNIST/raw/"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_mnist_is_the_same_packed_and_plain(
    place: str, end: str, tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    grey = pixels[:, :1]
    pack = gzip.compress if end else bytes
    written(tmp_path, f"{place}t10k-images-idx3-ubyte{end}", pack(idx(grey[:, 0])))
    written(tmp_path, f"{place}t10k-labels-idx1-ubyte{end}", pack(idx(labels)))
    assert holds(load_data(f"mnist:{tmp_path}"), grey, labels)


def picture(pixels: Bytes, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(image)).save(file, kind)
    return file.getvalue()


def decoded(content: bytes) -> Bytes:
    values = np.asarray(Image.open(io.BytesIO(content)))
    return values.transpose(2, 0, 1) if values.ndim == 3 else values[None]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_folder_gives_what_its_files_hold(
    kind: str, channels: int, tmp_path: Path, pixels: Bytes
) -> None:
    files = [picture(image, kind) for image in pixels[:, :channels]]
    places = ["ant/a", "ant/b", "bee/a", "bee/b", "bee/c"]
    for place, content in zip(places, files, strict=False):
        written(tmp_path, f"{place}.{kind.lower()}", content)
    written(tmp_path, "bee/.hidden", b"")
    data = load_data(f"folder:{tmp_path}")
    assert data.class_names == ("ant", "bee")
    assert holds(
        data, np.stack([decoded(content) for content in files[:5]]), np.repeat([0, 1], [2, 3])
    )
    if kind == "PNG":
        assert holds(data, pixels[:5, :channels], data.labels)
    lines = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}.{kind.lower()}\n"
        for name, content in zip("ab", files, strict=False)
    )
    assert data.sha256["ant"] == hashlib.sha256(lines.encode()).hexdigest()


def test_a_folder_of_splits_has_one_list_of_classes(tmp_path: Path, pixels: Bytes) -> None:
    for place, image in zip(("test/bee", "train/ant", "train/bee"), pixels, strict=False):
        written(tmp_path, f"{place}/0.png", picture(image))
    test, train = (load_data(f"folder:{tmp_path}", split) for split in ("test", "train"))
    assert test.class_names == train.class_names == ("ant", "bee")
    assert holds(test, pixels[:1], np.array([1]))
    assert holds(train, pixels[1:3], np.array([0, 1]))
    assert set(test.sha256) == {"test/bee"}


def test_grey_pictures_among_coloured_ones_become_coloured(tmp_path: Path, pixels: Bytes) -> None:
    written(tmp_path, "a/0.png", picture(pixels[0, :1]))
    written(tmp_path, "a/1.png", picture(pixels[1]))
    written(tmp_path, "a/2.png", picture(pixels[2, :1]))
    grey = [pixels[at, :1].repeat(3, axis=0) for at in (0, 2)]
    expected = np.stack([grey[0], pixels[1], grey[1]])
    assert holds(load_data(f"folder:{tmp_path}"), expected, np.array([0, 0, 0]))


def test_transparency_is_refused_only_where_it_shows(tmp_path: Path, pixels: Bytes) -> None:
    opaque = np.concatenate([pixels[0], np.full((1, 32, 32), 255, np.uint8)])
    written(tmp_path, "a/0.png", picture(opaque))
    assert holds(load_data(f"folder:{tmp_path}"), pixels[:1], np.array([0]))
    opaque[3, 0, 0] = 254
    written(tmp_path, "a/0.png", picture(opaque))
    with pytest.raises(DataError, match=r"a/0\.png.*transparent"):
        load_data(f"folder:{tmp_path}").images([0])


@pytest.fixture
def tiny(tmp_path: Path, pixels: Bytes) -> Path:
    """Tiny ImageNet with three classes, whose ids are listed out of order as in the original."""
    names = ["n03", "n01", "n02"]
    written(tmp_path, "wnids.txt", "\n".join(names).encode())
    lines = []
    for at, name in enumerate([*names, "n01"]):
        written(tmp_path, f"val/images/val_{at}.JPEG", picture(pixels[at], "JPEG"))
        lines.append(f"val_{at}.JPEG\t{name}\t0\t0\t9\t9\n")
    written(tmp_path, "val/val_annotations.txt", "".join(lines).encode())
    for at, name in enumerate(names):
        written(tmp_path, f"train/{name}/images/{name}_0.JPEG", picture(pixels[4 + at], "JPEG"))
        written(tmp_path, f"train/{name}/{name}_boxes.txt", b"")
    return tmp_path


def test_tiny_imagenet_numbers_its_classes_by_wordnet_id(tiny: Path, pixels: Bytes) -> None:
    def expected(order: list[int]) -> Bytes:
        return np.stack([decoded(picture(pixels[at], "JPEG")) for at in order])

    test, train = (load_data(f"tiny_imagenet:{tiny}", split) for split in ("test", "train"))
    assert test.class_names == ("n01", "n02", "n03")
    assert holds(test, expected([0, 1, 2, 3]), np.array([2, 0, 1, 0]))
    assert holds(train, expected([5, 6, 4]), np.array([0, 1, 2]))
    assert set(test.sha256) == {"wnids.txt", "val/val_annotations.txt", "val/images"}


def test_tiny_imagenet_needs_all_its_files(tiny: Path) -> None:
    with (tiny / "val/val_annotations.txt").open("a") as file:
        file.write("val_4.JPEG\tn09\t0\t0\t9\t9\n")
    assert "line 5" in refusal(f"tiny_imagenet:{tiny}")
    (tiny / "val/val_annotations.txt").unlink()
    assert "val_annotations.txt" in refusal(f"tiny_imagenet:{tiny}")
    (tiny / "wnids.txt").unlink()
    assert "wnids.txt" in refusal(f"tiny_imagenet:{tiny}")


def saved(path: Path, **arrays: Any) -> str:
    np.savez(path / "set.npz", **arrays)
    return f"npz:{path / 'set.npz'}"


def test_npz_is_the_same_in_every_order_and_type(
    tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    floats = pixels.astype(np.float32) / 255
    for images in (pixels, pixels.transpose(0, 2, 3, 1), floats, floats.transpose(0, 2, 3, 1)):
        spec = saved(tmp_path, images=images, labels=labels.astype(np.int32))
        data = load_data(spec, "train")
        assert holds(data, pixels, labels)
        assert data.classes == labels.max() + 1
        sha256 = hashlib.sha256((tmp_path / "set.npz").read_bytes()).hexdigest()
        assert data.sha256 == {"set.npz": sha256}
    data = load_data(saved(tmp_path, images=pixels[:, 0], labels=labels, classes=10))
    assert holds(data, pixels[:, :1], labels)
    assert data.classes == 10
    names = [f"thing {label}" for label in range(10)]
    named = load_data(saved(tmp_path, images=pixels, labels=labels, classes=names))
    assert named.class_names == tuple(names)


def test_arrays_and_tensors_are_taken_as_they_are(pixels: Bytes, labels: Bytes) -> None:
    arrays = from_arrays(pixels, labels)
    tensors = from_arrays(torch.from_numpy(pixels), torch.from_numpy(labels).long(), name="mine")
    assert holds(arrays, pixels, labels)
    assert holds(tensors, pixels, labels)
    assert tensors.name == "mine"
    assert arrays.sha256["images"] == tensors.sha256["images"] == array_sha256(pixels)
    halves = from_arrays(torch.tensor([[[0.5]], [[1.0]]], dtype=torch.bfloat16), [0, 1])
    assert halves.images([0, 1]).flatten().tolist() == [0.5, 1.0]
    odd = from_arrays(pixels[:, :, :, :3], labels, axes="NCHW")
    assert odd.shape == (3, 32, 3)


CALLABLES = """
import numpy as np, torch
from neighbour import LABELS
from robustcode.data import from_arrays, load_data

def arrays():
    return np.zeros((3, 8, 8), np.uint8), LABELS

def tensors(split):
    count = 3 if split == "test" else 5
    return torch.zeros(count, 1, 8, 8), torch.zeros(count, dtype=int)

def whole():
    return load_data("digits")

def nothing():
    return None

def fails():
    raise KeyError("a key\\nand a second line")

NUMBER = 3
"""


@pytest.fixture
def callables(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("LABELS = [0, 1, 2]\n")
    (tmp_path / "mine.py").write_text(CALLABLES)
    return tmp_path / "mine.py"


@pytest.mark.usefixtures("restored_path")
def test_a_callable_gives_data(callables: Path) -> None:
    data = load_data(f"{callables}:arrays")
    assert data.labels.tolist() == [0, 1, 2]
    assert data.name == f"{callables}:arrays"
    assert [len(load_data(f"{callables}:tensors", split)) for split in ("test", "train")] == [3, 5]
    assert len(load_data(f"{callables}:whole")) == 500
    assert "NoneType" in refusal(f"{callables}:nothing")
    assert "KeyError" in refusal(f"{callables}:fails")
    for wrong in ("arays", "NUMBER"):
        with pytest.raises(ConfigError):
            load_data(f"{callables}:{wrong}")
    with pytest.raises(ConfigError, match=r"FILE\.py:NAME"):
        load_data(str(callables))


@pytest.fixture
def restored_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("neighbour", None)


# ---- reading


def test_samples_are_what_the_indices_name(pixels: Bytes, labels: Bytes) -> None:
    data = from_arrays(pixels, labels)
    everything = data.images(range(COUNT))
    for indices in ([3, 1, 3], (3, 1, 3), np.array([3, 1, 3]), torch.tensor([3, 1, 3])):
        assert torch.equal(data.images(indices), everything[[3, 1, 3]])
        assert data.targets(indices).tolist() == labels[[3, 1, 3]].tolist()
        assert data.targets(indices).dtype == torch.int64
    assert data.images([]).shape == (0, 3, 32, 32)
    assert data.targets([]).shape == (0,)


def test_what_is_read_is_the_readers_own(pixels: Bytes, labels: Bytes) -> None:
    for data in (from_arrays(pixels, labels), from_arrays(pixels.astype(np.float32) / 255, labels)):
        data.images([0]).fill_(0.5)
        data.targets([0]).fill_(7)
        assert holds(data, pixels, labels)


def test_wrong_indices_are_refused(pixels: Bytes, labels: Bytes) -> None:
    data = from_arrays(pixels, labels)
    for indices in ([COUNT], [-1], [0.5], np.ones(COUNT, bool), [[0, 1]]):
        with pytest.raises(DataError):
            data.images(indices)  # type: ignore[arg-type]  # what the checker would refuse
    with pytest.raises(DataError, match=r"no sample 12 .* 0 to 11"):
        data.targets([0, 12])


def test_data_sets_can_be_pickled(tiny: Path, pixels: Bytes, labels: Bytes) -> None:
    for data in (
        load_data("digits"),
        load_data(f"tiny_imagenet:{tiny}"),
        from_arrays(pixels.transpose(0, 2, 3, 1), labels),
    ):
        again = pickle.loads(pickle.dumps(data))
        assert torch.equal(again.images([0, 2]), data.images([0, 2]))
        assert again.sha256 == data.sha256


def test_every_source_is_registered() -> None:
    names = "cifar10 cifar100 digits fashion_mnist folder mnist npz tiny_imagenet"
    assert set(names.split()) <= set(DATA)


# ---- what is wrong is said


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "folder", "tiny_imagenet", "npz"])
def test_a_missing_path_is_named(name: str, tmp_path: Path) -> None:
    assert f"{name}:" in refusal(name)
    text = refusal(f"{name}:{tmp_path / 'nowhere'}")
    assert "nowhere" in text
    assert "does not exist" in text
    assert "would hold" in text


def test_a_folder_without_the_files_says_which_were_looked_for(tmp_path: Path) -> None:
    text = refusal(f"cifar10:{tmp_path}")
    for name in ("test.npz", "test_batch", "cifar-10-batches-py", "test_batch.bin"):
        assert name in text
    written(tmp_path, "t10k-images-idx3-ubyte.gz", b"")
    assert "lacks t10k-labels-idx1-ubyte.gz" in refusal(f"mnist:{tmp_path}")


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"'cifar'.*Did you mean 'cifar10'"):
        load_data("cifar:somewhere")
    with pytest.raises(DataError, match=r"'tests'.*Did you mean 'test'"):
        load_data("digits", "tests")


def damaged(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(200) + content[middle + 200 :]


@pytest.mark.parametrize("spoil", [lambda c: c[:-100], lambda c: c[:3], damaged, lambda c: b""])
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("cifar10", "test.npz"),
        ("cifar10", "test_batch"),
        ("mnist", "t10k-images-idx3-ubyte.gz"),
        ("folder", "a/0.png"),
    ],
)
def test_a_damaged_file_is_named(
    name: str, file: str, spoil: Any, tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    content = {
        "test.npz": packed(pixels, labels),
        "test_batch": pickle.dumps({"data": pixels.reshape(COUNT, -1), "labels": labels.tolist()}),
        "t10k-images-idx3-ubyte.gz": gzip.compress(idx(pixels[:, 0])),
        "a/0.png": picture(pixels[0]),
    }[file]
    written(tmp_path, "t10k-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    if file == "test_batch" and spoil is damaged:
        # Nothing guards the pixels of a pickle: what can be seen is damage to its structure.
        written(tmp_path, file, content.replace(b"labels", b"lapels"))
    else:
        written(tmp_path, file, spoil(content))
    with pytest.raises(DataError) as caught:
        load_data(f"{name}:{tmp_path}").images([0])
    assert file in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (idx(np.zeros((3, 4), np.uint8)), "00000802"),
        (idx(np.zeros((3, 4, 4), np.uint8))[:-1], "holds 47"),
        (idx(np.zeros((3, 4, 4), np.uint8)) + b"x", "holds 49"),
        (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "holds 0"),
        (b"\0\0\x08\x03\0\0", "00000803"),
    ],
    ids=["axes", "short", "long", "huge", "cut"],
)
def test_idx_headers_are_checked(content: bytes, said: str, tmp_path: Path) -> None:
    written(tmp_path, "t10k-images-idx3-ubyte", content)
    written(tmp_path, "t10k-labels-idx1-ubyte", idx(np.zeros(3, np.uint8)))
    assert said in refusal(f"mnist:{tmp_path}")


def test_a_cut_binary_batch_is_named(tmp_path: Path, pixels: Bytes, labels: Bytes) -> None:
    written(tmp_path, "test_batch.bin", binary(pixels, labels)[:-1])
    assert "test_batch.bin" in refusal(f"cifar10:{tmp_path}")


def test_cifar_labels_and_images_must_be_as_many(
    tmp_path: Path, pixels: Bytes, labels: Bytes
) -> None:
    written(tmp_path, "test_batch", python2_pickle(b"labels", pixels, labels[:-1]))
    assert "12 images but 11 labels" in refusal(f"cifar10:{tmp_path}")


def test_a_file_of_objects_is_not_unpickled(tmp_path: Path, labels: Bytes) -> None:
    proof = tmp_path / "ran"
    spec = saved(tmp_path, images=np.array([Touch(proof)], dtype=object), labels=labels)
    assert "Object arrays" in refusal(spec)
    assert not proof.exists()
    written(tmp_path, "set.npz", pickle.dumps(Touch(proof)))
    assert "set.npz" in refusal(spec)
    assert not proof.exists()


def test_an_npz_that_lacks_an_array_says_what_it_has(tmp_path: Path, pixels: Bytes) -> None:
    assert "no array 'labels'; it has images" in refusal(saved(tmp_path, images=pixels))
    written(tmp_path, "set.npz", b"")
    with zipfile.ZipFile(tmp_path / "set.npz", "w"):
        pass
    assert "it has none" in refusal(f"npz:{tmp_path / 'set.npz'}")
    file = io.BytesIO()
    np.save(file, pixels)
    written(tmp_path, "set.npz", file.getvalue())
    assert "no .npz file" in refusal(f"npz:{tmp_path / 'set.npz'}")


def floats(*values: float) -> NDArray[np.float32]:
    """Two images, of zeros but for those values in the second."""
    images = np.zeros((2, 1, 4, 4), np.float32)
    images[1, 0, 0, : len(values)] = values
    return images


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (floats(255), r"pixels span \[0, 255\]; divide by 255"),
        (floats(-2.1, 2.6), r"span \[-2.*normalisation"),
        (floats(1.0001), r"span \[0, 1\.0001.*\]; clip"),
        (floats(float("nan")), "sample 1 has pixels that are NaN"),
        (floats(float("inf")), "sample 1 has pixels that are NaN or infinite"),
        (floats(255).astype(np.int64), "int64; give uint8"),
        (floats(1).astype(np.uint8), r"span \[0, 1\] but are read as 0..255"),
        (np.zeros((2, 1, 4, 4), object), "images are object"),
        (np.zeros((2, 16)), r"shape \(2, 16\)"),
        (np.zeros((2, 0, 4)), "no pixels"),
        (np.zeros((2, 3, 4, 3)), "as NCHW and as NHWC"),
        (np.zeros((2, 2, 4, 4)), "neither NCHW nor NHWC"),
        (np.zeros((3, 4, 4)), "3 images but 2 labels"),
    ],
)
def test_pixels_that_are_no_images_are_refused(images: NDArray[Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_arrays(images, [0, 1])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 10], "sample 1 has label 10, but there are 10 classes, 0 to 9"),
        ([-1, 0], "sample 0 has label -1"),
        ([0.0, 1.5], "labels are float64"),
        (["a", "b"], "labels are <U1"),
        ([[0], [1]], r"shape \(2, 1\)"),
        ([], "no samples"),
        ([[0], [1, 2]], "not one array"),
    ],
)
def test_labels_that_are_no_class_numbers_are_refused(labels: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        from_arrays(np.zeros((2, 4, 4)), labels, classes=10)


def test_identifiers_are_not_taken_for_class_numbers() -> None:
    with pytest.raises(DataError, match="number the classes from 0"):
        from_arrays(np.zeros((2, 4, 4)), [0, 2**40])


def test_a_reader_that_breaks_its_word_is_caught(pixels: Bytes, labels: Bytes) -> None:
    data = from_arrays(pixels, labels)
    half = Dataset("mine", "test", data.labels, 10, tuple("0123456789"), (3, 32, 32), {}, half_of)
    with pytest.raises(DataError, match="was promised"):
        half.images([0, 1])
    with pytest.raises(DataError, match="2 names for 10 classes"):
        Dataset("mine", "test", data.labels, 10, ("0", "1"), (3, 32, 32), {}, half_of)


def half_of(samples: NDArray[np.int64]) -> NDArray[Any]:
    return np.zeros((len(samples) // 2, 3, 32, 32), np.uint8)


def test_a_folder_says_which_file_is_wrong(tmp_path: Path, pixels: Bytes) -> None:
    assert "no folders" in refusal(f"folder:{tmp_path}")
    (tmp_path / "a").mkdir()
    assert "no pictures" in refusal(f"folder:{tmp_path}")
    written(tmp_path, "a/0.png", picture(pixels[0]))
    written(tmp_path, "a/1.png", picture(pixels[1, :, :30]))
    assert "'a/1.png' is 32x30 pixels where 'a/0.png' is 32x32" in refusal(f"folder:{tmp_path}")
    written(tmp_path, "a/1.png", b"GIF89a")
    assert "a/1.png" in refusal(f"folder:{tmp_path}")
    (tmp_path / "a/1.png").unlink()
    written(tmp_path, "a/1.bmp", b"BM")
    assert "a/1.bmp' is neither PNG nor JPEG" in refusal(f"folder:{tmp_path}")
    (tmp_path / "a/1.bmp").unlink()
    sixteen = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint16)).save(sixteen, "PNG")
    written(tmp_path, "a/1.png", sixteen.getvalue())
    assert "8 bits a channel" in refusal(f"folder:{tmp_path}")
    (tmp_path / "a").rename(tmp_path / "test")
    assert "none called 'train'" in refusal(f"folder:{tmp_path}", "train")


def test_a_picture_lost_or_changed_after_loading_is_named(tmp_path: Path, pixels: Bytes) -> None:
    written(tmp_path, "a/0.png", picture(pixels[0]))
    data = load_data(f"folder:{tmp_path}")
    written(tmp_path, "a/0.png", picture(pixels[0, :, :30]))
    with pytest.raises(DataError, match=r"a/0\.png' has changed"):
        data.images([0])
    (tmp_path / "a/0.png").unlink()
    with pytest.raises(DataError, match=r"a/0\.png"):
        data.images([0])
