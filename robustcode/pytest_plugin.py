"""A pytest fixture by which a project tests how robust its model is.

Installed with this package under the name ``robustcode``; ``-p no:robustcode`` leaves it out.
Nothing heavy is imported before a test asks for the fixture: every test run of everybody who has
the package installed imports this module.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from robustcode.store import Run


@pytest.fixture(name="assert_robust")
def _assert_robust(tmp_path: Path) -> Callable[..., Run]:
    """Attack a model and fail unless it keeps so much: see robustcode.assert_robust.

    Run folders go into the test's temporary folder unless ``out`` is given.
    """
    from robustcode import assert_robust

    numbers = itertools.count(1)

    def checked(*args: Any, out: str | Path | None = None, **named: Any) -> Run:
        __tracebackhide__ = True
        folder = tmp_path / f"robustcode-{next(numbers)}" if out is None else out
        return assert_robust(*args, out=folder, **named)

    return checked
