import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.metrics import bounding_boxes, box_iou, count_boxes, count_points, f1


@pytest.fixture
def found():
    labels = np.zeros((20, 30), dtype=np.int32)
    labels[2:8, 2:8] = 1
    labels[2:8, 12:22] = 2
    labels[12:18, 2:12] = 4  # 3 has no pixel
    return labels


def test_a_cell_with_one_point_is_right_and_no_other(found):
    one_each = np.array([[4.0, 4], [5, 15], [15.4, 6]])
    assert f1(count_points(found, one_each)) == 1
    two_in_one = np.array([[4.0, 4], [5, 13], [5, 20], [19, 29]])
    counts = count_points(found, two_in_one)
    assert (counts.true_positives, counts.n_true, counts.n_predicted) == (1, 4, 3)
    assert (count_points(found, np.zeros((0, 2))).n_predicted, count_points(0 * found, one_each).n_true) == (3, 3)


def test_a_cell_is_right_if_it_fills_a_box(found):
    boxes = bounding_boxes(found)[[0, 1, 3]]
    assert f1(count_boxes(found, boxes)) == 1
    shifted = boxes + np.array([0, 4, 0, 4])  # IoU 2 / 10, 6 / 14, 6 / 14
    assert count_boxes(found, shifted).true_positives == 0
    assert count_boxes(found, shifted, iou=0.4).true_positives == 2
    twice = np.concatenate([boxes, boxes])
    assert count_boxes(found, twice).true_positives == 3, "one box a cell"
    counts = count_boxes(found, np.zeros((0, 4)))
    assert (counts.true_positives, counts.n_true, counts.n_predicted) == (0, 0, 3)
    assert count_boxes(0 * found, boxes).n_predicted == 0


BOX = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9))


@given(BOX, BOX)
@settings(max_examples=60, deadline=None)
def test_the_iou_of_boxes_is_that_of_their_pixels(one, other):
    masks = np.zeros((2, 20, 20), dtype=bool)
    boxes = np.array([[t, x, t + h, x + w] for t, x, h, w in (one, other)], dtype=float)
    for mask, (top, left, bottom, right) in zip(masks, boxes.astype(int), strict=True):
        mask[top:bottom, left:right] = True
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    assert box_iou(boxes[:1], boxes[1:]) == pytest.approx(expected)
