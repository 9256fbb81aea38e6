"""What the parts of canopy are worth: cells read in many ways from the same predictions of one trained network.

    python benchmarks/canopy.py MODEL ../shared/data/train
    python benchmarks/canopy.py MODEL ../shared/data/train --test ../shared/data/test --out OUT/canopy-seed0.csv
    python benchmarks/canopy.py default ../shared/data/train --test ../shared/data/test --ways canopy oracle \\
        --out docs/results/oracle.csv

MODEL is a folder that `fewcell train --representation canopy` (or flows, which predicts the same) wrote, or the name
of a model inside the package. --ways: only these of the ways below. Settings are chosen on the images held out from
its training. Scorers are fitted to these and to some of those learned from, as in training; the level is chosen by
what scorers say that were fitted without the held-out images of the same experiment. Without --test the held-out
images are scored, by these scorers; with --test, the images of another folder. Images are seen at their true
diameter. One row an image and a way of reading; mean F1 at IoU 0.5 by modality is printed. Settings are tuned for F1
at IoU 0.5, where the name of a way does not say otherwise.

Where OUT is a folder of `fewcell benchmark`, the report shows the tables named canopy*.csv in it, one for each seed.

Ways without a scorer have 20 settings:
    threshold   pieces above one height, grown into the foreground
    cell cut    pieces above one probability of a cell
    h-maxima    the watershed of summits that stand out by h
    stable      the nodes of the tree that stay the same over the greatest range of heights (MSER), nothing learned
    flows       the decoding of `flows`
    trails      the decoding of `trails`
Ways with a scorer, fitted to their own candidates:
    one height  pieces above one height, grown into the foreground: what the scorer is worth without a choice of nodes
    ladder      pieces above a ladder of heights, at full extent, as a tree
    borders     hills of canopy, those joined first whose border is highest on average, instead of at its saddle
    canopy      hills and unions of hills, as a tree; then variations of it
    last layer  canopy, with what the last layer of the network holds among what tells of a candidate
    oracle      canopy's candidates, chosen by the truth; and those of `more hills`
"""

import argparse
import heapq
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import save_rows

from fewcell.data.dataset import Sample, diameter_px, load_labelled, open_dataset
from fewcell.data.split import label_order
from fewcell.engine import OpenVinoEngine, openvino
from fewcell.images import Pyramid, normalise, resize_labels
from fewcell.metrics import count_matches, f1, match, remove_border, scored_overlaps
from fewcell.representations import Canopy, Flows, Trails
from fewcell.representations.base import collect_instances
from fewcell.representations.canopy import FITTED_PER_IMAGE, HIDDEN_UNITS, RIGHT_AT
from fewcell.representations.canopy_tree import Candidates, Tree, describe, flood, select, true_ious
from fewcell.representations.flow_field import CELL, FLOW
from fewcell.scoring import Scorer
from fewcell.segmenter import ModelFacts, find_model, predict_at_scale, read_model
from fewcell.training.lessons import parts_of
from fewcell.types import FloatArray, Labels

FOLDS = 5
OF_A_FLOW = ("canopy", "flows", "trails")
COMPONENTS = 8
LEARNED_IMAGES = 200
FOREGROUNDS = (0.3, 0.4, 0.5, 0.6)
GROW_PX = 3
CANOPY = Canopy()
LEVELS = CANOPY.tuned["level"]


@dataclass(frozen=True)
class Case:
    """An image as the network sees it. labels: on the network's grid. truth: on the image's own.

    last_layer: principal components of what the network's last layer reads, on its grid.
    """

    stem: str
    modality: str
    experiment: str
    seen: bool
    prediction: FloatArray
    labels: Labels
    truth: Labels
    last_layer: FloatArray

    def score(self, found: Labels) -> tuple[float, float]:
        """F1 at IoU 0.5 and 0.75, by the challenge's rule, at the image's own size."""
        table = scored_overlaps(self.truth, resize_labels(found, self.truth.shape))
        return f1(count_matches(table, 0.5)), f1(count_matches(table, 0.75))

    @property
    def scorable(self) -> bool:
        return bool(remove_border(self.truth).max(initial=0) > 0)


class LastLayer:
    """What the last layer of a model's network reads, in its COMPONENTS main directions, fitted to some images."""

    def __init__(self, model: Path, samples: Sequence[Sample]) -> None:
        network = openvino().Core().read_model(model / "network.onnx")
        head = [op for op in network.get_ordered_ops() if op.get_type_name() == "Convolution"][-1]
        with tempfile.TemporaryDirectory() as folder:
            cut_off = Path(folder) / "network.xml"
            openvino().save_model(openvino().Model([head.input_value(0)], network.get_parameters()), cut_off)
            self.engine = OpenVinoEngine(cut_off)
        self.facts = read_model(model)
        rng = np.random.default_rng(0)
        pixels = [layer.reshape(len(layer), -1) for layer in (self.read(*seen(s, self.facts)[:2]) for s in samples)]
        some = np.concatenate([p[:, rng.permutation(p.shape[1])[:1000]] for p in pixels], axis=1)
        self.mean = some.mean(axis=1)
        variance, directions = np.linalg.eigh(np.cov(some))
        scale = np.sqrt(np.maximum(variance[-COMPONENTS:], 1e-12))
        self.directions = (directions[:, -COMPONENTS:] / scale).T.astype(np.float32)

    def read(self, pyramid: Pyramid, factor: float) -> FloatArray:
        return predict_at_scale(pyramid, factor, self.engine, self.facts.network)

    def __call__(self, pyramid: Pyramid, factor: float) -> FloatArray:
        return np.tensordot(self.directions, self.read(pyramid, factor) - self.mean[:, None, None], axes=1)


def seen(sample: Sample, facts: ModelFacts) -> tuple[Pyramid, float, Labels]:
    """An image, normalised, by how much it is enlarged to be seen at canonical scale, and its labels."""
    image, truth, _ = load_labelled(sample)
    diameter = diameter_px(truth) or facts.canonical_diameter_px
    return Pyramid(normalise(image.pixels)), facts.canonical_diameter_px / diameter, truth


def predict(samples: Sequence[Sample], model: Path, trained: set[str], last_layer: LastLayer | None) -> list[Case]:
    """The predictions of a model's network for labelled images, at their true diameter."""
    facts = read_model(model)
    engine = OpenVinoEngine(model / "network.onnx")
    cases = []
    for sample in samples:
        pyramid, factor, truth = seen(sample, facts)
        prediction = predict_at_scale(pyramid, factor, engine, facts.network)
        layer = last_layer(pyramid, factor) if last_layer else np.zeros((0, *prediction.shape[1:]), np.float32)
        labels = resize_labels(truth, (prediction.shape[1], prediction.shape[2]))
        is_seen = sample.experiment in trained
        case = Case(sample.stem, sample.modality, sample.experiment, is_seen, prediction, labels, truth, layer)
        if case.scorable:
            cases.append(case)
    return cases


# Ways with settings only: name -> (settings -> labels on the grid, the settings to try)


def by_threshold(prediction: FloatArray, threshold: float, foreground: float) -> Labels:
    return _pieces(CANOPY.height(prediction) > threshold, prediction, foreground)


def by_cell(prediction: FloatArray, threshold: float, min_area_px: float) -> Labels:
    import cc3d

    pieces = cc3d.connected_components(prediction[CELL] > threshold, connectivity=8, out_dtype=np.uint32)
    return _without_small(pieces, min_area_px)


def _pieces(core: NDArray[np.bool_], prediction: FloatArray, foreground: float) -> Labels:
    import cc3d
    from skimage.segmentation import expand_labels

    pieces = cc3d.connected_components(core, connectivity=8, out_dtype=np.uint32)
    return _without_small(np.where(prediction[CELL] > foreground, expand_labels(pieces.astype(np.int32), GROW_PX), 0))


def by_h_maxima(prediction: FloatArray, h: float, foreground: float) -> Labels:
    from skimage.segmentation import watershed

    from fewcell.representations.watershed_kernels import prominent_summits

    height, inside = CANOPY.height(prediction), prediction[CELL] > foreground
    places = np.flatnonzero(inside)
    order = places[np.argsort(-height.ravel()[places], kind="stable")]
    return _without_small(watershed(-height, prominent_summits(height, order, 0.02, h), mask=inside, connectivity=2))


def by_stability(prediction: FloatArray, prominence: float, foreground: float) -> Labels:
    candidates = replace(CANOPY, cuts=(foreground,), prominence=prominence).candidates(prediction)
    summit, met, saddle = (candidates.features[name] for name in ("summit", "met", "saddle"))
    stability = np.where(CANOPY.may_be_cells(candidates), met / np.maximum(summit, 1e-6) - saddle, 0)
    return select(candidates, stability, 0.0, CANOPY.min_area_px).labels


def by_flows(prediction: FloatArray, cell_threshold: float, flow_error: float) -> Labels:
    return Flows(cell_threshold=cell_threshold, flow_error=flow_error).decode(prediction).labels


def by_trails(prediction: FloatArray, cell_threshold: float, flow_error: float) -> Labels:
    return Trails(cell_threshold=cell_threshold, flow_error=flow_error).decode(prediction).labels


SettingsOnly = Mapping[str, tuple[Callable[..., Labels], Mapping[str, tuple[float, ...]]]]
SETTINGS_ONLY: SettingsOnly = {
    "threshold": (by_threshold, {"threshold": (0.1, 0.15, 0.2, 0.3, 0.4), "foreground": FOREGROUNDS}),
    "cell cut": (by_cell, {"threshold": (0.3, 0.4, 0.5, 0.6, 0.7), "min_area_px": (6, 12, 24, 48)}),
    "h-maxima": (by_h_maxima, {"h": (0.03, 0.06, 0.1, 0.15, 0.2), "foreground": FOREGROUNDS}),
    "stable": (by_stability, {"prominence": (0.01, 0.03, 0.06, 0.1, 0.15), "foreground": FOREGROUNDS}),
    "flows": (by_flows, dict(Flows.tuned)),
    "trails": (by_trails, dict(Trails.tuned)),
}


# Ways with a scorer


def grow(case: Case, cuts: tuple[float, ...], prominence: float) -> Candidates:
    return replace(CANOPY, cuts=cuts, prominence=prominence).candidates(case.prediction)


def grow_ladder(case: Case, cuts: tuple[float, ...], steps: float) -> Candidates:
    """The tree of pieces above heights, at full extent."""
    ladder = replace(CANOPY, cuts=cuts, prominence=1e-4)
    return ladder.candidates(case.prediction, stepped(case.prediction, steps))


def stepped(prediction: FloatArray, steps: float) -> FloatArray:
    """The height as a ladder of so many steps sees it: what is equally high to it is one hill."""
    return (np.floor(CANOPY.height(prediction) * steps) / steps).astype(np.float32)


def grow_at_one_height(case: Case, cuts: tuple[float, ...], threshold: float) -> Candidates:
    """What lies above it is level; from there down to GROW_PX away, beyond which nothing is of a cell."""
    from scipy.ndimage import distance_transform_edt

    away = distance_transform_edt(CANOPY.height(case.prediction) <= threshold)
    height = np.clip(1 - away / (GROW_PX + 1), 0, 1).astype(np.float32)
    near = case.prediction.copy()
    near[CELL][away > GROW_PX] = 0
    return replace(CANOPY, cuts=cuts, prominence=1e-4).candidates(near, height)


def grow_by_cell(case: Case, cuts: tuple[float, ...], prominence: float) -> Candidates:
    return replace(CANOPY, cuts=cuts, prominence=prominence).candidates(case.prediction, case.prediction[CELL])


def grow_by_borders(case: Case, cuts: tuple[float, ...], prominence: float) -> Candidates:
    height = CANOPY.height(case.prediction)
    hills = flood(height, case.prediction[CELL] > cuts[0], prominence, CANOPY.widest_px)
    described = CANOPY.described_by(case.prediction)
    return describe(joined_by_borders(hills, height), described, case.prediction[FLOW], cuts)


def grow_with_last_layer(case: Case, cuts: tuple[float, ...], prominence: float) -> Candidates:
    height = CANOPY.height(case.prediction)
    hills = flood(height, case.prediction[CELL] > cuts[0], prominence, CANOPY.widest_px)
    more = {f"last layer {i}": component for i, component in enumerate(case.last_layer)}
    return describe(hills, CANOPY.described_by(case.prediction) | more, case.prediction[FLOW], cuts)


def joined_by_borders(hills: Tree, weight: FloatArray) -> Tree:
    """Hills of a tree, joined anew: two at a time, those whose border has the highest mean weight (average linkage).

    Unlike in `merge_tree` unions may be of any width; those that are too wide are no candidates in either.

    weight: (height, width). Source: agglomeration by mean affinity, as in Funke et al., Large scale image segmentation
    with structured loss based deep learning for connectome reconstruction (IEEE TPAMI 2019).
    """
    is_leaf = np.ones(len(hills.parent), dtype=bool)
    is_leaf[hills.parent[hills.parent >= 0]] = False
    number = np.append(np.cumsum(is_leaf) - 1, -1)  # the last for pixels on no hill
    basin = number[hills.basin].astype(np.int32)
    n = int(is_leaf.sum())
    borders: list[dict[int, list[float]]] = [{} for _ in range(n)]  # of each node: neighbour -> sum of weights, length
    for one, other, total, length in _borders(basin, weight):
        borders[one][other] = borders[other][one] = [total, length]
    parent, met, summit = [-1] * n, [*hills.met[is_leaf]], [*hills.summit[is_leaf]]
    queue = [(-total / length, a, b) for a in range(n) for b, (total, length) in borders[a].items() if a < b]
    heapq.heapify(queue)
    while queue:
        height, a, b = heapq.heappop(queue)
        if parent[a] >= 0 or parent[b] >= 0:
            continue
        node = len(parent)
        parent[a] = parent[b] = node
        parent.append(-1)
        met.append(-height)
        summit.append(max(summit[a], summit[b]))
        around: dict[int, list[float]] = {}
        for child in (a, b):
            for other, (total, length) in borders[child].items():
                if other not in (a, b):
                    before = around.get(other, [0.0, 0.0])
                    around[other] = [before[0] + total, before[1] + length]
                    borders[other].pop(child)
        borders.append(around)
        for other, (total, length) in around.items():
            borders[other][node] = [total, length]
            heapq.heappush(queue, (-total / length, other, node))
    return Tree(basin, np.array(parent, np.int32), np.array(met, np.float32), np.array(summit, np.float32))


def _borders(basin: NDArray[np.int32], weight: FloatArray) -> list[tuple[int, int, float, float]]:
    """Hills that touch, lower number first, with the sum of the weights over their border and its length in pairs."""
    rows, columns = basin.shape
    pairs, weights = [], []
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: rows - dy, max(-dx, 0) : columns - max(dx, 0)]
        there = np.s_[dy:, max(dx, 0) : columns + min(dx, 0)]
        a, b = basin[here].astype(np.int64), basin[there]
        parts = (a != b) & (a >= 0) & (b >= 0)
        pairs.append(np.minimum(a, b)[parts] * (2**31) + np.maximum(a, b)[parts])
        weights.append((weight[here][parts] + weight[there][parts]) / 2)
    key, place, length = np.unique(np.concatenate(pairs), return_inverse=True, return_counts=True)
    total = np.bincount(place.ravel(), np.concatenate(weights), minlength=len(key))
    return [*zip((key // 2**31).tolist(), (key % 2**31).tolist(), total.tolist(), length.tolist(), strict=True)]


@dataclass(frozen=True)
class Way:
    """A way of reading with a scorer: canopy, but for what is said here.

    settings: prominences, or what else `grow` takes; the best on the held-out images is used. right: what the scorer
    learns: the share of these IoUs that a candidate reaches; none: its IoU itself. without: features with one of these
    in their name are left out. learned: whether the scorer is also fitted to images that the network learned from.
    n_units: its hidden units. greedy: candidates are taken by falling probability, without those that overlap what is
    taken. hills_only: no union of hills is a candidate. aim: the IoU at which setting and level are tuned.
    """

    grow: Callable[[Case, tuple[float, ...], float], Candidates] = grow
    settings: tuple[float, ...] = (CANOPY.prominence,)
    cuts: tuple[float, ...] = CANOPY.cuts
    right: tuple[float, ...] = RIGHT_AT
    without: tuple[str, ...] = ()
    learned: bool = True
    n_units: int = HIDDEN_UNITS
    greedy: bool = False
    hills_only: bool = False
    aim: float = 0.5


LEARNED = {
    "canopy": Way(),
    "one height": Way(grow=grow_at_one_height, settings=(0.1, 0.15, 0.2, 0.3, 0.4), cuts=FOREGROUNDS, hills_only=True),
    "ladder": Way(grow=grow_ladder, settings=(9.0, 17.0)),
    "fewer hills": Way(settings=(0.06,)),
    "more hills": Way(settings=(0.007,)),
    "one cut": Way(cuts=(0.5,)),
    "height of cell": Way(grow=grow_by_cell),
    "without flow": Way(grow=grow_by_cell, without=("flow", "parting", "strength")),
    "without parting": Way(without=("parting",)),
    "without sums of flow": Way(without=("flow",)),
    "without borders": Way(without=("border",)),
    "without shape": Way(without=("elongation", "ellipse", "solidity", "roundness")),
    "held-out only": Way(learned=False),
    "no hidden units": Way(n_units=0),
    "right at 0.5": Way(right=(0.5,)),
    "right at 0.75": Way(right=(0.75,)),
    "IoU itself": Way(right=()),
    "greedy": Way(greedy=True),
    "borders": Way(grow=grow_by_borders),
    "last layer": Way(grow=grow_with_last_layer),
    "tuned at 0.75": Way(aim=0.75),
    "right and tuned at 0.75": Way(right=(0.75,), aim=0.75),
    "IoU itself, tuned at 0.75": Way(right=(), aim=0.75),
}

ORACLES = {"oracle": "canopy", "oracle of more hills": "more hills"}  # the best choice at IoU 0.5


@dataclass(frozen=True)
class Grown:
    """The candidates of one image, with what the scorer is to learn from them."""

    candidates: Candidates
    features: FloatArray
    may_be: NDArray[np.bool_]
    iou: FloatArray
    known: NDArray[np.bool_]


def prepare(way: Way, setting: float, case: Case) -> Grown:
    candidates = way.grow(case, way.cuts, setting)
    names = [name for name in candidates.features if not any(part in name for part in way.without)]
    features = np.stack([candidates.features[name] for name in names], axis=-1)
    iou, known = true_ious(candidates, case.labels)
    may_be = CANOPY.may_be_cells(candidates)
    if way.hills_only:
        may_be[np.unique(candidates.parent[candidates.parent >= 0])] = False
    return Grown(candidates, features, may_be, iou, known & may_be)


def fit_scorer(way: Way, grown: Sequence[Grown]) -> Scorer:
    rng = np.random.default_rng(0)
    features, iou, weights = [], [], []
    for g in grown:
        which = np.flatnonzero(g.known)
        some = rng.permutation(which)[:FITTED_PER_IMAGE]
        features.append(g.features.reshape(-1, g.features.shape[-1])[some])
        iou.append(g.iou.ravel()[some])
        weights.append(np.full(len(some), np.sqrt(len(which)) / max(len(some), 1)))
    all_features, all_iou, counts = (np.concatenate(part) for part in (features, iou, weights))
    right = np.mean([all_iou >= least for least in way.right], axis=0) if way.right else all_iou
    return Scorer.fit(all_features, right, counts, n_units=way.n_units)


def judged(grown: Grown, scorer: Scorer) -> FloatArray:
    return np.where(grown.may_be, scorer(grown.features), np.float32(0))


def read(way: Way, grown: Grown, probability: FloatArray, level: float) -> Labels:
    if way.greedy:
        probability = _without_overlaps(grown.candidates.parent, probability, level)
    return select(grown.candidates, probability, level, CANOPY.min_area_px).labels


def _without_overlaps(parent: NDArray[np.int32], probability: FloatArray, level: float) -> FloatArray:
    best, taken, kept = probability.max(axis=1), np.zeros(len(parent), dtype=bool), np.zeros(len(parent), dtype=bool)
    holds_taken = np.zeros(len(parent), dtype=bool)
    for node in np.argsort(-best):
        if best[node] <= level or holds_taken[node]:
            continue
        above = [node]
        while parent[above[-1]] >= 0:
            above.append(parent[above[-1]])
        if not taken[above].any():
            taken[node] = kept[node] = True
            holds_taken[above] = True
    return np.where(kept[:, None], probability, 0)


# Fitting and scoring


def judge(
    seed: int,
    learned: list[Case],
    fit_to: list[Case],
    folds: NDArray[np.int64],
    score: list[Case] | None,
    settings_only: SettingsOnly,
    ways: Mapping[str, Way],
    oracles: Mapping[str, str],
) -> list[dict[str, object]]:
    """A row for every way and image. folds: of the images fitted to, which are scored if no others are given.

    oracles: name of an oracle -> the way in LEARNED among whose candidates it chooses.
    """
    rows: list[dict[str, object]] = []

    def add(name: str, cases: Sequence[Case], found: Iterable[Labels], setting: object) -> None:
        for case, labels in zip(cases, found, strict=True):
            f1_50, f1_75 = case.score(labels)
            about = {"stem": case.stem, "modality": case.modality, "experiment": case.experiment, "seen": case.seen}
            rows.append({"seed": seed, "way": name, **about, "f1_50": f1_50, "f1_75": f1_75, "setting": setting})
        report(name, rows)

    for name, (decode, tried) in settings_only.items():
        combinations = [dict(zip(tried, values, strict=True)) for values in product(*tried.values())]
        on_grid = [mean_grid_f1(fit_to, (decode(c.prediction, **s) for c in fit_to)) for s in combinations]
        setting = combinations[int(np.argmax(on_grid))]
        add(name, score or fit_to, (decode(c.prediction, **setting) for c in score or fit_to), setting)
    for name, way in ways.items():
        best, best_f1 = None, -1.0
        for setting in way.settings:
            trees = [prepare(way, setting, case) for case in fit_to]
            more = [prepare(way, setting, case) for case in learned if way.learned]
            likely = [np.zeros(0, dtype=np.float32)] * len(trees)
            for fold in np.unique(folds):
                scorer = fit_scorer(way, [tree for tree, f in zip(trees, folds, strict=True) if f != fold] + more)
                for i in np.flatnonzero(folds == fold):
                    likely[i] = judged(trees[i], scorer)
            for level in LEVELS:
                found = [read(way, tree, p, level) for tree, p in zip(trees, likely, strict=True)]
                reached = mean_grid_f1(fit_to, found, way.aim)
                if reached > best_f1:
                    best, best_f1 = (setting, level, trees + more, found), reached
        assert best is not None
        setting, level, trees, found = best
        if score is not None:
            scorer = fit_scorer(way, trees)
            grown = (prepare(way, setting, case) for case in score)
            found = (read(way, tree, judged(tree, scorer), level) for tree in grown)
        add(name, score or fit_to, found, {"setting": setting, "level": level})
    for name, of in oracles.items():
        add(name, score or fit_to, (read_by_truth(case, LEARNED[of]) for case in score or fit_to), "")
    return rows


def read_by_truth(case: Case, way: Way) -> Labels:
    grown = prepare(way, way.settings[0], case)
    truth = np.where(grown.may_be & (grown.iou >= 0.5), 1 + 0.01 * grown.iou, 0)
    return select(grown.candidates, truth, 0.0, CANOPY.min_area_px).labels


def mean_grid_f1(cases: Sequence[Case], found: Iterable[Labels], iou: float = 0.5) -> float:
    """As `tune` counts it: on the network's grid, every instance."""
    return float(np.mean([f1(match(c.labels, labels, iou)) for c, labels in zip(cases, found, strict=True)]))


def _without_small(labels: NDArray, min_area_px: float = CANOPY.min_area_px) -> Labels:
    return collect_instances(labels.astype(np.int32), np.zeros(labels.shape, np.float32), min_area_px).labels


def report(name: str, rows: list[dict[str, object]]) -> None:
    """Print the mean F1 of one way by modality."""
    mine = {row["stem"]: row for row in rows if row["way"] == name}
    by_modality: dict[object, list[float]] = {}
    for row in mine.values():
        by_modality.setdefault(row["modality"], []).append(float(row["f1_50"]))  # pyright: ignore
    means = "  ".join(f"{m} {np.mean(v):.3f} ({len(v)})" for m, v in sorted(by_modality.items()))
    print(f"{name:26s} F1 {np.mean([np.mean(v) for v in by_modality.values()]):.4f}  {means}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder, or the name of a model inside the package")
    parser.add_argument("train", type=Path, help="the dataset that the model was trained on")
    parser.add_argument("--test", type=Path, help="score these images; without, those held out, five folds")
    every = [*SETTINGS_ONLY, *LEARNED, *ORACLES]
    parser.add_argument("--ways", nargs="+", choices=every, default=every, metavar="WAY", help="only these")
    parser.add_argument("--out", type=Path, help="write the rows to this CSV")
    arguments = parser.parse_args()

    model = find_model(arguments.model)
    name = read_model(model).representation.name
    if name not in OF_A_FLOW:
        sys.exit(f"{arguments.model} is a model of {name!r}; train one with --representation canopy.")
    layer_of = LastLayer if "last layer" in arguments.ways else None
    cases = read_all(model, arguments.train, arguments.test, layer_of)

    def chosen(ways: Mapping[str, Any]) -> dict[str, Any]:
        return {name: way for name, way in ways.items() if name in arguments.ways}

    rows = judge(*cases, chosen(SETTINGS_ONLY), chosen(LEARNED), chosen(ORACLES))
    save_rows(rows, arguments.out, model=model)


def read_all(
    model: Path, train: Path, test: Path | None, layer_of: type[LastLayer] | None = None
) -> tuple[int, list[Case], list[Case], NDArray[np.int64], list[Case] | None]:
    """A model's seed, and its predictions: of images learned from, of held-out ones and their folds, of tests."""
    facts = read_model(model)
    learned_from, held_out = parts_of(facts, open_dataset(train))
    trained = {sample.experiment for sample in learned_from}
    last_layer = layer_of(model, held_out) if layer_of else None
    fit_to = predict(held_out, model, trained, last_layer)
    some = [learned_from[i] for i in label_order(learned_from)[:LEARNED_IMAGES]]
    learned = predict(some, model, trained, last_layer)
    experiments = sorted({case.experiment for case in fit_to})
    folds = np.array([experiments.index(case.experiment) % FOLDS for case in fit_to])
    tests = [sample for sample in open_dataset(test) if sample.labels] if test else None
    score = predict(tests, model, trained, last_layer) if tests else None
    return int(facts.recipe["seed"]), learned, fit_to, folds, score


if __name__ == "__main__":
    main()
