"""What canopy's tree and scorer make of other targets: cells read from what networks of other representations predict.

    python benchmarks/heights.py ../shared/data/train MODEL... --test ../shared/data/test --out OUT/heights.csv

MODEL is a folder that `fewcell train` wrote, of any representation. Each is read by its own decoding, with the settings
that its training chose, and by the tree of canopy, flooded from these heights:

    canopy, probability              the probability of a cell, and nothing of the flow: what the others compare with
    boundary, interior               the probability of a cell that is no boundary
    watershed, to the centre         foreground times inner distance: 1 in the centre of every cell, whatever its size
    watershed, depth cut off         foreground times outer distance: the depth in the cell, cut off at 12 px
    watershed, both                  the mean of the two
    omni, depth cut off              the depth in the cell, cut off at 8 px, less that in the background
    affinities, nearest              foreground times the mean affinity of a pixel with its four neighbours
    stars, share of the depth        the depth in the cell, over the cell's largest

Scorers are fitted, levels chosen and images scored as in benchmarks/canopy.py. Which prominence serves is tried.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from canopy import CANOPY, Way, judge, read_all, save

from fewcell.representations import Representation, make_representation
from fewcell.representations.affinities import OFFSETS
from fewcell.representations.canopy_tree import Candidates, grow_candidates
from fewcell.representations.flow_field import CELL
from fewcell.segmenter import read_model
from fewcell.types import FloatArray, Labels

PROMINENCES = (0.01, 0.02, 0.05, 0.1)
CUTS = {"stars": (0.05, 0.15, 0.3)}  # near its border a cell's probability is near 0 there
Height = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""prediction -> probability of a cell, and what is flooded; (height, width) each, 0 to 1."""


def nearest(affinities: FloatArray) -> FloatArray:
    """The mean affinity of a pixel with the four beside it."""
    right, lower = (affinities[OFFSETS.index(offset)] for offset in ((0, 1), (1, 0)))
    left, upper = np.roll(right, 1, axis=1), np.roll(lower, 1, axis=0)
    return (right + lower + left + upper) / 4


HEIGHTS: dict[str, dict[str, Height]] = {
    "canopy": {"probability": lambda p: 2 * (p[CELL],)},
    "boundary": {"interior": lambda p: (1 - p[0], p[1])},
    "watershed": {
        "to the centre": lambda p: (p[2], p[2] * p[0]),
        "depth cut off": lambda p: (p[2], p[2] * p[1]),
        "both": lambda p: (p[2], p[2] * (p[0] + p[1]) / 2),
    },
    "omni": {"depth cut off": lambda p: (np.clip(1 + p[0], 0, 1), (1 + p[0]) / 2)},
    "affinities": {"nearest": lambda p: (p[-1], p[-1] * nearest(p))},
    "stars": {"share of the depth": lambda p: 2 * (p[0],)},
}


def tree_of(height: Height, cuts: tuple[float, ...]) -> Way:
    def grow(prediction: FloatArray, cuts: tuple[float, ...], prominence: float) -> Candidates:
        cell, flooded = height(prediction)
        channels = {"cell": cell} if flooded is cell else {"cell": cell, "height": flooded}
        no_flow = np.zeros((2, *cell.shape), dtype=np.float32)
        return grow_candidates(flooded, channels, no_flow, cuts, prominence, CANOPY.widest_px)

    return Way(grow=grow, settings=PROMINENCES, cuts=cuts, without=("flow",))


def own_decoding(representation: Representation) -> Callable[[FloatArray], Labels]:
    return lambda prediction: representation.decode(prediction).labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, help="the dataset that the models were trained on")
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--test", type=Path, help="score these images; without, those held out, five folds")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()
    rows = []
    for model in arguments.models:
        facts = read_model(model)
        name = facts.representation.name
        own = {
            f"{name}, its own decoding": (own_decoding(make_representation(name, facts.representation.settings)), {})
        }
        trees = {
            f"{name}, {height}": tree_of(of, CUTS.get(name, CANOPY.cuts))
            for height, of in HEIGHTS.get(name, {}).items()
        }
        rows += judge(*read_all(model, arguments.train, arguments.test), own, trees, {})
    if arguments.out:
        save(rows, arguments.out)


if __name__ == "__main__":
    main()
