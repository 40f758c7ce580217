"""A folder of pictures, sorted into one folder for each class."""

from __future__ import annotations

from robustcode.data.checks import SPLITS
from robustcode.data.dataset import DATA, Dataset
from robustcode.data.files import Files, existing_folder
from robustcode.data.pictures import Labelled, on_disk, pictures_in, shown
from robustcode.errors import DataError


@DATA.register("folder")
def folder(path: str | None, split: str) -> Dataset:
    """One folder of PNG or JPEG files for each class; classes and files in order of name.

    With a folder ``test`` or ``train`` in it, DIR holds splits, which share one list of classes;
    otherwise either split is the whole of DIR. The images are (3, height, width), or (1, height,
    width) where every file is grey. The hash of a class is that of the lines ``sha256  name`` of
    its files: what ``LC_ALL=C sha256sum * | sha256sum`` prints there.
    """
    root = existing_folder("folder", path, "; it would hold one folder of pictures for each class")
    splits = [name for name in SPLITS if (root / name).is_dir()]
    if splits and split not in splits:
        raise DataError(f"{path!r} has a folder {splits[0]!r} but none called {split!r}")
    tops = [f"{name}/" for name in splits] or [""]
    names = sorted({item.name for top in tops for item in shown(root / top) if item.is_dir()})
    if not names:
        raise DataError(f"{path!r} has no folders; make one folder of pictures for each class")
    top = f"{split}/" if splits else ""
    pictures = [
        Labelled(file, label)
        for label, name in enumerate(names)
        for file in pictures_in(root, f"{top}{name}")
    ]
    return on_disk(f"folder:{path}", split, Files(root), pictures, names)
