"""How wide cells are: from what a network says of windows at several scales to one estimate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.images import Pyramid, normalise
from fewcell.segmenter import N_CLASSES, WINDOW_PX, Segmenter, class_of
from fewcell.segmenter import segmenter as module
from fewcell.segmenter.measure import _block_deviations, busiest_window, look, search_diameter, weighted_median
from fewcell.segmenter.scale import SCALES, Estimate, combine, windows_of
from fewcell.types import Instances

DISC_PX = 22.0


def says(*diameters_px: float, presence: float = 3.0) -> np.ndarray:
    """What a network says that is nearly sure of a diameter in each window: (window, N_CLASSES + 1)."""
    place = class_of(np.array(diameters_px))
    logits = -2.0 * (np.arange(N_CLASSES) - place[:, None]) ** 2
    return np.column_stack([logits, np.full(len(place), presence)]).astype(np.float32)


def test_classes_rise_with_the_diameter_and_end_in_all_that_lies_beyond():
    place = class_of(np.array([0.0, 1.0, 6.0, 12.0, 24.0, 48.0, 96.0, 300.0, 1e9]))
    assert np.all(np.diff(place) >= 0)
    assert place[:2].tolist() == [0, 0]
    assert place[-2:].tolist() == [N_CLASSES - 1] * 2
    np.testing.assert_allclose(np.diff(place[2:7]), 6)  # an octave is six classes


@settings(deadline=None, max_examples=60)
@given(diameter=st.floats(4, 500))
def test_a_network_that_is_right_at_every_scale_tells_the_diameter(diameter):
    found = combine(SCALES, says(*(diameter * scale for scale in SCALES)))
    assert found.diameter_px == pytest.approx(diameter, rel=0.07)
    assert found.presence == pytest.approx(1 / (1 + np.exp(-3)))


@pytest.mark.parametrize("diameter", [9.0, 24.0, 130.0])
@pytest.mark.parametrize("wrong", range(len(SCALES)))
def test_one_scale_that_is_wrong_is_outvoted(diameter, wrong):
    said = says(*(diameter * scale * (4 if i == wrong else 1) for i, scale in enumerate(SCALES)))
    assert combine(SCALES, said).diameter_px == pytest.approx(diameter, rel=0.1)


def test_other_diameters_are_told_the_likeliest_first():
    """Two scales that see 20 px against one that sees 80."""
    said = says(20 * 2, 20 * 1, 80 * 0.5)
    found = combine((2, 1, 0.5), said)
    assert found.diameter_px == pytest.approx(20, rel=0.1)
    assert found.others[0] == pytest.approx(80, rel=0.1)
    assert all(abs(np.log2(other / found.diameter_px)) > 0.2 for other in found.others)


def test_windows_of_one_scale_are_one_witness():
    """Three windows at one scale do not outvote two scales."""
    said = says(20 * 2, 20 * 1, 80 * 0.5, 80 * 0.5, 80 * 0.5)
    assert combine((2, 1, 0.5, 0.5, 0.5), said).diameter_px == pytest.approx(20, rel=0.1)


def test_the_surest_windows_of_the_scales_that_show_cells_well_tell_whether_there_are_any():
    """What is said at other scales, where cells are too small or too large, does not count."""
    diameters = [24.0 * scale for scale in (2, 2, 1, 0.5, 0.25, 0.125)]
    said = np.concatenate([says(d, presence=p) for d, p in zip(diameters, (-9, -3, 4, 2, 9, 9), strict=True)])
    found = combine((2, 2, 1, 0.5, 0.25, 0.125), said)
    assert found.presence == pytest.approx(1 / (1 + np.exp(-(-3 + 4 + 2) / 3)))


@pytest.mark.parametrize("shape", [(8, 8), (9, 300), (100, 130), (256, 256), (700, 3000), (5000, 4000)])
def test_windows_have_one_size_and_are_few(shape):
    pixels = np.random.default_rng(0).random((3, *shape), dtype=np.float32)
    seen = [*windows_of(Pyramid(pixels))]
    assert {window.pixels.shape for window in seen} == {(3, WINDOW_PX, WINDOW_PX)}
    assert all(window.pixels.dtype == np.float32 for window in seen)
    scales = [window.scale for window in seen]
    assert {2.0, 1.0, 0.5} <= set(scales) <= set(SCALES)
    assert all(scales.count(scale) <= 3 for scale in scales)
    assert all(max(shape) * scale >= 128 for scale in scales if scale < 0.5)


def test_a_small_image_lies_in_the_middle_of_a_window_and_is_mirrored_beyond_its_edge():
    pixels = np.random.default_rng(0).random((3, 40, 60), dtype=np.float32)
    window = next(window for window in windows_of(Pyramid(pixels)) if window.scale == 1).pixels
    assert np.array_equal(window[:, 108:148, 98:158], pixels)
    assert np.array_equal(window[:, 68:108, 98:158], pixels[:, ::-1])


@pytest.mark.parametrize("block", [1, 5, 16])
def test_contrast_of_blocks_is_their_standard_deviation(block):
    gray = np.random.default_rng(0).random((7 * block, 4 * block), dtype=np.float32)
    blocks = gray.reshape(7, block, 4, block)
    np.testing.assert_allclose(_block_deviations(gray, block), blocks.std(axis=(1, 3)), atol=1e-5)


def test_the_busiest_window_holds_the_only_cells():
    pixels = np.random.default_rng(0).normal(0.1, 0.01, (3, 900, 1100)).astype(np.float32)
    pixels[:, 640:700, 820:900] += np.random.default_rng(1).random((60, 80), dtype=np.float32)
    top, left, bottom, right = busiest_window(Pyramid(pixels), 256)
    assert (bottom - top, right - left) == (256, 256)
    assert pixels[0, top:bottom, left:right].std() > 0.95 * pixels[0, 600:856, 780:1036].std()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=30))
def test_the_weighted_median_is_that_of_values_repeated(pairs):
    values, weights = np.array(pairs).T
    repeated = np.sort(np.repeat(values, weights))
    lower, upper = repeated[(len(repeated) - 1) // 2], repeated[len(repeated) // 2]
    assert lower <= weighted_median(values.astype(float), weights.astype(float)) <= upper


@pytest.fixture
def segmenter(trained):
    return Segmenter.load(trained.folder, threads=1)


@pytest.fixture
def say(segmenter, monkeypatch):
    """Let the scale network say something; what is found is measured as usual."""

    def say(diameter_px: float, presence: float = 0.95, others: tuple[float, ...] = ()) -> None:
        segmenter.__dict__["_scale_engine"] = lambda window: np.zeros(N_CLASSES + 1, dtype=np.float32)
        monkeypatch.setattr(module, "combine", lambda scales, logits: Estimate(diameter_px, presence, others))

    return say


@pytest.mark.parametrize("said_px", [15.0, 22.0, 32.0])
def test_cells_that_are_found_are_measured(segmenter, say, draw_discs, said_px):
    """The scale network is off by up to half; what is found at its scale tells more."""
    say(said_px)
    image, _ = draw_discs(7, (200, 260))
    assert segmenter.estimate_scale(Pyramid(normalise(image[None]))).diameter_px == pytest.approx(DISC_PX, rel=0.15)


def test_without_a_search_cells_are_measured_once(segmenter, say, draw_discs):
    image = Pyramid(normalise(draw_discs(7, (200, 260))[0][None]))
    say(28.0)
    assert segmenter.estimate_scale(image, search=False).diameter_px == pytest.approx(DISC_PX, rel=0.2)
    say(1000.0)
    assert segmenter.estimate_scale(image, search=False).diameter_px == 1000, "nothing there to be measured"
    assert segmenter.estimate_scale(image).diameter_px == pytest.approx(DISC_PX, rel=0.2)


def test_what_measurements_were_off_by_on_held_out_images_is_put_right(segmenter, say, draw_discs):
    say(22.0)
    image = Pyramid(normalise(draw_discs(7, (200, 260))[0][None]))
    plain = segmenter.estimate_scale(image).diameter_px
    segmenter.facts = segmenter.facts.model_copy(update={"diameter_bias": 1.25 * segmenter.facts.diameter_bias})
    assert segmenter.estimate_scale(image).diameter_px == pytest.approx(plain / 1.25)
    few = Pyramid(normalise(draw_discs(7, (40, 40))[0][None]))
    assert segmenter.estimate_scale(few).diameter_px == 22, "nothing was measured"


@pytest.mark.parametrize("others", [(2000.0, DISC_PX), ()])
def test_where_too_few_cells_are_found_what_is_less_likely_is_tried_and_the_canonical_scale_last(
    segmenter, say, draw_discs, others
):
    say(1000.0, others=others)
    image, _ = draw_discs(7, (200, 260))
    assert segmenter.estimate_scale(Pyramid(normalise(image[None]))).diameter_px == pytest.approx(DISC_PX, rel=0.15)


def test_where_too_few_cells_are_found_nothing_is_measured(segmenter, say, draw_discs):
    say(30.0)
    image, _ = draw_discs(7, (40, 40))
    assert segmenter.estimate_scale(Pyramid(normalise(image[None]))).diameter_px == 30


@pytest.mark.parametrize(
    ("likely", "score", "expected"),
    [
        ((90.0, 20.0), 0.9, None),  # one sure cell in the whole image: what was likeliest stands
        ((90.0, 20.0), 0.6, 20),  # it is not sure
        ((300.0, 90.0, 20.0), 0.9, 20),  # nor is it where cells are likeliest
    ],
)
def test_one_sure_cell_is_enough_where_the_whole_image_is_seen_at_the_likeliest_scale(likely, score, expected):
    """A cell of 100 px, in which eight things of 20 px are found at their scale."""
    shape = (150, 150)
    y, x = np.mgrid[:150, :150]
    large = (np.hypot(y - 75, x - 75) < 50).astype(np.int32)
    small = sum(
        n * (np.hypot(y - 75 - dy, x - 75 - dx) < 10)
        for n, (dy, dx) in enumerate(((a, b) for a in (-24, 0, 24) for b in (-24, 0, 24) if a or b), 1)
    )

    def find(window, factor):
        px = 24 / factor
        ids, score_of = (large, score) if 60 < px < 200 else (small, 0.85) if px < 40 else (0 * large, 0.0)
        return Instances(np.asarray(ids), np.full(int(np.max(ids)), score_of))

    image = Pyramid(np.random.default_rng(0).random((3, *shape), dtype=np.float32))
    found = search_diameter(image, likely, find, 24.0)
    assert found == (expected and pytest.approx(expected, rel=0.05))


@pytest.mark.parametrize("side", [100, 3000])
def test_one_sure_cell_is_not_enough_in_a_part_of_an_image(side):
    found = Instances(np.ones((9, 9), dtype=np.int32), np.array([0.9]))
    image = Pyramid(np.random.default_rng(0).random((3, side, side), dtype=np.float32))
    assert look(image, 24.0, lambda *_: found, 24.0).is_all_there_is == (side == 100)


def test_where_nothing_looks_like_a_cell_none_is_found_unless_its_size_is_given(segmenter, say, draw_discs):
    image, labels = draw_discs(7, (200, 260))
    say(DISC_PX, presence=0.01)
    found = segmenter.segment(image)
    assert (len(found.scores), found.diameter_source) == (0, "not known")
    assert found.labels.shape == image.shape
    given = segmenter.segment(image, diameter_px=DISC_PX)
    assert len(given.scores) > 0.7 * labels.max()


SCENE_PX = 1200


@pytest.fixture(scope="module")
def scene(draw_discs):
    """Discs 22 px wide in clumps 90 px wide: an image, the discs, the clumps."""
    _, labels = draw_discs(5, (SCENE_PX, SCENE_PX))
    clumps = np.kron(np.arange(1, 101).reshape(10, 10), np.ones((120, 120), dtype=np.int32))
    y, x = np.mgrid[:SCENE_PX, :SCENE_PX]
    inside = np.hypot(y % 120 - 60, x % 120 - 60) < 45
    image = Pyramid(np.zeros((3, SCENE_PX, SCENE_PX), dtype=np.float32))
    return image, np.where(inside, labels, 0), np.where(inside, clumps, 0)


def finds(small, large, seen: list[float]):
    """Small cells where they are brought to about canonical scale or are larger; where they are much smaller, large."""

    def find(window, factor):
        seen.append(24 / factor)
        top, left, bottom, right = window
        ids = (small if 24 / factor < 60 else large)[top:bottom, left:right]
        numbers = np.unique(ids[ids > 0])
        return Instances(np.where(ids > 0, np.searchsorted(numbers, ids) + 1, 0), np.ones(len(numbers)))

    return find


def test_clumps_of_cells_are_not_taken_for_cells(scene):
    image, discs, clumps = scene
    seen = []
    found = search_diameter(image, [100.0], finds(discs, clumps, seen), 24.0)
    areas = np.bincount(discs.ravel())[1:]
    assert found == pytest.approx(2 * np.sqrt(np.median(areas[areas > 0]) / np.pi), rel=0.15)
    assert seen[:4] == pytest.approx([100, 50, 25, 12.5], rel=0.02), (
        "as said, half of it; in vain half and a quarter of that"
    )


def test_cells_a_quarter_as_wide_are_found_where_none_are_half_as_wide(scene):
    image, discs, clumps = scene
    seen = []
    found = search_diameter(image, [150.0], finds(discs, clumps, seen), 24.0)
    assert seen[:3] == pytest.approx([150, 75, 37.5], rel=0.02)
    assert found < 1.3 * DISC_PX


def test_cells_that_are_not_made_of_cells_are_measured(scene):
    image, _, clumps = scene
    seen = []
    found = search_diameter(image, [70.0], finds(clumps, clumps, seen), 24.0)
    assert found == pytest.approx(90, rel=0.03)
    assert seen == pytest.approx([70, 35, 17.5, 8.75, 90], rel=0.03), (
        "as said, a half to an eighth in vain, as measured"
    )


def test_a_look_counts_the_cells_of_a_part_of_it(scene):
    image, _, clumps = scene
    find = finds(clumps, clumps, [])
    whole = look(image, 90.0, find, 24.0)
    part = look(image, 45.0, find, 24.0, 320, whole.window)
    top, left, bottom, right = part.window
    ids = clumps[top:bottom, left:right]
    area = np.bincount(clumps.ravel())[1:]
    assert whole.n_cells == 100
    assert whole.n_cells_in(part.window) == pytest.approx(
        (np.bincount(ids.ravel(), minlength=101)[1:] / area).sum(), rel=0.02
    )


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_the_busiest_window_of_a_large_image_is_where_anything_is(monkeypatch, side):
    monkeypatch.setattr("fewcell.images.pyramid.MOST_GRAY_PX", 10_000)
    pixels = np.zeros((3, 2048, 1500), dtype=np.float32)
    pixels[:, 1500:, 900:] = np.random.default_rng(0).random((3, 548, 600), dtype=np.float32)
    top, left, bottom, right = busiest_window(Pyramid(pixels), side)
    assert (bottom - top, right - left) == (side, side)
    assert top >= 1500 - side // 8
    assert left >= 900 - side // 8
