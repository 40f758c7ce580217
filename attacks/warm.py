"""Going on from where an earlier run stopped, as a rule at a smaller eps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor

from robustcode.attacks.base import ATTACKS, Attack, Target
from robustcode.attacks.losses import LossName
from robustcode.attacks.pgd import PGD
from robustcode.attacks.started import StartedPGD
from robustcode.errors import ConfigError
from robustcode.seeds import Streams
from robustcode.store import load_run
from robustcode.threat import ThreatModel


@ATTACKS.register("warm")
@dataclass(frozen=True, kw_only=True)
class Warm(Attack):
    """The proposals of an earlier run on the same defence, and PGD on the margin from there.

    A sample that the earlier run broke is offered the same input again, at no pass: where it is
    still allowed it still breaks. All others start at the earlier proposal, taken into what is
    allowed now, or at the sample itself if the earlier run has none. So without a ``run`` this is
    PGD on the margin from the sample itself.

    Source: the ascent, Madry et al. 2018, arXiv:1706.06083, section 2.1; accuracy over a range of
    eps, Carlini et al. 2019, arXiv:1902.06705, section 4; its warm start is this package's own.

    Attributes:
        run: the folder of the earlier run; empty for none.
        steps: ascent steps from the earlier proposals.
        step: length of one step as a fraction of ``threat.eps``.
        draws: draws of the defence averaged per step.
        held_out: draws on which candidates are compared; used for stochastic targets only.
    """

    run: str = ""
    steps: int = 20
    step: float = 0.2
    draws: int = 1
    held_out: int = 16

    def __post_init__(self) -> None:
        self._ascent(torch.zeros(0, dtype=torch.int64), torch.zeros(0))
        if self.run:
            load_run(self.run)

    def perturb(
        self, target: Target, x: Tensor, y: Tensor, threat: ThreatModel, streams: Streams
    ) -> Tensor:
        """See Attack.perturb."""
        x_adv, broken = self._earlier(x, streams.samples)
        if len(x):
            broken = broken & (threat.distance(x_adv, x) <= threat.eps + threat.rounding(x))
        rest = (~broken).nonzero().squeeze(1)
        if len(rest):
            ascent = self._ascent(streams.samples[rest], x_adv[rest])
            x_adv[rest] = ascent.perturb(target, x[rest], y[rest], threat, streams[rest])
        return x_adv

    def _ascent(self, samples: Tensor, starts: Tensor) -> PGD:
        return StartedPGD(
            steps=self.steps,
            step=self.step,
            draws=self.draws,
            held_out=self.held_out,
            loss=LossName.MARGIN,
            samples=samples,
            starts=starts,
        )

    def _earlier(self, x: Tensor, samples: Tensor) -> tuple[Tensor, Tensor]:
        """The earlier proposal for each sample, and whether that broke it."""
        x_adv, broken = x.clone(), torch.zeros(len(x), dtype=torch.bool, device=x.device)
        if not self.run:
            return x_adv, broken
        for file in load_run(self.run).adversarial:
            with safe_open(file, framework="pt") as shard:
                known = shard.get_tensor("sample").to(samples.device)
                pairs = samples[:, None] == known
                if not pairs.any():
                    continue
                found = shard.get_tensor("x_adv").to(x)
                if found.shape[1:] != x.shape[1:]:
                    raise ConfigError(
                        f"run {self.run!r} holds inputs of shape {tuple(found.shape[1:])}, not "
                        f"{tuple(x.shape[1:])}; warm needs a run on the same data"
                    )
                mine, theirs = pairs.nonzero().unbind(1)
                x_adv[mine] = found[theirs]
                if "broken" in shard.keys():  # noqa: SIM118 - not a mapping; absent in old folders
                    broken[mine] = shard.get_tensor("broken").to(x.device)[theirs]
        return x_adv, broken
