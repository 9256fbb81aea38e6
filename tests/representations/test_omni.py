"""omni: what the contract of all representations cannot say."""

import numpy as np
import pytest

from fewcell.representations import Omni
from fewcell.types import UNKNOWN, Labels

from .scenes import scattered


def rods(*, wide: int, gap: int = 0) -> Labels:
    """Two rods side by side."""
    labels = np.zeros((2 * wide + gap + 10, 100), dtype=np.int32)
    labels[5 : 5 + wide, 5:90] = 1
    labels[5 + wide + gap : 5 + 2 * wide + gap, 10:95] = 2
    return labels


def test_across_a_rod_the_distance_rises_to_the_skeleton_by_1_a_px() -> None:
    labels = np.zeros((41, 200), dtype=np.int32)
    labels[10:31] = 1  # 21 px wide; the frame is no border
    targets = Omni(depth_px=20.0).targets(labels)
    steps = np.arange(-10, 11)
    # -log of the solution cosh(y) / cosh(11) of the screened diffusion between borders 11 px from the skeleton.
    exact = np.log(np.cosh(11) / np.cosh(steps))
    middle = targets[:, 10:31, 20:180]
    assert np.allclose(20 * middle[0], exact[:, None], atol=2e-3)
    padded = np.pad(exact, 1)
    slope = (padded[2:] - padded[:-2]) / 2
    assert np.allclose(middle[1], np.clip(2 * slope, -1, 1)[:, None], atol=2e-3)
    assert np.allclose(middle[2], 0, atol=2e-3)
    assert np.all(targets[0][labels == 0] == -1)


def test_deep_in_a_cell_the_distance_is_clipped_but_not_the_flow() -> None:
    labels = np.zeros((80, 80), dtype=np.int32)
    labels[5:75, 5:75] = 1
    targets = Omni(depth_px=8.0).targets(labels)
    assert targets[0, 25, 40] == 1
    assert np.allclose(targets[1:3, 25, 40], (1, 0), atol=1e-3)


@pytest.mark.parametrize("wide", [3, 4, 6, 12])
def test_rods_that_touch_along_their_length_are_two_cells(wide: int) -> None:
    labels = rods(wide=wide)
    assert np.array_equal(Omni().decode(Omni().targets(labels)).labels, labels)


def test_a_boundary_divides_what_the_flow_leaves_together_only_where_flows_part() -> None:
    """Flows too faint to shrink the rods: the boundary alone tells them apart, and does not cut them elsewhere."""
    labels = rods(wide=6)
    prediction = Omni().targets(labels)
    prediction[1:3] *= 0.05
    assert len(Omni().decode(prediction)) == 2
    prediction[3] = (labels > 0) & (np.arange(100) % 7 > 3)  # across the rods, where flows do not part
    assert len(Omni().decode(prediction)) == 1
    prediction[3] = 0
    assert len(Omni().decode(prediction)) == 1


def test_boundary_is_where_labels_meet_but_not_at_the_frame_or_unknown() -> None:
    labels = np.array([[1, 1, 1, -1, -1], [1, 1, 1, -1, -1], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]], dtype=np.int32)
    boundary = np.zeros((4, 5))
    boundary[2:, 3] = 1
    assert np.array_equal(Omni().targets(labels)[3], boundary)
    assert np.all(Omni().targets(labels)[0][labels == UNKNOWN] == -1)


def test_the_loss_minds_a_wrong_divergence() -> None:
    """Two errors of the same size in each pixel: one the same everywhere, one that turns over at every second."""
    torch = pytest.importorskip("torch")
    variant = Omni()
    targets = torch.from_numpy(variant.targets(scattered(2, 2)))[None]
    known = torch.ones(targets.shape[:1] + targets.shape[2:], dtype=torch.bool)
    output = 5 * targets
    even, uneven = output.clone(), output.clone()
    even[:, 2] += 1
    uneven[:, 2] += torch.tensor([1.0, -1.0]).repeat(targets.shape[3])[: targets.shape[3]]
    assert float(variant.loss(uneven, targets, known)) > 1.5 * float(variant.loss(even, targets, known))
    assert float(variant.loss(even, targets, known)) > float(variant.loss(output, targets, known))


def test_arms_of_a_cell_stay_with_it_and_neighbours_apart() -> None:
    """A spread cell with narrowing arms, each with a knob at its end, beside another one that touches it."""
    labels = np.zeros((60, 90), dtype=np.int32)
    y, x = np.mgrid[:60, :90]
    labels[(y - 30) ** 2 + (x - 30) ** 2 < 100] = 1
    for side in (-1, 1):
        labels[(abs(x - 30) < 2) & (side * (y - 30) > 0) & (abs(y - 30) < 22)] = 1
        labels[(y - 30 - side * 22) ** 2 + (x - 30) ** 2 < 16] = 1
    labels[((y - 30) ** 2 + (x - 52) ** 2 < 170) & (labels == 0)] = 2
    targets = Omni().targets(labels)
    assert np.array_equal(Omni().decode(targets).labels > 0, labels > 0)
    assert len(Omni().decode(targets)) == 2
    assert len(Omni(max_parting=-9).decode(targets)) > 2, "without putting back, arms come off"
    assert len(Omni(max_parting=9).decode(targets)) == 1
