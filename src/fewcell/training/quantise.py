"""A network in whole numbers of 8 bits: faster on most CPUs, and kept only where it finds cells as well."""

import tempfile
import time
from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from fewcell.data.dataset import Sample, load_labelled
from fewcell.engine import Engine, OpenVinoEngine, cpu_precision, openvino
from fewcell.errors import require
from fewcell.images import Pyramid, normalise
from fewcell.segmenter import (
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    Int8Facts,
    Segmenter,
    canonical_shape,
    read_model,
    write_model,
)
from fewcell.training.held_out import mean_f1_50, spread
from fewcell.types import FloatArray

__all__ = ["add_int8", "quantise"]

CALIBRATION_IMAGES, COMPARED_IMAGES = 120, 80
CALIBRATION_PX, TIMED_PX, TURNS = 512, 1024, 5
JITTER = 1.2  # images are calibrated on at canonical scale times a factor up to this, as estimates are wrong
MOST_F1_LOST = 0.005


def add_int8(
    folder: Path, learned_from: Sequence[Sample], held_out: Sequence[Sample], *, threads: int | None = None
) -> Int8Facts:
    """Make an int8 network for a model and put it into the model's folder, if it is faster here and as good.

    learned_from: images by which the ranges of numbers inside the network are found; no label is used but the size of
    the cells. held_out: on these F1 at IoU 0.5 may be lower by MOST_F1_LOST at most, at the true scale. What was
    measured is written into the model's facts in either case.

    Raises MissingDependencyError without NNCF. Source: post-training quantisation of NNCF (Kozlov et al., 2020).
    """
    require("int8", "nncf")
    facts = read_model(folder)
    files = [folder / name for name in (NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE)]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        made = Path(temporary) / "int8.xml"
        quantise(folder / NETWORK_FILE, made, _calibration(folder, learned_from))
        segmenter = Segmenter.load(folder, threads=threads, precision=cpu_precision())
        before, after = segmenter.engine, OpenVinoEngine(made, threads=threads)
        f1_before, f1_after = (_f1(segmenter, engine, held_out) for engine in (before, after))
        measured = Int8Facts(
            f1_50=round(f1_after, 4),
            f1_50_before=round(f1_before, 4),
            precision_before=cpu_precision(),
            times_faster=round(_times_faster(before, after, facts.network.window_px or TIMED_PX), 2),
        )
        is_worth_it = measured.f1_50 >= measured.f1_50_before - MOST_F1_LOST and measured.times_faster > 1
        write_model(folder, facts.model_copy(update={"int8": measured}), *files, int8=made if is_worth_it else None)
    return measured


def quantise(network: Path, out: Path, images: Sequence[FloatArray]) -> None:
    """Write an exported network in int8 (OpenVINO's format), ranges found by images (3, height, width)."""
    vino = openvino()  # first: NNCF looks for the same package of telemetry
    import nncf

    model = vino.Core().read_model(network)
    dataset = nncf.Dataset([image[None] for image in images])
    # Pixels going in and predictions coming out need finer steps than what lies between.
    convolutions = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"]
    ends = nncf.IgnoredScope(names=[convolutions[0], convolutions[-1]])
    settings = {"preset": nncf.QuantizationPreset.MIXED, "subset_size": len(images), "ignored_scope": ends}
    quantised = nncf.quantize(model, dataset, **settings)
    vino.save_model(quantised, str(out))


def _calibration(folder: Path, samples: Sequence[Sample]) -> list[FloatArray]:
    """Corners of images at about canonical scale, (3, side, side) each, spread over all."""
    facts, rng, images = read_model(folder), np.random.default_rng(0), []
    side = facts.network.window_px or CALIBRATION_PX
    for i in rng.permutation(len(samples))[:CALIBRATION_IMAGES]:
        image, _, diameter_px = load_labelled(samples[i])
        factor = facts.canonical_diameter_px / (diameter_px or facts.canonical_diameter_px)
        pyramid = Pyramid(normalise(image.pixels))
        shape = canonical_shape(pyramid.shape, factor * JITTER ** rng.uniform(-1, 1), facts.network.stride)
        images.append(pyramid.view(pyramid.whole, shape, (0, 0, side, side)))
    return images


def _f1(segmenter: Segmenter, engine: Engine, samples: Sequence[Sample]) -> float:
    """The mean over images, as the F1 that a model folder tells of. engine: in place of the segmenter's own."""
    other = copy(segmenter)
    other.engine = engine
    return mean_f1_50(other, spread(samples, COMPARED_IMAGES))


def _times_faster(before: Engine, after: Engine, side: int) -> float:
    """The network's time for a tile over the int8 one's, each the best of several that take turns."""
    image, best = np.random.default_rng(0).random((3, side, side), dtype=np.float32), [np.inf, np.inf]
    for _ in range(TURNS):
        for i, engine in enumerate((before, after)):
            start = time.perf_counter()
            engine(image)
            best[i] = min(best[i], time.perf_counter() - start)
    return best[0] / best[1]
