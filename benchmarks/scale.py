"""What it costs not to know the scale: estimated against true diameters, and images that are larger than need be.

    python benchmarks/scale.py ../shared/data/test --out docs/results/scale.csv
    python benchmarks/scale.py ../shared/data/train --held-out --enlarge 0 --model MODEL

Each labelled image is segmented four times: as users do who know nothing; with the true median diameter given; and
both ways enlarged. The enlarged image has the same cells and no more detail, so it should give the same and, since the
network sees cells at one size, cost little more. One row an image: diameters, mean F1 at IoU 0.5 by the challenge's
rule, seconds. Printed: how often the estimate is within 25 %, of images with 5 cells or more; F1 with and without the
true diameter, over all images and as the headline (the mean over four modalities); F1 and time of enlarged images.
Time nothing else on the machine meanwhile. --held-out: of a model's own training images, those held out from it.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rows import save_rows

from fewcell.benchmark.summary import HEADLINE_MODALITIES
from fewcell.data.dataset import Sample, diameter_px, load_labelled, load_sample, open_dataset
from fewcell.images import resize_image, resize_labels
from fewcell.metrics import f1, match, remove_border
from fewcell.segmenter import Segmentation, Segmenter
from fewcell.training.lessons import parts_of
from fewcell.types import FloatArray, Labels

FEWEST_CELLS = 5  # of fewer, the median diameter says little
WITHIN = 1.25
LARGEST_PX = 16_000_000  # images that would be larger are not enlarged


def measure(segmenter: Segmenter, sample: Sample, enlarge: float) -> dict[str, object]:
    """The row of one image; its values of enlarged images are empty where the image would be too large."""
    image, truth, _ = load_labelled(sample)
    pixels = image.pixels.astype(np.float32)
    true_px = diameter_px(truth)
    row: dict[str, object] = {
        "stem": sample.stem,
        "modality": sample.modality,
        "experiment": sample.experiment,
        "n_true": len(np.unique(truth[truth > 0])),
        "true_px": true_px,
    }
    row |= _both(segmenter, pixels, truth, true_px, "")
    shape = (round(truth.shape[0] * enlarge), round(truth.shape[1] * enlarge))
    if 0 < shape[0] * shape[1] <= LARGEST_PX:
        larger = _both(segmenter, resize_image(pixels, shape), resize_labels(truth, shape), true_px, "large_", enlarge)
        row |= larger
    return row


def _both(
    segmenter: Segmenter, pixels: FloatArray, truth: Labels, true_px: float | None, prefix: str, factor: float = 1.0
) -> dict[str, object]:
    """Seconds, F1 and the diameter used, with the diameter estimated and given."""
    found, seconds = _timed(lambda: segmenter.segment(pixels))
    given, given_s = _timed(lambda: segmenter.segment(pixels, diameter_px=true_px and true_px * factor))
    return {
        f"{prefix}px": found.diameter_px / factor,
        f"{prefix}source": found.diameter_source,
        f"{prefix}f1_50": _f1(truth, found.labels),
        f"{prefix}f1_50_given": _f1(truth, given.labels),
        f"{prefix}s": seconds,
        f"{prefix}s_given": given_s,
    }


def _timed(segment: Callable[[], Segmentation]) -> tuple[Segmentation, float]:
    start = time.perf_counter()
    found = segment()
    return found, time.perf_counter() - start


def _f1(truth: Labels, found: Labels) -> float:
    return f1(match(truth, found))


def report(rows: Sequence[dict[str, object]], enlarge: float) -> None:
    def column(name: str, which: Sequence[dict[str, object]]) -> np.ndarray:
        return np.array([row[name] for row in which], dtype=float)

    for modality in [*sorted({str(row["modality"]) for row in rows}), "all"]:
        mine = [row for row in rows if modality in (row["modality"], "all")]
        many = [row for row in mine if int(str(row["n_true"])) >= FEWEST_CELLS]
        off = np.abs(np.log(column("px", many) / column("true_px", many)))
        within = f"{np.mean(off <= np.log(WITHIN)):.3f}" if many else "-"
        print(f"{modality:13s} within 25 %: {within} ({len(many)})   ", end="")
        print(
            f"F1 {column('f1_50', mine).mean():.3f}, given {column('f1_50_given', mine).mean():.3f} ({len(mine)})",
            end="",
        )
        large = [row for row in mine if "large_s" in row]
        if large:
            print(
                f"   {enlarge:g} x: F1 {column('large_f1_50', large).mean():.3f} "
                f"for {column('f1_50', large).mean():.3f}, "
                f"given {column('large_f1_50_given', large).mean():.3f} for {column('f1_50_given', large).mean():.3f}; "
                f"time {column('large_s', large).sum() / column('s', large).sum():.2f} times, "
                f"given {column('large_s_given', large).sum() / column('s_given', large).sum():.2f} ({len(large)})",
                end="",
            )
        print()
    of_modality = [[row for row in rows if row["modality"] == modality] for modality in HEADLINE_MODALITIES]
    if all(of_modality):
        names = ["f1_50", "f1_50_given", *(("large_f1_50", "large_f1_50_given") if "large_s" in rows[0] else ())]
        reached = [np.mean([column(name, its).mean() for its in of_modality]) for name in names]
        print(f"headline      F1 {reached[0]:.4f}, given {reached[1]:.4f}", end="")
        print(f"   {enlarge:g} x: F1 {reached[2]:.4f}, given {reached[3]:.4f}" if len(reached) > 2 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("--model", default="default")
    parser.add_argument("--enlarge", type=float, default=3.0)
    parser.add_argument("--held-out", action="store_true", help="only images held out from the model's training")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    segmenter = Segmenter.load(arguments.model)
    segmenter.segment(np.random.default_rng(0).normal(size=(64, 64)))  # what is loaded and compiled once
    rows, samples = [], [sample for sample in open_dataset(arguments.dataset) if sample.labels]
    if arguments.held_out:
        samples = parts_of(segmenter.facts, samples)[1]
    for sample in samples:
        if remove_border(load_sample(sample)[1]).max(initial=0) > 0:  # pyright: ignore
            rows.append(measure(segmenter, sample, arguments.enlarge))
    report(rows, arguments.enlarge)
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
