"""Cells of very different sizes in one image: what it brings, and costs, to seek much larger cells as well.

    python benchmarks/mixed.py ../shared/data/train --out docs/results/mixed.csv

Where nobody says how wide the cells are, an image is searched at the estimated scale, and once more for cells four
times as wide; what is found at both is one set (`segmenter/merge.py`). Looked at with and without that: labelled images
that were held out from the model's training; and the same with a part of each, four times enlarged, set beside it, so
that half of the picture shows cells four times as wide. One row an image and kind: F1 at IoU 0.5 by the challenge's
rule, of the mixed ones for each half by itself, and seconds. Printed: means, and the interval of the difference,
experiments resampled.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rows import save_rows

from fewcell.benchmark import bootstrap
from fewcell.data.dataset import load_labelled, open_dataset
from fewcell.images import resize_image, resize_labels
from fewcell.metrics import count_matches, f1, remove_border, scored_overlaps
from fewcell.segmenter import Segmenter
from fewcell.training.lessons import parts_of
from fewcell.types import FloatArray, Labels

TIMES = 4
MOST_PX = 2_000_000
WAYS = ("one scale", "two scales")


def mixed(pixels: FloatArray, truth: Labels) -> tuple[FloatArray, Labels]:
    """An image with a part of it, enlarged, to its right; the part is from the middle."""
    height, width = truth.shape
    top, left = (side * (TIMES - 1) // (2 * TIMES) for side in (height, width))
    part = np.s_[..., top : top + height // TIMES, left : left + width // TIMES]
    large, large_truth = resize_image(pixels[part], (height, width)), resize_labels(truth[part], (height, width))
    numbered = np.where(large_truth > 0, large_truth + max(int(truth.max()), 0), large_truth)
    return np.concatenate([pixels, large], axis=2), np.concatenate([truth, numbered], axis=1)


def measure(segmenter: Segmenter, pixels: FloatArray, truth: Labels, width: int) -> list[dict[str, object]]:
    """A row for each way. width: of the part to the left; what lies beyond is scored by itself."""
    every, rows = segmenter.factors, []
    segmenter.segment(pixels)  # kernels are made for each new shape
    for n_scales, way in enumerate(WAYS, 1):
        with patch.object(segmenter, "factors", lambda *a, n=n_scales, **k: every(*a, **k)[:n]):
            start = time.perf_counter()
            found = segmenter.segment(pixels).labels
            seconds = time.perf_counter() - start
        row: dict[str, object] = {"way": way, "f1_50": _f1(truth[:, :width], found[:, :width]), "seconds": seconds}
        if width < truth.shape[1]:
            row["f1_50_large"] = _f1(truth[:, width:], found[:, width:])
        rows.append(row)
    return rows


def _f1(truth: Labels, found: Labels) -> float | None:
    """None where there is no cell that the frame does not cut."""
    table = scored_overlaps(truth, found)
    return f1(count_matches(table, 0.5)) if table.n_true else None


def report(rows: Sequence[dict[str, object]]) -> None:
    for kind, column in (("as it is", "f1_50"), ("mixed", "f1_50"), ("mixed", "f1_50_large")):
        its = [row for row in rows if row["kind"] == kind and row.get(column) is not None]
        one, two = ([row for row in its if row["way"] == way] for way in WAYS)
        f1s = [[float(str(row[column])) for row in way] for way in (one, two)]
        seconds = [sum(float(str(row["seconds"])) for row in way) for way in (one, two)]
        gains = [b - a for a, b in zip(*f1s, strict=True)]
        what = "large cells" if column == "f1_50_large" else "cells"
        print(f"{kind}, {what}: F1 {np.mean(f1s[0]):.3f} at one scale, {np.mean(f1s[1]):.3f} at two, ", end="")
        experiments = [str(row["experiment"]) for row in one]
        drawn = bootstrap(gains, experiments, [str(row["stem"]) for row in one])
        if drawn is not None:
            low, high = np.quantile(drawn[0], (0.025, 0.975))
            print(f"{np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}), ", end="")
        print(f"{len(one)} images; {seconds[1] / seconds[0]:.2f} times the time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the dataset that the model was trained on")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    segmenter = Segmenter.load(arguments.model)
    segmenter.segment(np.random.default_rng(0).normal(size=(64, 64)))  # what is loaded and compiled once
    rows: list[dict[str, object]] = []
    too_large = 0
    for sample in parts_of(segmenter.facts, open_dataset(arguments.data))[1]:
        image, truth, _ = load_labelled(sample)
        pixels = image.pixels.astype(np.float32)
        too_large += truth.size > MOST_PX
        if truth.size > MOST_PX or remove_border(truth).max(initial=0) <= 0:
            continue
        width = truth.shape[1]
        for kind, shown in (("as it is", (pixels, truth)), ("mixed", mixed(pixels, truth))):
            facts = {"stem": sample.stem, "modality": sample.modality, "experiment": sample.experiment, "kind": kind}
            rows += [{**facts, **row} for row in measure(segmenter, *shown, width)]
    print(f"{too_large} images of more than {MOST_PX / 1e6:g} Mpx are left out")
    report(rows)
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
