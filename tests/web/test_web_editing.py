"""Changes to labels: what is asked for changes, and nothing else."""

import numpy as np
import pytest

from fewcell.web.editing import cells_under, delete_cells, draw_cell, merge_cells, split_cells
from fewcell.web.refusal import Refused


@pytest.fixture
def two():
    """A square of 10 px as cell 1, touched by another as cell 2."""
    labels = np.zeros((20, 30), np.int32)
    labels[5:15, 4:14], labels[5:15, 14:24] = 1, 2
    return labels


def points(*places):
    return np.array(places, dtype=float)


def test_delete_and_merge(two):
    assert np.array_equal(delete_cells(two, [1]), np.where(two == 1, 0, two))
    assert np.array_equal(merge_cells(two, [1, 2], 7), np.where(two > 0, 7, 0))
    with pytest.raises(Refused, match="two cells or more"):
        merge_cells(two, [1, 1], 7)


@pytest.mark.parametrize("line", [((0, 9), (19, 9)), ((0, 4), (19, 13)), ((0, 9), (8, 7), (12, 11), (19, 9))])
def test_a_line_right_through_a_cell_splits_it_and_keeps_every_pixel(two, line):
    after = split_cells(two, points(*line), 3)
    assert set(np.unique(after[two == 1])) == {3, 4}
    assert np.array_equal(after > 0, two > 0)
    assert np.array_equal(after == 2, two == 2)
    assert min((after == 3).sum(), (after == 4).sum()) > 25


def test_a_line_through_both_splits_both(two):
    after = split_cells(two, points((10, 0), (10, 29)), 3)
    assert sorted(np.unique(after)) == [0, 3, 4, 5, 6]
    assert cells_under(two, points((10, 0), (10, 29))) == [1, 2]


@pytest.mark.parametrize("line", [((0, 9), (10, 9)), ((0, 0), (0, 29)), ((5, 4), (5, 13)), ((-50, -50), (-40, -40))])
def test_a_line_that_parts_nothing_is_refused(two, line):
    with pytest.raises(Refused, match="cuts no cell in two"):
        split_cells(two, points(*line), 3)


def test_a_drawn_cell_takes_what_is_free(two):
    after = draw_cell(two, points((2, 8), (2, 28), (18, 28), (18, 8)), 3)
    assert np.array_equal(after[two > 0], two[two > 0])
    assert (after == 3).sum() > 50


@pytest.mark.parametrize("outline", [((6, 6), (6, 12), (12, 12)), ((0, 0), (0, 1)), ((90, 90), (90, 99), (99, 99)), ()])
def test_no_cell_is_drawn_where_there_is_no_room(two, outline):
    with pytest.raises(Refused, match="no room"):
        draw_cell(two, np.array(outline, dtype=float).reshape(-1, 2), 3)
