"""What a TrainSpec names, loaded: the samples, the network, and what tells two runs apart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robustcode.components import settings_of
from robustcode.data import Dataset, load_data
from robustcode.errors import ConfigError, DataError
from robustcode.models import Classifier, as_classifier, build_model, inputs_of
from robustcode.seeds import Streams, seed_of
from robustcode.training.ascent import evaluating
from robustcode.training.augment import SHAPE
from robustcode.training.base import Recipe
from robustcode.training.spec import TrainSpec


class Material(NamedTuple):
    """What training needs besides the settings."""

    network: Classifier
    data: Dataset
    samples: Tensor  # int64 indices in data
    test: Dataset | None
    identity: dict[str, Any]  # equal for two calls if and only if they are the same run


def load_material(spec: TrainSpec, recipe: Recipe) -> Material:
    """Samples and network of ``spec``."""
    if isinstance(spec.data, str):
        data, test = load_data(spec.data, "train"), load_data(spec.data, "test")
    else:
        data, test = spec.data, None
    if test is not None and test.sha256 == data.sha256:
        test = None  # a source with one split: its test samples are those trained on
    if spec.augment and data.shape != SHAPE:
        raise ConfigError(
            f"augment: crops and mirroring are for images of {SHAPE}, these are {data.shape}; "
            "train without it"
        )
    samples = _samples(spec, data)
    network = _classifier(spec, data.classes)
    _check_fit(network, data, samples)
    return Material(network, data, samples, test, _identity(spec, recipe, network, data))


def _samples(spec: TrainSpec, data: Dataset) -> Tensor:
    wanted = len(data) if spec.samples is None else spec.samples
    if not 0 < wanted <= len(data):
        raise DataError(
            f"{wanted} samples to train on are asked of data that hold {len(data)}; "
            "ask for fewer or give more"
        )
    drawn = Streams.of(spec.seed, "samples", torch.zeros(1, dtype=torch.int64))
    return drawn.permutation(len(data))[0][:wanted].sort().values


def _classifier(spec: TrainSpec, classes: int) -> Classifier:
    if isinstance(spec.model, nn.Module):
        network = spec.model
    else:
        # The caller's own random numbers go on as if no network had been built.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed_of(spec.seed, "weights"))
            network = build_model(spec.model, classes)
    if not isinstance(network, Classifier):
        return as_classifier(network, spec.mean, spec.std)
    if spec.mean or spec.std:
        raise ConfigError("the model normalises inside already; leave out mean and std")
    return network


def _check_fit(network: nn.Module, data: Dataset, samples: Tensor) -> None:
    """Raise ConfigError if the network cannot take the images, or tells other classes apart."""
    inputs = next((found for module in network.modules() if (found := inputs_of(module))), None)
    if inputs is not None and inputs.shape != data.shape:
        raise ConfigError(
            f"the model takes images of {inputs.shape} and those of {data.name} are "
            f"{data.shape}; choose another model"
        )
    x = data.images(samples[:1])
    device = next((weight.device for weight in network.parameters()), x.device)
    try:
        with evaluating(network), torch.no_grad():
            scores = network(x.to(device))
    except (RuntimeError, ValueError) as cause:
        raise ConfigError(
            f"the model fails on images of {data.shape} from {data.name} "
            f"({str(cause).splitlines()[0]}); choose another model"
        ) from cause
    if scores.shape != (1, data.classes):
        raise ConfigError(
            f"the model gives scores of shape {tuple(scores.shape)} for one image where "
            f"{data.name} needs {(1, data.classes)}; choose another model"
        )


def _identity(
    spec: TrainSpec, recipe: Recipe, network: Classifier, data: Dataset
) -> dict[str, Any]:
    """Settings and hashes of inputs; no folders, so that a data set that moved is the same."""
    loaded = ("recipe", "model", "data")
    model = spec.model if isinstance(spec.model, str) else type(spec.model).__name__
    mean, std = network.normalization
    return {
        "recipe": {"name": spec.component.name, **settings_of(recipe)},
        "model": Path(model).name,
        "weights": _weights_hash(network),
        "data": {"name": Path(data.name.partition(":")[0]).name, "sha256": dict(data.sha256)},
        **{key: value for key, value in settings_of(spec).items() if key not in loaded},
        "samples": spec.samples,
        "mean": list(mean),
        "std": list(std),
    }


def _weights_hash(network: nn.Module) -> str:
    """The sha256 of the weights training starts from."""
    digest = hashlib.sha256()
    for key, value in network.state_dict().items():
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
