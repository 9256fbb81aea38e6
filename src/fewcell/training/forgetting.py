"""Forgetting, measured without the images that a model has learned from: what it still finds in drawn ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fewcell.data.collage import collage, photographs
from fewcell.metrics import f1, match, remove_border
from fewcell.segmenter import Segmenter
from fewcell.types import FloatArray, Labels

__all__ = ["Drawn", "found_in_drawn", "still_found"]

FIELDS, FIELD_PX = 32, 384
FEWEST_CELLS = 5  # of fewer, one that is missing would say too much


@dataclass(frozen=True)
class Drawn:
    """A drawn image, (3, height, width) of 0 to 255, and the cells that a model finds in it."""

    picture: FloatArray
    found: Labels


def found_in_drawn(segmenter: Segmenter) -> list[Drawn]:
    """What a model finds in collages that nothing is taught with, but for those in which it finds few whole cells."""
    pictures, diameter = photographs(), segmenter.facts.canonical_diameter_px
    drawn = []
    for number in range(FIELDS):
        image = collage(pictures, FIELD_PX, diameter, np.random.default_rng((78, number)))[0]
        picture = np.floor(np.clip(image, 0, 1) * np.float32(255)).transpose(2, 0, 1)
        found = segmenter.segment(picture, diameter_px=diameter).labels
        if np.count_nonzero(np.unique(remove_border(found))) >= FEWEST_CELLS:
            drawn.append(Drawn(picture, found))
    return drawn


def still_found(segmenter: Segmenter, before: Sequence[Drawn]) -> float | None:
    """How far a model finds what another has found: mean F1 at an IoU of 0.5; None where there is nothing to go by."""
    f1s = []
    for drawn in before:
        found = segmenter.segment(drawn.picture, diameter_px=segmenter.facts.canonical_diameter_px).labels
        counts = match(drawn.found, found)
        f1s += [f1(counts)] if counts.n_true else []
    return float(np.mean(f1s)) if f1s else None
