"""Weights into the network they belong to, or a sentence about which network that would be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robustcode.errors import CheckpointError
from robustcode.models.base import MODELS

# What wrappers put before every key: DataParallel, compile, and classes holding a network.
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")

# A counter that plain batch norm never reads; files written before 2018 do not have it.
COUNTER = "num_batches_tracked"

# What torch.optim.swa_utils.AveragedModel saves beside the network.
AVERAGED = "n_averaged"

# Keys of each kind that a message names before it only counts.
NAMED = 3

Signature = frozenset[tuple[str, tuple[int, ...]]]


class Near(NamedTuple):
    """A registered architecture, and how much of it some weights have."""

    name: str
    share: float  # keys with equal shapes in both, of the keys in either


def unwrapped(keys: Iterable[str]) -> dict[str, str]:
    """Key -> the same key without the prefixes that all keys share, for every weight.

    >>> unwrapped(["module.fc.weight", "module.fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}
    """
    names = {key: key for key in keys if key != AVERAGED}
    while True:
        prefix = next(
            (p for p in PREFIXES if names and all(name.startswith(p) for name in names.values())),
            None,
        )
        if prefix is None:
            return names
        names = {key: name.removeprefix(prefix) for key, name in names.items()}


def load_weights(
    network: nn.Module, state: Mapping[str, Tensor], source: str, spec: str, classes: int | None
) -> None:
    """Copy every tensor of ``state`` into ``network``, or raise without changing it.

    Args:
        network: takes the weights in place, in its own precision.
        state: key -> tensor, with or without the prefixes of wrappers.
        source: where the weights came from, for the message.
        spec: what the user called the network, for the message.
        classes: as the network was built, to compare with others of as many classes.
    """
    ignored: tuple[str, ...] = getattr(network, "unused_keys", ())
    offered = {
        name: state[key] for key, name in unwrapped(state).items() if not name.startswith(ignored)
    }
    own = network.state_dict()
    wanted = {name: key for key, name in unwrapped(own).items()}
    missing = [name for name in wanted if name not in offered and not name.endswith(COUNTER)]
    unexpected = [name for name in offered if name not in wanted and not name.endswith(COUNTER)]
    shapes = [
        f"{name} is {tuple(offered[name].shape)} there and {tuple(own[key].shape)} in the network"
        for name, key in wanted.items()
        if name in offered and offered[name].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            _listed(missing, "missing"),
            _listed(unexpected, "unexpected"),
            _listed(shapes, "of another shape"),
        ]
        near = nearest(state, classes)
        advice = (
            f"the nearest registered architecture is {near.name!r}, with "
            f"{near.share:.0%} of keys and shapes in common"
            if near
            else "no registered architecture has any of its keys and shapes"
        )
        raise CheckpointError(
            f"{source} does not fit {spec!r}: {', '.join(filter(None, parts))}; {advice}"
        )
    values = {key: offered.get(name, own[key]) for name, key in wanted.items()}
    network.load_state_dict(values)


def classes_of(network: nn.Module, state: Mapping[str, Tensor], at_least: int | None) -> int | None:
    """Classes of the network that ``state`` is of, if it is ``network`` but for their number.

    None if the weights fit as they are, are of another architecture, or tell fewer than
    ``at_least`` classes apart.
    """
    offered = {name: state[key].shape for key, name in unwrapped(state).items()}
    own = network.state_dict()
    wanted = {name: own[key].shape for key, name in unwrapped(own).items()}
    # One pair of numbers, the first of every shape that differs: the rows of the last layer.
    pairs = {
        (shape[0], offered[name][0]) if shape[1:] == offered[name][1:] else None
        for name, shape in wanted.items()
        if name in offered and offered[name] != shape and shape and offered[name]
    }
    pair = pairs.pop() if len(pairs) == 1 else None
    if pair is None or pair[1] < max(2, at_least or 2):
        return None
    return int(pair[1])


def nearest(state: Mapping[str, Tensor], classes: int | None = None) -> Near | None:
    """The registered architecture that shares most keys and shapes with ``state``, if any does.

    Nothing is computed or held in memory: the networks are built on the meta device.
    """
    found = _signature(state)
    nears = []
    for name in MODELS:
        try:
            with torch.device("meta"):
                network = MODELS.get(name)(**({} if classes is None else {"classes": classes}))
        except Exception:  # a broken plug-in spoils only its own name, and not this message
            continue
        wanted = _signature(network.state_dict())
        nears.append(Near(name, len(found & wanted) / max(1, len(found | wanted))))
    best = max(nears, key=lambda near: near.share)
    return best if best.share > 0 else None


def _signature(state: Mapping[str, Tensor]) -> Signature:
    return frozenset(
        (name, tuple(state[key].shape))
        for key, name in unwrapped(state).items()
        if not name.endswith(COUNTER)
    )


def _listed(found: list[str], what: str) -> str:
    if not found:
        return ""
    more = ", ..." if len(found) > NAMED else ""
    return f"{len(found)} key{'s' * (len(found) > 1)} {what} ({', '.join(found[:NAMED])}{more})"
