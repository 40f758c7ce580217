"""The official AutoAttack package, as ``autoattack:standard``, ``:plus`` or ``:rand``."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from robustcode.attacks.base import ATTACKS
from robustcode.attacks.peers import NAMES, Peer, imported, peer_class
from robustcode.registry import Family
from robustcode.threat import ThreatModel

PREFIX = "autoattack"
VERSIONS = {
    "plus": "The official AutoAttack with more restarts and untargeted attacks too",
    "rand": "The official AutoAttack for random defences: 20 draws a step",
    "standard": "The official AutoAttack: APGD-CE, targeted APGD-DLR, targeted FAB, Square",
}


class AutoAttackPeer(Peer):
    """The official code, one batch at a time.

    It returns the input itself for a sample that it did not break, and drops samples that one
    draw got wrong: under a random defence its own verdicts are too low, and ours are not its.

    Source: Croce and Hein 2020, arXiv:2003.01690; https://github.com/fra31/auto-attack.
    """

    version: ClassVar[str]
    bounded = True

    def search(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        """See Peer.search."""
        suite = imported(PREFIX).AutoAttack(
            model,
            norm=NAMES[threat.norm],
            eps=threat.eps,
            seed=seed,
            verbose=False,
            version=self.version,
            device=x.device,
        )
        # It goes for nine classes, whether there are as many or not.
        with torch.no_grad():
            wrong = model(x[:1]).shape[1] - 1
        for attack in (suite.apgd_targeted, suite.fab):
            attack.n_target_classes = min(attack.n_target_classes, wrong)
        found: Tensor = suite.run_standard_evaluation(x, y, bs=len(x))
        return found


def _make(short: str) -> type[Peer]:
    return peer_class(
        AutoAttackPeer, f"{PREFIX}:{short}", [], __doc__=VERSIONS[short], version=short
    )


ATTACKS.family(
    PREFIX,
    Family(
        says="the official AutoAttack package",
        package=PREFIX,
        install="pip install git+https://github.com/fra31/auto-attack",
        example="standard",
        names=lambda: VERSIONS,
        make=_make,
    ),
)
