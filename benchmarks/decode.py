"""What it costs to turn labels into targets and predictions into cells, for every representation, on one core.

    python benchmarks/decode.py --out docs/results/decode.csv

Mpx are input pixels of a network of stride 2, so four per pixel of the grid that decoding sees. Cells are drawn at 500,
2,000 and 8,000 a megapixel; the prediction is the targets with a blurred error on top, about as a network predicts.
Each figure is the best of several runs after one that compiles and warms up. "dominates" names the function that takes
most of a decoding's own time (compiled loops count for the function that calls them).

What fits a model to read cells by is fitted to another such drawing first. Rivals of canopy's tree, whose targets are
the same: `ladder`, the tree of what lies above 17 heights, read as canopy; and `pieces of a ladder`, only the connected
components above each of these heights, one after the other, with nothing measured or chosen.
"""

import argparse
import cProfile
import os
import platform
import pstats
import time
from collections.abc import Callable, Sized
from dataclasses import replace
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"

import cc3d
import numpy as np
from canopy import stepped
from rows import save_rows
from scipy import ndimage

from fewcell.representations import REPRESENTATIONS, Canopy, Representation
from fewcell.types import FloatArray, Labels

STRIDE = 2
CELLS_PER_MPX = (500, 2000, 8000)
STEPS = 17
RIVALS = ("ladder", "pieces of a ladder")
Decode = Callable[[FloatArray], Sized]


def draw_cells(side: int, cells_per_mpx: int, seed: int = 0) -> Labels:
    """Ellipses on a jittered lattice, some touching, so many that they are `cells_per_mpx` input pixels dense."""
    rng = np.random.default_rng(seed)
    pitch = 1000 / STRIDE / cells_per_mpx**0.5
    labels = np.zeros((side, side), dtype=np.int32)
    rows = int(side / pitch)
    for i in range(rows * rows):
        cy, cx = pitch * (0.5 + np.array(divmod(i, rows))) + rng.uniform(-0.1, 0.1, 2) * pitch
        radii, angle = pitch * rng.uniform(0.36, 0.54, 2), rng.uniform(0, np.pi)
        top, left = (max(0, int(c - pitch)) for c in (cy, cx))
        window = labels[top : int(cy + pitch) + 1, left : int(cx + pitch) + 1]
        y, x = np.mgrid[: window.shape[0], : window.shape[1]]
        y, x = y + top - cy, x + left - cx
        along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
        window[((along / radii[0]) ** 2 + (across / radii[1]) ** 2 <= 1) & (window == 0)] = i + 1
    return labels


def as_predicted(representation: Representation, labels: Labels, seed: int = 0) -> FloatArray:
    """Targets with a blurred error on top, kept within the ranges of the channels."""
    rng = np.random.default_rng(seed)
    prediction = representation.targets(labels)
    for channel, values in zip(representation.channels, prediction, strict=True):
        noise = ndimage.gaussian_filter(rng.normal(size=labels.shape), 1.5)
        values += 0.1 * (channel.high - channel.low) * noise / noise.std()
        np.clip(values, channel.low, channel.high, out=values)
    return ndimage.gaussian_filter(prediction, (0, 0.5, 0.5)).astype(np.float32)


def best_seconds(function: Callable[[], object], repeats: int) -> float:
    function()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def dominant(function: Callable[[], object]) -> str:
    """The function with the most time of its own, and its share."""
    profile = cProfile.Profile()
    profile.runcall(function)
    stats: dict = pstats.Stats(profile).stats  # pyright: ignore[reportAttributeAccessIssue]
    (file, _, name), (_, _, own, _, _) = max(stats.items(), key=lambda item: item[1][2])
    total = sum(row[2] for row in stats.values())
    where = name if file == "~" else f"{Path(file).stem}.{name}"
    return f"{where} {100 * own / total:.0f} %"


def decoding(name: str, representation: Representation) -> Decode:
    """How cells are read. representation: canopy, fitted, for what is compared with it."""
    if name not in RIVALS:
        return representation.decode
    assert isinstance(representation, Canopy)
    canopy = replace(representation, prominence=1e-4)

    def by_ladder(prediction: FloatArray) -> Sized:
        candidates = canopy.candidates(prediction, stepped(prediction, STEPS))
        return canopy._select(candidates, canopy._how_right(candidates))

    def pieces(prediction: FloatArray) -> Sized:
        height = canopy.height(prediction)
        levels = np.arange(STEPS) / STEPS
        return [cc3d.connected_components(height > level, connectivity=8, out_dtype=np.uint32) for level in levels]

    return by_ladder if name == "ladder" else pieces


def measure(side: int, repeats: int, names: list[str]) -> list[dict[str, object]]:
    rows = []
    megapixels = (STRIDE * side) ** 2 / 1e6
    for name in names:
        representation = REPRESENTATIONS["canopy" if name in RIVALS else name]()
        if representation.fits_model:
            drawn = draw_cells(side, CELLS_PER_MPX[1], seed=1)
            representation = representation.refit([as_predicted(representation, drawn, seed=1)], [drawn])
        decode = decoding(name, representation)
        for cells_per_mpx in CELLS_PER_MPX:
            labels = draw_cells(side, cells_per_mpx)
            prediction = as_predicted(representation, labels)
            found = len(decode(prediction)) if name != RIVALS[1] else None
            decode_s = best_seconds(lambda d=decode, p=prediction: d(p), repeats)
            targets_s = best_seconds(lambda r=representation, t=labels: r.targets(t), repeats)
            rows.append(
                {
                    "representation": name,
                    "cells_per_mpx": cells_per_mpx,
                    "true_cells": len(np.unique(labels)) - 1,
                    "found_cells": found,
                    "decode_mpx_per_s": megapixels / decode_s,
                    "decode_cells_per_s": found and found / decode_s,
                    "targets_mpx_per_s": megapixels / targets_s,
                    "decode_dominates": dominant(lambda d=decode, p=prediction: d(p)),
                    "targets_dominates": dominant(lambda r=representation, t=labels: r.targets(t)),
                }
            )
            shown = {k: f"{v:.2f}" if isinstance(v, float) else str(v) for k, v in rows[-1].items()}
            print("  ".join(f"{k}={v}" for k, v in shown.items()), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="representations and rivals; all by default")
    parser.add_argument("--side", type=int, default=512, help="side of the network's grid")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    rows = measure(arguments.side, arguments.repeats, arguments.names or [*REPRESENTATIONS, *RIVALS])
    save_rows(rows, arguments.out, python=platform.python_version())


if __name__ == "__main__":
    main()
