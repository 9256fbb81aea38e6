"""Pictures of a report: what a network is asked to draw, and what each method found, with its mistakes in colour."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture

from fewcell.benchmark.examples import EXAMPLES, examples_file
from fewcell.data.dataset import Sample, load_labelled, open_dataset
from fewcell.images import read_labels
from fewcell.metrics import remove_border
from fewcell.report.mistakes import (
    RIGHT_COLOUR,
    Outline,
    as_rgb,
    enlarged,
    mistake_outlines,
    mistaken,
    outlined,
    window_of_most,
)
from fewcell.report.results import Method, Results
from fewcell.representations import Representation
from fewcell.types import Labels

__all__ = ["Shown", "cell_cluster", "difficult_crops", "example_crops", "target_pictures"]

SHOWN_PX = 320  # side of an overlay in the page
SHOWN_DIAMETERS = 11  # side of a crop, in cell diameters
SHOWN_CHANNELS = 6
ENOUGH_CELLS = 8  # in an image that is shown as a difficult one
OUTLINE_PX = 2  # width of outlines where a crop is as wide as it is shown


@dataclass(frozen=True)
class Shown:
    """One crop of one image as every method saw it. pictures: (method, data URL), the bare image first."""

    title: str
    pictures: tuple[tuple[str, str], ...]


def cell_cluster() -> Labels:
    """A drawn cluster of cells on which targets are shown: some touch, one is long, one small, one cut by the frame."""
    labels = np.zeros((64, 64), dtype=np.int32)
    y, x = np.mgrid[:64, :64]
    seeds = np.array([(20, 20), (18, 33), (31, 26), (33, 40), (44, 30), (20, 46)])
    nearest = ((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2).argmin(axis=-1)
    labels[(y - 30) ** 2 / 20**2 + (x - 33) ** 2 / 19**2 < 1] = 1
    labels *= nearest.astype(np.int32) + 1
    along, across = 0.8 * (y - 54) + 0.6 * (x - 12), 0.8 * (x - 12) - 0.6 * (y - 54)
    labels[((across / 15) ** 2 + (along / 3) ** 2 < 1) & (labels == 0)] = 7
    labels[((y - 8) ** 2 + (x - 8) ** 2 < 9) & (labels == 0)] = 8
    labels[((y - 60) ** 2 + (x - 55) ** 2 < 80) & (labels == 0)] = 9
    return labels


def target_pictures(representation: Representation) -> list[tuple[str, str]]:
    """The cluster's labels, then its channels in gray from their lowest to their highest value: (name, data URL)."""
    labels = cell_cluster()
    shown = [("labels", _url(enlarged(_coloured(labels), 3), "PNG"))]
    targets = representation.targets(labels)
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_CHANNELS)).round().astype(int))
    for index in chosen:
        channel = representation.channels[index]
        gray = np.clip((targets[index] - channel.low) / (channel.high - channel.low), 0, 1)
        shown.append((channel.name, _url(enlarged((255 * gray).astype(np.uint8), 3), "PNG")))
    return shown


def difficult_crops(results: Results, dataset: Path) -> list[Shown]:
    """In each modality the test image on which the methods disagree most, at the place with most mistakes.

    Images with few cells are left out, if there are others: one cell is found or not, which shows little.
    """
    samples = {sample.stem: sample for sample in open_dataset(dataset)}
    crops = []
    for modality in results.modalities:
        f1s: dict[str, list[float]] = {}
        few: set[str] = set()
        for method in results.methods:
            for line in method.scored:
                if line["modality"] == modality and line["stem"] in samples:
                    f1s.setdefault(line["stem"], []).append(float(line["f1_50"]))
                    few |= {line["stem"]} if float(line["n_true"]) < ENOUGH_CELLS else set()
        f1s = {stem: values for stem, values in f1s.items() if stem not in few} or f1s
        if f1s:
            stem = max(sorted(f1s), key=lambda stem: np.std(f1s[stem]))
            crops.append(_difficult_crop(f"{modality}: {stem}", samples[stem], results.methods))
    return crops


def example_crops(results: Results) -> list[Shown]:
    """The microscopy images that come with scikit-image, as each method's first model segmented them."""
    crops = []
    for example in EXAMPLES:
        view = as_rgb(example.pixels())[example.window]
        pictures = [("image", _crop_url(view))]
        for method in results.methods:
            path = examples_file(method.folder / "scores" / method.rows[0]["run"], example)
            if path.exists():
                found = read_labels(path)[example.window]
                pictures.append((method.name, _crop_url(view, [(found, found > 0, RIGHT_COLOUR)])))
        title = f"{example.name}, an image of scikit-image; nobody has drawn its cells"
        crops += [Shown(title, tuple(pictures))] if len(pictures) > 1 else []
    return crops


def _difficult_crop(title: str, sample: Sample, methods: Sequence[Method]) -> Shown:
    image, truth, true_px = load_labelled(sample)
    found = {}
    for method in methods:
        path = method.folder / "scores" / method.rows[0]["run"] / "labels" / f"{sample.stem}_label.tiff"
        if path.exists():
            found[method.name] = remove_border(read_labels(path))
    truth = remove_border(truth)  # as for F1
    wrong = np.zeros(truth.shape)
    for labels in found.values():
        wrong += mistaken(truth, labels) > 0
    window = window_of_most(wrong, round(SHOWN_DIAMETERS * (true_px or 24)))
    view, true = as_rgb(image.pixels)[window], truth[window]
    pictures = [("image", _crop_url(view)), ("truth", _crop_url(view, [(true, true > 0, RIGHT_COLOUR)]))]
    for name, labels in found.items():
        pictures.append((name, _crop_url(view, mistake_outlines(truth, labels, window))))
    return Shown(title, tuple(pictures))


def _coloured(labels: Labels) -> NDArray[np.uint8]:
    from skimage.color import label2rgb

    return (255 * label2rgb(labels, bg_label=0, bg_color=(0, 0, 0))).astype(np.uint8)


def _crop_url(view: NDArray[np.uint8], outlines: Sequence[Outline] = ()) -> str:
    """A crop, enlarged by whole pixels to about the size at which it is shown, with outlines that stay visible."""
    times = max(1, round(SHOWN_PX / max(view.shape[:2])))
    width = max(2, round(max(view.shape[:2]) * times / SHOWN_PX * OUTLINE_PX))
    return _url(outlined(view, outlines, times, width), "JPEG")


def _url(picture: NDArray[np.uint8], kind: str) -> str:
    buffer = io.BytesIO()
    # Without subsampling, thin lines keep their colour.
    Picture.fromarray(picture).save(buffer, kind, **({"quality": 85, "subsampling": 0} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
