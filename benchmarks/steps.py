"""Trails with the target they were designed with: steps along the shortest path inside a cell, instead of the flow.

    python benchmarks/steps.py ../shared/data/train --test ../shared/data/test --steps 1440 --out OUT

A step leads to the place at most STEP_PX ahead on the shortest path from a pixel to its cell's centre. Trained as
`fewcell train` trains, all else being as in plans/our-methods.toml, and read as trails are:

    step        the step itself, in units of STEP_PX: short near the centre
    direction   the direction of the step alone, of length 1 as the flow is, so that both differ in where they lead only

Before, without a network, how far each target differs between neighbours is measured: around every pixel further than
NEAR_PX from its cell's centre, within SIDE x SIDE pixels of that cell, the share that a constant does not explain,
1 - |mean|^2 / mean of |target|^2; means over IMAGES images by modality are printed.

OUT gets a run's folder for each target, unless it is there, and heights-steps.csv: the scores of the test images, at
true scale and with settings chosen on held-out images, as benchmarks/heights.py writes those of other representations:
the report shows both where it lies beside a heights.csv of networks of seed 0.
"""

import argparse
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from canopy import judge, read_all
from heights import own_decoding
from numpy.typing import NDArray
from rows import save_rows
from scipy import ndimage
from skimage.graph import MCP_Geometric

from fewcell.config import Part, Recipe
from fewcell.data.dataset import Sample, diameter_px, load_sample, open_dataset
from fewcell.data.split import label_order
from fewcell.images import resize_labels
from fewcell.representations import REPRESENTATIONS, Trails, make_representation
from fewcell.representations.cell_fields import number_pieces
from fewcell.representations.flow_field import FLOW, FlowField
from fewcell.segmenter import read_model
from fewcell.training.fit import fit
from fewcell.types import FloatArray, Instances, Labels

IMAGES, CELL_PX = 100, 12
STEP_PX, ARRIVED_PX, NEAR_PX, SIDE = 8.0, 1.5, 3.0, 5


def steps_of(cell: NDArray[np.bool_]) -> FloatArray:
    """Of one connected cell (height, width), where each pixel's step leads: (2, height, width), y and x, in pixels."""
    inside = np.argwhere(cell)
    centre = tuple(inside[np.argmin(((inside - inside.mean(axis=0)) ** 2).sum(axis=1))])
    paths = MCP_Geometric(np.where(cell, 1.0, np.inf))
    length, came_from = paths.find_costs([centre])
    length, places = np.where(cell, length, 0), np.indices(cell.shape)
    moves = np.concatenate([np.array(paths.offsets), [[0, 0]]]).transpose()  # the last for what came from nowhere
    ahead = places - np.where(cell, moves[:, came_from], 0)
    ends = places
    while True:  # all pixels go on at once, until none may go further
        onward = ahead[:, ends[0], ends[1]]
        goes = (length - length[onward[0], onward[1]] <= STEP_PX) & np.any(onward != ends, axis=0)
        if not goes.any():
            return (ends - places).astype(np.float32)
        ends = np.where(goes, onward, ends)


def steps_in(labels: Labels) -> FloatArray:
    """The steps of all cells; pieces of a cell that do not touch have a centre each."""
    pieces = number_pieces(labels)[0]
    steps = np.zeros((2, *labels.shape), np.float32)
    for number, part in enumerate(ndimage.find_objects(pieces), 1):
        if part is not None:
            cell = pieces[part] == number
            steps[:, *part] = np.where(cell, steps_of(cell), steps[:, *part])
    return steps


@dataclass(frozen=True)
class Steps(FlowField):
    """Steps instead of the flow, by length or not; see above."""

    with_length: bool = True
    cell_threshold: float = 0.5
    flow_error: float = 6.0

    # The flow that the shape of a cell would have is not predicted, so that cells cannot be checked by it.
    tuned: ClassVar[Mapping[str, tuple[float, ...]]] = {"cell_threshold": tuple(0.25 + i / 40 for i in range(20))}

    @property
    def reach_px(self) -> None:
        return None

    def targets(self, labels: Labels) -> FloatArray:
        targets, steps = super().targets(labels), steps_in(labels)
        far = STEP_PX if self.with_length else np.maximum(np.hypot(*steps), 1e-6)
        targets[FLOW] = np.clip(steps / far, -1, 1)
        return targets

    def decode(self, prediction: FloatArray) -> Instances:
        flow = prediction[FLOW]
        length = np.hypot(*flow)
        has_arrived = length * STEP_PX <= ARRIVED_PX if self.with_length else np.zeros(length.shape, dtype=bool)
        onward = np.where(has_arrived, 0, flow / np.maximum(length, 1e-6))
        trails = Trails(cell_threshold=self.cell_threshold, flow_error=self.flow_error)
        return trails.decode(np.concatenate([onward, prediction[2:]]).astype(np.float32))


def unexplained(target: FloatArray, cells: Labels) -> FloatArray:
    """Of each pixel, the share of the target in its window and cell that the mean there does not explain."""
    reach = SIDE // 2
    padded, of = np.pad(target, ((0, 0), (reach, reach), (reach, reach))), np.pad(cells, reach)
    height, width = cells.shape
    total, squares, count = np.zeros_like(target), np.zeros(cells.shape), np.zeros(cells.shape)
    for dy in range(SIDE):
        for dx in range(SIDE):
            there = np.s_[dy : dy + height, dx : dx + width]
            same = of[there] == cells
            total += np.where(same, padded[:, *there], 0)
            squares += np.where(same, (padded[:, *there] ** 2).sum(axis=0), 0)
            count += same
    return 1 - (total**2).sum(axis=0) / np.maximum(squares * count, 1e-9)


def compare_targets(samples: list[Sample]) -> None:
    """Print how far each target differs between neighbours, by modality."""
    shares = defaultdict(list)
    for sample in (samples[i] for i in label_order(samples)[:IMAGES]):
        _, labels = load_sample(sample)
        diameter = None if labels is None else diameter_px(labels)
        if labels is None or diameter is None:
            continue
        height, width = (max(1, round(side * CELL_PX / diameter)) for side in labels.shape)
        cells = number_pieces(resize_labels(labels, (height, width)))[0]
        steps = steps_in(cells)
        counted = (cells > 0) & (np.hypot(*steps) > NEAR_PX)
        direction, flow = steps / np.maximum(np.hypot(*steps), 1e-6), FlowField.targets(Trails(), cells)[FLOW]
        for name, target in (("step", steps), ("direction", direction), ("flow", flow)):
            if counted.any():
                shares[sample.modality, name].append(float(unexplained(target, cells)[counted].mean()))
    for (modality, name), values in sorted(shares.items()):
        print(f"{modality:14s} {name:10s} {np.mean(values):.3f} ({len(values)} images)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--test", type=Path, help="score these images; without, those held out")
    parser.add_argument("--steps", type=int, help="train so long; without, only compare the targets")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    samples = open_dataset(arguments.train)
    compare_targets(samples)
    if arguments.steps is None or arguments.out is None:
        return
    REPRESENTATIONS["steps"] = Steps
    rows = []
    for name, settings in (("step", {"with_length": True}), ("direction", {"with_length": False})):
        folder = arguments.out / name
        if not (folder / "model").exists():
            part = Part(name="steps", settings=settings)
            fit(Recipe(representation=part, steps=arguments.steps), samples, folder, resume=folder.exists())
        found = read_model(folder / "model").representation
        decode = own_decoding(make_representation(found.name, found.settings))
        cases = read_all(folder / "model", arguments.train, arguments.test)
        rows += judge(*cases, {f"trails by {name}": (decode, {})}, {}, {})
    save_rows(rows, arguments.out / "heights-steps.csv")


if __name__ == "__main__":
    main()
