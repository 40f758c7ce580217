"""Random draws that many samples ask for, packed into full batches of the model."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Counts = NDArray[np.int64]
T = TypeVar("T")

NO_VOTE = -1
"""What a draw is for whose scores are not numbers."""


class Tally(NamedTuple):
    """What the draws that a sample asked for have given.

    Attributes:
        votes: how many are for each class, shape (classes,); those for none are missing.
        forwards: passes of the model that they took.
    """

    votes: Counts
    forwards: int


Course = Generator[int, Tally, T]
"""What becomes of one sample: asks for numbers of draws, is sent their tallies, ends in a T."""


class Ballot(NamedTuple):
    """The draws of one batch.

    Attributes:
        classes: what each is for, int64 of shape (rows,); NO_VOTE if for none.
        forwards: passes of the model that each took, of shape (rows,), or one number for all.
    """

    classes: Tensor
    forwards: Tensor | int


Vote = Callable[[Tensor, Tensor], Ballot]
"""(places of the samples, numbers of their draws), both int64 of shape (rows,), to a ballot."""


@dataclass
class _Voter(Generic[T]):
    """A sample on its course.

    Attributes:
        place: among the courses.
        wanted: draws still missing of those it asked for.
        made: draws made so far; the next one has this number.
    """

    place: int
    course: Course[T]
    votes: Counts
    wanted: int = 0
    made: int = 0
    forwards: int = 0


def poll(
    courses: Sequence[Course[T]],
    vote: Vote,
    classes: int,
    rows: int,
    advance: Callable[[int], None],
) -> list[T]:
    """Follow all courses to their ends, in batches of ``rows`` draws.

    The draws of a sample are numbered from 0 on in the order it asks for them, and a batch takes
    from the first samples what they want until it is full: so a sample is given the same numbers
    whatever is beside it, and only the last batches may be smaller. ``advance`` is told how many
    samples have come to their ends.
    """
    results: dict[int, T] = {}
    waiting: deque[_Voter[T]] = deque()
    for place, course in enumerate(courses):
        voter = _Voter(place, course, np.zeros(classes, np.int64))
        if _goes_on(voter, None, results):
            waiting.append(voter)
    advance(len(results))
    while waiting:
        batch: list[tuple[_Voter[T], int]] = []
        room = rows
        while room and waiting:
            voter = waiting.popleft()
            batch.append((voter, min(voter.wanted, room)))
            room -= batch[-1][1]
        votes, forwards = _counted(batch, vote, classes)
        before = len(results)
        on = []
        for number, (voter, count) in enumerate(batch):
            voter.votes += votes[number]
            voter.forwards += int(forwards[number])
            voter.made += count
            voter.wanted -= count
            if voter.wanted or _goes_on(voter, Tally(voter.votes, voter.forwards), results):
                on.append(voter)
        waiting.extendleft(reversed(on))
        advance(len(results) - before)
    return [results[place] for place in range(len(courses))]


def _goes_on(voter: _Voter[T], tally: Tally | None, results: dict[int, T]) -> bool:
    """Tell a sample what came of its last draws, and note its result if it wants no more."""
    try:
        voter.wanted = next(voter.course) if tally is None else voter.course.send(tally)
    except StopIteration as end:
        results[voter.place] = end.value
        return False
    voter.votes, voter.forwards = np.zeros_like(voter.votes), 0
    return True


def _counted(
    batch: Sequence[tuple[_Voter[T], int]], vote: Vote, classes: int
) -> tuple[Counts, Counts]:
    """One batch of draws: votes of shape (voters, classes), and passes of shape (voters,)."""
    sizes = [count for _, count in batch]
    owner = np.repeat(np.arange(len(batch)), sizes)
    places = np.repeat([voter.place for voter, _ in batch], sizes)
    numbers = np.concatenate([np.arange(v.made, v.made + count) for v, count in batch])
    ballot = vote(torch.from_numpy(places), torch.from_numpy(numbers))
    # A column more, in front, for what is for no class.
    cells = owner * (classes + 1) + (ballot.classes.cpu().numpy() - NO_VOTE)
    votes = np.bincount(cells, minlength=len(batch) * (classes + 1)).astype(np.int64)
    passes = torch.as_tensor(ballot.forwards).expand(len(owner)).cpu().numpy()
    forwards = np.bincount(owner, weights=passes).astype(np.int64)
    return votes.reshape(len(batch), classes + 1)[:, 1:], forwards
