"""Linear and interval bounds of networks over a region of inputs."""

from robustcode.bounds.crown import crown, crown_bounds
from robustcode.bounds.interval import interval_bounds
from robustcode.bounds.linear import Linear, interval_margins, linear_bounds, margins
from robustcode.bounds.lipschitz import local_lipschitz
from robustcode.bounds.network import Network, Node, network_of
from robustcode.bounds.region import Interval, Region
from robustcode.bounds.relaxation import Choice, Line, Relaxations, relaxed
from robustcode.bounds.rounding import forward_error, sizes_of

__all__ = [
    "Choice",
    "Interval",
    "Line",
    "Linear",
    "Network",
    "Node",
    "Region",
    "Relaxations",
    "crown",
    "crown_bounds",
    "forward_error",
    "interval_bounds",
    "interval_margins",
    "linear_bounds",
    "local_lipschitz",
    "margins",
    "network_of",
    "relaxed",
    "sizes_of",
]
