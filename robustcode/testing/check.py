"""One promise of a component, and a way to try it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from robustcode.errors import ContractError

S = TypeVar("S")


def _always(subject: object) -> bool:
    return True


@dataclass(frozen=True)
class Check(Generic[S]):
    """A statement about a component, as a sentence and as an experiment.

    Attributes:
        name: the sentence; its subject is the component.
        experiment: raises ContractError, with the figures, where the statement fails.
        applies: whether the component promises anything of the kind.
    """

    name: str
    experiment: Callable[[S], None]
    applies: Callable[[S], bool] = _always

    def run(self, subject: S) -> bool:
        """Whether the statement applies; ContractError says that it fails, and why.

        Whatever else the component raises on the way breaks the contract too.
        """
        if not self.applies(subject):
            return False
        try:
            self.experiment(subject)
        except ContractError as broken:
            reason = str(broken)
            cause: Exception = broken
        except Exception as crash:
            reason = f"it raised {type(crash).__name__}: {crash}"
            cause = crash
        else:
            return True
        name = getattr(subject, "__name__", repr(subject))  # a factory may be a function
        raise ContractError(f"{name} breaks the promise {self.name!r}: {reason}") from cause

    def __str__(self) -> str:
        return self.name


def trial(checks: Iterable[Check[S]], subject: S) -> Iterator[str]:
    """Try each statement in turn and yield those that hold; ContractError at the first that fails.

    Statements that do not apply are passed over.
    """
    for check in checks:
        if check.run(subject):
            yield check.name


def require(holds: bool, otherwise: str) -> None:
    """Raise ContractError with the sentence ``otherwise`` unless ``holds``."""
    if not holds:
        raise ContractError(otherwise)
