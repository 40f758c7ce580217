"""Names that stay: of runs and tables, by what they are of and not by their place on a page."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterable

LONGEST = 48  # letters of a name; two of them make one of a file
MARK = 6  # hexadecimal digits that stand for what a name lacks


def slug(text: str) -> str:
    """The text in small letters, digits and hyphens, for the name of a file, a label, an anchor.

    What is too long, or has letters that are none of these, ends with digits of its hash.

    >>> slug("digits_cnn with gaussian-noise:sigma=0.1")
    'digits-cnn-with-gaussian-noise-sigma-0-1'
    """
    letters = unicodedata.normalize("NFKD", text)
    plain = letters.encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    lost = any(mark.isalnum() and not mark.isascii() for mark in letters)
    if name and not lost and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:MARK]
    return f"{name[: LONGEST - MARK - 1].strip('-')}-{digest}".strip("-")


def told_apart_by(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Slugs of ``names``; the first of those that agree keeps it, the next add their other name.

    So what is added after them renames nothing that was there.
    """
    taken: list[str] = []
    for name, other in zip(names, others, strict=True):
        candidates = itertools.chain([slug(name), slug(f"{name} {other}")], _counted(slug(name)))
        taken.append(next(one for one in candidates if one not in taken))
    return taken


def _counted(name: str) -> Iterable[str]:
    return (f"{name}-{number}" for number in itertools.count(2))


def numbered(names: Iterable[str]) -> list[str]:
    """The names, of which those that were there before have a number added.

    >>> numbered(["costs", "curve", "costs"])
    ['costs', 'curve', 'costs-2']
    """
    taken: list[str] = []
    for name in names:
        candidates = itertools.chain([name], _counted(name))
        taken.append(next(one for one in candidates if one not in taken))
    return taken
