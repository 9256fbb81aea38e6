"""What canopy's tree and scorer make of other targets: cells read from what networks of other representations predict.

    python benchmarks/heights.py ../shared/data/train MODEL... --test ../shared/data/test --out OUT/heights.csv

MODEL is a folder that `fewcell train` wrote, of any representation. Each is read by its own decoding, with the settings
that its training chose, and by the tree of canopy, flooded from these heights:

    canopy, probability              the probability of a cell, and nothing of the flow: what the others compare with
    boundary, interior               the probability of a cell that is no boundary
    watershed, to the centre         foreground times inner distance: 1 in the centre of every cell, whatever its size
    watershed, depth                 foreground times outer distance: the depth in the cell, which range_px cuts off
    omni, depth                      the depth in the cell, less that in the background
    affinities, nearest              foreground times the mean affinity of a pixel with the four neighbours
    affinities, half                 the mean of that and of the foreground: a second height
    affinities, foreground joined    hills of the foreground, joined by the mean affinity along their borders
    stars, share of the depth        the depth in the cell, over the cell's largest

A cell of usual width is 12 px wide on the network's grid, so the distances of watershed (range_px 12) and omni (8) are
cut off for wide cells alone; train watershed with range_px = 3 for a depth that is cut off at a quarter of the width.

Scorers are fitted, levels chosen and images scored as in benchmarks/canopy.py. Which prominence serves is tried.
Without --test the held-out images are scored, on which the settings of a model's own decoding were chosen.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from canopy import CANOPY, Case, Way, joined_by_borders, judge, read_all
from rows import save_rows

from fewcell.representations import Representation, make_representation
from fewcell.representations.affinities import OFFSETS
from fewcell.representations.canopy_tree import Candidates, describe, flood
from fewcell.representations.flow_field import CELL
from fewcell.segmenter import read_model
from fewcell.types import FloatArray, Labels

PROMINENCES = (0.02, 0.06)
CUTS = {"stars": (0.05, 0.15, 0.3)}  # near its border a cell's probability is near 0 there
Height = Callable[[FloatArray], tuple[FloatArray, FloatArray]]
"""prediction -> probability of a cell, and what is flooded; (height, width) each, 0 to 1."""


def nearest(prediction: FloatArray) -> FloatArray:
    """The mean affinity of a pixel with the four beside it; beyond the edge, that with the one opposite."""
    across, down = (prediction[OFFSETS.index(offset)] for offset in ((0, 1), (1, 0)))
    left, above = across.copy(), down.copy()
    left[:, 1:], above[1:] = across[:, :-1], down[:-1]
    return (across + left + down + above) / 4


HEIGHTS: dict[str, dict[str, Height]] = {
    "canopy": {"probability": lambda p: 2 * (p[CELL],)},
    "boundary": {"interior": lambda p: (1 - p[0], p[1])},
    "watershed": {
        "to the centre": lambda p: (p[2], p[2] * p[0]),
        "depth": lambda p: (p[2], p[2] * p[1]),
    },
    "omni": {"depth": lambda p: (np.clip(1 + p[0], 0, 1), (1 + p[0]) / 2)},
    "affinities": {
        "nearest": lambda p: (p[-1], p[-1] * nearest(p)),
        "half": lambda p: (p[-1], p[-1] * (1 + nearest(p)) / 2),
    },
    "stars": {"share of the depth": lambda p: 2 * (p[0],)},
}
JOINED: dict[str, dict[str, Height]] = {"affinities": {"foreground joined": lambda p: 2 * (p[-1],)}}
"""Hills of these heights are joined by the mean of `nearest` along their borders."""


def tree_of(height: Height, cuts: tuple[float, ...], weight: Callable[[FloatArray], FloatArray] | None = None) -> Way:
    def grow(case: Case, cuts: tuple[float, ...], prominence: float) -> Candidates:
        cell, flooded = height(case.prediction)
        channels = {"cell": cell} if flooded is cell else {"cell": cell, "height": flooded}
        if weight is not None:
            channels["weight"] = weight(case.prediction)
        hills = flood(flooded, cell > cuts[0], prominence, CANOPY.widest_px)
        if weight is not None:
            hills = joined_by_borders(hills, channels["weight"])
        return describe(hills, channels, np.zeros((2, *cell.shape), dtype=np.float32), cuts)

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
        said = ", ".join(f"{key} {value}" for key, value in facts.recipe["representation"]["settings"].items())
        title, cuts = f"{name} ({said})" if said else name, CUTS.get(name, CANOPY.cuts)
        decode = own_decoding(make_representation(name, facts.representation.settings))
        own = {f"{title}, its own decoding": (decode, {})}
        trees = {f"{title}, {height}": tree_of(of, cuts) for height, of in HEIGHTS.get(name, {}).items()}
        trees |= {f"{title}, {height}": tree_of(of, cuts, nearest) for height, of in JOINED.get(name, {}).items()}
        rows += judge(*read_all(model, arguments.train, arguments.test), own, trees, {})
    save_rows(rows, arguments.out)


if __name__ == "__main__":
    main()
