"""How fast a folder of images is segmented, from the start of the command to the last file written.

    python benchmarks/folder.py --out docs/results/folder.csv

100 images of 1 megapixel, PNG, parts of the pictures that come with scikit-image, go through `fewcell segment` in a
process of its own, once with the diameter given and once estimated. Start is the time that one image of 128 px takes
(the median of several), in a new process, with all that is loaded and compiled for it; first start the same where no
loop over pixels has been compiled before, as after installing (once: files may be in memory then or not).
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from rows import save_rows
from skimage import data

from fewcell.images.read import read_labels

IMAGES, SIDE_PX, SMALL_PX, STARTS = 100, 1000, 128, 5


def draw(folder: Path) -> None:
    """Turned parts of a stained section and of a phase image, mirrored beyond their edges, in turn."""
    pictures = [np.asarray(data.immunohistochemistry()), np.asarray(data.cell())]
    rng = np.random.default_rng(0)
    for i in range(IMAGES):
        picture = pictures[i % 2]
        missing = [(0, max(0, 2 * SIDE_PX - side)) for side in picture.shape[:2]] + [(0, 0)] * (picture.ndim - 2)
        large = np.pad(picture, missing, mode="symmetric")
        top, left = rng.integers(0, large.shape[0] - SIDE_PX, 2)
        part = np.rot90(large[top : top + SIDE_PX, left : left + SIDE_PX], rng.integers(4))
        PillowImage.fromarray(np.ascontiguousarray(part)).save(folder / f"{i:03d}.png")


def timed(*command: str, **environment: str) -> float:
    fewcell, settings = str(Path(sys.executable).with_name("fewcell")), os.environ | environment
    start = time.perf_counter()
    subprocess.run([fewcell, *command], check=True, stdout=subprocess.DEVNULL, env=settings)
    return time.perf_counter() - start


def starts(images: Path, folder: Path) -> dict[str, float]:
    """How long one small image takes, the first time and later."""
    small, out = folder / "small.png", str(folder / "small")
    PillowImage.open(min(images.iterdir())).crop((0, 0, SMALL_PX, SMALL_PX)).save(small)
    command = ("segment", str(small), "-o", out, "--overwrite", "--diameter", "16")
    timed("info")  # files of the libraries are in memory
    first_s = timed(*command, NUMBA_CACHE_DIR=str(folder / "compiled"))
    if not read_labels(folder / "small" / "small_label.tiff").any():
        sys.exit("No cell was found in the small image, so that this says nothing of a start.")
    later = [timed(*command) for _ in range(1 + STARTS)]
    return {"first_start_s": first_s, "start_s": float(np.median(later[1:]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        images, out = Path(temporary) / "images", Path(temporary) / "out"
        images.mkdir()
        draw(images)
        of_start = starts(images, Path(temporary))
        for name, options in (("given", ["--diameter", "16"]), ("estimated", [])):
            seconds = timed("segment", str(images), "-o", str(out), "--overwrite", *options)
            mpx_per_s = IMAGES * SIDE_PX**2 / 1e6 / seconds
            peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            row = {"diameter": name, "images": IMAGES, "seconds": seconds, "mpx_per_s": mpx_per_s}
            row |= {"peak_mb_so_far": peak_mb, **of_start}
            print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
            rows.append(row)
    save_rows(rows, arguments.out, model="default")


if __name__ == "__main__":
    main()
