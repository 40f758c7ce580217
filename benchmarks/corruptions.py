"""Time of each corruption beside imagecorruptions, and the tables of runs of `robustcode corrupt`.

python benchmarks/corruptions.py times --data DIR [--images 20]
python benchmarks/corruptions.py table RUN ..
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from robustcode.corruptions import CORRUPTIONS, SEVERITIES, Scale, every
from robustcode.store import load_run

ROOT = Path(__file__).parents[1]
# Sides of the images in pixels: those of CIFAR-10, and of the set whose strengths both have.
SIDES = (32, 224)
ROUNDS = 3


def peer() -> Any:
    """The module of imagecorruptions, as the tests load it."""
    path = ROOT / "tests" / "corruptions" / "peer.py"
    spec = importlib.util.spec_from_file_location("corruptions_peer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.load()


def milliseconds(work: Callable[[NDArray[np.uint8], int], Any], images: list[Any]) -> float:
    """CPU time an image, over all severities: the least of a few rounds, since others run too."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for image in images:
            for severity in SEVERITIES:
                work(image, severity)
        rounds.append(time.process_time() - started)
    return 1e3 * min(rounds) / (len(images) * len(SEVERITIES))


def times(data: Path, count: int) -> None:
    """One line a corruption: ours and the peer's, for small and for large images."""
    with np.load(data / "test.npz") as held:
        small = list(held["images"][:count])
    theirs = peer()
    heads = [f"{whose}, {side} px" for side in SIDES for whose in ("ours", "imagecorruptions")]
    print(f"| ms an image | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    for name in every():
        one, function = CORRUPTIONS.get(name)(), getattr(theirs, name)
        cells = []
        for side in SIDES:
            images = small if side == 32 else [_enlarged(x, side) for x in small[: count // 5]]
            generator = np.random.default_rng(0)

            def ours(
                x: NDArray[np.uint8], severity: int, one: Any = one, draws: Any = generator
            ) -> Any:
                return one.corrupt(x / 255, severity, Scale.IMAGENET_C, draws)

            def other(x: NDArray[np.uint8], severity: int, function: Any = function) -> Any:
                return np.uint8(function(Image.fromarray(x), severity))

            cells += [f"{milliseconds(work, images):.2f}" for work in (ours, other)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _enlarged(x: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(x).resize((side, side), Image.Resampling.BICUBIC))


def table(runs: list[Path]) -> None:
    """Error, NLL, calibration error and ECE of some runs: a line a corruption, group and mean."""
    found = [load_run(run).summary for run in runs]
    heads = [
        f"{run.name}: {what}" for run in runs for what in ("error, %", "NLL", "calib., %", "ECE, %")
    ]
    print(f"| | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    means = [summary["corruption_means"] for summary in found]
    lines = {"clean": [summary["clean"] for summary in found]}
    lines |= {name: [m["corruptions"][name] for m in means] for name in means[0]["corruptions"]}
    lines |= {f"mean of {name}": [m["groups"][name] for m in means] for name in means[0]["groups"]}
    lines["mean of all"] = [m["all"] for m in means]
    for name, entries in lines.items():
        cells = [
            cell
            for entry in entries
            for cell in (
                f"{100 * (1 - entry['accuracy']):.1f} ({100 * (1 - entry['high']):.1f} to "
                f"{100 * (1 - entry['low']):.1f})",
                f"{entry['nll']:.3f}",
                f"{100 * entry['calibration']:.1f}",
                f"{100 * entry['ece']:.1f}",
            )
        ]
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("times")
    timing.add_argument("--data", type=Path, required=True)
    timing.add_argument("--images", type=int, default=20)
    commands.add_parser("table").add_argument("runs", type=Path, nargs="+")
    asked = parser.parse_args()
    if asked.command == "times":
        times(asked.data, asked.images)
    else:
        table(asked.runs)


if __name__ == "__main__":
    main()
