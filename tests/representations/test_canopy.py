"""canopy: what the contract of all representations cannot say. Trees, sums and choices against slow references."""

from dataclasses import replace
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.segmentation import expand_labels

from fewcell.errors import ConfigError
from fewcell.metrics import match
from fewcell.representations import make_representation
from fewcell.representations.base import mean_f1
from fewcell.representations.canopy import Canopy
from fewcell.representations.canopy_kernels import DIRECTIONS, choose
from fewcell.representations.canopy_tree import Candidates, grow_candidates, true_ious
from fewcell.representations.flow_field import CELL, FLOW
from fewcell.representations.vectors import divergence
from fewcell.types import UNKNOWN, FloatArray, Labels

from .scenes import SCENES, draw_ellipse, scattered

CUTS = (0.2, 0.5, 0.8)
CORNERS_TOO = np.ones((3, 3))


def blobs(seed: int, shape: tuple[int, int] = (23, 31)) -> dict[str, FloatArray]:
    """Two channels without any sense, between 0 and 1, with hills of all sizes."""
    rng = np.random.default_rng(seed)
    noise = [ndimage.gaussian_filter(rng.normal(size=shape), rng.uniform(0.7, 2)) for _ in range(2)]
    channels = [(0.5 + n / n.std() / 4).clip(0, 1).astype(np.float32) for n in noise]
    return dict(zip(("cell", "depth"), channels, strict=True))


def grown(seed: int, prominence: float = 0.0) -> tuple[FloatArray, dict[str, FloatArray], Candidates]:
    channels = blobs(seed)
    height = channels["cell"] * channels["depth"]
    return height, channels, grow_candidates(height, channels, senseless_flow(seed), CUTS, prominence, 448)


def senseless_flow(seed: int, shape: tuple[int, int] = (23, 31)) -> FloatArray:
    return np.random.default_rng(seed).uniform(-1, 1, (2, *shape)).astype(np.float32)


def nodes_of(candidates: Candidates) -> list[np.ndarray]:
    """Each node's pixels, at the lowest cut: (node, height, width) bool."""
    masks = [candidates.basin == node for node in range(len(candidates.parent))]
    for node, above in enumerate(candidates.parent):
        if above >= 0:
            assert above > node
            masks[above] = masks[above] | masks[node]
    return masks


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_nodes_are_the_connected_parts_above_every_height(seed: int) -> None:
    height, channels, candidates = grown(seed)
    steps = np.rint(height * 1023)
    inside = channels["cell"] > CUTS[0]
    masks = nodes_of(candidates)
    assert np.array_equal(candidates.basin >= 0, inside)
    expected = set()
    for level in np.unique(steps[inside]):
        parts, count = ndimage.label(inside & (steps >= level), CORNERS_TOO)
        expected |= {(parts == part).tobytes() for part in range(1, count + 1)}
    met = {}
    for node, mask in enumerate(masks):
        above = candidates.parent[node]
        if above < 0:
            assert mask.tobytes() in expected
            continue
        sibling = next(i for i, p in enumerate(candidates.parent) if p == above and i != node)
        met[above] = max(
            min(steps[y, x], steps[v, u])
            for y, x in np.argwhere(mask)
            for v, u in product(range(y - 1, y + 2), range(x - 1, x + 2))
            if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and masks[sibling][v, u]
        )
        assert candidates.features["saddle"][node, 0] == pytest.approx(
            met[above] / max(steps[mask].max(), 1e-3), abs=1e-3
        )
        part = mask & (steps > met[above])
        if part.any() and met.get(node) != met[above]:  # else three hills met at once, in two steps
            assert part.tobytes() in expected
    n_summits = len(np.unique(candidates.basin[inside]))
    n_roots = int((candidates.parent < 0).sum())
    assert len(masks) == 2 * n_summits - n_roots


def test_hills_without_prominence_are_parts_of_others() -> None:
    counts = [len(grown(4, prominence)[2].parent) for prominence in (0.0, 0.03, 0.2, 1.1)]
    assert counts == sorted(set(counts), reverse=True)
    *_, candidates = grown(4, 1.1)  # nothing stands out so far: one node for each connected part
    assert counts[-1] == ndimage.label(candidates.basin >= 0, CORNERS_TOO)[1]


def _sides(mask: np.ndarray) -> list[tuple[int, int]]:
    """The pixels of a mask, once for each of their sides beyond which the mask ends."""
    padded = np.pad(mask, 1)
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    return [(y, x) for y, x in np.argwhere(mask) for dy, dx in steps if not padded[1 + y + dy, 1 + x + dx]]


@pytest.mark.parametrize("seed", range(3))
def test_features_are_those_of_a_slow_search(seed: int) -> None:
    _, channels, candidates = grown(seed, 0.05)
    flow = senseless_flow(seed)
    height, width = candidates.basin.shape
    for node, mask in enumerate(nodes_of(candidates)):
        for k, cut in enumerate(CUTS):
            part = mask & (channels["cell"] > cut)
            found = {name: values[node, k] for name, values in candidates.features.items()}
            assert candidates.area[node, k] == part.sum()
            assert found["share of the lowest cut"] == pytest.approx(part.sum() / mask.sum(), abs=1e-5)
            assert found["cut"] == pytest.approx(cut)
            if not part.any():
                continue
            sides = _sides(part)
            for name, values in channels.items():
                assert found[name] == pytest.approx(values[part].mean(), abs=1e-4)
                assert found[f"{name} deviation"] == pytest.approx(values[part].std(), abs=1e-3)
                assert found[f"{name} outline"] == pytest.approx(np.mean([values[p] for p in sides]), abs=1e-4)
            y, x = np.nonzero(part)
            out_y, out_x = flow[:, part].mean(axis=1)
            assert found["flow out"] == pytest.approx(np.hypot(out_y, out_x), abs=1e-4)
            off_y, off_x = y - y.mean(), x - x.mean()
            inward = -np.mean(off_y * flow[0, part] + off_x * flow[1, part])
            radius = np.sqrt(np.mean(off_y**2 + off_x**2) + 1 / 6)
            assert found["flow in"] == pytest.approx(inward / radius, abs=1e-4)
            short, long = np.linalg.eigvalsh(
                np.cov(np.array([y, x], dtype=float), bias=True).reshape(2, 2) + np.eye(2) / 12
            )
            assert found["elongation"] == pytest.approx(np.log(long / short) / 2, abs=1e-3)
            assert found["ellipse"] == pytest.approx(part.sum() / (4 * np.pi * np.sqrt(long * short)), abs=1e-3)
            on_frame = sum((y == 0) | (y == height - 1)) + sum((x == 0) | (x == width - 1))
            assert found["frame"] == pytest.approx(on_frame / len(sides), abs=1e-5)
        y, x = np.nonzero(mask)
        assert candidates.extent[node] == max(np.ptp(y), np.ptp(x)) + 1
        assert candidates.features["solidity"][node, 0] == pytest.approx(mask.sum() / _sixteen_sides(y, x), rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_what_a_node_knows_of_the_tree_is_what_a_slow_search_finds(seed: int) -> None:
    height, channels, candidates = grown(seed, 0.05)
    masks, parent = nodes_of(candidates), candidates.parent
    steps = np.rint(height * 1023) / 1023
    tops = [steps[mask].max() for mask in masks]
    met, deepest, borders = [*tops], [1.0] * len(masks), [[]] * len(masks)  # of leaves
    for node in range(len(masks)):  # children come first
        children = np.flatnonzero(parent == node)
        if len(children):
            one, other = children
            ring = ndimage.binary_dilation(masks[one], CORNERS_TOO) & masks[other]
            back = ndimage.binary_dilation(masks[other], CORNERS_TOO) & masks[one]
            met[node] = candidates.features["met"][node, 0]
            assert met[node] <= min(steps[ring].max(), steps[back].max()) + 1e-6
            deepest[node] = min(deepest[one], deepest[other], met[node] / min(tops[one], tops[other]))
            borders[node] = _touching(masks[one], masks[other])
            smaller = min(masks[one].sum(), masks[other].sum())
            assert candidates.features["balance"][node, 0] == pytest.approx(np.sqrt(smaller / masks[node].sum()))
        else:
            assert candidates.features["balance"][node, 0] == 0
            assert candidates.features["met"][node, 0] == pytest.approx(tops[node])
        n_hills = len(np.unique(candidates.basin[masks[node]]))
        assert candidates.features["log summits"][node, 0] == pytest.approx(np.log(n_hills))
        assert candidates.features["summit"][node, 0] == pytest.approx(tops[node])
        assert candidates.features["valley"][node, 0] == pytest.approx(deepest[node], abs=1e-4)
    for node, mask in enumerate(masks):
        inside, outside = borders[node], borders[parent[node]] if parent[node] >= 0 else []
        sides = len(_sides(mask))
        assert candidates.features["border inside"][node, 0] == pytest.approx(len(inside) / np.sqrt(mask.sum()))
        assert candidates.features["border outside"][node, 0] == pytest.approx(len(outside) / sides)
        for name, values in channels.items():
            expected = np.mean([(values[p] + values[q]) / 2 for p, q in inside]) if inside else values[mask].mean()
            assert candidates.features[f"{name} border inside"][node, 0] == pytest.approx(expected, abs=1e-4)
            expected = np.mean([(values[p] + values[q]) / 2 for p, q in outside]) if outside else 0
            assert candidates.features[f"{name} border outside"][node, 0] == pytest.approx(expected, abs=1e-4)


def _touching(one: np.ndarray, other: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """The pairs of pixels, one of each mask, that share a side."""
    pixels = {(int(y), int(x)) for y, x in np.argwhere(other)}
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0))
    pairs = [((int(y), int(x)), (int(y + dy), int(x + dx))) for y, x in np.argwhere(one) for dy, dx in steps]
    return [pair for pair in pairs if pair[1] in pixels]


def test_roundness_is_near_one_for_discs_and_more_for_other_shapes() -> None:
    shapes = np.zeros((60, 150), dtype=np.int32)
    draw_ellipse(shapes, 1, (30, 30), (20, 20))
    draw_ellipse(shapes, 2, (30, 100), (8, 40))
    channels = {"cell": (shapes > 0).astype(np.float32)}
    candidates = grow_candidates(channels["cell"], channels, np.zeros((2, 60, 150)), (0.5,), 0.01, 448)
    disc, ellipse = (candidates.features["roundness"][candidates.basin[30, x], 0] for x in (30, 100))
    assert disc == pytest.approx(1, abs=0.05)
    long, short = 40.0, 8.0  # Ramanujan's perimeter of an ellipse
    perimeter = np.pi * (3 * (long + short) - np.sqrt((3 * long + short) * (long + 3 * short)))
    assert ellipse == pytest.approx(perimeter**2 / (4 * np.pi * np.pi * long * short), rel=0.05)


def _sixteen_sides(y: np.ndarray, x: np.ndarray) -> float:
    """The area of the smallest polygon around pixels whose sides are square to DIRECTIONS, clipped side by side."""
    corners = np.concatenate([np.stack([y + dy, x + dx], axis=1) for dy, dx in product((-0.5, 0.5), repeat=2)])
    reach = np.abs(corners).max() * 4
    polygon = [np.array(p, dtype=float) for p in ((-reach, -reach), (-reach, reach), (reach, reach), (reach, -reach))]
    for direction in np.concatenate([DIRECTIONS, -DIRECTIONS]):
        limit = (corners @ direction).max()
        clipped = []
        for start, end in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            a, b = start @ direction - limit, end @ direction - limit
            if a <= 0:
                clipped.append(start)
            if a * b < 0:
                clipped.append(start + (end - start) * a / (a - b))
        polygon = clipped
    return float(ConvexHull(np.array(polygon)).volume)


@settings(deadline=None, max_examples=60)
@given(
    above=st.lists(st.integers(1, 4), min_size=1, max_size=9),
    values=hnp.arrays(np.float64, 9, elements=st.floats(-1, 1, width=16)),
)
def test_what_is_chosen_gains_as_much_as_can_be(above: list[int], values: np.ndarray) -> None:
    n = len(above)
    parent = np.array([i + up if i + up < n else -1 for i, up in enumerate(above)], dtype=np.int32)
    gain = values[:n]
    overlap = {(a, b) for a in range(n) for b in range(n) if a != b and _is_above(parent, a, b)}
    best = max(
        sum(gain[node] for node in some)
        for size in range(n + 1)
        for some in combinations(range(n), size)
        if not overlap.intersection(permutations(some, 2))
    )
    owner = choose(parent, gain)
    chosen = np.unique(owner[owner >= 0])
    assert gain[chosen].sum() == pytest.approx(best)
    assert np.all(gain[chosen] > 0)
    for node in range(n):
        assert owner[node] == next((c for c in chosen if _is_above(parent, c, node)), -1)


def _is_above(parent: np.ndarray, a: int, b: int) -> bool:
    while b >= 0 and b != a:
        b = parent[b]
    return b == a


@pytest.mark.parametrize("seed", range(3))
def test_ious_with_the_truth_are_those_of_a_slow_search(seed: int) -> None:
    _, channels, candidates = grown(seed)
    rng = np.random.default_rng(seed)
    truth = ndimage.label(blobs(seed + 50)["depth"] > 0.5)[0].astype(np.int32)
    truth[:, 20:24] = UNKNOWN
    truth = np.where(truth > 0, truth * int(rng.integers(1, 9)), truth)
    iou, known = true_ious(candidates, truth)
    for node, mask in enumerate(nodes_of(candidates)):
        for k, cut in enumerate(CUTS):
            part = mask & (channels["cell"] > cut)
            seen = part & (truth != UNKNOWN)
            assert known[node, k] == (2 * seen.sum() > part.sum())
            best = max(
                (
                    np.sum(seen & (truth == cell)) / np.sum(seen | (truth == cell))
                    for cell in np.unique(truth[truth > 0])
                ),
                default=0,
            )
            if best >= 0.1:
                assert iou[node, k] == pytest.approx(best, abs=1e-5)
            assert iou[node, k] <= best + 1e-6


def test_cells_are_cut_where_they_meet_at_any_height() -> None:
    """No one threshold parts both pairs: one pair is likely and hardly parted, the other is faint."""
    labels = np.zeros((30, 70), dtype=np.int32)
    for i, centre in enumerate([(14, 10), (14, 22), (14, 45), (14, 57)]):
        draw_ellipse(labels, i + 1, centre, (7, 6.5))
    prediction = Canopy().targets(labels)
    prediction[FLOW, :, :34] *= 0.1
    prediction[CELL, :, 34:] *= 0.35
    found = replace(Canopy(), valley=0.9, cuts=(0.3,)).decode(prediction)
    assert len(found) == 4
    assert match(labels, found.labels, 0.7).true_positives == 4
    height = Canopy().height(prediction)
    assert height[14, 16:17].max() > height[:, 40:].max(), "the saddle of one pair is above the summits of the other"


def noisy(labels: Labels, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    prediction = Canopy().targets(labels)
    for channel in prediction:
        channel += 0.3 * ndimage.gaussian_filter(rng.normal(size=labels.shape), 1.5) * 5
    prediction = ndimage.gaussian_filter(prediction, (0, 1, 1))
    prediction[CELL] = prediction[CELL].clip(0, 1)
    return prediction.clip(-1, 1).astype(np.float32)


def test_a_fitted_scorer_finds_more_in_images_it_has_not_seen() -> None:
    truths = [scattered(4, 4, seed=i, pitch=12) for i in range(10)]
    predictions = [noisy(labels, i) for i, labels in enumerate(truths)]

    fitted = Canopy().refit(predictions[:5], truths[:5])
    assert fitted.scorer
    before, after = (mean_f1(map(v.decode, predictions[5:]), truths[5:]) for v in (Canopy(), fitted))
    assert after > before + 0.02
    scores = np.concatenate([fitted.decode(p).scores for p in predictions])
    assert np.all(scores > fitted.level)


def test_of_candidates_that_are_all_right_the_one_that_fits_best_is_chosen() -> None:
    def halo(seed: int) -> tuple[FloatArray, Labels]:
        """Cells amid foreground of a probability between the cuts: with it, their IoU is 0.6."""
        labels = scattered(4, 4, seed=seed, pitch=20)
        prediction = Canopy().targets(labels)
        grown = expand_labels(labels, 2)
        prediction[FLOW] = Canopy().targets(grown)[FLOW]
        prediction[CELL] = np.where(labels > 0, 0.9, np.where(grown > 0, 0.6, 0))
        return prediction.astype(np.float32), labels

    predictions, truths = zip(*map(halo, range(8)), strict=True)
    fitted = Canopy().refit(predictions[:6], truths[:6])
    for prediction, labels in zip(predictions[6:], truths[6:], strict=True):
        assert match(labels, fitted.decode(prediction).labels, 0.9).true_positives == labels.max()
        candidates = fitted.candidates(prediction)
        how_right, (iou, _) = fitted._how_right(candidates), true_ious(candidates, labels)
        loose, tight = (iou > 0.5) & (iou < 0.7), iou > 0.9
        assert loose.sum() >= tight.sum() >= labels.max()
        assert how_right[tight].min() > how_right[loose].max() + 0.3


def test_the_height_parts_cells_by_the_flow_alone() -> None:
    labels = np.zeros((40, 60), dtype=np.int32)
    labels[10:30, 10:30], labels[10:30, 30:50] = 1, 2
    prediction = Canopy().targets(labels)
    found = Canopy().decode(prediction)
    assert match(labels, found.labels, 0.9).true_positives == 2
    prediction[FLOW] = 0
    assert len(Canopy().decode(prediction)) == 1


def test_of_all_candidates_those_are_taken_that_fit_what_is_known() -> None:
    """Two discs that touch: with one shape around both they are a cell, with two they are two, whatever is likely."""
    y, x = np.mgrid[:48, :64]
    labels = np.where(np.hypot(y - 24, x - 22) <= 10, 1, np.where(np.hypot(y - 24, x - 42) <= 10, 2, 0)).astype(
        np.int32
    )
    canopy = replace(Canopy(), level=1.0)  # nothing is so likely
    prediction = canopy.targets(labels)
    assert not canopy.decode(prediction).labels.any()
    both = canopy.decode_near(prediction, (labels > 0).astype(np.int32))
    assert len(both) == 1
    assert np.array_equal(both.labels > 0, labels > 0)
    each = canopy.decode_near(prediction, labels)
    assert len(each) == 2
    assert match(labels, each.labels, 0.9).true_positives == 2
    assert not canopy.decode_near(prediction, np.zeros_like(labels)).labels.any()


def test_divergence_of_what_points_away_and_of_what_points_to_a_place() -> None:
    y, x = np.mgrid[-2:3, -2:3].astype(np.float32)
    away = np.stack([np.sign(y), np.sign(x)])
    assert divergence(away)[2, 2] == 2
    assert divergence(-away)[2, 2] == -2
    assert not divergence(np.ones((2, 5, 5), dtype=np.float32))[1:-1, 1:-1].any()


def test_images_without_foreground_do_not_stop_a_fit() -> None:
    truth = scattered(4, 4, seed=0, pitch=12)
    good, nothing = noisy(truth, 0), np.zeros((3, *truth.shape), dtype=np.float32)
    fitted = Canopy().refit([nothing, good, nothing], [np.zeros_like(truth), truth, np.zeros_like(truth)])
    assert fitted.scorer
    assert len(fitted.decode(nothing)) == 0


def test_a_cell_that_a_cut_parts_is_its_largest_piece() -> None:
    labels = np.zeros((20, 40), dtype=np.int32)
    draw_ellipse(labels, 1, (10, 14), (7, 10))
    draw_ellipse(labels, 1, (10, 32), (4, 4))
    labels[9:12, 20:30] = 1
    prediction = Canopy().targets(labels)
    prediction[CELL, :, 24:28] *= 0.6
    found = replace(Canopy(), cuts=(0.8,)).decode(prediction)
    assert len(found) == 2
    fitted = replace(Canopy(), cuts=(0.3, 0.8), scorer=_prefers_the_cut_at(0.8))
    found = fitted.decode(prediction)
    assert len(replace(fitted, min_area_px=250).decode(prediction)) == 0  # the piece is too small, both were not
    assert len(found) == 1
    assert np.array_equal(found.labels > 0, (labels > 0) & (np.arange(40) < 24))


def _prefers_the_cut_at(cut: float) -> tuple[float, ...]:
    names = [*Canopy().candidates(Canopy().targets(SCENES["one"])).features]
    weights = np.zeros((2, len(names)))
    weights[0, names.index("cut")] = 8
    weights[0, names.index("log summits")] = 6
    n = len(names)
    return (float(n), *np.zeros(n), *np.ones(n), *weights.ravel(), -8 * cut - 2)


def test_no_cell_is_wider_than_allowed() -> None:
    labels = np.zeros((40, 120), dtype=np.int32)
    draw_ellipse(labels, 1, (20, 20), (8, 8))
    draw_ellipse(labels, 2, (20, 75), (8, 40))
    found = replace(Canopy(), widest_px=30).decode(Canopy().targets(labels))
    assert len(found) == 1
    assert np.array_equal(found.labels > 0, labels == 1)


@pytest.mark.parametrize("summit_px", [None, 20, 48])
def test_a_cell_does_not_depend_on_what_is_far_beside_it(summit_px: int | None) -> None:
    """A cell beside a wide, low sheet, on which something stands out at some distance or not."""
    labels = np.zeros((30, 90), dtype=np.int32)
    draw_ellipse(labels, 1, (15, 8), (4, 4))
    prediction = 0.9 * Canopy().targets(labels)
    prediction[CELL, 10:20, 13:] = 0.35 + np.linspace(0, 0.02, 77)
    if summit_px:
        prediction[CELL, 15, 12 + summit_px] = 1
    found = replace(Canopy(), widest_px=12).decode(prediction)
    at_cell = found.labels[15, 8]
    assert at_cell > 0
    assert np.array_equal(found.labels[:, :12] == at_cell, labels[:, :12] == 1)
    assert (found.labels == at_cell).sum() < (labels == 1).sum() + 24  # of 770 of the sheet


@pytest.mark.parametrize("cuts", [[], [0.5, 0.3], [0.5, 0.5]])
def test_cuts_that_do_not_rise_are_an_error(cuts: list[float]) -> None:
    with pytest.raises(ConfigError, match="rising"):
        make_representation("canopy", {"cuts": cuts})


def test_a_scorer_of_another_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no scorer"):
        make_representation("canopy", {"scorer": [1.0, 0.0, 1.0, 0.0, 0.0]})
    variant = make_representation("canopy", {"scorer": [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]})
    with pytest.raises(ConfigError, match="1 feature"):
        variant.decode(variant.targets(SCENES["one"]))
