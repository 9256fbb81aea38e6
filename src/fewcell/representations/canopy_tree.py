"""The candidate cells of canopy: the nodes of a merge tree at every foreground cut, and what tells right from wrong."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.representations.canopy_kernels import (
    AREA,
    CORNERS,
    DIRECTIONS,
    FIRST_CHANNEL,
    FLOW_X,
    FLOW_Y,
    FRAME,
    INWARD,
    SIDES,
    XX,
    YX,
    YY,
    X,
    Y,
    add_upwards,
    best_ious,
    choose,
    gather_upwards,
    merge_tree,
    sums_of_own,
)
from fewcell.scoring import ellipse_axes
from fewcell.types import UNKNOWN, FloatArray, Instances, Labels

__all__ = ["Candidates", "Tree", "describe", "flood", "grow_candidates", "select", "true_ious"]

HEIGHT_STEPS = 1023


@dataclass(frozen=True)
class Candidates:
    """The nodes of a merge tree, n of them, and their candidates, one for each of c foreground cuts.

    basin: (height, width) int32, the leaf whose hill a pixel is on, -1 off the foreground. level: (height, width)
    uint8, the highest cut that a pixel survives. parent: (n,), -1 at roots. area: (n, c) pixels. extent: (n,) the
    longer side of the bounding box. features: (n, c) float32 each, by name.
    """

    basin: NDArray[np.int32]
    level: NDArray[np.uint8]
    parent: NDArray[np.int32]
    area: NDArray[np.float64]
    extent: NDArray[np.int64]
    features: dict[str, FloatArray]

    def matrix(self) -> FloatArray:
        """The features as (n, c, feature), in their order."""
        return np.stack([*self.features.values()], axis=-1)


@dataclass(frozen=True)
class Tree:
    """Hills and unions of hills, as `merge_tree` returns them.

    basin: (height, width) int32, the leaf whose hill a pixel is on, -1 where nothing was flooded. parent: (n,), -1 at
    roots; higher than the numbers of its children. met: (n,) the height where a node's children met, of a leaf its
    summit. summit: (n,).
    """

    basin: NDArray[np.int32]
    parent: NDArray[np.int32]
    met: FloatArray
    summit: FloatArray


def grow_candidates(
    height: FloatArray,
    prediction: Mapping[str, FloatArray],
    flow: FloatArray,
    cuts: tuple[float, ...],
    prominence: float,
    widest_px: int,
) -> Candidates:
    """Flood a height where the foreground is above the lowest cut, and describe every node at every cut.

    height: (height, width), 0 to 1. prediction: channels (height, width) by name, the first is the foreground; each
    tells something of a candidate. flow: (2, height, width), y and x, to the centres of cells. cuts: ascending.
    prominence, widest_px: see `merge_tree`.
    """
    foreground = next(iter(prediction.values()))
    return describe(flood(height, foreground > cuts[0], prominence, widest_px), prediction, flow, cuts)


def flood(height: FloatArray, where: NDArray[np.bool_], prominence: float, widest_px: int) -> Tree:
    """The merge tree of a height, 0 to 1, in a mask; both (height, width)."""
    # In steps: numbers of 16 bits are sorted fast, and differences of less say nothing.
    steps = np.rint(height * HEIGHT_STEPS).astype(np.int16)
    places = np.flatnonzero(where)
    order = places[np.argsort(-steps.ravel()[places], kind="stable")]
    return Tree(*merge_tree(steps.astype(np.float32) / HEIGHT_STEPS, order, prominence, widest_px))


def describe(tree: Tree, prediction: Mapping[str, FloatArray], flow: FloatArray, cuts: tuple[float, ...]) -> Candidates:
    """The candidates of a tree, one a node and cut, with their features; see `grow_candidates`."""
    names, channels = [*prediction], np.stack([*prediction.values()])
    foreground = channels[0]
    level = np.zeros(foreground.shape, dtype=np.uint8)
    for cut in cuts[1:]:
        level += foreground > cut
    basin, parent, met, summit = tree.basin, tree.parent, tree.met, tree.summit
    sums, border, reach = sums_of_own(basin, parent, channels, flow, level, len(cuts))
    gathered = gather_upwards(parent, met, summit, sums, reach)
    sums = sums[:, ::-1].cumsum(axis=1)[:, ::-1].transpose(2, 0, 1)  # what survives a cut survives the lower ones
    area = np.maximum(sums[AREA], 1)
    features = _of_tree(parent, met, summit, gathered, area)
    features |= _of_shape(sums, reach, area)
    features |= _of_flow(sums, area)
    features |= _of_channels(names, parent, sums, border, area)
    features["cut"] = np.broadcast_to(np.array(cuts), area.shape)
    extent = (reach.sum(axis=2) + 1)[:, [0, 4]].max(axis=1)
    features = {name: np.broadcast_to(values, area.shape).astype(np.float32) for name, values in features.items()}
    return Candidates(basin, level, parent, sums[AREA], extent, features)


# Features are known within a pixel of the node, whatever lies beyond; each is (n, c) or (n, 1), numbers around 1.


def _of_tree(parent, met, summit, gathered, area) -> dict[str, np.ndarray]:
    n_leaves, valley, smaller_px = gathered.T[:, :, None]
    saddle = np.where(parent >= 0, met[np.maximum(parent, 0)] / np.maximum(summit, 1e-6), 0)
    return {
        "summit": summit[:, None],
        "met": met[:, None],
        "saddle": saddle[:, None],
        "valley": valley,
        "balance": np.where(n_leaves == 1, 0, np.sqrt(smaller_px / area[:, :1])),
        "log summits": np.log(n_leaves),
    }


def _of_shape(sums, reach, area) -> dict[str, np.ndarray]:
    cy, cx = sums[Y] / area, sums[X] / area
    long, short = ellipse_axes(area, sums[Y], sums[X], sums[YY], sums[XX], sums[YX])
    sides, corners = 4 * area - 2 * sums[SIDES], 4 * area - 2 * sums[CORNERS]
    outline_px = np.pi / 8 * (sides + corners / np.sqrt(2))  # Crofton's, in four directions
    return {
        "log area": np.log(area),
        "share of the lowest cut": sums[AREA] / area[:, :1],
        "elongation": np.log(long / short) / 2,
        "ellipse": area / (4 * np.pi * np.sqrt(long * short)),
        "solidity": area[:, :1] / _hull_area(reach, cy[:, 0], cx[:, 0])[:, None],
        "roundness": outline_px**2 / (4 * np.pi * area),
        "frame": sums[FRAME] / np.maximum(sides, 1),
    }


def _of_flow(sums, area) -> dict[str, np.ndarray]:
    """The flow of a whole cell adds up to nothing, and leads to its middle; that of a part leads out of it."""
    cy, cx = sums[Y] / area, sums[X] / area
    radius = np.sqrt((sums[YY] + sums[XX]) / area - cy**2 - cx**2 + 1 / 6)
    inward = cy * sums[FLOW_Y] + cx * sums[FLOW_X] - sums[INWARD]
    return {"flow out": np.hypot(sums[FLOW_Y], sums[FLOW_X]) / area, "flow in": inward / area / radius}


def _of_channels(names, parent, sums, border, area) -> dict[str, np.ndarray]:
    """Of each channel its mean, its deviation, its mean on the outline, and on the borders to children and sibling."""
    sides = np.maximum(4 * area - 2 * sums[SIDES], 1)
    inside_px, outside_px = border[:, :1], np.where(parent >= 0, border[parent, 0], 0)[:, None]
    features = {
        "border inside": inside_px / np.sqrt(area[:, :1]),
        "border outside": outside_px / sides,
    }
    for i, name in enumerate(names):
        total, squares, over_sides = sums[FIRST_CHANNEL + 3 * i : FIRST_CHANNEL + 3 * i + 3]
        mean = total / area
        features[name] = mean
        features[f"{name} deviation"] = np.sqrt(np.maximum(squares / area - mean**2, 0))
        features[f"{name} outline"] = (4 * total - over_sides) / sides
        along = border[:, 1 + i] / np.maximum(border[:, 0], 1)
        features[f"{name} border inside"] = np.where(inside_px > 0, along[:, None], mean)
        features[f"{name} border outside"] = np.where(outside_px > 0, along[parent][:, None], 0)
    return features


def _hull_area(reach: np.ndarray, cy: np.ndarray, cx: np.ndarray) -> np.ndarray:
    """The area of the polygon of 16 sides around each node; reach: (n, 8, 2) in DIRECTIONS, of pixel centres."""
    length = np.hypot(*DIRECTIONS.T)
    unit = DIRECTIONS / length[:, None]
    half_pixel = np.abs(unit).sum(axis=1) / 2
    from_centre = unit[:, 0] * cy[:, None] + unit[:, 1] * cx[:, None]
    forth, back = reach[:, :, 0] / length - from_centre, reach[:, :, 1] / length + from_centre
    support = np.concatenate([forth, back], axis=1) + np.tile(half_pixel, 2)
    angle = np.arctan2(unit[:, 1], unit[:, 0])
    step = np.diff(np.append(angle, angle[0] + np.pi))
    after, before = np.tile(step, 2), np.roll(np.tile(step, 2), 1)
    side = (np.roll(support, -1, axis=1) - support * np.cos(after)) / np.sin(after)
    side += (np.roll(support, 1, axis=1) - support * np.cos(before)) / np.sin(before)
    return np.maximum((support * side).sum(axis=1) / 2, 1)


def select(candidates: Candidates, probability: FloatArray, level: float, min_area_px: float) -> Instances:
    """The disjoint candidates of the greatest sum of probability - level; their scores are their probabilities.

    probability: (n, c). Of a candidate that its cut has parted, the largest piece is taken, if that is not too small.
    """
    cut, at_best = probability.argmax(axis=1), probability.max(axis=1, initial=0)
    owner = choose(candidates.parent, at_best.astype(np.float64) - level)
    chosen = np.unique(owner[owner >= 0])
    number = np.zeros(len(owner) + 1, dtype=np.int32)  # the last is for pixels on no hill
    number[chosen] = np.arange(1, len(chosen) + 1)
    node = np.append(owner, -1)[candidates.basin]
    labels = _largest_pieces(np.where(candidates.level >= np.append(cut, 0)[node], number[node], 0))
    return Instances(labels, at_best[chosen].astype(np.float32)).of_area(max(1, min_area_px))


def _largest_pieces(labels: Labels) -> Labels:
    """Of each label its largest connected piece; a cut may have parted it. Corners connect."""
    import cc3d

    pieces = cc3d.connected_components(labels, connectivity=8, out_dtype=np.uint32)
    n_pieces, count = int(pieces.max(initial=0)), int(labels.max(initial=0))
    if n_pieces == count:
        return labels
    area = np.bincount(pieces.ravel(), minlength=n_pieces + 1)
    label = np.zeros(n_pieces + 1, dtype=np.int32)
    label[pieces.ravel()] = labels.ravel()
    last = np.zeros(count + 1, dtype=np.int64)
    by_area = np.argsort(area, kind="stable")
    last[label[by_area]] = by_area  # the largest comes last, and stays
    return np.where(last[labels] == pieces, labels, 0).astype(np.int32)


def true_ious(candidates: Candidates, labels: Labels) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The IoU of each candidate with the true cell that fits it best, and which candidates lie in known parts: (n, c).

    labels: (height, width), the truth on the same grid. Pixels that are UNKNOWN count for nothing; a candidate of
    which they are half or more is not known.
    """
    n, n_cuts = candidates.area.shape
    cells, numbers = np.unique(labels, return_inverse=True)
    inside = candidates.basin.ravel() >= 0
    leaf, level = candidates.basin.ravel()[inside], candidates.level.ravel()[inside]
    number = numbers.ravel()[inside].astype(np.int64)
    pairs, of_pair = np.unique(number * n + leaf, return_inverse=True)
    px = np.bincount(of_pair * n_cuts + level, minlength=len(pairs) * n_cuts).reshape(-1, n_cuts).astype(np.float64)
    px = px[:, ::-1].cumsum(axis=1)[:, ::-1]
    pair_cell, pair_leaf = np.divmod(pairs, n)
    unknown = np.zeros_like(candidates.area)
    is_unknown = cells[pair_cell] == UNKNOWN
    unknown[pair_leaf[is_unknown]] = px[is_unknown]
    add_upwards(candidates.parent, unknown)
    known_px = candidates.area - unknown
    of_cell = cells[pair_cell] > 0
    cell_px = np.bincount(numbers.ravel(), minlength=len(cells))
    iou = best_ious(candidates.parent, known_px, pair_leaf[of_cell], pair_cell[of_cell], px[of_cell], cell_px)
    return iou, known_px > unknown
