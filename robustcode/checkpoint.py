"""A file of weights and an architecture become a classifier. The file is data, never code."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from importlib.resources import as_file
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from robustcode.errors import CheckpointError, ConfigError
from robustcode.models import Classifier, as_classifier, build_model
from robustcode.models.build import is_registered
from robustcode.models.fit import classes_of, load_weights, unwrapped
from robustcode.models.shipped import shipped_weights

# Where training scripts put the weights in what they save, the plain ones before an average.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "ema",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
)

# Wrappers inside wrappers: more than any real file has, far less than Python can descend.
DEPTH = 8

REMEDY = (
    "read it where you trust it and save the weights alone, with safetensors or "
    "torch.save(model.state_dict(), FILE)"
)


def load_classifier(
    spec: str,
    checkpoint: Path | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    classes: int | None = None,
) -> Classifier:
    """The classifier ``spec`` with the weights of ``checkpoint``, or those shipped for it.

    It takes images in [0, 1] and computes in float32. It has at least ``classes`` classes, and
    as many as the weights tell apart: data may lack samples of the last ones. Registered and
    timm networks come in eval mode; what a user's callable returns stays in the mode it came in,
    and needs no checkpoint.

    The normalisation inside is the first of: ``mean`` and ``std``; what the checkpoint says (a
    file of ``save_checkpoint`` does); what the architecture's published weights expect, see
    ``models.Inputs``; none. ``classifier.normalization`` tells which values are in use.
    """
    network = build_model(spec, classes)
    built_here = is_registered(spec) or spec.startswith("timm:")
    shipped = shipped_weights(spec)
    said: dict[str, str] = {}
    if checkpoint is not None:
        network, said = _loaded(network, Path(checkpoint), spec, classes)
    elif shipped is not None:
        if not shipped.is_file():
            raise CheckpointError(
                f"the shipped weights of {spec!r} are missing from this installation "
                f"({shipped.name}); reinstall robustcode or give --checkpoint FILE"
            )
        with as_file(shipped) as path:
            network, said = _loaded(network, path, spec, classes)
    elif built_here:
        raise ConfigError(f"model {spec!r} has no weights of its own; give --checkpoint FILE")
    if mean or std:
        classifier = as_classifier(network, mean, std)
    elif "mean" in said:
        classifier = as_classifier(
            network, _numbers(said, "mean", checkpoint), _numbers(said, "std", checkpoint)
        )
    else:
        classifier = as_classifier(network)
    classifier.float()
    return classifier.eval() if built_here else classifier


def _loaded(
    network: nn.Module, path: Path, spec: str, classes: int | None
) -> tuple[nn.Module, dict[str, str]]:
    """The network with the weights in it, and what the file says about itself."""
    state = read_state_dict(path)
    more = classes_of(network, state, classes)
    if more is not None:
        network = build_model(spec, more)
    load_weights(network, state, str(path), spec, classes)
    return network, read_metadata(path)


def _numbers(said: Mapping[str, str], key: str, source: object) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in said.get(key, "").split(",") if value)
    except ValueError:
        raise CheckpointError(
            f"{source or 'the checkpoint'} says {key} = {said[key]!r}, which are not numbers; "
            "give --mean and --std"
        ) from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The weights in a safetensors or torch file, by key, on the CPU.

    The state dict is found under the usual wrappers (a key such as ``state_dict``, the first
    element of a list), and the prefixes that wrapping modules give to all keys are removed.
    """
    _require_file(path)
    content = _read_safetensors(path) if _is_safetensors(path) else _read_torch(path)
    state = _find(content, DEPTH, set())
    if not state:
        raise CheckpointError(
            f"{path} holds {_outline(content)}, in which no state dict can be told from the rest; "
            "save model.state_dict() alone"
        )
    broken = [
        key
        for key, value in state.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise CheckpointError(
            f"{path} has NaN or infinite weights in {len(broken)} of {len(state)} tensors, first "
            f"in {broken[0]}; its training diverged or the file is damaged: use another"
        )
    return {name: state[key].detach() for key, name in unwrapped(state).items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself; nothing for a torch file."""
    _require_file(path)
    if not _is_safetensors(path):
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as cause:
        raise _unreadable(path, cause) from cause


def save_checkpoint(model: nn.Module, path: Path, metadata: Mapping[str, str]) -> None:
    """Write the weights of ``model`` as safetensors: whole, or not at all.

    Of a Classifier the plain network is written, so that the file loads into the architecture,
    and ``mean`` and ``std`` go into the metadata, so that it is evaluated as it was trained.
    Equal weights and metadata give equal bytes.
    """
    said = dict(metadata)
    if isinstance(model, Classifier):
        for key, values in zip(("mean", "std"), model.normalization, strict=True):
            said[key] = ",".join(map(repr, values))
        model = model.network
    # Clones: safetensors refuses tensors that share memory, such as tied weights.
    state = {
        key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()
    }
    data = _in_order(safetensors.torch.save(state, metadata=said))
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as cause:
        raise CheckpointError(
            f"the weights cannot be written to {path} ({cause.strerror}); choose another file"
        ) from cause


def sha256_of(path: Path | Traversable) -> str:
    """The file's SHA-256 in hexadecimal."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read ({cause.strerror})") from cause
    return digest.hexdigest()


def _in_order(data: bytes) -> bytes:
    """The same file with its metadata sorted: safetensors writes them in the order of a hash."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the tensors stay aligned to 8 bytes
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name the file of weights in it")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}; check the path") from None
    except OSError as cause:
        raise CheckpointError(f"{path} cannot be read ({cause.strerror})") from cause
    if empty:
        raise CheckpointError(f"{path} is empty; fetch or save it again")


def _is_safetensors(path: Path) -> bool:
    """By content where it can be told: eight bytes of length, then JSON. Else by name."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" or path.suffix == ".safetensors"


def _read_safetensors(path: Path) -> Any:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as cause:
        raise _unreadable(path, cause) from cause


def _read_torch(path: Path) -> Any:
    """What torch's unpickler builds when it may build tensors and plain containers only."""
    try:
        with warnings.catch_warnings():
            # It announces a TorchScript file, which it then refuses, as we say below.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as cause:
        code = _code(path, str(cause))
        if code is None:
            raise _unreadable(path, cause) from cause
        raise CheckpointError(
            f"{path} is refused: reading it could run code ({code}); {REMEDY}"
        ) from cause
    except Exception as cause:  # damaged files raise anything: EOFError, KeyError, ValueError, ...
        if "TorchScript" in str(cause):
            raise CheckpointError(
                f"{path} is refused: a TorchScript file is a program and not weights; {REMEDY}"
            ) from cause
        raise _unreadable(path, cause) from cause


def _code(path: Path, message: str) -> str | None:
    """What the pickle asks for beyond tensors, or None if it is no pickle but a damaged file."""
    named = re.search(r"GLOBAL (\S+)|[Cc]lass (\S+)", message)
    if named:
        return f"it asks for {(named[1] or named[2]).rstrip('.')}"
    with path.open("rb") as file:
        is_pickle = file.read(1) == b"\x80"
    return "it is a general pickle" if is_pickle and "nsupported operand" in message else None


def _unreadable(path: Path, cause: BaseException) -> CheckpointError:
    return CheckpointError(
        f"{path} is damaged, cut short or no checkpoint ({type(cause).__name__}); fetch or save "
        "it again as safetensors or with torch.save"
    )


def _find(content: Any, depth: int, seen: set[int]) -> dict[str, Tensor]:
    """The state dict in what a file holds; empty if there is none or not a single one."""
    # Each container is looked at once: a file made to refer to itself ends too.
    if depth == 0 or id(content) in seen:
        return {}
    seen.add(id(content))
    if isinstance(content, list | tuple):
        return _find(content[0], depth - 1, seen) if content else {}
    if not isinstance(content, Mapping):
        return {}
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor)
    }
    if len(tensors) == len(content):
        return tensors
    for key in WRAPPERS:
        found = _find(content.get(key), depth - 1, seen)
        if found:
            return found
    # A wrapper under a name of its own is taken if no other entry could be meant.
    inner = [found for value in content.values() if (found := _find(value, depth - 1, seen))]
    if len(inner) == 1 and not tensors:
        return inner[0]
    return tensors if not inner else {}


def _outline(content: Any) -> str:
    if isinstance(content, Mapping):
        keys = [str(key) for key in content]
        return f"a dict with the keys {', '.join(keys[:5]) or '(none)'}{', ...' * (len(keys) > 5)}"
    return f"a {type(content).__name__}"
