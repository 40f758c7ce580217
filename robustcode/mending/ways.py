"""The ways of mending by name, and what several of them are together."""

from __future__ import annotations

from robustcode.errors import UnknownNameError
from robustcode.mending.base import Keeps, Way
from robustcode.mending.blur import Blur
from robustcode.mending.double import Double
from robustcode.mending.identity import IdentityBackward
from robustcode.mending.inside import Inside
from robustcode.mending.log import Log
from robustcode.mending.presoftmax import BeforeSoftmax
from robustcode.mending.scale import Scale
from robustcode.mending.through import Through
from robustcode.registry import suggestion

# From the inside out: each is around those before it, in whatever order they are named. What looks
# at the model's own calls sees them before they are replaced; what works on scores comes after.
WAYS: dict[str, Way] = {
    "inside": Inside(),
    "identity": IdentityBackward(),
    "presoftmax": BeforeSoftmax(),
    "through": Through(),
    "double": Double(),
    "log": Log(),
    "scale": Scale(),
    "blur": Blur(),
}
"""The ways of mending by name; ``NAME+NAME`` names several at once."""


def named(way: str) -> list[Way]:
    """The ways that a name such as ``through+double`` stands for, innermost first."""
    names = [name.strip() for name in way.split("+")]
    for name in names:
        if name not in WAYS:
            raise UnknownNameError(
                f"no way of mending is called {name!r}.{suggestion(name, WAYS)} "
                f"Known: {', '.join(WAYS)}, and several as NAME+NAME."
            )
    return [WAYS[name] for name in WAYS if name in names]


def is_stochastic(way: str) -> bool:
    """Whether a face mended so is stochastic whatever the defence is."""
    return any(one.stochastic for one in named(way))


def keeps(way: str) -> Keeps:
    """What scores mended so have in common with the defence's own."""
    kept = {one.keeps for one in named(way)}
    return max(kept, key=list(Keeps).index)
