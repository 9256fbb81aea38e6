"""What both peers are given, and how what they find is kept. Needs nothing that does not come with either of them."""

import argparse
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from skimage.io import imread
from skimage.transform import resize

HELD_OUT = 0.12  # of the images of each modality, as in the recipes of fewcell
THREADS = 2
FACTS_FILE, TRAINING_FILE = "facts.json", "training.json"


@dataclass(frozen=True)
class Sample:
    stem: str
    image: Path
    labels: Path
    modality: str
    experiment: str

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (height, width, 3) float32, grey ones three times the same, and labels int32, -1 where not known."""
        pixels = imread(self.image).astype(np.float32)
        pixels = np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels[..., :3]
        return pixels, tifffile.imread(self.labels).astype(np.int32)


def open_samples(folder: Path, limit: int | None) -> list[Sample]:
    """The images of a folder whose manifest is beside it; no more than `limit`, spread evenly."""
    with open(folder.parent / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == folder.name]
    samples = [
        Sample(
            row["stem"],
            folder.parent / row["file"],
            folder / "labels" / f"{row['stem']}_label.tiff",
            row["modality"],
            row["experiment"],
        )
        for row in sorted(rows, key=lambda row: row["stem"])
    ]
    return samples[:: -(-len(samples) // limit)] if limit else samples


def split(samples: Sequence[Sample], seed: int) -> tuple[list[Sample], list[Sample]]:
    """(To learn from, held out), whole experiments at a time: as fewcell's `grouped_split` does it."""
    sizes = Counter((sample.modality, sample.experiment) for sample in samples)
    by_modality: dict[str, set[str]] = defaultdict(set)
    by_experiment: dict[str, set[str]] = defaultdict(set)
    for modality, name in sizes:
        by_modality[modality].add(name)
        by_experiment[name].add(modality)
    room = {m: HELD_OUT * sum(sizes[m, name] for name in names) for m, names in by_modality.items()}
    rng, held = np.random.default_rng(seed), set()
    for modality in sorted(by_modality):
        names = by_modality[modality]
        for name in rng.permutation(sorted(names))[: len(names) - 1].tolist():
            if name not in held and all(sizes[m, name] <= room[m] for m in by_experiment[name]):
                held.add(name)
                for m in by_experiment[name]:
                    room[m] -= sizes[m, name]
    return [s for s in samples if s.experiment not in held], [s for s in samples if s.experiment in held]


def diameter_px(labels: np.ndarray) -> float | None:
    """The median diameter of the cells, that of the circle of equal area, as fewcell's own benchmarks measure it."""
    area = np.bincount(np.maximum(labels, 0).ravel())[1:]
    area = area[area > 0]
    return float(np.median(np.sqrt(4 * area / np.pi))) if len(area) else None


def resample(image: np.ndarray, shape: tuple[int, int], labels: bool = False) -> np.ndarray:
    """Bring pixels or labels to a shape (height, width)."""
    if image.shape[:2] == shape:
        return image
    order = 0 if labels else 1
    new = resize(image, (*shape, *image.shape[2:]), order, preserve_range=True, anti_aliasing=not labels)
    return new.astype(image.dtype)


def parse(description: str | None, add: Callable[[argparse.ArgumentParser], object]) -> argparse.Namespace:
    """The arguments of both scripts, and what `add` adds."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of labelled images; manifest.csv is beside it")
    parser.add_argument("test", type=Path, help="the folder of images to predict; manifest.csv is beside it")
    parser.add_argument("out", type=Path, help="a folder for the model and, below it, the predicted labels")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, on the clock")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use so many images only, to try the script")
    add(parser)
    return parser.parse_args()


def trained_once(out: Path, train: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Train unless that was done, and return the facts of it: a run whose prediction was interrupted can go on."""
    file = out / TRAINING_FILE
    if not file.exists():
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(train() | _circumstances(), indent=1), encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def predict(
    samples: Sequence[Sample],
    segment: Callable[[np.ndarray, float | None], np.ndarray],
    out: Path,
    facts: dict[str, object],
) -> None:
    """Write <stem>_label.tiff of every image, and facts: `segment` takes pixels and the true diameter.

    Timed is all from pixels to labels, resampling included, without reading and writing.
    """
    out.mkdir(parents=True, exist_ok=True)
    pixels, labels = samples[0].load()
    segment(pixels, diameter_px(labels))  # what is compiled once
    seconds = megapixels = 0.0
    for done, sample in enumerate(samples, 1):
        pixels, labels = sample.load()
        true_px = diameter_px(labels)
        start = time.perf_counter()
        found = segment(pixels, true_px)
        seconds += time.perf_counter() - start
        megapixels += labels.size / 1e6
        tifffile.imwrite(out / f"{sample.stem}_label.tiff", found.astype(np.int32), compression="zlib")
        print(f"{done}/{len(samples)} {sample.stem}: {found.max()} cells, {megapixels / seconds:.3f} Mpx/s", flush=True)
    facts |= {"n_images": len(samples), "predict_s": seconds, "mpx_per_s": megapixels / seconds, "threads": THREADS}
    (out / FACTS_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _circumstances() -> dict[str, object]:
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=here, capture_output=True, text=True, check=False
    )
    return {
        "commit": commit.stdout.strip(),
        "machine": f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}",
        "command": shlex.join(["python", *sys.argv]),
    }
