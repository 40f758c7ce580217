"""A stopping rule that somebody wrote down as a table, read from a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robustcode.errors import ConfigError
from robustcode.stopping.boundaries import Boundaries
from robustcode.stopping.rules import RULES, Rule

COLUMNS = ("looks", "certify", "give_up")


@RULES.register("table")
@dataclass(frozen=True, kw_only=True)
class Table(Rule):
    """Boundaries from a file; see robustcode.stopping.boundaries.Boundaries for what they mean.

    Attributes:
        file: CSV with the columns looks, certify and give_up and a row for each look, or JSON with
            a list under each of these names. Without give_up nothing is given up before the end.
    """

    file: str

    def examined(self, probability: float, alpha: float, draws: int) -> Boundaries:
        """See Rule.examined. Looks after more than ``draws`` draws are left out."""
        columns = read(Path(self.file))
        looks, certify = (np.array(columns[name], np.int64) for name in COLUMNS[:2])
        give_up = np.array(columns.get("give_up") or [-1] * len(looks), np.int64)
        if not len(looks) == len(certify) == len(give_up):
            raise ConfigError(
                f"{self.file} has {len(looks)} looks, {len(certify)} numbers that certify and "
                f"{len(give_up)} that give up; give one of each for each look"
            )
        kept = looks <= draws
        if not kept.any():
            raise ConfigError(f"{self.file} has no look after {draws} draws or fewer")
        looks, certify, give_up = looks[kept], certify[kept], give_up[kept]
        give_up[-1] = certify[-1] - 1  # the last look decides
        return Boundaries(
            probability=probability, alpha=alpha, looks=looks, certify=certify, give_up=give_up
        )


def read(path: Path) -> Mapping[str, Sequence[int]]:
    """The columns of a table of boundaries, by name."""
    try:
        text = path.read_text(encoding="utf-8")
        columns = _of_json(text) if path.suffix == ".json" else _of_csv(text)
        found = {name: [_count(value) for value in columns[name]] for name in columns}
    except OSError as wrong:
        raise ConfigError(f"cannot read boundaries from {path}: {wrong.strerror}") from wrong
    except (AttributeError, KeyError, TypeError, ValueError) as wrong:
        raise ConfigError(
            f"{path} is no table of boundaries ({wrong}); write whole numbers in the columns "
            f"{', '.join(COLUMNS)} of a CSV, or in lists of these names of a JSON file"
        ) from wrong
    return found


def _of_json(text: str) -> dict[str, list[Any]]:
    loaded = json.loads(text)
    return {name: list(loaded[name]) for name in COLUMNS if name in loaded or name != "give_up"}


def _of_csv(text: str) -> dict[str, list[Any]]:
    rows = list(csv.DictReader(text.splitlines()))
    names = [name for name in COLUMNS if name != "give_up" or (rows and name in rows[0])]
    return {name: [row[name] for row in rows] for name in names}


def _count(value: Any) -> int:
    if isinstance(value, float | bool) and value != int(value):
        raise ValueError(f"{value} is not a whole number")
    return int(value)
