"""Cells found where there are none: blank images, noise, text, and images that are far out of focus.

    python benchmarks/nothing.py --out docs/results/nothing.csv
    python benchmarks/nothing.py --data ../shared/data/test --model MODEL --out docs/results/nothing.csv

Images of 512 px: noise of several kinds and grains, with and without uneven light, or saved as JPEG; text in the
typeface that Pillow brings, and the scanned texts that scikit-image brings. Out of focus are scikit-image's cells and,
with --data, up to two images of each experiment there, blurred by a Gaussian whose standard deviation is the diameter
of a cell. Each is segmented without being told the diameter. One row an image; cells per megapixel are printed, the
mean and the most of each kind.
"""

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
from rows import save_rows
from scipy.ndimage import gaussian_filter

from fewcell.benchmark.examples import EXAMPLES
from fewcell.data.dataset import diameter_px, load_labelled, open_dataset
from fewcell.segmenter import Segmenter
from fewcell.types import FloatArray

SIDE_PX = 512
IMAGES = 12  # of each drawn kind
PER_EXPERIMENT = 2
USUAL_PX = 24.0
TEXT = "the quick brown fox jumps over a lazy dog 0123456789 scale bar 50 um DAPI well B07 field 3"


def blank() -> Iterator[FloatArray]:
    ramp = np.linspace(0, 200, SIDE_PX, dtype=np.float32)
    for value in (0.0, 1.0, 255.0, 65535.0):
        yield np.full((1, SIDE_PX, SIDE_PX), value, dtype=np.float32)
    yield np.broadcast_to(ramp, (1, SIDE_PX, SIDE_PX)).copy()
    yield np.hypot(*np.meshgrid(ramp, ramp))[None].astype(np.float32)


_NOISES: tuple[Callable[[np.random.Generator, tuple[int, ...]], np.ndarray], ...] = (
    lambda rng, shape: rng.normal(100, 10, shape),
    lambda rng, shape: rng.poisson(rng.uniform(0.05, 20), shape),
    lambda rng, shape: rng.uniform(0, 255, shape),
    lambda rng, shape: 255 * (rng.random(shape) < 0.01),
)


def noise() -> Iterator[FloatArray]:
    for seed in range(IMAGES):
        rng = np.random.default_rng(seed)
        shape = (1 if seed % 3 else 3, SIDE_PX, SIDE_PX)
        drawn = np.asarray(_NOISES[seed % 4](rng, shape), dtype=np.float32)
        grain = (0, 0.7, 1.5, 3, 6, 12)[seed // 2]
        drawn = gaussian_filter(drawn, (0, grain, grain)) if grain else drawn
        light = gaussian_filter(rng.normal(0, 1, shape), (0, 90, 90))
        yield (drawn + seed % 2 * drawn.std() * light / light.std()).astype(np.float32)


def jpeg() -> Iterator[FloatArray]:
    from PIL import Image

    for number, (quality, contrast, shape) in enumerate(product((15, 30, 50, 75, 90), (3, 6, 10, 20), ((), (3,)))):
        drawn = np.random.default_rng(number).normal(150, contrast, (SIDE_PX, SIDE_PX, *shape)).clip(0, 255)
        file = BytesIO()
        Image.fromarray(drawn.astype(np.uint8)).save(file, "JPEG", quality=quality)
        yield np.atleast_3d(np.asarray(Image.open(file), dtype=np.float32)).transpose(2, 0, 1)


def text() -> Iterator[FloatArray]:
    from PIL import Image, ImageDraw, ImageFont
    from skimage import data

    for seed in range(IMAGES):
        rng = np.random.default_rng(seed)
        paper = Image.new("L", (SIDE_PX, SIDE_PX), 255)
        pen, size = ImageDraw.Draw(paper), float(rng.uniform(9, 60))
        for y in np.arange(4, SIDE_PX, 1.3 * size):
            line = " ".join(rng.permutation(TEXT.split()))
            pen.text((4, float(y)), line, fill=0, font=ImageFont.load_default(size))
        ink = np.asarray(paper, dtype=np.float32)[None]
        yield ink if seed % 2 else 255 - ink
    for picture in (data.page(), data.text()):
        yield np.asarray(picture, dtype=np.float32)[None]


def out_of_focus(dataset: Path | None) -> Iterator[FloatArray]:
    for example in EXAMPLES:
        yield _blurred(example.pixels(), example.diameter_px)
    taken: Counter[str] = Counter()
    for sample in open_dataset(dataset) if dataset else ():
        if sample.labels and taken[sample.experiment] < PER_EXPERIMENT:
            taken[sample.experiment] += 1
            image, labels, _ = load_labelled(sample)
            yield _blurred(image.pixels.astype(np.float32), diameter_px(labels) or USUAL_PX)


def _blurred(pixels: FloatArray, by_px: float) -> FloatArray:
    """Out of focus, with the faint noise of a camera."""
    soft = gaussian_filter(pixels, (0, by_px, by_px))
    return (soft + np.random.default_rng(0).normal(0, 0.01 * max(float(np.ptp(pixels)), 1), soft.shape)).astype("f4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default")
    parser.add_argument("--data", type=Path, help="a dataset whose images are blurred as well")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    segmenter = Segmenter.load(arguments.model)
    kinds = {
        "blank": blank(),
        "noise": noise(),
        "JPEG noise": jpeg(),
        "text": text(),
        "out of focus": out_of_focus(arguments.data),
    }
    rows = []
    for kind, images in kinds.items():
        per_mpx = []
        for number, pixels in enumerate(images):
            found = segmenter.segment(pixels)
            mpx = pixels.shape[1] * pixels.shape[2] / 1e6
            per_mpx.append(len(found.scores) / mpx)
            surest = float(found.scores.max(initial=0))
            about = {"kind": kind, "number": number, "megapixels": mpx, "diameter_px": found.diameter_px}
            rows.append({**about, "cells": len(found.scores), "cells_per_mpx": per_mpx[-1], "surest": surest})
        mean, most = np.mean(per_mpx), max(per_mpx)
        print(f"{kind:13s} {len(per_mpx):3d} images   cells per Mpx: mean {mean:.2f}, most {most:.1f}")
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
