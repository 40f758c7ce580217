"""Fifteen common corruptions of images at five severities. Importing this registers them.

Ways that images go bad by themselves: nobody chooses them to mislead a classifier.
"""

from robustcode.corruptions import blur, digital, frost, noise, weather  # noqa: F401 - register
from robustcode.corruptions.base import (
    CORRUPTIONS,
    SEVERITIES,
    Corruption,
    Group,
    Scale,
    every,
    named,
    refuse_shape,
)

__all__ = [
    "CORRUPTIONS",
    "SEVERITIES",
    "Corruption",
    "Group",
    "Scale",
    "every",
    "named",
    "refuse_shape",
]
