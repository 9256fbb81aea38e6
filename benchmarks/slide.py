"""What it takes to segment slides of several sizes, and how well it is done.

    python benchmarks/slide.py ../shared/data/test --out docs/results/slide.csv
    python benchmarks/slide.py ../shared/data/test --kinds tissue --sides 24000 --out docs/results/exports.csv \
        --exports csv parquet h5ad geojson geojson.gz tiff overlay

Slides are built from images of a test dataset, of tissue or of fluorescence, whose contrast is stretched and whose
cells are brought to 24 px: patches of 512 px, flipped and turned, side by side, written tile by tile as pyramidal
OME-TIFF. Each is segmented in a process of its own with the diameter given, and timed from loading the model to written
labels. In the same run the bare network is given as many tiles of the same sizes, in the precision that is used and in
that of this CPU without int8, of which `times_bare_network` speaks. Peak memory is that of the process.

F1 is by the rule of the challenge for large images. Besides, truth and labels are cut into the patches again and
counted well inside of each, without the cells that a frame cuts, and so are the labels of the source images, segmented
one by one, each with its own contrast, compressed, flipped and turned as in the slide. Seams must not cost anything.
Exports are timed apart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from imagecodecs import jpeg8_decode, jpeg8_encode
from rows import save_rows

from fewcell.data.dataset import diameter_px, load_labelled, open_dataset
from fewcell.engine import cpu_precision
from fewcell.images import Pyramid, normalise, peak_bytes, resize_image, resize_labels
from fewcell.metrics import Counts, f1, match
from fewcell.segmenter import FileSettings, Segmenter, predict_at_scale
from fewcell.slides import segment_slide
from fewcell.slides.exports import EXPORTS

PATCH_PX, CELL_PX = 512, 24.0
MARGIN_PX = 48  # of a patch: cells so near to the next patch see what their source did not show
LEVELS = 3
JPEG_LEVEL = 95
SIDES = [(is_flipped, quarters) for is_flipped in (False, True) for quarters in range(4)]
KINDS = {"tissue": "histology", "fluorescence": "fluorescence"}


@dataclass(frozen=True)
class Source:
    """An image of a slide: pixels (3, height, width) uint8, its labels, and what was found in it by itself.

    found: (side, height, width), from each of SIDES, turned back.
    """

    pixels: np.ndarray
    truth: np.ndarray
    found: np.ndarray


class Mosaic:
    """A slide of patches, of which any can be made at any time."""

    def __init__(self, sources: list[Source], side_px: int, seed: int = 0) -> None:
        self.sources, self.side_px, self.seed = sources, side_px, seed
        self.count = -(-side_px // PATCH_PX)

    def patch(self, row: int, column: int) -> list[np.ndarray]:
        """Pixels (PATCH_PX, PATCH_PX, 3), truth and what was found in the source, of one patch."""
        rng = np.random.default_rng((self.seed, row, column))
        source = self.sources[int(rng.integers(len(self.sources)))]
        top, left = (int(rng.integers(side - PATCH_PX + 1)) for side in source.truth.shape)
        window = np.s_[top : top + PATCH_PX, left : left + PATCH_PX]
        quarters, is_flipped = int(rng.integers(4)), bool(rng.integers(2))
        side = SIDES.index((is_flipped, quarters))
        parts = (source.pixels.transpose(1, 2, 0), source.truth, source.found[side])
        return [turned(part[window], is_flipped, quarters) for part in parts]

    def tiles(self, level: int) -> Iterator[np.ndarray]:
        """The tiles of a copy of the slide, row by row; beyond its edge they are black."""
        step = 2**level
        for row in range(-(-self.count // step)):
            for column in range(-(-self.count // step)):
                tile = np.zeros((PATCH_PX, PATCH_PX, 3), dtype=np.uint8)
                side = PATCH_PX // step
                for i in range(min(step, self.count - row * step)):
                    for j in range(min(step, self.count - column * step)):
                        pixels = self.patch(row * step + i, column * step + j)[0]
                        small = pixels.reshape(side, step, side, step, 3).mean(axis=(1, 3)).astype(np.uint8)
                        tile[i * side : (i + 1) * side, j * side : (j + 1) * side] = small
                yield tile

    def write(self, path: Path) -> None:
        with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
            for level in range(LEVELS):
                side = -(-self.side_px // 2**level)
                writer.write(
                    self.tiles(level),
                    shape=(side, side, 3),
                    dtype=np.uint8,
                    tile=(PATCH_PX, PATCH_PX),
                    photometric="rgb",
                    compression="jpeg",
                    compressionargs={"level": JPEG_LEVEL},
                    subifds=LEVELS - 1 if level == 0 else None,
                    subfiletype=1 if level else 0,
                    metadata={"axes": "YXS"} if level == 0 else None,
                )

    def truth(self) -> np.ndarray:
        """Labels of the whole slide, each patch's numbered on."""
        labels, last = np.zeros((self.count * PATCH_PX,) * 2, dtype=np.int32), 0
        for row in range(self.count):
            for column in range(self.count):
                there = self.patch(row, column)[1]
                place = np.s_[row * PATCH_PX : (row + 1) * PATCH_PX, column * PATCH_PX : (column + 1) * PATCH_PX]
                labels[place] = np.where(there > 0, there + last, 0)
                last += int(there.max(initial=0))
        return labels[: self.side_px, : self.side_px]

    def by_patch(self, labels: np.ndarray) -> list[Counts]:
        """Counts over whole patches: of labels of the slide, and of what was found in the sources."""
        counts = np.zeros((2, 3), dtype=int)
        for row in range(self.side_px // PATCH_PX):
            for column in range(self.side_px // PATCH_PX):
                _, truth, alone = self.patch(row, column)
                there = labels[row * PATCH_PX : (row + 1) * PATCH_PX, column * PATCH_PX : (column + 1) * PATCH_PX]
                inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
                for total, found in zip(counts, (there, alone), strict=True):
                    of_patch = match(truth[inner], found[inner])
                    total += (of_patch.n_true, of_patch.n_predicted, of_patch.true_positives)
        return [Counts(n_true=int(n), n_predicted=int(p), true_positives=int(t)) for n, p, t in counts]


def turned(image: np.ndarray, is_flipped: bool, quarters: int) -> np.ndarray:
    """An image (height, width, ...), first flipped, then turned by quarters."""
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if is_flipped else image, quarters))


def found_from_all_sides(pixels: np.ndarray, segmenter: Segmenter) -> np.ndarray:
    """Labels (side, height, width) of an image as it lies in the slide: compressed, flipped, turned; turned back."""
    found = []
    for is_flipped, quarters in SIDES:
        seen = turned(pixels.transpose(1, 2, 0), is_flipped, quarters)
        stored = jpeg8_encode(seen, JPEG_LEVEL, colorspace="rgb", outcolorspace="ycbcr", subsampling="420")
        labels = np.rot90(found_in(jpeg8_decode(stored).transpose(2, 0, 1), segmenter), -quarters)
        found.append(labels[:, ::-1] if is_flipped else labels)
    return np.stack(found)


def found_in(pixels: np.ndarray, segmenter: Segmenter) -> np.ndarray:
    """Labels of an image whose cells are CELL_PX wide."""
    pyramid = Pyramid(normalise(pixels))
    factor = segmenter.facts.canonical_diameter_px / CELL_PX
    prediction = predict_at_scale(pyramid, factor, segmenter.engine, segmenter.facts.network)
    found = segmenter.decode_packed(segmenter.representation.to_bytes(prediction), segmenter.facts.min_score)
    return resize_labels(found.labels, pyramid.shape)


def sources_of(data: Path, modality: str, segmenter: Segmenter) -> list[Source]:
    sources = []
    for sample in open_dataset(data):
        if not sample.labels or sample.modality != modality:
            continue
        image, truth, _ = load_labelled(sample)
        wide = diameter_px(truth)
        if wide is None:
            continue
        shape = tuple(round(side * CELL_PX / wide) for side in truth.shape)
        if min(shape) < PATCH_PX:
            continue
        pixels = resize_image(np.ascontiguousarray(normalise(image.pixels)), shape)
        pixels = (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
        found = found_from_all_sides(pixels, segmenter)
        sources.append(Source(pixels, np.maximum(resize_labels(truth, shape), 0), found))
    return sources


def run_one(path: Path, out: Path, exports: list[str], threads: int | None) -> None:
    """Segment one slide and print the facts as JSON; called in a process of its own."""
    began = time.perf_counter()
    segmenter = Segmenter.load(threads=threads)
    result = segment_slide(segmenter, path, out, FileSettings(diameter=CELL_PX, overwrite=True), exports=exports)
    of_exports = sum(seconds for name, seconds in result.seconds.items() if name.startswith("export "))
    seconds = time.perf_counter() - began - of_exports
    peak_mb = (peak_bytes() or 0) / 2**20
    plan = result.plan
    shapes = [(t.window[2] - t.window[0], t.window[3] - t.window[1]) for _, t in plan.tiles()]
    inputs = {shape: np.random.default_rng(0).random((3, *shape), dtype=np.float32) for shape in set(shapes)}
    bare = {}
    for precision in {segmenter.precision, cpu_precision()}:
        engine = Segmenter.load(threads=threads, precision=precision).engine
        for image in inputs.values():
            engine(image)
        began = time.perf_counter()
        for shape in shapes:
            engine(inputs[shape])
        bare[f"bare_{precision}_network_s"] = time.perf_counter() - began
    facts = {"seconds": seconds, "precision": segmenter.precision, **bare, "peak_mb": peak_mb, "cells": result.n_cells}
    facts |= {f"{name.replace(' ', '_')}_s": value for name, value in result.seconds.items()}
    facts |= {"tiles": result.n_tiles, "empty_tiles": result.empty_tiles}
    print(json.dumps(facts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with images/ and labels/")
    parser.add_argument("--sides", type=int, nargs="+", default=[5000, 10000, 20000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=[*KINDS])
    parser.add_argument("--exports", nargs="+", choices=EXPORTS, default=[])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", type=Path, help="where slides are built and kept; by default a temporary folder")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    parser.add_argument("--one", type=Path, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(*arguments.one, arguments.exports, arguments.threads)
        return

    import zarr

    rows: list[dict[str, object]] = []
    segmenter = Segmenter.load(threads=arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        work = arguments.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for kind in arguments.kinds:
            sources = sources_of(arguments.data, KINDS[kind], segmenter)
            for side in arguments.sides:
                mosaic, path, out = Mosaic(sources, side), work / f"{kind}_{side}.ome.tif", work / f"{kind}_{side}.zarr"
                if not path.exists():
                    mosaic.write(path)
                command = [sys.executable, __file__, str(arguments.data), "--one", str(path), str(out)]
                command += ["--exports", *arguments.exports] if arguments.exports else []
                command += ["--threads", str(arguments.threads)] if arguments.threads else []
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    sys.exit(done.stderr)
                facts = json.loads(done.stdout.splitlines()[-1])
                labels = zarr.open_array(str(out / "0"), mode="r")[:].astype(np.int32)
                of_slide, of_sources = map(f1, mosaic.by_patch(labels))
                facts |= {"f1_50": f1(match(mosaic.truth(), labels))}
                facts |= {"f1_50_by_patch": of_slide, "f1_50_of_sources": of_sources}
                facts |= {"times_bare_network": facts["seconds"] / facts[f"bare_{cpu_precision()}_network_s"]}
                rows.append({"kind": kind, "side_px": side, "sources": len(sources), **facts})
                print(
                    f"{kind:12s} {side:6d} px: {facts['seconds']:.1f} s, {facts['times_bare_network']:.2f} times the "
                    f"bare network, {facts['peak_mb']:.0f} MB, {facts['cells']} cells, F1 {facts['f1_50']:.3f}; by "
                    f"patch {of_slide:.4f}, of sources {of_sources:.4f}",
                    flush=True,
                )
                save_rows(rows, arguments.out, model="default")


if __name__ == "__main__":
    main()
