"""Shards shared out to local processes; the bytes are those of one process."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor

from robustcode.budget import Limit, past
from robustcode.config import Spec
from robustcode.errors import ConfigError, EngineError
from robustcode.findings import Facts
from robustcode.progress import Progress, Reporter, bar
from robustcode.store import RunFolder, shard_name
from robustcode.subject import Given, Subject, assemble, inputs_of
from robustcode.target import borrowed

Send = Callable[[tuple[Any, ...]], None]
Entries = Iterator[tuple[int, dict[str, Any]]]
# Manifest entries of an earlier try, by the shard's name.
Kept = Mapping[str, Mapping[str, Any]]
NOTHING_KEPT: Kept = MappingProxyType({})


class Job(Protocol):
    """What is done with every shard: it writes the shard's files and gives its manifest entry."""

    def __call__(
        self,
        samples: Tensor,
        folder: Path,
        number: int,
        progress: Progress,
        deadline: float | None = None,
        kept: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """See shard.run_shard."""
        ...


# Makes the same job in every process: it follows from the spec and the tested facts. Its name must
# be one that another process can import.
MakeJob = Callable[[Any, Subject, Facts], Job]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch with ``count`` threads and repeatable, full-precision kernels; then as it was."""
    before = torch.get_num_threads()
    cudnn = torch.backends.cudnn
    kept = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32)
    precision = torch.get_float32_matmul_precision()
    torch.set_num_threads(count)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = True, False, False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32 = kept
        torch.set_float32_matmul_precision(precision)


@dataclass(frozen=True)
class Work:
    """What is done with the shards of a run, wherever they are worked on.

    Attributes:
        make: makes the job in another process; its name must be one that can be imported there.
        spec: what is made from.
        given: likewise.
        inputs: hashes of what this process evaluates; a worker refuses to go on with others.
        facts: what the defence was tested to be.
        steps: of the progress bar, for each shard.
    """

    make: MakeJob
    spec: Spec
    given: Given
    inputs: Mapping[str, Any]
    facts: Facts
    steps: int = 1


def run_shards(
    work: Work,
    job: Job,
    shards: Mapping[int, Tensor],
    folder: RunFolder,
    show: bool,
    deadline: float | None = None,
) -> bool:
    """Do what is missing; whether time ended that before a single shard was done.

    ``job`` is this process's own.
    """
    missing = {number: shards[number] for number in folder.missing_shards(len(shards))}
    if not missing:
        return False
    kept = dict(folder.manifest["shards"]["files"])
    done = 0
    with bar(len(missing) * work.steps, show) as send:
        # Processes take seconds to start: not when there are none left.
        if work.spec.workers == 1 or len(missing) == 1 or past(deadline):
            entries = run_here(job, missing, folder.path, send, deadline, kept)
        else:
            entries = run_in_workers(work, missing, folder.path, send, deadline, kept)
        for number, entry in entries:
            folder.list_shard(number, entry)
            done += entry["over"] != Limit.SECONDS
            send(("done", work.steps))
    return done == 0


def run_here(
    job: Job,
    shards: dict[int, Tensor],
    folder: Path,
    send: Send,
    deadline: float | None = None,
    kept: Kept = NOTHING_KEPT,
) -> Entries:
    """Each shard's number and manifest entry, as they are done, in this process.

    After ``deadline``, by time.monotonic, none is begun; but where nothing is ``kept`` of an
    earlier try the first is, of which at least the clean accuracy is then known.
    """
    for place, (number, samples) in enumerate(shards.items()):
        if past(deadline) and (place > 0 or kept):
            return
        entry = kept.get(shard_name(number))
        yield number, job(samples, folder, number, Reporter(send), deadline, entry)


def run_in_workers(
    work: Work,
    shards: dict[int, Tensor],
    folder: Path,
    send: Send,
    deadline: float | None = None,
    kept: Kept = NOTHING_KEPT,
) -> Entries:
    """The same, from ``spec.workers`` processes. A lost worker is an EngineError."""
    try:
        pickle.dumps(work.given)
    except Exception as cause:
        raise ConfigError(
            f"the model or data passed in cannot be sent to worker processes ({cause}); use "
            "workers=1 or name a callable that makes them"
        ) from cause
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    # A worker that is ended while it writes keeps the queue's lock; leaving must not wait for it.
    messages.cancel_join_thread()
    listener = threading.Thread(target=_listen, args=(messages, send), daemon=True)
    listener.start()
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        max_workers=min(work.spec.workers, len(shards)),
        mp_context=context,
        initializer=_start,
        initargs=(work, folder, messages, os.getpid(), deadline),
    )
    try:
        tasks = [
            pool.submit(
                _work,
                number,
                samples.tolist(),
                place == 0 and not kept,
                kept.get(shard_name(number)),
            )
            for place, (number, samples) in enumerate(shards.items())
        ]
        for task in as_completed(tasks):
            entry = task.result()
            if entry is not None:
                yield entry
        # Waited for: one that is still starting would find the queue gone, and say so on stderr.
        pool.shutdown(wait=True)
    except BrokenProcessPool as cause:
        _terminate(others)
        raise EngineError(
            "a worker process was lost (killed, out of memory, or unable to import the model it "
            "was given); finished shards are kept: run the same command again, with fewer "
            "--workers if memory is short"
        ) from cause
    except BaseException:
        _terminate(others)
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        messages.put(None)


def _terminate(others: set[Any]) -> None:
    """End the workers of a run that failed: what they are at is lost, and not waited for."""
    for worker in set(multiprocessing.active_children()) - others:
        worker.terminate()


def _listen(messages: Any, send: Send) -> None:
    while (message := messages.get()) is not None:
        send(message)


# What a worker process builds once and uses for each of its shards.
_worker: dict[str, Any] = {}


def _start(
    work: Work,
    folder: Path,
    messages: Any,
    parent: int,
    deadline: float | None,
) -> None:
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer
    held = ExitStack()
    spec = work.spec
    held.enter_context(threads(spec.threads))
    try:
        subject = assemble(spec, work.given)
        if inputs_of(spec, subject) != work.inputs:
            raise ConfigError(
                f"model {spec.model!r} or data {spec.data!r} is another one in every process that "
                "makes it; seed what is random in it, or use --workers 1"
            )
        held.enter_context(borrowed(subject.defense.model))
        job = work.make(spec, subject, work.facts)
    except Exception as cause:  # raised here it would look like a worker that was killed
        _worker["failed"] = cause
        return
    _worker.update(job=job, folder=folder, send=messages.put, held=held, deadline=deadline)


def _work(
    number: int, samples: Sequence[int], always: bool, kept: Mapping[str, Any] | None
) -> tuple[int, dict[str, Any]] | None:
    """A shard's number and entry; None if its time is over before it is begun."""
    if "failed" in _worker:
        raise _worker["failed"]
    deadline = _worker["deadline"]
    if past(deadline) and not always:
        return None
    reporter = Reporter(_worker["send"])
    own = torch.tensor(samples)
    return number, _worker["job"](own, _worker["folder"], number, reporter, deadline, kept)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run must not go on writing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
