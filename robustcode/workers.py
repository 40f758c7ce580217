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
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from robustcode.attacks.warm import Warm
from robustcode.budget import past
from robustcode.config import RunSpec
from robustcode.errors import ConfigError, EngineError
from robustcode.findings import Facts
from robustcode.plan import PlannedAttack, resolve
from robustcode.progress import Reporter
from robustcode.shard import Trial, run_shard
from robustcode.store import shard_name
from robustcode.subject import Given, Subject, assemble, inputs_of
from robustcode.target import borrowed

# Ascent steps from the proposals of an earlier run, where other attacks follow. They are there to
# break cheaply what is near: with 20 steps a curve of 4 eps cost more passes than separate runs
# (cifar_cnn_a_adv, 256 samples, suite quick: 119,299 and 118,895), with these 111,844.
WARM_STEPS = 3
WARM_STEP = 0.4
# Draws of a stochastic defence averaged per step, as in the suite `quick`.
WARM_DRAWS = 4

Send = Callable[[tuple[Any, ...]], None]
Entries = Iterator[tuple[int, dict[str, Any]]]
# Manifest entries of an earlier try, by the shard's name.
Kept = Mapping[str, Mapping[str, Any]]
NOTHING_KEPT: Kept = MappingProxyType({})


def make_trial(spec: RunSpec, subject: Subject, facts: Facts) -> Trial:
    """The same trial in every process: it follows from the spec and the tested facts."""
    return Trial(
        subject=subject,
        facts=facts,
        attacks=_planned(spec, facts),
        threat=spec.threat,
        draws=spec.draws,
        seed=spec.seed,
        # A sample that is broken is still a batch mate of the others; whoever asks is told so.
        cascade=spec.cascaded and not subject.adversary.batched,
        max_passes=spec.max_passes,
        proved=frozenset(spec.proved),
    )


def _planned(spec: RunSpec, facts: Facts) -> list[PlannedAttack]:
    """The attacks, after the one that goes on from an earlier run if the spec names it."""
    attacks = resolve(spec, facts)
    if spec.warm is None:
        return attacks
    draws = WARM_DRAWS if facts.stochastic else 1
    # Whole, so that the run's own spec works from every folder.
    earlier = str(Path(spec.warm).resolve())
    warm = Warm(run=earlier, steps=WARM_STEPS, step=WARM_STEP, draws=draws)
    first = PlannedAttack("warm", warm)
    if any(planned.name == first.name for planned in attacks):
        raise ConfigError(
            f"warm = {spec.warm!r} puts the attack 'warm' first, and the attacks have one of their "
            "own; leave out one of the two"
        )
    return [first, *attacks]


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


def run_here(
    trial: Trial,
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
        yield number, run_shard(trial, samples, folder, number, Reporter(send), deadline, entry)


def run_in_workers(
    spec: RunSpec,
    given: Given,
    inputs: Mapping[str, Any],
    facts: Facts,
    shards: dict[int, Tensor],
    folder: Path,
    send: Send,
    deadline: float | None = None,
    kept: Kept = NOTHING_KEPT,
) -> Entries:
    """The same, from ``spec.workers`` processes. A lost worker is an EngineError.

    ``inputs`` are the hashes of what this process evaluates; a worker refuses to go on with others.
    """
    try:
        pickle.dumps(given)
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
        max_workers=min(spec.workers, len(shards)),
        mp_context=context,
        initializer=_start,
        initargs=(spec, given, inputs, facts, folder, messages, os.getpid(), deadline),
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
    spec: RunSpec,
    given: Given,
    inputs: Mapping[str, Any],
    facts: Facts,
    folder: Path,
    messages: Any,
    parent: int,
    deadline: float | None,
) -> None:
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer
    held = ExitStack()
    held.enter_context(threads(spec.threads))
    try:
        subject = assemble(spec, given)
        if inputs_of(spec, subject) != inputs:
            raise ConfigError(
                f"model {spec.model!r} or data {spec.data!r} is another one in every process that "
                "makes it; seed what is random in it, or use --workers 1"
            )
        held.enter_context(borrowed(subject.defense.model))
        trial = make_trial(spec, subject, facts)
    except Exception as cause:  # raised here it would look like a worker that was killed
        _worker["failed"] = cause
        return
    _worker.update(trial=trial, folder=folder, send=messages.put, held=held, deadline=deadline)


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
    return number, run_shard(
        *(_worker["trial"], torch.tensor(samples), _worker["folder"], number, reporter),
        *(deadline, kept),
    )


def _die_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run must not go on writing."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
