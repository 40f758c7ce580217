"""Where the files of a data set are: the layouts a folder may have, and reading with a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from robustcode.data.arrays import Arrays, in_memory
from robustcode.data.dataset import Dataset
from robustcode.errors import DataError
from robustcode.importing import reason


class Files:
    """The files of one folder; ``sha256`` fills with the hash of each one that is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sha256: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Whether the folder has a file of that name; a folder is not a file."""
        return (self.folder / name).is_file()

    def open(self, name: str) -> BinaryIO:
        """The file, hashed to its end and at its beginning again. The caller closes it."""
        handle: BinaryIO | None = None
        try:
            handle = (self.folder / name).open("rb")
            self.sha256[name] = hashlib.file_digest(handle, "sha256").hexdigest()
            handle.seek(0)
        except OSError as cause:
            if handle is not None:
                handle.close()
            raise DataError(
                f"{str(self.folder / name)!r} cannot be read: {cause.strerror}"
            ) from cause
        return handle

    def read(self, name: str) -> bytes:
        """Everything in the file."""
        with self.open(name) as handle:
            return handle.read()

    def damaged(self, name: str, why: str | BaseException) -> DataError:
        """The error to raise about that file."""
        said = why if isinstance(why, str) else reason(why)
        return DataError(f"{str(self.folder / name)!r} is damaged or of another format: {said}")


@dataclass(frozen=True)
class Layout:
    """One way in which a data set is kept.

    Attributes:
        title: what people call it.
        places: folders in which the files may be, relative to the one the user names.
        splits: the files of each split, all of which are needed.
        read: from the folder, the place and the names of the files to the arrays.
    """

    title: str
    places: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    read: Callable[[Files, Sequence[str]], Arrays]

    def __str__(self) -> str:
        first = sorted({names[0] for names in self.splits.values()})
        where = " or ".join(f"{place}/" for place in self.places if place)
        return f"{self.title} ({', '.join(first)}{', also in ' + where if where else ''})"


def load_layouts(name: str, layouts: Sequence[Layout], path: str | None, split: str) -> Dataset:
    """The data set in the folder ``path``, in the first layout whose files are all there."""
    folder = existing_folder(name, path, f"; it would hold one of: {_list(layouts)}")
    files = Files(folder)
    partial: str | None = None
    for layout in layouts:
        for place in layout.places:
            names = [f"{place}/{file}" if place else file for file in layout.splits[split]]
            missing = [file for file in names if not files.has(file)]
            if not missing:
                arrays = layout.read(files, names)
                return in_memory(arrays, f"{name}:{path}", split, files.sha256)
            if len(missing) < len(names) and partial is None:
                partial = (
                    f"{str(folder)!r} lacks {', '.join(missing)} of the {split} split of {name}"
                    f" in its layout {layout.title}"
                )
    raise DataError(
        partial or f"{str(folder)!r} holds no {split} split of {name}; looked for: {_list(layouts)}"
    )


def existing_folder(name: str, path: str | None, holding: str = "") -> Path:
    """The folder that a spec names, which must be there."""
    if not path:
        raise DataError(f"{name} is read from a folder; write {name}:DIR")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{name}: {path!r} {what}{holding}")
    return folder


def _list(layouts: Sequence[Layout]) -> str:
    return "; ".join(map(str, layouts))
