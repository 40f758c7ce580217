"""What a model card tells of one run, and how it is told apart from what it tells of others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from robustcode.components import code_named, last_of
from robustcode.reports.escape import plain
from robustcode.reports.gating.gate import Verdict
from robustcode.reports.source import Source


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
        """The data set without the folder that it lies in on one machine."""
        return plain(self.source.data) or "unnamed data"

    @property
    def _model(self) -> str:
        weights = last_of(self.source.fact("checkpoint"))
        return code_named(self.source.fact("model")) + (f" ({weights})" if weights else "")

    @property
    def _defense(self) -> str:
        """The defence; of proofs what they speak of, as a smoothed classifier around it."""
        proved = self.source.run.summary.get("certified") if self.source.proves else None
        return code_named(str((proved or {}).get("subject") or self.source.fact("defense")))
