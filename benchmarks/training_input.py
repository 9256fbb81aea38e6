"""What it costs to make the crops that a network learns from, and how long training waits for them.

    python benchmarks/training_input.py                        # on drawn images
    python benchmarks/training_input.py DATASET --out x.csv    # on a dataset folder

The first table says how long one process takes for a crop, by part; the second, what share of the time of real
training steps of the default recipe passes in waiting for crops, with workers and without.
"""

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from rows import save_rows

from fewcell.config import Part, Recipe
from fewcell.data import crops
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample, open_dataset
from fewcell.data.pyramids import Pyramids
from fewcell.networks import Network, make_network
from fewcell.representations import Representation, make_representation
from fewcell.training.batches import Share, batches, make_batch
from fewcell.training.machine import machine
from fewcell.training.supervised import Supervised

WARM_UP_STEPS = 4
DRAWN_IMAGES = 24

Row = tuple[str, float, str]


@dataclass
class Watch:
    """Adds up the time spent in functions, by the name of their part; a part inside another counts for itself."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    running: list[str] = field(default_factory=list)

    def timed(self, part: str, function: Callable) -> Callable:
        def wrapper(*args: object, **kwargs: object) -> object:
            start = time.perf_counter()
            self.running.append(part)
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.perf_counter() - start
                self.running.pop()
                self.seconds[part] += spent
                if self.running:
                    self.seconds[self.running[-1]] -= spent

        return wrapper


@contextmanager
def watching(representation: Representation) -> Iterator[Watch]:
    """Time the parts of a crop by putting a watch around the functions that make it."""
    watch = Watch()
    places = [
        ("read", Pyramids, "read"),
        ("warp", crops, "warp_image"),
        ("warp", crops, "warp_labels"),
        ("intensity", crops, "vary_intensity"),
        ("intensity", crops, "immunostain"),
        ("intensity", crops, "empty_image"),
        ("intensity", crops, "out_of_focus"),
        ("targets", type(representation), "targets"),
    ]
    originals = [(place, name, getattr(place, name)) for _, place, name in places]
    for part, place, name in places:
        setattr(place, name, watch.timed(part, getattr(place, name)))
    try:
        yield watch
    finally:
        for place, name, original in originals:
            setattr(place, name, original)


def draw_dataset(folder: Path) -> Path:
    """Images of bright discs in noise, half of them in colour and dark on bright, 520 x 696 pixels each."""
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for i in range(DRAWN_IMAGES):
        rng = np.random.default_rng(i)
        labels = np.zeros((520, 696), dtype=np.int32)
        radius = rng.uniform(7, 22)
        for number in range(1, 120):
            centre = (int(rng.integers(696)), int(rng.integers(520)))
            cv2.circle(labels, centre, round(radius * rng.uniform(0.8, 1.2)), number, cv2.FILLED)
        image = 0.1 + 0.6 * (labels > 0) + 0.2 * rng.random(labels.shape)
        if i % 2:
            image = 1 - image[..., None] * [0.4, 0.9, 0.3]
        tifffile.imwrite(folder / "images" / f"{i}.tif", (255 * image).astype(np.uint8))
        tifffile.imwrite(folder / "labels" / f"{i}_label.tiff", labels)
    return folder


def cost_of_a_crop(source: CropSource, representation: Representation, count: int) -> list[Row]:
    """Milliseconds for each part. Reading happens once an image, the others for each crop."""
    used = min(len(source.samples), count)
    with watching(representation) as watch:
        for i in range(used):
            source.crop(i, np.random.default_rng(i))
    rows = [("read and halve, once an image", 1000 * watch.seconds["read"] / used, "ms per image")]
    with watching(representation) as watch:
        start = time.perf_counter()
        for i in range(count):
            make_batch([source], representation, [i % used], [np.random.default_rng((1, i))])
        total = time.perf_counter() - start
    parts = {part: watch.seconds[part] for part in ("read", "warp", "intensity", "targets")}
    parts["rest"] = total - sum(parts.values())
    parts["all"] = total
    return rows + [(part, 1000 * seconds / count, "ms per crop") for part, seconds in parts.items()]


def waiting(
    source: CropSource, representation: Representation, network: Network, recipe: Recipe, steps: int
) -> list[Row]:
    """Train for some steps, as `fewcell train` does, and see what share of the time the network waited."""
    with machine(recipe) as here:
        network.to(here.device, memory_format=torch.channels_last).train()
        objective = Supervised(representation, network)
        optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate)
        stream = batches([Share(source, recipe.batch)], representation, recipe)
        waited, start = 0.0, time.perf_counter()
        for step in range(WARM_UP_STEPS + steps):
            if step == WARM_UP_STEPS:
                waited, start = 0.0, time.perf_counter()
            asked = time.perf_counter()
            batch = next(stream)
            waited += time.perf_counter() - asked
            with here.autocast():
                loss = torch.stack(list(objective.losses(network(batch.images), batch, 0.0).values())).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        spent = time.perf_counter() - start
    name = f"with workers = {recipe.workers}"
    return [
        (f"step {name}", 1000 * spent / steps, "ms per step"),
        (f"waiting {name}", 100 * waited / spent, "% of the time"),
    ]


def measure(samples: Sequence[Sample], count: int, steps: int, batch: int) -> list[Row]:
    boundary = Part(name="boundary")  # as in the rows that there are
    recipe = Recipe(representation=boundary, steps=steps + WARM_UP_STEPS, batch=batch)
    representation = make_representation(recipe.representation.name, recipe.representation.settings)
    network = make_network(recipe.network.name, len(representation.channels), recipe.network.settings)
    grid = Grid(recipe.crop_px, network.stride, representation.margin_px, recipe.canonical_diameter_px)
    source = CropSource(samples, grid, recipe.augmentation)
    rows = cost_of_a_crop(source, representation, count)
    source.pyramids.preload()
    for workers in (0, 1):
        rows += waiting(source, representation, network, recipe.model_copy(update={"workers": workers}), steps)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", nargs="?", help="a dataset folder; without one, images are drawn")
    parser.add_argument("--crops", type=int, default=300, help="crops to time, by part")
    parser.add_argument("--steps", type=int, default=30, help="training steps to time, after a few to warm up")
    parser.add_argument("--batch", type=int, default=8, help="crops a step")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.dataset or draw_dataset(Path(temporary))
        samples = [sample for sample in open_dataset(folder) if sample.labels]
        rows = measure(samples, arguments.crops, arguments.steps, arguments.batch)
    for what, value, unit in rows:
        print(f"{what:32} {value:9.2f} {unit}")
    named = [{"what": what, "value": value, "unit": unit} for what, value, unit in rows]
    save_rows(named, arguments.out, threads=torch.get_num_threads(), torch=torch.__version__)


if __name__ == "__main__":
    main()
