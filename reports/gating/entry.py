"""What a model card tells of one run, and how it is told apart from what it tells of others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import PureWindowsPath

from robustcode.components import CODE
from robustcode.reports.escape import plain
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.table import Source

# Data sets whose name says nothing without that of their file.
IN_FILES = ("npz", "folder")


@dataclass(frozen=True)
class Entry:
    """One run in a card.

    Attributes:
        source: the run.
        url: where it or its report can be seen; none is named without it.
        verdict: that of the gate it went through; None where nothing was asked of it.
    """

    source: Source
    url: str = ""
    verdict: Verdict | None = None

    @property
    def key(self) -> str:
        """A short name of what was evaluated, the same for a later run of it with other numbers.

        Of weights it is the name of their file that counts, since a later run is of later weights.
        """
        facts = (self.source.fact(name) for name in ("command", "title", "adversary", "threat"))
        asked = [*facts, self._model, self._defense, self.data]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """What was evaluated: model, weights, defence, and by whom it is attacked if by many."""
        if title := self.source.fact("title"):
            return plain(title)
        defense, adversary = self._defense, self.source.fact("adversary")
        parts = [self._model or "unnamed model"]
        parts += [f"with {defense}"] if defense not in ("", "none", "identity") else []
        parts += [f"against {adversary}"] if adversary not in ("", "solo") else []
        return plain(" ".join(parts)) or "unnamed model"

    @property
    def data(self) -> str:
        """The data set without the folder that it lies in on one machine.

        Of `cifar10:/data/cifar` it is `cifar10`, of `npz:/data/mine.npz` it is `npz mine.npz`.
        """
        data = plain(self.source.fact("data"))
        if CODE.match(data):
            return _anywhere(data)
        name, _, where = data.partition(":")
        return f"{name} {_last(where)}" if name in IN_FILES and where else name or "unnamed data"

    @property
    def _model(self) -> str:
        weights = _last(self.source.fact("checkpoint"))
        return _anywhere(self.source.fact("model")) + (f" ({weights})" if weights else "")

    @property
    def _defense(self) -> str:
        """The defence; of proofs what they speak of, as a smoothed classifier around it."""
        proved = self.source.run.summary.get("certified") if self.source.proves else None
        return _anywhere(str((proved or {}).get("subject") or self.source.fact("defense")))


def _anywhere(named: str) -> str:
    """A name as the user wrote it, of code without the folder of its file."""
    code = CODE.match(named)
    if code is None or not code["file"]:
        return named
    return _last(code["file"]) + named[code.end("file") :]


def _last(path: str) -> str:
    """The last part of a path, of whatever system."""
    return PureWindowsPath(path).name
