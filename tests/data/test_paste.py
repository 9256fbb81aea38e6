"""Cells of one crop set into another."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label

from fewcell.config import Augmentation
from fewcell.data import crops as crops_module
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import open_dataset
from fewcell.data.paste import paste_cells
from fewcell.images import write_labels
from fewcell.types import UNKNOWN

STRIDE, MARGIN, SIDE = 2, 3, 96
GRID = SIDE // STRIDE + 2 * MARGIN


def scene(centres, radius=5, background=0.2, cell=0.5):
    """A crop with discs at places of the labels, and its labels."""
    labels = np.zeros((GRID, GRID), dtype=np.int32)
    for number, (y, x) in enumerate(centres, 1):
        cv2.circle(labels, (x, y), radius, number, cv2.FILLED)
    inner = labels[MARGIN:-MARGIN, MARGIN:-MARGIN]
    seen = np.kron(inner > 0, np.ones((STRIDE, STRIDE)))[..., None] * np.ones(3)
    return np.where(seen > 0, cell, background).astype(np.float32), labels


@pytest.fixture(autouse=True)
def all_that_fit(monkeypatch):
    monkeypatch.setattr("fewcell.data.paste.SHARE", (1.0, 1.0))


def test_a_pasted_cell_keeps_its_contrast_to_what_is_around_it():
    image, labels = scene([(15, 15)], background=0.7, cell=0.9)
    donor, cells = scene([(35, 35)], background=0.1, cell=0.4)
    pasted, new = paste_cells(image, labels, donor, cells, MARGIN, np.random.default_rng(0))
    assert sorted(np.unique(new)) == [0, 1, 2]
    np.testing.assert_array_equal(new == 2, cells == 1)
    at = (35 - MARGIN) * STRIDE
    np.testing.assert_allclose(pasted[at, at], 0.7 + 0.3, atol=0.01)
    np.testing.assert_array_equal(pasted[:40, :40], image[:40, :40])


def test_what_is_not_known_stays_so_around_a_pasted_cell():
    image, labels = scene([])
    labels[:] = UNKNOWN
    donor, cells = scene([(25, 25)])
    _, new = paste_cells(image, labels, donor, cells, MARGIN, np.random.default_rng(0))
    np.testing.assert_array_equal(new, np.where(cells > 0, 1 + labels.max(initial=0), UNKNOWN))


@pytest.mark.parametrize(
    "centres",
    [[(15, 18)], [(MARGIN, 30)], []],
    ids=["over another cell", "cut by the edge of the image", "no cell"],
)
def test_a_cell_without_room_is_not_pasted(centres):
    image, labels = scene([(15, 15)])
    donor, cells = scene(centres)
    pasted, new = paste_cells(image, labels, donor, cells, MARGIN, np.random.default_rng(0))
    assert pasted is image
    assert new is labels


@given(st.lists(st.tuples(*[st.integers(0, GRID - 1)] * 2), max_size=8), st.integers(0, 2**32 - 1))
def test_labelled_cells_stay_and_new_ones_are_whole(centres, seed):
    image, labels = scene([(15, 15), (40, 20)])
    donor, cells = scene(centres, radius=4)
    pasted, new = paste_cells(image, labels, donor, cells, MARGIN, np.random.default_rng(seed))
    np.testing.assert_array_equal(new[labels > 0], labels[labels > 0])
    for number in np.unique(new[new > labels.max()]):
        np.testing.assert_array_equal(new == number, cells == number - labels.max())
        assert label(new == number).max() <= label(cells == number - labels.max()).max()
    assert np.isfinite(pasted).all()


def test_crops_hold_cells_of_other_images(disc_dataset, monkeypatch):
    samples = [sample for sample in open_dataset(disc_dataset) if sample.labels][:3]
    calls, paste = [], crops_module.paste_cells
    monkeypatch.setattr(crops_module, "paste_cells", lambda *args: calls.append(paste(*args)) or calls[-1])
    n_cells = []
    for settings in (Augmentation(empty=0, defocus=0), Augmentation(empty=0, defocus=0, paste=1)):
        source = CropSource(samples, Grid(64, 2, 0, 12.0), settings)
        found = [source.crop(i % 3, np.random.default_rng(i))[1] for i in range(12)]
        n_cells.append(sum(len(np.unique(labels)) - 1 for labels in found))
    assert len(calls) == 12
    assert n_cells[1] > n_cells[0]


def test_half_of_a_cell_is_no_cell_to_paste(tmp_path, monkeypatch):
    """A crop may reach beyond its image: the part of a cell that lies in it would be pasted with a straight side."""
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        labels = np.zeros((64, 64), dtype=np.int32)
        cv2.circle(labels, (0, 32), 9, 1, cv2.FILLED)  # cut by the image's edge
        cv2.circle(labels, (32, 32), 9, 2, cv2.FILLED)
        Image.fromarray(np.where(labels, 200, 60).astype(np.uint8)).save(tmp_path / "images" / f"{name}.png")
        write_labels(tmp_path / "labels" / f"{name}_label.tiff", labels)
    seen = []
    monkeypatch.setattr(crops_module, "paste_cells", lambda *args: seen.append(args[3]) or args[:2])
    grid = Grid(256, 2, 0, 12.0)
    source = CropSource(open_dataset(tmp_path), grid, Augmentation(empty=0, defocus=0, paste=1))
    for i in range(12):
        source.crop(i % 2, np.random.default_rng(i))
    assert any(np.any(cells == 2) for cells in seen)
    assert not any(np.any(cells == 1) for cells in seen)


def test_what_a_point_stands_for_is_no_cell_to_paste(disc_dataset, tmp_path, monkeypatch):
    samples = [sample for sample in open_dataset(disc_dataset) if sample.labels][:2]
    monkeypatch.setattr(crops_module, "paste_cells", lambda *args: pytest.fail("cells of a weak label were pasted"))
    samples[1] = replace(samples[1], points=tmp_path / "points.csv")
    source = CropSource(samples, Grid(64, 2, 0, 12.0), Augmentation(empty=0, defocus=0, paste=1))
    assert source.crop(0, np.random.default_rng(0))[1].max() > 0


def test_a_lone_image_is_left_as_it_is(disc_dataset):
    sample = next(sample for sample in open_dataset(disc_dataset) if sample.labels)
    source = CropSource([sample], Grid(64, 2, 0, 12.0), Augmentation(empty=0, defocus=0, paste=1))
    assert source.crop(0, np.random.default_rng(0))[1].max() > 0
