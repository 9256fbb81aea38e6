"""boundary: what the contract of all representations cannot say."""

from dataclasses import replace

import numpy as np

from fewcell.metrics import f1, match
from fewcell.representations import Boundary

from .scenes import scattered


def classes(*rows: str) -> np.ndarray:
    """Draw a certain prediction: . background, i interior, b boundary."""
    return np.stack([[[float(c == kind) for c in row] for row in rows] for kind in ".ib"]).astype(np.float32)


def test_the_edge_of_the_field_and_unknown_are_no_boundary() -> None:
    labels = np.array([[1, 1, 1, -1, -1], [1, 1, 1, -1, -1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], dtype=np.int32)
    assert np.array_equal(Boundary().targets(labels)[:, :, :3], classes("iii", "iii", "iii", "iii"))
    assert np.array_equal(Boundary().targets(labels)[:, 2:, 3:], classes("b.", "b."))


def test_cells_that_touch_only_with_a_corner_are_told_apart() -> None:
    labels = np.kron(np.array([[1, 0], [0, 2]]), np.ones((5, 5))).astype(np.int32)
    targets = Boundary().targets(labels)
    assert np.array_equal(targets[:, 4, 4], [0, 0, 1])
    assert len(Boundary().decode(targets)) == 2


def test_a_cell_too_thin_for_an_interior_is_found() -> None:
    labels = np.zeros((9, 20), dtype=np.int32)
    labels[3:5, 2:17] = 1
    targets = Boundary().targets(labels)
    assert not targets[1].any()
    assert np.array_equal(Boundary().decode(targets).labels, labels)


def test_growth_ends_at_grow_px_and_does_not_jump_over_background() -> None:
    prediction = classes(
        "iiibbbbbbb",
        "iiibbbbbbb",
        "..........",
        "bbbbbbbbii",
    )
    found = Boundary(grow_px=3, min_area_px=1).decode(prediction).labels
    assert np.array_equal(found[:2] == found[0, 0], np.broadcast_to(np.arange(10) < 6, (2, 10)))
    assert np.array_equal(found[3] == found[3, -1], np.arange(10) > 4)
    assert not found[3, :5].any()


def test_small_pieces_are_dropped_and_numbers_have_no_gap() -> None:
    prediction = classes("ii......", "ii......", "....i...", "......ii", "......ii")
    found = Boundary(grow_px=1, min_area_px=4).decode(prediction)
    assert found.labels[2, 4] == 0
    assert set(np.unique(found.labels)) == {0, 1, 2}
    assert np.allclose(found.scores, 1)


def test_tune_keeps_thresholds_that_lie_between_those_of_its_grid() -> None:
    """One image has faint interiors, one faint bridges between cells: only 0.42 to 0.46 serves both."""
    labels = scattered(2, 3, seed=2)
    targets = Boundary().targets(labels)
    faint, bridged = targets.copy(), targets.copy()
    faint[1], faint[2] = 0.46 * targets[1], targets[2] + 0.54 * targets[1]
    bridged[1], bridged[2] = targets[1] + 0.42 * targets[2], 0.58 * targets[2]
    wide = np.where(labels > 0, 0, targets[0])
    bridged[0], bridged[1], bridged[2] = 0, bridged[1] + 0.42 * wide, bridged[2] + 0.58 * wide
    start = replace(Boundary(), interior_threshold=0.44)

    def mean_f1(variant: Boundary) -> float:
        return float(np.mean([f1(match(labels, variant.decode(p).labels)) for p in (faint, bridged)]))

    tuned = start.tune([faint, bridged], [labels, labels])
    assert mean_f1(start) > max(mean_f1(replace(start, interior_threshold=t)) for t in (0.4, 0.5))
    assert mean_f1(tuned) >= mean_f1(start)
    assert tuned.interior_threshold == 0.44
