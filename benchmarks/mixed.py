"""Cells of very different sizes in one image: what it brings, and costs, to seek much larger cells as well.

    python benchmarks/mixed.py ../shared/data/train --out docs/results/mixed.csv

Where nobody says how wide the cells are, an image is searched at the estimated scale, and once more for cells four
times as wide; what is found at both is one set (`segmenter/merge.py`). Looked at with and without that: labelled images
that were held out from the model's training; and the same with a part of each, four times enlarged, set beside it, so
that half of the picture shows cells four times as wide. One row an image and kind: F1 at IoU 0.5 by the challenge's
rule, and seconds. Printed: means, and the interval of the difference, experiments resampled.
"""

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

from fewcell.benchmark import bootstrap
from fewcell.benchmark.tables import save_table
from fewcell.config import load_recipe
from fewcell.data.dataset import load_sample, open_dataset
from fewcell.data.split import hold_out
from fewcell.images import resize_image, resize_labels
from fewcell.metrics import count_matches, f1, scored_overlaps
from fewcell.segmenter import Segmenter
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


def measure(segmenter: Segmenter, pixels: FloatArray, truth: Labels) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    every = segmenter.factors
    for way in WAYS:
        with patch.object(segmenter, "factors", lambda *a, **k: every(*a, **k)[: WAYS.index(way) + 1]):  # noqa: B023
            start = time.perf_counter()
            found = segmenter.segment(pixels).labels
            seconds = time.perf_counter() - start
        reached = f1(count_matches(scored_overlaps(truth, found), 0.5))
        rows.append({"way": way, "f1_50": reached, "seconds": seconds})
    return rows


def report(rows: Sequence[dict[str, object]]) -> None:
    for kind in ("as it is", "mixed"):
        its = [row for row in rows if row["kind"] == kind]
        one, two = ([row for row in its if row["way"] == way] for way in WAYS)
        f1s = [[float(str(row["f1_50"])) for row in way] for way in (one, two)]
        seconds = [sum(float(str(row["seconds"])) for row in way) for way in (one, two)]
        gains = [b - a for a, b in zip(*f1s, strict=True)]
        print(
            f"{kind:9s} F1 {np.mean(f1s[0]):.3f} at one scale, {np.mean(f1s[1]):.3f} at two ({len(one)} images), ",
            end="",
        )
        experiments = [str(row["experiment"]) for row in one]
        drawn = bootstrap(gains, experiments, experiments)
        if drawn is not None:
            low, high = np.quantile(drawn[0], (0.025, 0.975))
            print(f"{np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}); ", end="")
        print(f"{seconds[1] / seconds[0]:.2f} times the time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the dataset that the model was trained on")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    segmenter = Segmenter.load(arguments.model)
    segmenter.segment(np.random.default_rng(0).normal(size=(64, 64)))  # what is loaded and compiled once
    recipe = load_recipe(None, **segmenter.facts.recipe)
    labelled = [sample for sample in open_dataset(arguments.data) if sample.labels]
    rows: list[dict[str, object]] = []
    for sample in hold_out(labelled, recipe.held_out, recipe.seed)[1]:
        image, truth = load_sample(sample)
        assert truth is not None
        pixels = image.pixels.astype(np.float32)
        if truth.size > MOST_PX or scored_overlaps(truth, truth).n_true == 0:
            continue
        for kind, shown in (("as it is", (pixels, truth)), ("mixed", mixed(pixels, truth))):
            facts = {"stem": sample.stem, "modality": sample.modality, "experiment": sample.experiment, "kind": kind}
            rows += [{**facts, **row} for row in measure(segmenter, *shown)]
    report(rows)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    if arguments.out:
        extra = {"commit": commit.stdout.strip(), "command": shlex.join(["python", *sys.argv])}
        save_table(rows, arguments.out, extra=extra, overwrite=True)


if __name__ == "__main__":
    main()
