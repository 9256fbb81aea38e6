"""How wide the cells of images without labels are, as a finished model says."""

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewcell.data.dataset import Sample, load_sample
from fewcell.data.split import label_order
from fewcell.engine import available_threads
from fewcell.errors import DataError, FewcellError, FewcellWarning
from fewcell.images import Pyramid, normalise
from fewcell.segmenter import Segmenter
from fewcell.training.machine import Machine

__all__ = ["DIAMETER_FILES", "with_diameters"]

MOST_LOOKED_AT = 2000  # images: each takes a tenth of a second or more
DIAMETER_FILE, DIAMETER_FILES = "pool-diameters-{rank}.jsonl", "pool-diameters-*.jsonl"


def with_diameters(
    samples: Sequence[Sample], model: Path, out: Path, here: Machine, threads: int | None = None
) -> tuple[list[Sample], float]:
    """Those of the images in which a model sees cells, each with how wide they are; what is known already stays.

    Besides, the seconds that this process looked at images, in runs that were interrupted as well.

    Of very many, MOST_LOOKED_AT are taken, spread over modalities, sources and experiments, with a warning.
    out: the folder of a run, in which that is kept, a line an image: a run that is resumed does not look again. All
    processes must ask at the same time, each looks at its part of the images. One that cannot be read is left out, with
    a warning. Raises DataError if none is left.
    """
    if len(samples) > MOST_LOOKED_AT:
        if here.is_first:
            said = f"Of {len(samples)} images without labels {MOST_LOOKED_AT}, spread over all, are learned from."
            warnings.warn(said, FewcellWarning, stacklevel=2)
        samples = [samples[i] for i in label_order(samples)[:MOST_LOOKED_AT]]
    known = _known(samples, out, DIAMETER_FILES)
    missing = [i for i, sample in enumerate(samples) if not sample.diameter_px and i not in known]
    missing = missing[here.rank :: here.world]
    here.wait()  # all have seen what is known before one adds to it
    if missing:
        segmenter = Segmenter.load(model, threads=threads or max(1, available_threads() // here.world))
        with (out / DIAMETER_FILE.format(rank=here.rank)).open("a", encoding="utf-8") as file:
            file.write("\n")  # ends a line that a kill cut short
            for i in missing:
                began = time.perf_counter()
                facts = {"number": i, "image": samples[i].image.name, "px": _diameter_px(samples[i], segmenter)}
                facts["seconds"] = round(time.perf_counter() - began, 3)
                file.write(json.dumps(facts) + "\n")
                file.flush()
    here.wait()
    known, own = _known(samples, out, DIAMETER_FILES), _known(samples, out, DIAMETER_FILE.format(rank=here.rank))
    widths = [sample.diameter_px or known.get(i, {}).get("px") for i, sample in enumerate(samples)]
    found = [replace(sample, diameter_px=px) for sample, px in zip(samples, widths, strict=True) if px]
    if not found:
        raise DataError(f"In none of the {len(samples)} images without labels the model {model} sees cells.")
    return found, sum(facts.get("seconds", 0.0) for facts in own.values())


def _known(samples: Sequence[Sample], out: Path, files: str) -> dict[int, dict[str, Any]]:
    """What such files have found so far, by the number of the image; a line that a kill cut short does not count."""
    known = {}
    for file in sorted(out.glob(files)):
        for line in file.read_text(encoding="utf-8").splitlines():
            try:
                facts = json.loads(line)
            except json.JSONDecodeError:
                continue
            if samples[facts["number"]].image.name == facts["image"]:
                known[facts["number"]] = facts
    return known


def _diameter_px(sample: Sample, segmenter: Segmenter) -> float | None:
    try:
        diameter = segmenter.likely_diameter(Pyramid(normalise(load_sample(sample)[0].pixels)))
    except FewcellError as error:
        warnings.warn(f"Not learned from: {error}", FewcellWarning, stacklevel=2)
        return None
    return round(diameter, 2) if diameter else None
