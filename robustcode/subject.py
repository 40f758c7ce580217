"""What is evaluated: the classifier in its defence, and the numbered samples it is tried on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustcode.adversary import ADVERSARIES, Adversary, Solo
from robustcode.checkpoint import load_classifier, sha256_of
from robustcode.config import CorruptSpec, RunSpec, Spec, ThreatSpec
from robustcode.corruptions import CORRUPTIONS
from robustcode.data import Dataset, from_arrays, load_data
from robustcode.defenses import DEFENSES, Defense
from robustcode.defenses.as_found import MATES, Among, Fresh, copied
from robustcode.defenses.wrapper import Around
from robustcode.errors import ConfigError, DataError, RobustcodeError
from robustcode.findings import Facts
from robustcode.importing import file_of
from robustcode.passed import lent, settings_in, unchanged
from robustcode.seeds import Streams
from robustcode.target import borrowed
from robustcode.threat import Norm

# Clean images that defences draw mates from; enough for any coded batch in use, and small.
POOL = 512
# Samples on which the evaluation itself is tested before it is run; 32 show a fault that touches
# a tenth of all samples with probability .97.
PILOT = 32


@dataclass(frozen=True)
class Given:
    """Objects that a Python caller passed instead of naming them; they must pickle for workers."""

    model: nn.Module | None = None
    data: Dataset | None = None


@dataclass(frozen=True)
class Subject:
    """A defence and the samples it is evaluated on.

    Attributes:
        defense: the judged one, around the original model.
        data: the data set.
        samples: int64, ascending indices in the split.
        device: where it runs.
        adversary: what it controls of a batch.
        seed: names the images that it brings along.
        code: of a model that was passed and not named, a hash of its code and settings.
    """

    defense: Defense
    data: Dataset
    samples: Tensor
    device: torch.device
    adversary: Adversary = field(default_factory=Solo)
    seed: int = 0
    code: str | None = None

    def batch(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """What the adversary may perturb, (batch, ...), and the labels of some samples.

        These are their images, unless it controls others besides.
        """
        streams = Streams.of(self.seed, "users", samples).to(self.device)
        x = self.defense.inputs(self.images(samples), streams)
        return x, self.data.targets(samples).to(self.device)

    def images(self, samples: Tensor) -> Tensor:
        """Images of some samples, (batch, channels, height, width), on the device."""
        return self.data.images(samples).to(self.device)

    def batches(self, samples: Tensor) -> Tensor | None:
        """Numbers of the batches that some samples are classified in, int64 (batch,).

        None where each is judged among strangers. Neighbours in the run share a batch.
        """
        if not self.adversary.batched:
            return None
        places = torch.searchsorted(self.samples, samples.cpu())
        return (places // self.defense.batch).to(samples.device)

    def shards(self, size: int) -> list[Tensor]:
        """The samples in shards of ``size``, or of the nearest number that no batch straddles."""
        if self.adversary.batched:
            size = max(1, round(size / self.defense.batch)) * self.defense.batch
        return list(self.samples.split(size))


def assemble(spec: Spec, given: Given) -> Subject:
    """Load what ``spec`` names; everything that can be wrong with it is said here."""
    device = device_of(spec.device)
    data = given.data if given.data is not None else load_data(spec.data)
    samples = choose(spec, len(data), data.name)
    threat = spec.threat if isinstance(spec, ThreatSpec) else None
    if threat is not None:
        threat.fits(int(torch.tensor(data.shape).prod()))
    model = given.model
    if model is None:
        checkpoint = None if spec.checkpoint is None else Path(spec.checkpoint)
        # Samples of one class alone do not make a classifier of one class.
        classes = max(2, data.classes)
        model = load_classifier(spec.model, checkpoint, spec.mean, spec.std, classes)
    elif spec.checkpoint or spec.mean:
        raise ConfigError("checkpoint, mean and std go with a model's name, not with a module")
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"the model passed in is a {type(model).__name__}; pass a module or a name"
        )
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ConfigError(
            f"model {spec.model!r} has parts in TorchScript, which hides what the checks look at; "
            "give the module that it was made from"
        )
    # The caller's own is on whatever device, in whatever mode, and stays so.
    model = lent(model, device) if model is given.model else model.to(device)
    cls = DEFENSES.get(spec.defense.name)
    pooled = cls.batch_coupled or cls.needs_mates
    pool = {"mates": clean_pool(data, samples).to(device)} if pooled else {}
    defense: Defense = spec.defense.build(DEFENSES, "defense", model=model, **pool)
    if not isinstance(getattr(defense, "model", None), nn.Module):
        raise ConfigError(
            f"defence {spec.defense.name!r} keeps no model; write the field model: nn.Module in it"
        )
    adversary: Adversary = spec.adversary.build(ADVERSARIES, "adversary")
    if adversary.stacked and threat is not None and threat.norm is not Norm.LINF:
        raise ConfigError(
            f"adversary {spec.adversary.name!r} perturbs images of several users, each within eps, "
            f"and in {threat.norm} one budget would be shared by all of them; take linf"
        )
    if adversary.batched and isinstance(spec, RunSpec) and spec.cascade:
        raise ConfigError(
            "a cascade takes broken samples out of their batch, which adversary "
            f"{spec.adversary.name!r} attacks as a whole; leave out cascade"
        )
    attacked = samples if adversary.stacked else samples[:0]
    defense = defense.facing(adversary, attacked.to(device), data.images(attacked).to(device))
    subject = Subject(defense, data, samples, device, adversary, spec.seed)
    if given.model is None:
        _try(subject, spec)
        return subject
    return dataclasses.replace(subject, code=_code_in(subject, spec))


def as_tested(subject: Subject, facts: Facts) -> Subject:
    """The subject with its defence in a situation in which its verdicts can be told apart.

    One that remembers its calls is asked in fresh copies, and one that depends on its batch without
    saying so in batches of its own, beside images that the run's seed names; others are as before.
    To be called before the defence has been asked anything: it is copied as it is.
    """
    defense = subject.defense
    if isinstance(defense, Around):
        return subject
    undeclared = facts.batch_coupled and not defense.batch_coupled
    if facts.stateful and (fresh := _fresh(defense)) is not None:
        defense = fresh
    if undeclared:
        mates, numbers = _fixed_mates(subject)
        defense = Among(inner=defense, mates=mates, numbers=numbers)
    return dataclasses.replace(subject, defense=defense)


def unasked(subject: Subject) -> Subject:
    """The subject with a copy of its defence to ask, so that it stays as it came.

    With the defence itself where it cannot be copied, for whatever reason.
    """
    try:
        return dataclasses.replace(subject, defense=copied(subject.defense))
    except Exception:
        return subject


def _fresh(defense: Defense) -> Defense | None:
    """None where it cannot be copied, whatever the reason; the finding ``state-changed`` has it."""
    try:
        return Fresh(inner=defense)
    except Exception:
        return None


def _fixed_mates(subject: Subject) -> tuple[Tensor, Tensor]:
    """Clean images that stand beside each sample, and which sample each is; -1 for none."""
    pool = clean_pool(subject.data, subject.samples)
    numbers = torch.full((len(pool),), -1)
    if len(pool) == 0:  # then the others that are evaluated, and one to spare for a sample's own
        numbers = spread(subject.samples)
        pool = subject.data.images(numbers)
    order = Streams.of(subject.seed, "as found", torch.zeros(1, dtype=torch.int64))
    chosen = order.permutation(len(pool))[0][: MATES + 1]
    return pool[chosen].to(subject.device), numbers[chosen].to(subject.device)


def as_dataset(data: Dataset | tuple[Any, Any]) -> Dataset:
    """A data set as it is, or (images, labels) as one."""
    return data if isinstance(data, Dataset) else from_arrays(*data)


def inputs_of(spec: Spec, subject: Subject) -> dict[str, Any]:
    """Hashes of all that went in, for the manifest."""
    if spec.checkpoint is not None:
        checkpoint = sha256_of(Path(spec.checkpoint))
    else:
        checkpoint = _state_hash(subject.defense.model)
    code = {} if (file := file_of(spec.model)) is None else {"model_code_sha256": sha256_of(file)}
    return {
        "device": _device_name(subject.device),
        "checkpoint_sha256": checkpoint,
        **code,
        **({} if subject.code is None else {"module_code_sha256": subject.code}),
        **_code_of(spec),
        **_files_of(subject.defense),
        **_pictures_of(spec),
        **_pool_of(subject.defense),
        "data_sha256": dict(subject.data.sha256),
    }


def names_of(data: Dataset) -> dict[str, Any]:
    """The names of the classes, for the manifest; nothing where they are only numbers."""
    if data.class_names == tuple(map(str, range(data.classes))):
        return {}
    return {"class_names": list(data.class_names)}


def _files_of(defense: Defense) -> dict[str, Any]:
    if not defense.files:
        return {}
    return {"defense_files_sha256": {file: sha256_of(Path(file)) for file in defense.files}}


def _pictures_of(spec: Spec) -> dict[str, Any]:
    """Files that corruptions read."""
    named = spec.corruptions if isinstance(spec, CorruptSpec) else ()
    files = [file for one in named for file in one.build(CORRUPTIONS, "corruptions").files]
    if not files:
        return {}
    return {"corruption_files_sha256": {str(file): sha256_of(file) for file in files}}


def _pool_of(defense: Defense) -> dict[str, Any]:
    """Which clean images it draws mates from: other samples in the run may leave it others."""
    mates = getattr(defense, "mates", None)
    if not isinstance(mates, Tensor):
        return {}
    return {"mates_sha256": hashlib.sha256(mates.cpu().contiguous().numpy().tobytes()).hexdigest()}


def _code_of(spec: Spec) -> dict[str, Any]:
    """Files of the user's that components are in: an edit of one makes another component."""
    components = [spec.defense, *getattr(spec, "attacks", ())]
    if (method := getattr(spec, "method", None)) is not None:
        components.append(method)
    files = {c.name: file for c in components if (file := file_of(c.name)) is not None}
    if not files:
        return {}
    return {"code_sha256": {name: sha256_of(file) for name, file in files.items()}}


def device_of(name: str) -> torch.device:
    """A device by name; ``auto`` takes the GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"no device is called {name!r}; use cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r} is not there: torch finds no CUDA GPU; use cpu")
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device {name!r} is not supported; use cpu, cuda or cuda:1")
    return device


def choose(spec: Spec, available: int, name: str) -> Tensor:
    """The samples a spec asks for, as ascending indices in the split."""
    if spec.indices:
        wrong = [i for i in spec.indices if not 0 <= i < available]
        if wrong:
            raise DataError(
                f"index {wrong[0]} is not in {name}, which has samples 0 to {available - 1}"
            )
        return torch.tensor(sorted(spec.indices))
    if spec.samples is not None and spec.samples > available:
        raise DataError(f"samples = {spec.samples}, but {name} has {available}; ask for fewer")
    return torch.arange(available if spec.samples is None else spec.samples)


def clean_pool(data: Dataset, samples: Tensor) -> Tensor:
    """Up to POOL clean images that are not evaluated: of the same split, else of the other."""
    rest = torch.ones(len(data), dtype=torch.bool)
    rest[samples] = False
    unused = rest.nonzero().squeeze(1)
    if len(unused) >= POOL:
        return data.images(spread(unused))
    try:
        train = load_data(data.name, split="train")
    except RobustcodeError:
        return data.images(unused) if len(unused) else data.images(samples[:0])
    # Where both splits are the same samples, the evaluated ones are kept out of the pool.
    if len(train) == len(data) and dict(train.sha256) == dict(data.sha256):
        return data.images(unused)
    return train.images(spread(torch.arange(len(train))))


def spread(indices: Tensor, most: int = POOL) -> Tensor:
    """At most so many of ``indices``, evenly spaced, so that sorted classes are all there."""
    count = min(most, len(indices))
    return indices[torch.linspace(0, len(indices) - 1, count).long()]


def _code_in(subject: Subject, spec: Spec) -> str:
    """What tells a model that was passed from others, but for its weights.

    It is told before a pass and after it. Another pass comes before both: a module may make what it
    computes with when it is first asked.
    """
    model = _try(subject, spec)
    made = settings_in(model)
    # Another image, so that what it keeps of the last one differs.
    with suppress(Exception):  # what it cannot take is a matter of the run
        _ask(model, 1 - subject.images(subject.samples[:1]))
    return unchanged(made, settings_in(model))


def _ask(model: nn.Module, x: Tensor) -> Any:
    """Whatever a model returns for images, and none of torch's own draws."""
    with torch.no_grad(), borrowed(model), torch.random.fork_rng(devices=[]):
        return model(x)


def _try(subject: Subject, spec: Spec) -> nn.Module:
    """One image through the model, so that a wrong shape is a sentence before the run starts.

    The model that was asked: a copy, where one can be made.
    """
    x = subject.images(subject.samples[:1])
    model = subject.defense.model
    # A model may remember it; the run is to find it as it came.
    with suppress(Exception):
        model = copied(model)
    try:
        scores = _ask(model, x)
    except (Exception, SystemExit) as cause:
        raise ConfigError(
            f"model {spec.model!r} cannot take images of shape {tuple(x.shape[1:])} from "
            f"{subject.data.name!r}: {str(cause).splitlines()[0] if str(cause) else cause!r}"
        ) from cause
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != 1:
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ConfigError(
            f"model {spec.model!r} returned {shape} for one image; logits have shape (1, classes)"
        )
    labels = subject.data.labels[subject.samples.numpy()]
    if labels.max() >= scores.shape[1]:
        sample = subject.samples[int(labels.argmax())]
        raise DataError(
            f"sample {int(sample)} of {subject.data.name!r} has label {labels.max()}, but model "
            f"{spec.model!r} tells only {scores.shape[1]} classes apart"
        )
    return model


def _state_hash(model: nn.Module) -> str:
    """sha256 over names and bytes of the weights, for models that came without a file."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(
                value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            )
    return digest.hexdigest()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def summary_labels(spec: Spec) -> Mapping[str, str]:
    """How the run names what it evaluated."""
    plain = dataclasses.asdict(spec)
    return {
        "model": plain["model"],
        "checkpoint": Path(spec.checkpoint).name if spec.checkpoint else "",
        "defense": str(spec.defense),
        "data": spec.data,
        "threat": str(spec.threat) if isinstance(spec, ThreatSpec) else "",
        "adversary": str(spec.adversary),
        "suite": (spec.suite or "") if isinstance(spec, RunSpec) else "",
    }
