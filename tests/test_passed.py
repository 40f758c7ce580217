"""A module or data that a Python caller passed: given back as it came, and told from others."""

from __future__ import annotations

import enum
import functools
import json
import pickle
import re
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import robustcode
from robustcode.config import describe
from robustcode.errors import ConfigError, StoreError
from robustcode.passed import lent
from robustcode.store import Run
from robustcode.subject import Given, as_dataset, assemble


class Linear(nn.Module):
    """Scores of two classes, scaled; it counts its calls and keeps what it last saw."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale, self.calls = scale, 0
        self.last: Tensor | None = None
        self.ones: Tensor | None = None
        self.weight = nn.Parameter(torch.tensor([-1.0, 1.0]))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.last = x.flatten(1).mean(1, keepdim=True) - 0.5
        if self.ones is None:  # once and for all
            self.ones = torch.ones(2)
        return self.scale * self.last * self.weight * self.ones


class Cubic(Linear):
    """The same weights and attributes, and other scores."""

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = super().forward(x) ** 3
        return scores


def data(shift: float = 0.0) -> tuple[Tensor, Tensor]:
    x = torch.linspace(0.3, 0.7, 8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).contiguous()
    return x + shift, (x.flatten(1).mean(1) > 0.5).long()


def attack(out: Path, model: nn.Module, given: tuple[Tensor, Tensor] | None = None) -> Run:
    return robustcode.attack(
        model, given or data(), "linf:0.05", out, attacks=["fgsm"], progress=False
    )


def code(model: nn.Module) -> str | None:
    """What tells the module from others of the same weights."""
    spec = describe(model="m", data="d", threat="linf:0.05", attacks=["fgsm"])
    return assemble(spec, Given(model, as_dataset(data()))).code


def _with(**attributes: Any) -> Linear:
    model = Linear()
    vars(model).update(attributes)
    return model


def _hooked() -> Linear:
    model = Linear()
    model.register_forward_hook(lambda module, given, scores: scores.round())
    return model


def _unsaved() -> Linear:
    model = Linear()
    model.register_buffer("mean", torch.zeros(1), persistent=False)
    return model


def _from_a_prompt(forward: str) -> nn.Module:
    """A class whose source nobody can read."""
    there: dict[str, Any] = {"nn": nn}
    exec(f"class Net(nn.Module):\n    def forward(self, x): return {forward}\n", there)
    net: nn.Module = there["Net"]()
    return net


def test_the_same_call_goes_on_and_other_code_or_data_is_refused(tmp_path: Path) -> None:
    out, model = tmp_path / "run", nn.Sequential(Linear())
    first = attack(out, model)
    kept = {file: file.stat().st_mtime_ns for file in out.glob("records/*")}
    model(data()[0])  # it counts that, and keeps it
    model.train()
    assert attack(out, model).digest == first.digest
    assert attack(out, nn.Sequential(Linear())).digest == first.digest
    assert {file: file.stat().st_mtime_ns for file in out.glob("records/*")} == kept
    for other in (Cubic(), Linear(scale=2)):
        with pytest.raises(StoreError, match="holds a run of another module") as refused:
            attack(out, nn.Sequential(other))
        # A call has neither --out nor a command.
        assert not re.search(r"--out|command", str(refused.value))
    x, y = data()
    for given, what in (((x + 0.01, y), "images"), ((x, 1 - y), "labels")):
        with pytest.raises(StoreError, match=f"data_sha256.{what}"):
            attack(out, model, given)
    # A folder of an earlier version tells nothing of the code: it goes on as it did.
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["module_code_sha256"]
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert attack(out, nn.Sequential(Cubic())).digest == first.digest


class Kind(enum.Enum):
    """A kind whose value is shown by where it lies."""

    ONE = object()
    TWO = object()


@dataclass(slots=True)
class Settings:
    """Attributes without a table of them."""

    power: int


def _nested(levels: int) -> list[Any]:
    return [_nested(levels - 1)] if levels else []


def test_a_module_is_told_from_others_of_the_same_weights() -> None:
    others: list[Callable[[], nn.Module]] = [
        Linear,
        Cubic,
        lambda: Linear(2),
        lambda: _with(act=torch.relu),
        lambda: _with(act=torch.tanh),
        lambda: _with(act=functools.partial(torch.clamp, min=0)),
        lambda: _with(act=functools.partial(torch.clamp, min=1)),
        lambda: _with(act=lambda x: x + 1),
        lambda: _with(act=lambda x: x + 2),
        lambda: _with(means={"a": [torch.zeros(2)]}),
        lambda: _with(means={"a": [torch.ones(2)]}),
        lambda: _with(nets=[nn.Conv2d(1, 1, 1)]),
        _hooked,
        _unsaved,
        lambda: nn.Sequential(nn.Flatten(), nn.ReLU()),
        lambda: nn.Sequential(nn.Flatten(), nn.GELU()),
        lambda: _from_a_prompt("x.flatten(1)"),
        lambda: _from_a_prompt("x.flatten(1) * 2"),
        lambda: _with(kind=Kind.ONE),
        lambda: _with(kind=Kind.TWO),
        lambda: _with(settings=Settings(1)),
        lambda: _with(settings=Settings(2)),
        lambda: _with(names=np.array(["a", "b"], dtype=object)),
        lambda: _with(names=np.array(["a", "c"], dtype=object)),
        lambda: _with(roots=torch.tensor([1j]).conj()),
        lambda: _with(roots=torch.tensor([1j])),
        lambda: _with(nested=_nested(900)),
    ]
    torch.manual_seed(0)
    found = [code(make()) for make in others]
    assert len({*found}) == len(others)
    torch.manual_seed(0)
    assert [code(make()) for make in others] == found
    assert code(pickle.loads(pickle.dumps(Linear()))) == found[0]


# --- given back


class Interrupted(Linear):
    """Somebody loses patience after some calls."""

    def forward(self, x: Tensor) -> Tensor:
        scores = super().forward(x)
        if self.calls > 4:
            raise KeyboardInterrupt
        return scores


@pytest.mark.parametrize("what", [{}, {"lock": threading.Lock()}], ids=["copied", "not copied"])
def test_an_interrupt_leaves_the_module_as_it_came(tmp_path: Path, what: dict[str, Any]) -> None:
    part = Interrupted()
    vars(part).update(what)
    model = nn.Sequential(part, nn.Dropout(0.5).eval())
    weight, hooks = part.weight, dict(part._forward_pre_hooks)
    with pytest.raises(KeyboardInterrupt):
        attack(tmp_path / "run", model)
    assert (part.calls == 0) is not bool(what)
    assert [module.training for module in model.modules()] == [True, True, False]
    assert part.weight is weight
    assert weight.requires_grad
    assert weight.grad is None
    assert part._forward_pre_hooks == hooks


def test_a_module_stays_on_its_device() -> None:
    """The device that holds no values stands for a GPU."""
    model = nn.Sequential(Linear(), nn.BatchNorm1d(2))
    before = [*model.parameters(), *model.buffers()]
    copy = lent(model, torch.device("meta"))
    assert {one.device.type for one in (*copy.parameters(), *copy.buffers())} == {"meta"}
    after = [*model.parameters(), *model.buffers()]
    assert all(one is other for one, other in zip(before, after, strict=True))
    assert {one.device.type for one in after} == {"cpu"}


def test_what_can_be_neither_copied_nor_is_there_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2, device="meta"))
    with pytest.raises(ConfigError, match="is on meta and no copy of it can be made on cpu"):
        attack(tmp_path / "run", model)
    assert not (tmp_path / "run").exists()


def test_a_module_in_torchscript_is_refused() -> None:
    with warnings.catch_warnings(action="ignore"):  # that newer versions of Python lack it
        scripted = torch.jit.script(nn.Linear(16, 2))
    with pytest.raises(ConfigError, match="'m' has parts in TorchScript"):
        code(nn.Sequential(nn.Flatten(), scripted))
