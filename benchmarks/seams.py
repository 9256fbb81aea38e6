"""Whether it shows in the cells of a slide where its tiles and blocks met.

    python benchmarks/seams.py ../shared/data/test --out docs/results/seams.csv

Images of 3,000 x 3,000 px, built as those of `benchmarks/slide.py`, are segmented at once, in memory, and as slides:
with tiles of several sizes, with smaller blocks, and without their first rows and columns, by one total down-sampling
of the network, so that every tile and block lies elsewhere (cells that see the new frame, within the network's reach,
are left out there). The diameter is given, or estimated. A cell has a twin if a cell of the other result overlaps it
with an IoU of 0.99 or more.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
import zarr

sys.path.insert(0, str(Path(__file__).parent))
from rows import save_rows
from slide import CELL_PX, KINDS, PATCH_PX, Mosaic, sources_of

from fewcell.images import read_image
from fewcell.metrics import overlaps
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.segmenter import predict as predict_module
from fewcell.slides import Execution, segment_slide
from fewcell.slides import plan as plan_module

SIDE_PX, TWIN_IOU, CROP_PX = 3000, 0.99, 16
TILES_PX = (512, 1024, 2048)
SMALL_BLOCK_PX = 700


def without_twin(one: np.ndarray, other: np.ndarray, margin_px: int) -> tuple[int, int, float]:
    """Of all cells of two results: how many, how many have no twin in the other one, and the least IoU.

    margin_px: cells of which a pixel is as near to the first row or column are left out.
    """
    cells, found, least = 0, 0, 1.0
    for labels, others in ((one, other), (other, one)):
        table = overlaps(labels, others)
        best = np.zeros(int(labels.max()) + 1)
        np.maximum.at(best, table.true_ids[table.pair_true], table.pair_iou)
        is_kept = np.bincount(labels.ravel()) > 0
        is_kept[0] = False
        is_kept[labels[:margin_px]] = is_kept[labels[:, :margin_px]] = False
        cells, found = cells + int(is_kept.sum()), found + int((best[is_kept] >= TWIN_IOU).sum())
        least = min(least, float(best[is_kept].min(initial=1.0)))
    return cells, cells - found, least


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    segmenter, rows = Segmenter.load(), []
    block_px = plan_module.BLOCK_PX
    predict_module.MOST_SEEN_PX = 10**9  # what slides are compared with is seen at once
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for kind in arguments.kinds:
            mosaic = Mosaic(sources_of(arguments.data, KINDS[kind], segmenter), SIDE_PX)
            count = -(-SIDE_PX // PATCH_PX)
            patches = [[mosaic.patch(row, column)[0] for column in range(count)] for row in range(count)]
            pixels = np.concatenate([np.concatenate(row, axis=1) for row in patches])[:SIDE_PX, :SIDE_PX]
            # Both images have a black and a white pixel a thousand times, so that their contrast is the same.
            pixels[-64:, -64:], pixels[-64:, -192:-64] = 0, 255
            tifffile.imwrite(work / "i.tif", pixels, tile=(256, 256), photometric="rgb")
            tifffile.imwrite(work / "c.tif", pixels[CROP_PX:, CROP_PX:], tile=(256, 256), photometric="rgb")
            for diameter_px in (CELL_PX, None):
                chosen = FileSettings(diameter=diameter_px, overwrite=True)
                whole = segmenter.segment(read_image(work / "i.tif"), diameter_px=diameter_px).labels

                def slide(name: str, tile_px: int = 1024, block: int = block_px, chosen=chosen) -> np.ndarray:
                    plan_module.BLOCK_PX = block
                    found = segment_slide(
                        segmenter, work / name, work / "o.zarr", chosen, how=Execution(tile_px=tile_px)
                    )
                    return zarr.open_array(str(found.labels / "0"), mode="r")[:].astype(np.int32)

                compared = [(f"tiles of {px} px", whole, slide("i.tif", px), 0) for px in TILES_PX]
                compared.append((f"blocks of {SMALL_BLOCK_PX} px", whole, slide("i.tif", block=SMALL_BLOCK_PX), 0))
                if diameter_px:  # otherwise its pixels do not lie on the same grid
                    cropped = slide("c.tif")
                    reach_px = segmenter.facts.network.reach_px or 0
                    compared.append(("without its first rows", whole[CROP_PX:, CROP_PX:], cropped, reach_px))
                for name, one, other, margin_px in compared:
                    cells, alone, least = without_twin(one, other, margin_px)
                    how = "given" if diameter_px else "estimated"
                    print(
                        f"{kind:12s} {how:9s} {name:22s} {cells} cells, {alone} without a twin, least IoU {least:.3f}"
                    )
                    facts = {"kind": kind, "diameter": how, "compared": name, "cells": cells, "without_twin": alone}
                    rows.append({**facts, "least_iou": least})
    save_rows(rows, arguments.out, model="default")


if __name__ == "__main__":
    main()
