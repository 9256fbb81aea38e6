"""Each wrong cell is wrong in one way, on drawn cases and against the definition read slowly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.metrics import find_mistakes, overlaps


def cells(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    labels = np.zeros((30, 60), dtype=np.int32)
    for number, (top, bottom, left, right) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = number
    return labels


LEFT, RIGHT = (5, 15, 5, 15), (5, 15, 15, 25)
BOTH = (5, 15, 5, 25)


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [
        ([LEFT, RIGHT], [LEFT, RIGHT], {}),
        ([LEFT, RIGHT], [BOTH], {"merged": 2}),
        ([BOTH], [LEFT, RIGHT], {"split": 1}),
        ([LEFT, RIGHT], [LEFT], {"missed": 1}),
        ([LEFT], [LEFT, RIGHT], {"false": 1}),
        ([LEFT], [(5, 15, 5, 9)], {"badly_outlined": 1}),
        ([LEFT], [(5, 25, 5, 35)], {"badly_outlined": 1}),
        ([LEFT], [(14, 25, 14, 35)], {"missed": 1, "false": 1}),
        ([], [LEFT], {"false": 1}),
        ([LEFT], [], {"missed": 1}),
    ],
)
def test_kinds_of_mistakes(true: list, predicted: list, expected: dict[str, int]) -> None:
    found = find_mistakes(overlaps(cells(*true), cells(*predicted))).counts()
    assert {kind: count for kind, count in found.items() if count} == expected


def test_a_prediction_mostly_in_unknown_is_not_false() -> None:
    true = cells(LEFT)
    true[:, 30:] = -1
    assert find_mistakes(overlaps(true, cells((5, 15, 28, 40)))).counts()["false"] == 0
    assert find_mistakes(overlaps(true, cells((5, 15, 20, 31)))).counts()["false"] == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31))
def test_every_true_cell_is_right_or_wrong_in_one_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    true, predicted = (
        np.kron(rng.integers(0, 7, (6, 8)), np.ones((size, size), int))[:24, :32].astype(np.int32) for size in (4, 5)
    )
    table = overlaps(true, predicted)
    found = find_mistakes(table)
    kinds = np.stack([found.missed, found.split, found.merged, found.badly_outlined])
    for position, number in enumerate(table.true_ids):
        cell = true == number
        others = [predicted == p for p in table.predicted_ids]
        is_right = any((cell & p).sum() > 0.5 * (cell | p).sum() for p in others)
        parts = sum((cell & p).sum() > 0.5 * p.sum() for p in others)
        holders = [p for p in others if (cell & p).sum() > 0.5 * cell.sum()]
        shares = any(
            sum((t_cell & p).sum() > 0.5 * t_cell.sum() for t_cell in (true == t for t in table.true_ids)) > 1
            for p in holders
        )
        touched = any((cell & p).sum() >= 0.1 * cell.sum() for p in others)
        expected = [not touched and parts < 2, parts > 1 and not shares, shares, touched and parts < 2 and not shares]
        assert kinds[:, position].tolist() == ([False] * 4 if is_right else expected)
