"""Tiny ImageNet as it is distributed.

Source: http://cs231n.stanford.edu/tiny-imagenet-200.zip.
"""

from __future__ import annotations

from collections.abc import Iterator

from robustcode.data.dataset import DATA, Dataset
from robustcode.data.files import Files, existing_folder
from robustcode.data.pictures import Labelled, on_disk, pictures_in
from robustcode.errors import DataError


@DATA.register("tiny_imagenet")
def tiny_imagenet(path: str | None, split: str) -> Dataset:
    """Tiny ImageNet, images (3, 64, 64), 200 classes; ``test`` is its labelled split, val.

    A class is numbered by the place of its WordNet id in alphabetical order, as usual for
    checkpoints, and not by its line in wnids.txt.
    """
    root = existing_folder(
        "tiny_imagenet", path, "; it would hold wnids.txt, train/ and val/val_annotations.txt"
    )
    files = Files(root)
    if not files.has("wnids.txt"):
        raise DataError(f"{path!r} has no wnids.txt; name the folder tiny-imagenet-200 itself")
    names = sorted(_text(files, "wnids.txt").split())
    labels = {name: label for label, name in enumerate(names)}
    if split == "test":
        pictures = list(_annotated(files, "val/val_annotations.txt", labels))
    else:
        pictures = [
            Labelled(file, labels[name])
            for name in names
            for file in pictures_in(root, f"train/{name}/images")
        ]
    return on_disk(f"tiny_imagenet:{path}", split, files, pictures, names)


def _annotated(files: Files, name: str, labels: dict[str, int]) -> Iterator[Labelled]:
    for number, line in enumerate(_text(files, name).splitlines(), start=1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in labels:
            raise DataError(
                f"{name} line {number} gives {file!r} the class {wnid!r}, not in wnids.txt"
            )
        yield Labelled(f"val/images/{file}", labels[wnid])


def _text(files: Files, name: str) -> str:
    return files.read(name).decode(errors="replace")
