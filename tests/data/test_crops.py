"""Crops: an image and its labels go through the same view, and land on the network's grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import label

from fewcell.config import Augmentation
from fewcell.data.dataset import Sample, diameter_px
from fewcell.types import UNKNOWN, Labels

pytest.importorskip("cv2")

from fewcell.data import crops, pyramids
from fewcell.data.crops import CropSource, Grid
from fewcell.data.views import View, draw_view

KINDS = set(Augmentation.model_fields) - {"scale_jitter", "rotate", "empty"}
STILL = Augmentation(**dict.fromkeys(KINDS, 0.0), scale_jitter=1, rotate=0, empty=0)
TURNED = STILL.model_copy(update={"scale_jitter": 1.6, "rotate": 0.5})


def discs(shape: tuple[int, int], diameter: float, seed: int = 0) -> Labels:
    """Discs at irregular places, none touching another."""
    rng = np.random.default_rng(seed)
    pitch = 1.5 * diameter
    y, x = np.mgrid[: shape[0], : shape[1]]
    row, column = (y // pitch).astype(int), (x // pitch).astype(int)
    jitter = rng.uniform(-0.2, 0.2, (2, row.max() + 1, column.max() + 1)) * diameter
    cy, cx = (row + 0.5) * pitch + jitter[0, row, column], (column + 0.5) * pitch + jitter[1, row, column]
    number = 1 + row * (column.max() + 1) + column
    present = rng.random(number.max() + 1) < 0.8
    inside = (y - cy) ** 2 + (x - cx) ** 2 <= (diameter / 2) ** 2
    return np.where(inside & present[number], number, 0).astype(np.int32)


def brightness(labels: Labels) -> np.ndarray:
    """The image that goes with labels: each cell has its own brightness, 0.7 to 1; elsewhere it is dark."""
    return np.where(labels > 0, 0.7 + 0.05 * (labels % 7), 0).astype(np.float32)


def save(folder: Path, labels: Labels, name: str = "a", *, labelled: bool = True) -> Sample:
    image, truth = folder / f"{name}.tif", folder / f"{name}_label.tiff"
    tifffile.imwrite(image, brightness(labels))
    tifffile.imwrite(truth, labels)
    return Sample(name, image, truth if labelled else None, "s", "m", name)


def source_of(*samples: Sample, settings: Augmentation = STILL, size: int = 128, stride: int = 1, margin: int = 0):
    return CropSource(samples, Grid(size, stride, margin, 24.0), settings)


def compare(image: np.ndarray, labels: Labels, stride: int, margin: int) -> tuple[float, float]:
    """How well an image fits the labels: IoU of what is bright, and share of pixels of the right brightness."""
    inner = slice(margin, labels.shape[0] - margin)
    labels = labels[inner, inner]
    size = labels.shape[0]
    seen = image.mean(axis=0).reshape(size, stride, size, stride).mean(axis=(1, 3))
    known = labels != UNKNOWN
    bright, cell = (seen > 0.42) & known, labels > 0
    fits = np.abs(seen - brightness(np.maximum(labels, 0)))[known] < 0.025
    return float((bright & cell).sum() / (bright | cell).sum()), float(fits.mean())


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("margin", [0, 3])
@pytest.mark.parametrize(
    ("shape", "diameter"), [((301, 260), 24), ((180, 400), 13.5), ((901, 1030), 120), ((1300, 1211), 190)]
)
def test_image_and_labels_stay_aligned(
    tmp_path: Path, shape: tuple[int, int], diameter: float, stride: int, margin: int
) -> None:
    """Large cells come from lower levels of the pyramid."""
    source = source_of(save(tmp_path, discs(shape, diameter)), settings=TURNED, stride=stride, margin=margin)
    results = []
    for seed in range(20):
        image, labels = source.crop(0, np.random.default_rng(seed))
        assert (image.shape, image.dtype) == ((3, 128, 128), np.float32)
        assert labels.shape == (128 // stride + 2 * margin,) * 2
        assert labels.dtype == np.int32
        results.append(compare(image, labels, stride, margin))
    ious, fits = np.transpose(results)
    assert ious.mean() > 0.94
    assert ious.min() > 0.85
    assert fits.mean() > 0.75


@pytest.mark.parametrize("stride", [1, 2])
def test_labels_lie_in_the_middle_of_the_pixels_that_they_stand_for(tmp_path: Path, stride: int) -> None:
    """Over many views no shift is left over, along either axis."""
    source = source_of(save(tmp_path, discs((400, 400), 24)), settings=TURNED, stride=stride, margin=2)
    shifts = []
    for seed in range(40):
        image, labels = source.crop(0, np.random.default_rng(seed))
        size = 128 // stride
        seen = image.mean(axis=0).reshape(size, stride, size, stride).mean(axis=(1, 3))
        inner = labels[2:-2, 2:-2]
        cell = brightness(np.maximum(inner, 0))
        for number in np.unique(inner[inner > 0]):
            y, x = np.nonzero(inner == number)
            if min(y.min(), x.min()) < 3 or max(y.max(), x.max()) > size - 4:
                continue
            box = (slice(y.min() - 2, y.max() + 3), slice(x.min() - 2, x.max() + 3))
            if (inner[box] == UNKNOWN).any() or len(np.unique(inner[box])) > 2:
                continue
            places = np.mgrid[box]
            shifts.append([(places * w).sum(axis=(1, 2)) / w.sum() for w in (seen[box], cell[box])])
    difference = np.diff(shifts, axis=1)[:, 0]
    assert len(difference) > 100
    assert np.abs(difference.mean(axis=0)).max() < 0.04
    assert np.abs(difference).max() < 0.6


@pytest.mark.parametrize(("step", "size"), [(1.0, 128), (3.0, 128), (7.3, 96)])
def test_a_crop_shows_the_place_that_its_view_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: float, size: int
) -> None:
    """On whatever level of the pyramid it is read."""
    labels = discs((900, 1001), 24 * step, seed=3)
    view = View(np.array([[step * 0.8, -step * 0.6, 320.3], [step * 0.6, step * 0.8, 101.7]]))
    monkeypatch.setattr(crops, "draw_view", lambda *_: view)
    found = source_of(save(tmp_path, labels), size=size).crop(0, np.random.default_rng(0))[1]
    turned = np.einsum("ij,jyx->iyx", view.matrix[:, :2], np.mgrid[:size, :size][::-1])
    x, y = np.rint(turned + view.matrix[:, 2, None, None]).astype(int)
    inside = (x > 8) & (x < 992) & (y > 8) & (y < 891)
    true = labels[np.clip(y, 0, 899), np.clip(x, 0, 1000)]
    assert inside.mean() > 0.5
    assert (found == true)[inside].mean() > 0.985


def test_the_margin_is_what_a_larger_crop_would_show(tmp_path: Path) -> None:
    sample = save(tmp_path, discs((200, 220), 24))
    for seed in range(10):
        bare = source_of(sample, settings=TURNED, stride=2, margin=0).crop(0, np.random.default_rng(seed))
        wide = source_of(sample, settings=TURNED, stride=2, margin=5).crop(0, np.random.default_rng(seed))
        assert np.array_equal(bare[0], wide[0])
        assert np.array_equal(bare[1], wide[1][5:-5, 5:-5])


def test_crops_are_the_same_for_the_same_seed_whatever_was_read_before(tmp_path: Path) -> None:
    samples = [save(tmp_path, discs((150, 150), 24, i), str(i)) for i in range(3)]
    settings = Augmentation()
    used, fresh = source_of(*samples, settings=settings), source_of(*samples, settings=settings)
    for i in (2, 1, 0):
        used.crop(i, np.random.default_rng(99))
    once = [fresh.crop(i, np.random.default_rng((7, i))) for i in range(3)]
    again = [used.crop(i, np.random.default_rng((7, i))) for i in range(3)]
    for (image, labels), (same_image, same_labels) in zip(once, again, strict=True):
        assert np.array_equal(image, same_image)
        assert np.array_equal(labels, same_labels)
    assert not np.array_equal(once[0][0], fresh.crop(0, np.random.default_rng(8))[0])


def test_cells_are_brought_to_the_canonical_diameter(tmp_path: Path) -> None:
    for diameter in (12, 40, 130):
        source = source_of(save(tmp_path, discs((5 * diameter, 6 * diameter), diameter)), size=160)
        found = [diameter_px(np.maximum(source.crop(0, np.random.default_rng(i))[1], 0)) for i in range(5)]
        assert np.median([d for d in found if d]) == pytest.approx(24, rel=0.1)


def test_beyond_the_edge_image_and_labels_are_mirrored(tmp_path: Path) -> None:
    """A cell that the edge cuts is UNKNOWN there; every other copy is a cell of its own."""
    labels = discs((90, 70), 24)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    whole = sorted(set(np.unique(labels)) - set(edge) - {0})
    assert len(whole) >= 2
    assert len(edge) > 2
    source = source_of(save(tmp_path, labels), size=256)
    step = (diameter_px(labels) or 24) / 24
    for seed in range(8):
        image, found = source.crop(0, np.random.default_rng(seed))
        seen, known = image.mean(axis=0) > 0.35, found != UNKNOWN
        assert (seen == (found > 0))[known].mean() > 0.96
        assert 0.02 < (found == UNKNOWN).mean() < 0.6
        numbers, areas = np.unique(found[found > 0], return_counts=True)
        assert len(numbers) > 5 * len(whole), "several copies"
        for number in numbers[areas > 0.8 * np.pi * 12**2]:
            assert label(found == number)[1] == 1, "a copy has a number of its own"
        inside = found[(found > 0) & (found <= labels.max())]
        assert len(inside) == pytest.approx((labels > 0).sum() / step**2, rel=0.1)


def test_a_window_sees_the_same_mirror_as_the_whole_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop at the corner of a large image, of which only the corner is read."""
    labels = discs((400, 420), 24)
    source = source_of(save(tmp_path, labels), size=128)
    for corner in (-100.0, 370.0):
        view = View(np.array([[0.8, -0.6, corner + 30], [0.6, 0.8, corner]]))
        monkeypatch.setattr(crops, "draw_view", lambda *_, view=view: view)
        image, found = source.crop(0, np.random.default_rng(0))
        turned = np.einsum("ij,jyx->iyx", view.matrix[:, :2], np.mgrid[:128, :128][::-1])
        x, y = np.rint(turned + view.matrix[:, 2, None, None]).astype(int)
        true = np.pad(labels, 400, mode="reflect")[y + 400, x + 400]
        assert (((found > 0) == (true > 0)) | (found == UNKNOWN)).mean() > 0.98
        assert ((image.mean(axis=0) > 0.4) == (true > 0)).mean() > 0.96


def test_unknown_inside_an_image_stays_unknown(tmp_path: Path) -> None:
    labels = discs((300, 300), 24)
    labels[:, 140:] = UNKNOWN
    source = source_of(save(tmp_path, labels), settings=TURNED)
    shares = [(source.crop(0, np.random.default_rng(i))[1] == UNKNOWN).mean() for i in range(20)]
    assert 0.3 < np.mean(shares) < 0.75
    assert min(shares) < 0.2


def test_an_image_without_labels_is_unknown_throughout(tmp_path: Path) -> None:
    source = source_of(save(tmp_path, discs((150, 150), 24), labelled=False), settings=TURNED, margin=2)
    image, labels = source.crop(0, np.random.default_rng(0))
    assert (labels == UNKNOWN).all()
    assert image.max() > 0.4


def test_boxes_tell_how_wide_cells_are_but_nothing_else(tmp_path: Path) -> None:
    sample = save(tmp_path, discs((300, 300), 24), labelled=False)
    (tmp_path / "a.csv").write_text("y0,x0,y1,x1\n0,0,24,24\n30,30,60,60\n100,100,136,136\n")
    (tmp_path / "none.csv").write_text("y0,x0,y1,x1\n")
    (tmp_path / "broken.csv").write_text("y0,x0\n")
    boxed, unmarked, broken = (replace(sample, boxes=tmp_path / f"{name}.csv") for name in ("a", "none", "broken"))
    grid = Grid(256, 1, 0, 24.0)
    source = CropSource([boxed, unmarked, broken], grid, STILL, boxes_tell=True)
    assert source.pyramids.preload() == [], "images without labels are read when they are drawn"
    pictures = [source.picture(0, np.random.default_rng(seed), lambda shape: (1.0, 1.0)) for seed in range(60)]
    diameters = np.array([diameter for _, diameter in pictures])
    assert np.isclose(diameters, 30, rtol=0.02).sum() > 40, "the ellipse that fills a box of 30 px is 30 px wide"
    assert not (diameters == 0).any(), "where no box is, there may be cells all the same"
    with pytest.warns(UserWarning, match="Not learned from: .*broken.csv"):
        black, unknown = source.picture(2, np.random.default_rng(3))
    assert np.isnan([unknown, source.picture(1, np.random.default_rng(0))[1]]).all()
    assert not black.any()
    (tmp_path / "a.csv").write_text("y0,x0,y1,x1\n" + "\n".join(f"{y},60,{y + 30},90" for y in range(60, 150, 10)))
    assert source.pyramids.load(0).diameter_px == 30, "however much boxes overlap"
    blurred = CropSource([unmarked], grid, STILL.model_copy(update={"defocus": 1.0}), boxes_tell=True)
    assert np.isnan(blurred.picture(0, np.random.default_rng(0))[1]), "nobody knows how much blur leaves nothing"
    crop = CropSource([boxed], grid, STILL).crop(0, np.random.default_rng(0))
    assert (crop[1] == UNKNOWN).all(), "ellipses are no outlines to learn from"


def test_large_numbers_are_told_apart(tmp_path: Path) -> None:
    """Neighbours whose numbers are equal as float32, and as int16."""
    labels = np.zeros((60, 64), dtype=np.int32)
    numbers = [2**24, 2**24 + 1, 2**31 - 2, 2**31 - 1, 5, 5 + 2**16]
    for i, number in enumerate(numbers):
        labels[10:50, 10 * i + 2 : 10 * i + 12] = number
    labels[:, -1] = UNKNOWN
    found = source_of(save(tmp_path, labels), size=96).crop(0, np.random.default_rng(0))[1]
    assert len(np.unique(found[(found > 0) & (found <= len(numbers))])) == len(numbers), "copies have higher ones"
    assert found.min() == UNKNOWN


def test_only_histology_is_turned_into_immunostains(tmp_path: Path) -> None:
    sample, settings = save(tmp_path, discs((150, 150), 24)), TURNED.model_copy(update={"immunostain": 1.0})
    plain = source_of(sample, settings=TURNED).crop(0, np.random.default_rng(0))
    for modality, is_same in (("fluorescence", True), ("histology", False)):
        source = source_of(replace(sample, modality=modality), settings=settings)
        image, labels = source.crop(0, np.random.default_rng(0))
        assert np.array_equal(image, plain[0]) == is_same
        assert np.array_equal(labels, plain[1])


@pytest.mark.parametrize("kind", ["empty", "defocus"])
def test_images_without_cells_carry_no_labels(tmp_path: Path, kind: str) -> None:
    settings = STILL.model_copy(update={kind: 1.0})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings, stride=2, margin=4)
    for seed in range(5):
        image, labels = source.crop(0, np.random.default_rng(seed))
        assert (image.shape, image.dtype) == ((3, 128, 128), np.float32)
        assert labels.shape == (72, 72)
        assert not labels.any()


def test_what_is_out_of_focus_is_so_for_cells_of_the_size_they_have_in_the_crop(tmp_path: Path, monkeypatch) -> None:
    views, diameters = [], []
    draw, blur = crops.draw_view, crops.out_of_focus
    monkeypatch.setattr(crops, "draw_view", lambda *a: views.append(draw(*a)) or views[-1])
    monkeypatch.setattr(crops, "out_of_focus", lambda i, d, rng: diameters.append(d) or blur(i, d, rng))
    settings = STILL.model_copy(update={"defocus": 1.0, "scale_jitter": 1.8})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings)
    for seed in range(10):
        source.crop(0, np.random.default_rng(seed))
    assert len(diameters) == 10
    assert [d * view.step_px for d, view in zip(diameters, views, strict=True)] == pytest.approx(10 * [24], rel=0.02)


def test_cells_seen_from_afar_are_background_and_what_is_not_known_stays_so(tmp_path: Path, monkeypatch) -> None:
    views = []
    draw = crops.draw_view
    monkeypatch.setattr(crops, "draw_view", lambda *a: views.append(draw(*a)) or views[-1])
    labels = discs((400, 400), 24)
    labels[:, 200:] = UNKNOWN
    settings = STILL.model_copy(update={"from_afar": 1.0, "scale_jitter": 1.8})
    source = source_of(save(tmp_path, labels), settings=settings)
    for seed in range(10):
        image, seen = source.crop(0, np.random.default_rng(seed))
        assert set(np.unique(seen)) == {0, UNKNOWN}
        assert image.std() > 0.02, "they are to be seen"
    widths = [24 / view.step_px / source.grid.canonical_diameter_px for view in views]
    assert 1 / 8 <= min(widths) < max(widths) <= 1 / 4 + 1e-9


def test_a_crop_may_be_a_collage_whose_labels_lie_on_its_cells(tmp_path: Path) -> None:
    settings = STILL.model_copy(update={"collage": 1.0, "scale_jitter": 1.8})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings)
    grid, widths = source.grid, []
    for seed in range(12):
        image, labels = source.crop(0, np.random.default_rng(seed))
        assert image.shape == (3, grid.size_px, grid.size_px)
        assert labels.shape == (grid.size_px // grid.stride + 2 * grid.margin_px,) * 2
        inner = slice(grid.margin_px, -grid.margin_px or None)
        cells = labels[inner, inner].repeat(grid.stride, axis=0).repeat(grid.stride, axis=1) > 0
        if 0.02 < cells.mean() < 0.98:
            shifted = [np.roll(cells, shift, axis=(0, 1)) for shift in ((0, 0), (12, 12), (-12, 12))]
            apart = [np.abs(image[:, where].mean(axis=1) - image[:, ~where].mean(axis=1)).max() for where in shifted]
            assert apart[0] > max(apart[1:])
        widths += np.sqrt(np.bincount(np.maximum(labels, 0).ravel())[1:] * 4 / np.pi).tolist()
    assert np.median(widths) * grid.stride == pytest.approx(grid.canonical_diameter_px, rel=0.4)


@pytest.mark.parametrize(("stride", "margin"), [(1, 0), (2, 3), (4, 1)])
@pytest.mark.parametrize("kind", list(crops.DRAWN_CELLS))
def test_drawn_cells_and_their_labels_stay_aligned(
    kind: str, stride: int, margin: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def draw(side: int, width_px: float, _: object) -> tuple[np.ndarray, Labels]:
        labels = discs((side, side), width_px)
        return np.repeat((labels > 0)[..., None], 3, axis=2).astype(np.float32), labels

    monkeypatch.setitem(crops.DRAWN_CELLS, kind, draw)
    settings = STILL.model_copy(update={kind: 1.0, "scale_jitter": 1.8})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings, stride=stride, margin=margin)
    first: list[int] = []
    for seed in range(40):
        image, labels = source.crop(0, np.random.default_rng(seed))
        inner = slice(margin, -margin or None)
        cells = labels[inner, inner] > 0
        bright = image.mean(axis=0) > 0.5
        first.append([np.array_equal(bright[at::stride, at::stride], cells) for at in range(stride)].index(True))
    assert np.mean(first) == pytest.approx((stride - 1) / 2, abs=0.25), "in the middle of a pixel of the labels"


@pytest.mark.parametrize("kind", crops.TELL_SCALE)
def test_the_scale_is_told_of_drawn_cells_too(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large ones too, most of which the edge cuts, and as they are seen; and as often as is asked for."""
    asked: list[float] = []
    narrower = 0.85  # as where some hide others

    def draw(side: int, width_px: float, rng: np.random.Generator) -> tuple[np.ndarray, Labels]:
        asked.append(width_px)
        labels = discs((side, side), narrower * width_px, int(rng.integers(99)))
        return np.repeat(brightness(labels)[..., None], 3, axis=2), labels

    monkeypatch.setitem(crops.DRAWN_CELLS, kind, draw)
    settings = STILL.model_copy(update={kind: 0.5, "scale_jitter": 6.0, "defocus": 0.2})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings, size=256)
    told, n_blurred = [], 0
    for seed in range(200):
        before = len(asked)
        width = source.picture(0, np.random.default_rng(seed))[1]
        if len(asked) > before:
            told.append(width / asked[-1])
        n_blurred += width == 0
    assert len(told) == pytest.approx(0.5 * 0.95 * 200, rel=0.2)
    assert n_blurred == pytest.approx(0.2 * 0.5 * 200, rel=0.5), "cells out of focus keep their share of the rest"
    known = np.array(told)[np.nan_to_num(told) > 0]
    assert len(known) > 70
    few = np.isclose(known, 1)  # of those that are whole: then what was asked for is believed
    assert 0.1 < few.mean() < 0.7
    assert np.allclose(known[~few], narrower, rtol=0.08)


@pytest.mark.parametrize("kind", crops.DRAWN_CELLS)
def test_what_is_drawn_as_a_microscope_shows_it_is_not_shown_so_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, vary = [], crops.vary_intensity
    monkeypatch.setattr(
        crops, "vary_intensity", lambda image, how, rng: seen.append(how.interference) or vary(image, how, rng)
    )
    settings = STILL.model_copy(update={kind: 1.0, "interference": 1.0})
    source = source_of(save(tmp_path, discs((100, 100), 24)), settings=settings)
    source.crop(0, np.random.default_rng(0))
    source.picture(0, np.random.default_rng(1))
    assert seen == ([0.0, 0.0] if kind == "transparent" else [1.0, 1.0])


def test_nothing_is_drawn_by_chance_for_what_is_not_asked_for(tmp_path: Path) -> None:
    """So that runs of recipes that know less are repeated to the bit."""
    source, rng = source_of(save(tmp_path, discs((100, 100), 24))), np.random.default_rng(0)
    before = rng.bit_generator.state
    assert source._kind_drawn(crops.DRAWN_CELLS, rng) is None
    assert rng.bit_generator.state == before


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stems of the samples that are read from disk, in order."""
    read: list[str] = []
    load = pyramids.load_sample

    def spy(sample: Sample):
        read.append(sample.stem)
        return load(sample)

    monkeypatch.setattr(pyramids, "load_sample", spy)
    return read


def test_images_are_read_once_while_there_is_room(tmp_path: Path, reads: list[str]) -> None:
    source = source_of(*[save(tmp_path, discs((100, 100), 24, i), str(i)) for i in range(4)])
    assert source.pyramids.preload() == []
    assert reads == ["0", "1", "2", "3"]
    for i in (3, 0, 3):
        source.crop(i, np.random.default_rng(0))
    assert len(reads) == 4


@pytest.mark.parametrize("kind", crops.DRAWN_CELLS)
def test_where_cells_are_drawn_no_image_is_read(kind: str, tmp_path: Path, reads: list[str]) -> None:
    """So an image of the pool that cannot be read does not matter there, nor does any take time."""
    sample = save(tmp_path, discs((100, 100), 24))
    (tmp_path / "torn.png").write_bytes(b"no picture")
    torn = replace(sample, image=tmp_path / "torn.png", labels=None, stem="torn")
    settings = STILL.model_copy(update={kind: 1.0})
    (image, labels), (of_torn, its_labels) = (
        source_of(one, settings=settings).crop(0, np.random.default_rng(0)) for one in (sample, torn)
    )
    assert reads == []
    assert np.array_equal(image, of_torn)
    assert np.array_equal(labels, its_labels)
    assert labels.max() > 0


def test_the_cache_stays_under_its_limit(tmp_path: Path, reads: list[str]) -> None:
    source = source_of(*[save(tmp_path, discs((100, 100), 24, i), str(i)) for i in range(6)])
    source.crop(0, np.random.default_rng(0))
    one = source.pyramids.kept_bytes
    assert one >= 100 * 100 * 4
    source.pyramids.cache_bytes = int(2.5 * one)
    for i in (1, 0, 2, 0, 3, 4, 5):
        source.crop(i, np.random.default_rng(0))
        assert source.pyramids.kept_bytes == sum(item.nbytes for item in source.pyramids.kept.values()) <= 2.5 * one
    assert reads == ["0", "1", "2", "3", "4", "5"], "the one used longest ago goes first"

    source.pyramids.cache_bytes = one // 2
    source.crop(0, np.random.default_rng(0))
    source.crop(0, np.random.default_rng(0))
    assert reads[6:] == ["0"], "one image is always kept"


def test_reading_ahead_reads_all_and_keeps_what_fits(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyramids, "CACHE_BYTES", 150_000)
    source = source_of(*[save(tmp_path, discs((100, 100), 24, i), str(i)) for i in range(9)])
    assert source.pyramids.preload() == []
    assert len(reads) == 9
    assert 0 < len(source.pyramids.kept) <= 4
    assert source.pyramids.kept_bytes == sum(item.nbytes for item in source.pyramids.kept.values()) <= 150_000


def test_the_cache_takes_a_quarter_of_the_memory_that_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, grid = save(tmp_path, discs((100, 100), 24)), Grid(128, 1, 0, 24.0)
    for free, processes, expected in ((80_000, 1, 20_000), (80_000, 2, 10_000), (10**12, 2, pyramids.CACHE_BYTES)):
        monkeypatch.setattr(pyramids, "available_bytes", lambda free=free: free)
        assert CropSource([sample], grid, STILL, processes).pyramids.cache_bytes == expected


def test_what_cannot_be_used_is_told_with_the_name_of_its_file(tmp_path: Path) -> None:
    samples = [save(tmp_path, discs((100, 100), 24, i), name) for i, name in enumerate(("good", "many", "small"))]
    tifffile.imwrite(samples[1].image, np.zeros((5, 100, 100), np.uint8), metadata={"axes": "CYX"})
    tifffile.imwrite(samples[2].labels, np.zeros((50, 50), np.int32))
    source = source_of(*samples, replace(samples[0], image=tmp_path / "missing.tif"))
    many, small, missing = source.pyramids.preload()
    assert f"{samples[1].image} has 5 channels; training images need 1 to 3" in many
    assert str(samples[2].labels) in small
    assert "missing.tif" in missing
    assert list(source.pyramids.kept) == [0]


def test_views_are_of_every_kind() -> None:
    rng = np.random.default_rng(0)
    views = [draw_view((500, 400), 128, 3.0, STILL, rng) for _ in range(200)]
    assert [v.step_px for v in views] == pytest.approx([3.0] * 200)
    signs = {tuple(np.sign(np.round(v.matrix[:, :2], 6)).ravel()) for v in views}
    assert len(signs) == 8, "four turns, flipped and not"
    centres = np.array([v.matrix @ [63.5, 63.5, 1] for v in views]) + 0.5
    assert centres.min() >= 192 - 1e-6
    assert centres[:, 0].max() <= 400 - 192 + 1e-6
    assert 280 < centres[:, 1].max() <= 500 - 192 + 1e-6

    turned = [draw_view((500, 400), 128, 3.0, TURNED.model_copy(update={"rotate": 1.0}), rng) for _ in range(200)]
    steps = np.array([v.step_px for v in turned])
    assert 3 / 1.6 - 1e-6 <= steps.min() < 2
    assert 4.5 < steps.max() <= 3 * 1.6 + 1e-6
    assert len({tuple(np.sign(v.matrix[:, :2]).ravel()) for v in turned}) >= 8


def test_crops_are_off_scale_as_often_as_asked():
    settings = STILL.model_copy(update={"scale_jitter": 1.2, "off_scale": 0.25})
    rng = np.random.default_rng(0)
    octaves = np.abs([np.log2(draw_view((900, 900), 32, 1.0, settings, rng).step_px) for _ in range(2000)])
    usual = np.log2(1.2) + 1e-6
    assert octaves.max() == pytest.approx(2, abs=0.05)
    assert np.mean(octaves > usual) == pytest.approx(0.25 * (1 - usual / 2), abs=0.03)
