"""How wide the cells of images without labels are, as a finished model says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import distributed

from fewcell.data.dataset import Sample, load_sample
from fewcell.errors import FewcellError
from fewcell.images import Pyramid, normalise, whole_file
from fewcell.segmenter import Segmenter
from fewcell.training.machine import Machine

__all__ = ["forget_diameters", "with_diameters"]

DIAMETERS_FILE = "pool-diameters.json"


def forget_diameters(here: Machine, out: Path) -> None:
    """Remove what another run may have left in its folder."""
    if here.is_first:
        (out / DIAMETERS_FILE).unlink(missing_ok=True)


def with_diameters(
    samples: Sequence[Sample], model: Path, out: Path, here: Machine, threads: int | None = None
) -> list[Sample]:
    """Those of the images in which a model sees cells, each with how wide they are.

    out: the folder of a run, in which that is kept once it is known, whole or not at all. All processes must ask at
    the same time; the first looks at the images. One that cannot be read is left out.
    """
    file = out / DIAMETERS_FILE
    if here.is_first and not file.exists():
        segmenter = Segmenter.load(model, threads=threads)
        found = {str(sample.image): _diameter_px(sample, segmenter) for sample in samples}
        with whole_file(file, overwrite=True) as temporary:
            temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if here.world > 1:
        distributed.barrier()
    known = json.loads(file.read_text(encoding="utf-8"))
    return [replace(sample, diameter_px=known[str(sample.image)]) for sample in samples if known.get(str(sample.image))]


def _diameter_px(sample: Sample, segmenter: Segmenter) -> float | None:
    try:
        diameter = segmenter.likely_diameter(Pyramid(normalise(load_sample(sample)[0].pixels)))
    except FewcellError:
        return None
    return round(diameter, 2) if diameter else None
