"""PNG and JPEG files that stay on disk until a batch asks for them."""

from __future__ import annotations

import hashlib
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustcode.data.dataset import Dataset
from robustcode.data.files import Files
from robustcode.errors import DataError
from robustcode.importing import reason

SUFFIXES = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr")

# What Pillow raises for a file that is cut, altered, or absurdly large.
DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class Labelled(NamedTuple):
    """A picture by its path within the folder, with its class number."""

    file: str
    label: int


@dataclass(frozen=True)
class Pictures:
    """Pixels of picture files, decoded when asked for.

    Attributes:
        root: the folder the names are relative to.
        names: one file for each sample.
        shape: channels, height, width of every picture.
    """

    root: Path
    names: tuple[str, ...]
    shape: tuple[int, int, int]

    def __call__(self, samples: NDArray[np.int64]) -> NDArray[Any]:
        """Uint8 of shape (n, channels, height, width)."""
        pixels = np.empty((len(samples), *self.shape), dtype=np.uint8)
        for row, sample in zip(pixels, samples, strict=True):
            row[...] = self._pixels(self.names[sample])
        return pixels

    def _pixels(self, name: str) -> NDArray[np.uint8]:
        channels, height, width = self.shape
        try:
            with _opened((self.root / name).read_bytes()) as image:
                if image.size != (width, height):
                    raise DataError(f"{name!r} has changed its size since it was listed")
                values = np.asarray(_flat(image, name).convert("RGB" if channels == 3 else "L"))
        except DataError:
            raise
        except DAMAGE as cause:
            raise _damaged(name, cause) from cause
        return values.reshape(height, width, channels).transpose(2, 0, 1)


def on_disk(
    name: str, split: str, files: Files, pictures: Sequence[Labelled], class_names: Sequence[str]
) -> Dataset:
    """A data set over picture files; every file is hashed and its header checked here."""
    if not pictures:
        raise DataError(f"{name} has no pictures in its {split} split; there is nothing to measure")
    listings: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    first = pictures[0].file
    size: tuple[int, int] | None = None
    grey = True
    for file, _ in pictures:
        sha256, mode, found = _header(files.folder, file)
        size = size or found
        if found != size:
            raise DataError(
                f"{file!r} is {found[0]}x{found[1]} pixels where {first!r} is {size[0]}x{size[1]}; "
                "all images of a set have one size"
            )
        grey = grey and mode in GREY
        parent, _, leaf = file.rpartition("/")
        listings[parent].append((leaf, sha256))
    assert size is not None
    shape = (1 if grey else 3, size[1], size[0])
    return Dataset(
        name=name,
        split=split,
        labels=np.array([picture.label for picture in pictures]),
        classes=len(class_names),
        class_names=tuple(class_names),
        shape=shape,
        sha256=files.sha256 | {parent: _listing(lines) for parent, lines in listings.items()},
        _read=Pictures(files.folder, tuple(picture.file for picture in pictures), shape),
    )


def _header(root: Path, name: str) -> tuple[str, str, tuple[int, int]]:
    """Hash, mode and (width, height) of a file, without decoding it."""
    try:
        content = (root / name).read_bytes()
        with _opened(content) as image:
            mode, size = image.mode, image.size
    except DAMAGE as cause:
        raise _damaged(name, cause) from cause
    if mode not in GREY + COLOUR:
        raise DataError(f"{name!r} has pixels of mode {mode}; save it with 8 bits a channel")
    return hashlib.sha256(content).hexdigest(), mode, size


def _listing(lines: Sequence[tuple[str, str]]) -> str:
    text = "".join(f"{sha256}  {name}\n" for name, sha256 in sorted(lines))
    return hashlib.sha256(text.encode()).hexdigest()


def _opened(content: bytes) -> Image.Image:
    # Two decoders, not all that Pillow has: the fewer, the less a crafted file can reach.
    return Image.open(io.BytesIO(content), formats=("PNG", "JPEG"))


def _flat(image: Image.Image, name: str) -> Image.Image:
    """The image without its alpha channel, which must not be in use."""
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{name!r} is transparent in places; flatten it onto a background")
    return image


def _damaged(name: str, cause: BaseException) -> DataError:
    return DataError(f"{name!r} is no PNG or JPEG picture that can be read: {reason(cause)}")


def pictures_in(root: Path, place: str) -> list[str]:
    """The pictures of one class; anything else there would be left out silently, so it is not."""
    if not (root / place).is_dir():
        return []
    names = []
    for item in shown(root / place):
        if not item.is_file() or item.suffix.lower() not in SUFFIXES:
            raise DataError(f"'{place}/{item.name}' is neither PNG nor JPEG; convert or remove it")
        names.append(f"{place}/{item.name}")
    return names


def shown(place: Path) -> list[Path]:
    """What is in a folder, in order of name, without hidden files."""
    try:
        items = [item for item in place.iterdir() if not item.name.startswith(".")]
    except OSError as cause:
        raise DataError(f"{str(place)!r} cannot be listed: {cause.strerror}") from cause
    return sorted(items, key=lambda item: item.name)
