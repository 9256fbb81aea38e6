"""From what a teacher found to labels: by trust, points and boxes, on drawn cells, and on any at all."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewcell.metrics import bounding_boxes, overlaps, points_and_boxes
from fewcell.training.proposals import (
    agreement,
    all_marked,
    best_in_boxes,
    by_boxes,
    by_points,
    by_trust,
    in_boxes,
    with_points,
)
from fewcell.types import UNKNOWN, Labels

EVERYWHERE = np.ones((40, 60), dtype=bool)


def cells() -> Labels:
    """Three cells, 10 px wide: from the left 1, 2, 3."""
    found = np.zeros((40, 60), dtype=np.int32)
    for number, x in enumerate((4, 20, 40), 1):
        found[10:20, x : x + 10] = number
    return found


any_labels = hnp.arrays(np.int32, (9, 11), elements=st.integers(0, 4))


@settings(deadline=None, max_examples=60)
@given(found=any_labels, views=st.lists(any_labels, max_size=3))
def test_agreement_is_the_best_iou_in_each_view(found: Labels, views: list[Labels]) -> None:
    found = np.unique(np.append(found, 0), return_inverse=True)[1][:-1].reshape(found.shape).astype(np.int32)
    best = agreement(found, views)
    assert best.shape == (found.max(), len(views))
    for i in range(1, found.max() + 1):
        for j, view in enumerate(views):
            ious = [np.sum((found == i) & (view == k)) / np.sum((found == i) | (view == k)) for k in range(1, 5)]
            assert np.isclose(best[i - 1, j], max(ious))


def test_what_is_not_trusted_is_not_known_and_background_is_what_no_view_takes_for_a_cell() -> None:
    found, view = cells(), np.zeros((40, 60), dtype=np.int32)
    view[30:35, 30:35] = 7
    likely = np.full((40, 60), 0.1, dtype=np.float32)
    likely[2:6, 50:55] = 0.3  # no view takes it for a cell, but it may be one
    labels = by_trust(found, np.array([True, False, True]), [view], np.maximum(likely, 0.9 * (found == 1)))
    assert np.array_equal(labels == 1, found == 1)
    assert np.array_equal(labels == 3, found == 3)
    assert np.array_equal(labels == UNKNOWN, (found == 2) | (view > 0) | (likely > 0.2))


def test_a_cell_with_one_point_is_right_and_one_without_is_background() -> None:
    found = cells()
    points = np.array([[15.0, 8.0], [12.0, 42.0], [18.0, 46.0]])
    labels = by_points(found, points, all_marked(EVERYWHERE, cells()), 10.0)
    assert np.array_equal(labels == 1, found == 1)
    assert not labels[found == 2].any(), "no point, no cell"
    assert set(np.unique(labels[found == 3])) == {UNKNOWN, 4, 5}, "two points: two seeds in what is not known"
    assert labels[12, 42] == 4
    assert labels[18, 46] == 5


def test_a_point_that_no_cell_holds_becomes_a_seed_with_a_ring_around_it() -> None:
    found = cells()
    labels = by_points(found, np.array([[30.0, 30.0], [39.4, 59.4]]), all_marked(EVERYWHERE, cells()), 10.0)
    assert labels[30, 30] == 4
    assert (labels == 4).sum() < 10
    assert labels[30, 34] == UNKNOWN
    assert labels[30, 45] == 0
    assert labels[39, 59] == 5


def test_a_seed_does_not_cover_a_cell() -> None:
    found = cells()
    labels = by_points(found, np.array([[15.0, 8.0], [15.0, 15.0]]), all_marked(EVERYWHERE, cells()), 10.0)
    assert np.array_equal(labels == 1, found == 1)
    assert labels[15, 15] == 4


def test_beyond_what_is_annotated_only_cells_with_a_point_are_known() -> None:
    found, inside = cells(), EVERYWHERE.copy()
    inside[:, 30:] = False
    labels = by_points(found, np.array([[15.0, 44.0]]), all_marked(inside, found), 10.0)
    assert np.array_equal(labels == 3, found == 3)
    assert not labels[:, :30].any(), "cells 1 and 2 have no point where every cell has one"
    assert np.all(labels[:, 30:][found[:, 30:] == 0] == UNKNOWN)


def test_of_a_cell_that_lies_mostly_beyond_what_is_annotated_nothing_is_known() -> None:
    found, inside = cells(), EVERYWHERE.copy()
    inside[:, 27:] = False  # cell 2 begins at 20: 7 of its 10 columns lie inside
    inside[:, :11] = False  # cell 1 ends at 14: 3 of its 10 columns lie inside
    nothing = np.zeros((0, 2))
    for labels in (
        by_points(found, nothing, all_marked(inside, found), 10.0),
        by_boxes(found, np.zeros((0, 4)), all_marked(inside, found)),
    ):
        assert np.all(labels[found == 1] == UNKNOWN)
        assert not labels[(found == 2) & inside].any(), "annotated, and without a mark"
        assert np.all(labels[~inside] == UNKNOWN)
        assert not labels[inside & (found != 1)].any()


def test_cells_with_a_mark_are_told() -> None:
    points = np.array([[15.0, 8.0], [12.0, 42.0], [18.0, 46.0], [0.0, 0.0]])
    assert with_points(cells(), points).tolist() == [1, 0, 2]
    boxes = np.array([[0.0, 0, 40, 12], [9, 39, 21, 51]])
    assert in_boxes(cells(), boxes).tolist() == [True, False, True]
    assert in_boxes(cells(), np.zeros((0, 4))).tolist() == [False] * 3
    assert with_points(np.zeros((4, 5), dtype=np.int32), points).tolist() == []
    assert in_boxes(np.zeros((4, 5), dtype=np.int32), boxes).tolist() == []


def test_where_not_all_is_marked_other_cells_are_not_known_and_background_is_what_nobody_takes_for_a_cell() -> None:
    found, view = cells(), np.zeros((40, 60), dtype=np.int32)
    view[30:35, 30:35] = 7
    unmarked = by_trust(found, np.zeros(3, dtype=bool), [view], np.zeros((40, 60), dtype=np.float32))
    of_points = by_points(found, np.array([[15.0, 8.0], [32.0, 10.0]]), unmarked, 10.0)
    of_boxes = by_boxes(found, np.array([[10.0, 4, 20, 14]]), unmarked)
    for labels in (of_points, of_boxes):
        assert np.array_equal(labels == 1, found == 1)
        assert np.all(labels[(found > 1) | (view > 0)] == UNKNOWN)
        assert not labels[:, 52:].any()
    assert of_points[32, 10] == 4
    assert of_points[32, 15] == UNKNOWN, "around a seed nothing is known"
    assert of_boxes[32, 10] == of_boxes[32, 15] == 0


def test_a_cell_that_fills_a_box_is_right() -> None:
    found = cells()
    boxes = np.array([[9.0, 4, 20, 14], [10, 18, 20, 44], [28, 44, 38, 56]])
    labels = by_boxes(found, boxes, all_marked(EVERYWHERE, cells()))
    assert np.array_equal(labels == 1, found == 1)
    assert not np.isin(labels, (2, 3)).any(), "these fill no box"
    assert labels[15, 31] == 4, "a box that nothing fills is not known, but for its middle"
    assert labels[33, 50] == 5
    assert labels[10, 20] == labels[29, 45] == UNKNOWN
    assert not labels[25:28].any()


def test_a_box_is_filled_by_one_cell_and_a_cell_fills_one_box() -> None:
    found = np.zeros((40, 60), dtype=np.int32)
    found[10:20, 10:20], found[20:22, 10:20] = 1, 2
    labels = by_boxes(found, np.array([[10.0, 10, 20, 20], [10, 10, 22, 20]]), all_marked(EVERYWHERE, found))
    assert np.array_equal(labels == 1, found == 1)
    assert not np.isin(labels, 2).any()
    assert labels[21, 15] == UNKNOWN, "the other box is not filled"


def test_of_cells_found_in_several_ways_each_box_gets_the_one_that_fits_it_best() -> None:
    one, other = cells(), cells()
    one[:, 4:6], other[:, 20:22] = 0, 0  # each has a cell that is 2 px too narrow
    right = (cells() == 1) | (cells() == 2)
    for ways in ([one, other], [other, one]):
        best = best_in_boxes(ways, bounding_boxes(cells())[:2])
        assert np.array_equal(best > 0, right), "the third has no box"
        assert len(np.unique(best[right])) == 2
    assert not best_in_boxes([one, other], np.zeros((0, 4))).any()


def test_a_cell_that_fits_its_box_better_hides_another() -> None:
    one, other = np.zeros((2, 40, 60), dtype=np.int32)
    one[10:20, 4:14], other[10:20, 10:20] = 1, 1
    boxes = np.array([[10.0, 4, 20, 14], [10, 9, 20, 21]])
    best = best_in_boxes([one, other], boxes)
    assert np.array_equal(best == best[15, 5], one > 0)
    assert np.array_equal(best > 0, (one > 0) | (other > 0))


def test_very_many_boxes_are_compared_in_parts(monkeypatch) -> None:
    rng = np.random.default_rng(0)
    boxes = np.concatenate([bounding_boxes(cells()) + rng.normal(0, 1, (3, 4)), rng.uniform(0, 20, (20, 4))])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    at_once = by_boxes(cells(), boxes, all_marked(EVERYWHERE, cells()))
    monkeypatch.setattr(points_and_boxes, "BOXES_AT_ONCE", 2)
    assert np.array_equal(by_boxes(cells(), boxes, all_marked(EVERYWHERE, cells())), at_once)
    assert (at_once == 1).any()


def test_without_any_box_all_is_background_where_every_cell_has_one() -> None:
    inside = EVERYWHERE.copy()
    inside[:, 30:] = False
    labels = by_boxes(cells(), np.zeros((0, 4)), all_marked(inside, cells()))
    assert not labels[:, :30].any()
    assert np.all(labels[:, 30:] == UNKNOWN)


@settings(deadline=None, max_examples=60)
@given(
    found=any_labels,
    points=hnp.arrays(np.float64, st.tuples(st.integers(0, 5), st.just(2)), elements=st.floats(0, 8.4)),
)
def test_every_point_lies_in_a_cell_of_its_own(found: Labels, points: np.ndarray) -> None:
    found = np.unique(np.append(found, 0), return_inverse=True)[1][:-1].reshape(found.shape).astype(np.int32)
    labels = by_points(found, points, np.zeros_like(found), 4.0)
    y, x = np.clip(np.rint(points), 0, np.array(found.shape) - 1).astype(int).T
    assert np.all(labels[y, x] > 0)
    kept = [number for number in range(1, found.max() + 1) if (labels == number).any()]
    table = overlaps(found, np.where(np.isin(labels, kept), labels, 0))
    assert np.allclose(table.pair_iou, 1), "a cell is kept whole"
    for number in kept:
        assert np.sum(found[y, x] == number) == 1
