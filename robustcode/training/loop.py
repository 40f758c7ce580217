"""From a TrainSpec to a file of trained weights, through any number of interruptions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from robustcode.checkpoint import read_metadata, save_checkpoint, sha256_of
from robustcode.errors import CheckpointError, ConfigError, EngineError, StoreError
from robustcode.store import difference, versions
from robustcode.training.base import RECIPES, Recipe
from robustcode.training.material import Material, load_material
from robustcode.training.progress import Display
from robustcode.training.spec import TrainSpec
from robustcode.training.state import load_state
from robustcode.training.trainer import Trainer

# Test samples behind the accuracy that is shown after each epoch; the result is measured on all.
GLANCE = 1000

Watch = Callable[[int, float], None]
"""(number of the finished epoch, from 1; its mean loss)."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What a training run left behind.

    Attributes:
        out: the weights, a safetensors file.
        sha256: of that file.
        epochs: passes over the samples.
        loss: mean loss of the last epoch, of the recipe's own kind.
        train_accuracy: clean accuracy on the samples trained on, after the last epoch.
        test_accuracy: clean accuracy on the whole test split; None if the data have none.
        seconds: what this call took, which is less than the training if it was resumed.
        trained: False if ``out`` was finished already and nothing was done.
    """

    out: Path
    sha256: str
    epochs: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float
    trained: bool


def train(
    spec: TrainSpec,
    out: Path | str,
    *,
    device: str = "cpu",
    threads: int = 1,
    progress: bool = True,
    watch: Watch | None = None,
) -> TrainingResult:
    """Train as ``spec`` says and write the weights to ``out``, a safetensors file.

    After each epoch the state is kept beside ``out``, as ``OUT.epochs``. Interrupted, the same
    call goes on from there; on the CPU, with the same ``threads``, it ends with the same bytes
    as an uninterrupted one. CUDA promises to go on, not the same bytes.
    """
    began = time.perf_counter()
    out = Path(out)
    recipe: Recipe = spec.component.build(RECIPES, "recipe")
    place = _device(device)
    with _claimed(out), _threads(threads):
        material = load_material(spec, recipe)
        facts = _finished(out, material.identity)
        trained = facts is None
        if facts is None:
            trainer = Trainer(
                spec=spec,
                recipe=recipe,
                network=material.network,
                data=material.data,
                samples=material.samples,
                device=place,
            )
            kept = out.with_name(f"{out.name}.epochs")
            _run(trainer, material, kept, progress, watch or (lambda epoch, loss: None))
            facts = _facts(trainer, material)
            save_checkpoint(
                trainer.network.eval(), out, {key: json.dumps(facts[key]) for key in facts}
            )
            kept.unlink(missing_ok=True)
    return TrainingResult(
        out=out,
        sha256=sha256_of(out),
        epochs=spec.epochs,
        **facts["result"],
        seconds=time.perf_counter() - began,
        trained=trained,
    )


def _run(trainer: Trainer, material: Material, kept: Path, progress: bool, watch: Watch) -> None:
    trainer.restore(load_state(kept, material.identity))
    spec, test = trainer.spec, material.test
    with Display(
        shown=progress,
        epochs=spec.epochs,
        batches=trainer.batches,
        finished=len(trainer.losses),
    ) as display:
        while (epoch := len(trainer.losses)) < spec.epochs:
            try:
                loss = trainer.run_epoch(lambda batch, mean: display.batch(epoch, batch, mean))
            except EngineError:
                # The same settings would come to the same end; a lower rate starts afresh.
                kept.unlink(missing_ok=True)
                raise
            trainer.state(material.identity).save(kept)
            if test is not None:
                display.held_out(trainer.accuracy(test, torch.arange(min(GLANCE, len(test)))))
            watch(epoch + 1, loss)


def _facts(trainer: Trainer, material: Material) -> dict[str, Any]:
    """What goes into the file beside the weights: no paths and no dates."""
    test = material.test
    return {
        "spec": material.identity,
        "result": {
            "loss": trainer.losses[-1],
            "train_accuracy": trainer.accuracy(material.data, material.samples),
            "test_accuracy": trainer.accuracy(test, torch.arange(len(test))) if test else None,
        },
        "versions": {name: versions()[name] for name in ("robustcode", "torch")},
    }


def _finished(out: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts in ``out`` if this run has finished; StoreError if the file is of another."""
    if not out.exists():
        return None
    try:
        said = read_metadata(out)
        facts = {key: json.loads(said[key]) for key in ("spec", "result")}
    except (CheckpointError, KeyError, ValueError) as cause:
        raise StoreError(
            f"{out} exists and was not written by robustcode train; choose another --out"
        ) from cause
    if facts["spec"] != identity:
        raise StoreError(
            f"{out} holds the weights of another training run: "
            f"{difference('spec', facts['spec'], identity)}; choose another --out"
        )
    return facts


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Hold ``out`` against other processes; the system frees it if this one is killed."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out} must end in .safetensors, the format weights are written in")
    if out.is_dir():
        raise StoreError(f"{out} is a folder; choose another --out")
    held = out.with_name(f".{out.name}.lock")
    lock = FileLock(held)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise StoreError(
            f"{out} is being trained by another process; wait for it or choose another --out"
        ) from None
    except OSError as cause:
        raise StoreError(
            f"cannot write to {out.parent}: {cause.strerror or cause}; choose another --out"
        ) from cause
    try:
        yield
    finally:
        with suppress(OSError):  # Windows keeps a file that is open; it is empty and harmless
            held.unlink()
        lock.release()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    if count < 1:
        raise ConfigError(f"threads = {count}: training needs at least 1")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("training runs on cpu, cuda or cuda:NUMBER")
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as cause:
        reason = str(cause).splitlines()[0]
        raise ConfigError(f"device {name!r} cannot be used here: {reason}") from cause
    return device
