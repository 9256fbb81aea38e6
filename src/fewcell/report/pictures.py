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
from fewcell.data.dataset import Sample, diameter_px, load_sample, open_dataset
from fewcell.images import Image, normalise, read_labels
from fewcell.metrics import find_mistakes, overlaps
from fewcell.report.charts import MISTAKE_COLOURS
from fewcell.report.results import Method, Results
from fewcell.representations import Representation
from fewcell.types import Labels

__all__ = ["Shown", "cell_cluster", "difficult_crops", "example_crops", "target_pictures"]

SHOWN_PX = 320  # side of an overlay in the page
SHOWN_DIAMETERS = 11  # side of a crop, in cell diameters
SHOWN_CHANNELS = 6
ENOUGH_CELLS = 8  # in an image that is shown as a difficult one
TINT = 0.35  # how much of its colour covers a cell that is wrong
OUTLINE_PX = 2  # width of outlines where a crop is as wide as it is shown
RIGHT_COLOUR = ""  # white, or black on a bright image
BRIGHT = 140  # mean of a crop, of 255, from which on it is


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
    shown = [("labels", _url(_enlarged(_coloured(labels), 3), "PNG"))]
    targets = representation.targets(labels)
    chosen = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), SHOWN_CHANNELS)).round().astype(int))
    for index in chosen:
        channel = representation.channels[index]
        gray = np.clip((targets[index] - channel.low) / (channel.high - channel.low), 0, 1)
        shown.append((channel.name, _url(_enlarged((255 * gray).astype(np.uint8), 3), "PNG")))
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
            for line in method.images:
                if line["modality"] == modality and line["scorable"] == "yes" and line["stem"] in samples:
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
        view = _as_rgb(example.pixels())[example.window]
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
    image, truth = load_sample(sample)
    assert truth is not None
    found = {}
    for method in methods:
        path = method.folder / "scores" / method.rows[0]["run"] / "labels" / f"{sample.stem}_label.tiff"
        if path.exists():
            found[method.name] = read_labels(path)
    wrong = np.zeros(truth.shape)
    for labels in found.values():
        wrong += _mistaken(truth, labels) > 0
    window = _window_of_most(wrong, round(SHOWN_DIAMETERS * (diameter_px(truth) or 24)))
    view, true = _as_rgb(image.pixels)[window], truth[window]
    pictures = [("image", _crop_url(view)), ("truth", _crop_url(view, [(true, true > 0, RIGHT_COLOUR)]))]
    for name, labels in found.items():
        kinds = _mistaken(truth, labels)[window]
        outlines = [(labels[window], labels[window] > 0, RIGHT_COLOUR)]
        for number, (kind, colour) in enumerate(MISTAKE_COLOURS.items(), 1):
            outlines.append((labels[window] if kind == "false" else true, kinds == number, colour))
        pictures.append((name, _crop_url(view, outlines)))
    return Shown(title, tuple(pictures))


def _mistaken(truth: Labels, found: Labels) -> NDArray[np.uint8]:
    """1 + the number of the kind of mistake, at every pixel of a wrong true cell and of a false one."""
    table = overlaps(truth, found)
    mistakes = vars(find_mistakes(table))
    kinds = np.zeros(truth.shape, dtype=np.uint8)
    for number, (kind, mask) in enumerate(mistakes.items(), 1):
        labels, ids = (found, table.predicted_ids) if kind == "false" else (truth, table.true_ids)
        kinds[np.isin(labels, ids[mask]) & (labels > 0)] = number
    return kinds


Outline = tuple[Labels, NDArray[np.bool_], str]  # labels, where their outlines are drawn, in which colour


def _outlined(view: NDArray[np.uint8], outlines: Sequence[Outline], width: int) -> NDArray[np.uint8]:
    """Draw outlines of labels, `width` pixels wide, one over the other; what is wrong is tinted as well."""
    from scipy.ndimage import maximum_filter
    from skimage.segmentation import find_boundaries

    drawn = view.astype(np.float32)
    for labels, mask, colour in outlines:
        if colour == RIGHT_COLOUR:
            rgb = np.full(3, 255 if view.mean() < BRIGHT else 0, dtype=np.float32)
        else:
            rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.float32)
            drawn[mask] = (1 - TINT) * drawn[mask] + TINT * rgb
        edges = find_boundaries(labels, mode="inner") & mask
        drawn[np.asarray(maximum_filter(edges, size=width), dtype=bool)] = rgb
    return drawn.astype(np.uint8)


def _window_of_most(weight: NDArray[np.float64], side: int) -> tuple[slice, slice]:
    """The square window of a side that holds most of a weight; the whole along an axis that is shorter."""
    from scipy.ndimage import uniform_filter

    height, width = (min(side, extent) for extent in weight.shape)
    total = uniform_filter(weight, [height, width], mode="constant")  # pyright: ignore[reportArgumentType]
    inner = total[height // 2 : weight.shape[0] - (height - 1) // 2, width // 2 : weight.shape[1] - (width - 1) // 2]
    top, left = np.unravel_index(int(inner.argmax()), inner.shape)
    return slice(int(top), int(top) + height), slice(int(left), int(left) + width)


def _as_rgb(pixels: Image | NDArray) -> NDArray[np.uint8]:
    shown = np.clip(normalise(np.asarray(pixels)[:3]), 0, 1)
    return (255 * np.moveaxis(shown, 0, -1)).astype(np.uint8)


def _coloured(labels: Labels) -> NDArray[np.uint8]:
    from skimage.color import label2rgb

    return (255 * label2rgb(labels, bg_label=0, bg_color=(0, 0, 0))).astype(np.uint8)


def _enlarged(picture: NDArray, times: int) -> NDArray:
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def _crop_url(view: NDArray[np.uint8], outlines: Sequence[Outline] = ()) -> str:
    """A crop, enlarged by whole pixels to about the size at which it is shown, with outlines that stay visible."""
    times = max(1, round(SHOWN_PX / max(view.shape[:2])))
    large = [(_enlarged(labels, times), _enlarged(mask, times), colour) for labels, mask, colour in outlines]
    width = max(2, round(max(view.shape[:2]) * times / SHOWN_PX * OUTLINE_PX))
    return _url(_outlined(_enlarged(view, times), large, width), "JPEG")


def _url(picture: NDArray[np.uint8], kind: str) -> str:
    buffer = io.BytesIO()
    # Without subsampling, thin lines keep their colour.
    Picture.fromarray(picture).save(buffer, kind, **({"quality": 85, "subsampling": 0} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
