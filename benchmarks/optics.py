"""Images as others would show or save them: drawn as DIC or phase contrast, inverted, of other depths and channels.

    python benchmarks/optics.py ../shared/data/train --model default --out docs/results/optics.csv

The images are those of train that were held out when the model was trained, but sections of tissue, which nobody looks
at that way, at canonical scale. Each is segmented as it is and as drawn (`fewcell.data.augment`), with its true
diameter. Of microscopes no more than a hint: training draws by the same functions where its recipe asks for it
(`interference`), and up to three tenths of the image stay as they were.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rows import save_rows

from fewcell.data.dataset import load_labelled, open_dataset
from fewcell.data.optics import as_dic, as_phase_contrast
from fewcell.images import Pyramid, normalise, resize_labels
from fewcell.metrics import f1, match
from fewcell.segmenter import Segmenter, canonical_shape
from fewcell.training.lessons import parts_of
from fewcell.types import FloatArray

MOST_PX = 1_500_000
Drawn = Callable[[FloatArray, np.random.Generator], np.ndarray]


def in_bits(low: int, span: int, dtype: type) -> Drawn:
    """An image (height, width, 3) of 0 to 1 as whole numbers from `low` to `low + span`."""
    return lambda image, rng: np.rint(low + span * np.clip(image, 0, 1)).astype(dtype)


def one_of(channels: int, noise: float) -> Drawn:
    """The mean of an image's channels as the first of so many, the others dark but for noise."""

    def drawn(image: FloatArray, rng: np.random.Generator) -> np.ndarray:
        others = rng.normal(0.02, noise, (*image.shape[:2], channels - 1))
        return np.concatenate([image.mean(axis=2, keepdims=True), others], axis=2).astype(np.float32)

    return drawn


OPTICS: dict[str, Drawn] = {
    "as it is": lambda image, rng: image,
    "DIC": as_dic,
    "phase contrast": as_phase_contrast,
    "inverted": lambda image, rng: 1 - np.clip(image, 0, 1),
    "8 bits": in_bits(0, 255, np.uint8),
    "8 bits, a tenth of their range": in_bits(10, 25, np.uint8),
    "16 bits, a hundredth of their range": in_bits(400, 655, np.uint16),
    "one channel, gray": lambda image, rng: image.mean(axis=2, keepdims=True),
    "the first of two channels, the other dark": one_of(2, 0.003),
    "the first of three channels, the others dark": one_of(3, 0.003),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the dataset that the model was trained on")
    parser.add_argument("--model", default="default")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    segmenter = Segmenter.load(arguments.model)
    facts, rows = segmenter.facts, []
    _, held_out = parts_of(facts, open_dataset(arguments.data))
    for number, sample in enumerate(held_out):
        image, truth, true_px = load_labelled(sample)
        if sample.modality == "histology" or true_px is None or truth.size > MOST_PX:
            continue
        pyramid = Pyramid(normalise(image.pixels))
        shape = canonical_shape(pyramid.shape, facts.canonical_diameter_px / true_px, facts.network.stride)
        seen = pyramid.view(pyramid.whole, shape, (0, 0, *shape)).transpose(1, 2, 0)
        for optics, drawn in OPTICS.items():
            picture = drawn(np.ascontiguousarray(seen), np.random.default_rng(number)).transpose(2, 0, 1)
            found = segmenter.segment(picture, diameter_px=facts.canonical_diameter_px)
            counts = match(resize_labels(truth, shape), found.labels)
            if counts.n_true:
                rows.append({"optics": optics, "stem": sample.stem, "modality": sample.modality, "f1_50": f1(counts)})
    for optics in OPTICS:
        values = [row["f1_50"] for row in rows if row["optics"] == optics]
        print(f"{optics:45s} mean F1 {np.mean(values):.3f}, median {np.median(values):.3f} of {len(values)} images")
    save_rows(rows, arguments.out, model=arguments.model)


if __name__ == "__main__":
    main()
