"""flows: what the contract of all representations cannot say."""

from dataclasses import replace

import numpy as np
import pytest

from fewcell.representations import Flows
from fewcell.types import UNKNOWN, Labels

from .scenes import SCENES, draw_ellipse, scattered


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> Labels:
    labels = np.zeros(shape, dtype=np.int32)
    draw_ellipse(labels, 1, centre, (radius, radius))
    return labels


def settled_heat(cell: np.ndarray, centre: tuple[int, int]) -> np.ndarray:
    """The heat of every pixel, from the equations of all of them solved at once."""
    places = {place: i for i, place in enumerate(zip(*np.nonzero(cell), strict=True))}
    matrix, source = np.eye(len(places)), np.zeros(len(places))
    for (y, x), i in places.items():
        if (y, x) == centre:
            source[i] = 1
            continue
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if (dy or dx) and (y + dy, x + dx) in places:
                    matrix[i, places[y + dy, x + dx]] -= 0.2 if dy == 0 or dx == 0 else 0.05
    heat = np.zeros(cell.shape)
    heat[cell] = np.linalg.solve(matrix, source)
    return heat


def test_in_a_disc_every_vector_points_to_the_centre() -> None:
    labels = disc((31, 33), (15, 16), 12.3)
    flow = Flows().targets(labels)[:2]
    y, x = np.mgrid[:31, :33]
    off = np.stack([15 - y, 16 - x]).astype(float)
    inside = (labels > 0) & (np.hypot(*off) > 0)
    assert not flow[:, 15, 16].any()
    assert not flow[:, labels == 0].any()
    assert np.allclose(np.hypot(*flow)[inside], 1, atol=1e-6)
    cosine = ((flow * off).sum(axis=0) / np.maximum(np.hypot(*off), 1))[inside]
    assert cosine.min() > 0.94  # pixels that stick out of the border
    assert cosine.mean() > 0.99


@pytest.mark.parametrize("scene", ["elongated", "crescents", "rings"])
def test_the_flow_is_the_gradient_of_the_settled_heat(scene: str) -> None:
    cell = np.pad(SCENES[scene] == 2, 1)
    flow = Flows().targets(cell.astype(np.int32))[:2]
    y, x = np.nonzero(cell)
    nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
    heat = settled_heat(cell, (int(y[nearest]), int(x[nearest])))
    gradient = np.stack(np.gradient(heat))
    gradient /= np.maximum(np.hypot(*gradient), 1e-30)
    gradient[:, ~cell | (heat == 1)] = 0
    assert np.abs(flow - gradient).mean() < 1e-3
    assert np.abs(flow - gradient).max() < 0.05


@pytest.mark.parametrize("elongation", [1.0, 2.0])
def test_the_target_means_the_same_for_a_cell_of_6_px_and_one_of_60(elongation: float) -> None:
    fields = []
    for times in (1, 10):  # the large cell is the small one enlarged: each of its pixels is 10 x 10
        y, x = np.mgrid[: 14 * times, : 22 * times] / times + 0.5 / times
        labels = (np.hypot(y - 7, (x - 11) / elongation) <= 3).astype(np.int32)
        blocks = Flows().targets(labels)[:2].reshape(2, 14, times, 22, times).mean(axis=(2, 4))
        fields.append(blocks / np.maximum(np.hypot(*blocks), 1e-6))
    small, large = fields
    away = np.hypot(*np.mgrid[-6.5:7, -10.5:11])
    both = (np.hypot(*small) > 0.5) & (np.hypot(*large) > 0.5) & (away > 1)
    assert both.sum() > 15 * elongation
    assert (small * large).sum(axis=0)[both].min() > np.cos(np.pi / 5)
    assert (small * large).sum(axis=0)[both].mean() > 0.98


def test_pieces_that_do_not_touch_have_a_centre_each_and_unknown_is_no_cell() -> None:
    labels = np.zeros((12, 30), dtype=np.int32)
    labels[2:9, 2:9] = labels[2:9, 18:25] = 7
    labels[:, 27:] = UNKNOWN
    targets = Flows().targets(labels)
    assert not targets[:2, 5, 5].any()
    assert not targets[:2, 5, 21].any()
    assert np.array_equal(targets[:, 2:9, 2:9], targets[:, 2:9, 18:25])
    assert not targets[:, :, 27:].any()


def test_a_cell_whose_flow_does_not_fit_its_shape_is_dropped() -> None:
    """The second disc's pixels all end in its centre too, but half of them by a detour."""
    labels = disc((30, 60), (15, 15), 8)
    draw_ellipse(labels, 2, (15, 42), (8, 8))
    prediction = Flows().targets(labels)
    y, x = np.mgrid[:30, :60]
    left = (labels == 2) & (x < 42)
    prediction[0, left], prediction[1, left] = 0.9 * np.sign(15 - y[left]), 0.4
    every = replace(Flows(), flow_error=6.0).decode(prediction)
    assert len(every) == 2
    sound = Flows(flow_error=0.1).decode(prediction)
    assert np.array_equal(sound.labels > 0, labels == 1)


def test_too_few_steps_do_not_find_a_great_cell() -> None:
    labels = disc((110, 110), (55, 55), 50)
    prediction = Flows().targets(labels)
    assert np.array_equal(Flows(n_steps=55).decode(prediction).labels, labels)
    assert (Flows(n_steps=20).decode(prediction).labels == 1).sum() < (labels == 1).sum() / 2


def test_sinks_nearer_than_sink_px_are_one() -> None:
    from fewcell.representations.flow_kernels import split_by_sink

    ends = np.full((11, 13), -1, dtype=np.int64)
    ends[1:10, 1:7], ends[1:10, 7:12] = 5 * 13 + 4, 5 * 13 + 8
    apart, together = split_by_sink(ends, 3, 2), split_by_sink(ends, 4, 2)
    assert np.array_equal(apart > 0, ends >= 0)
    assert len(np.unique(apart[:, 1:7][apart[:, 1:7] > 0])) == len(np.unique(apart[:, 7:12][apart[:, 7:12] > 0])) == 1
    assert apart[5, 4] != apart[5, 8]
    assert np.array_equal(together, np.where(ends >= 0, together[5, 4], 0))


def test_of_pixels_that_end_together_only_the_piece_at_the_sink_is_kept() -> None:
    from fewcell.representations.flow_kernels import split_by_sink

    ends = np.full((9, 30), -1, dtype=np.int64)
    ends[2:7, 2:8] = ends[2:7, 20:29] = 4 * 30 + 5
    assert np.array_equal(split_by_sink(ends, 3, 2) > 0, (ends >= 0) & (np.arange(30) < 10))
    ends[ends >= 0] = 4 * 30 + 14  # equally far from both: 7 px, and 6 are allowed
    ends[:, 20] = -1
    assert not split_by_sink(ends, 3, 2).any()


def test_raw_output_is_five_times_the_flow() -> None:
    torch = pytest.importorskip("torch")
    variant = Flows()
    targets = torch.from_numpy(variant.targets(scattered(2, 2)))[None]
    output = torch.cat([5 * targets[:, :2], 40 * targets[:, 2:] - 20], dim=1)
    known = torch.ones(targets.shape[:1] + targets.shape[2:], dtype=torch.bool)
    assert float(variant.loss(output, targets, known)) < 1e-6
    assert torch.allclose(variant.activate(output), targets, atol=1e-6)
    # Half the mean of 25, over one channel of two.
    off = output + torch.tensor([5.0, 0, 0]).view(1, 3, 1, 1)
    assert float(variant.loss(off, targets, known)) == pytest.approx(25 / 4, rel=1e-5)
