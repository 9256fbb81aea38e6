"""The segmenter with a tiny model: what it finds, on which grid, and what it refuses."""

import json
import re
from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from fewcell.engine import OpenVinoEngine
from fewcell.errors import AxesError, ConfigError, ModelError, TooLargeError
from fewcell.images import Image, Pyramid, normalise
from fewcell.metrics import f1, match
from fewcell.segmenter import NetworkFacts, Segmenter, predict_at_scale
from fewcell.segmenter import predict as module
from fewcell.segmenter.blank import is_noise
from fewcell.segmenter.measure import LARGEST_FACTOR

DIAMETER_PX = 22


@pytest.fixture(scope="module")
def segmenter(trained):
    return Segmenter.load(trained.folder, threads=1)


@pytest.fixture(scope="module")
def discs(draw_discs):
    image, labels = draw_discs(50, (120, 150))
    return image[None], labels


def assert_sound(found, shape):
    """Labels on the image's own grid, ids without gaps, a score for each."""
    assert found.labels.shape == shape
    assert found.labels.dtype == np.int32
    assert found.scores.dtype == np.float32
    ids = np.unique(found.labels)
    assert ids[ids != 0].tolist() == list(range(1, len(found.scores) + 1))
    assert found.labels.min() >= 0
    assert ((found.scores >= 0) & (found.scores <= 1)).all()


def f1_of(true, found):
    return f1(match(true, found))


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("diameter", [None, 20])
def test_a_blank_image_has_no_cells(segmenter, value, diameter):
    found = segmenter.segment(np.full((1, 64, 80), value, dtype=np.uint8), diameter_px=diameter)
    assert_sound(found, (64, 80))
    assert len(found.scores) == 0
    assert found.diameter_source == ("given" if diameter else "not known")


def test_cells_in_one_corner_of_a_large_image_tell_the_diameter(segmenter, discs):
    image, labels = discs
    large = np.full((1, 1500, 1500), np.median(image), dtype=np.float32)
    large += np.random.default_rng(0).normal(0, 1, large.shape)
    height, width = labels.shape
    large[:, :height, -width:] = image
    found = segmenter.segment(large)
    assert found.diameter_source == "estimated"
    assert DIAMETER_PX / 1.6 < found.diameter_px < DIAMETER_PX * 1.6
    told = segmenter.segment(large, diameter_px=DIAMETER_PX)
    reached = [f1_of(labels, one.labels[:height, -width:]) for one in (found, told)]
    assert reached[0] > max(0.5, reached[1] - 0.2)


def test_the_diameter_reported_is_the_one_used(segmenter, discs):
    """Images are enlarged four times at most."""
    found = segmenter.segment(discs[0], diameter_px=1)
    assert found.diameter_px == segmenter.facts.canonical_diameter_px / 4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("channels", [1, 3])
def test_noise_has_no_cells(segmenter, channels, seed):
    noise = np.random.default_rng(seed).normal(100, 10, (channels, 128, 128))
    found = segmenter.segment(noise)
    assert_sound(found, (128, 128))
    assert len(found.scores) == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (2, 3), (7, 200), (8, 8), (9, 31), (17, 300)])
@pytest.mark.parametrize("diameter", [None, 5.0, 22.0, 1e4])
def test_tiny_and_narrow_images_do_no_harm(segmenter, shape, diameter):
    image = np.random.default_rng(0).integers(0, 255, (1, *shape), dtype=np.uint8)
    assert_sound(segmenter.segment(image, diameter_px=diameter), shape)


def test_discs_are_found_in_gray_two_channels_and_colour(segmenter, discs):
    image, labels = discs
    dark = np.zeros_like(image)
    for channels in ([image], [image, dark], [image, image], [image] * 3):
        found = segmenter.segment(np.concatenate(channels), diameter_px=DIAMETER_PX)
        assert_sound(found, labels.shape)
        if not any(c is dark for c in channels):  # the model has seen no colour
            assert f1_of(labels, found.labels) > 0.8


@pytest.mark.parametrize("shape", [(4, 64, 64), (7, 64, 64), (64, 64, 3), (1, 3, 64, 64), (64,), (0, 64, 64)])
def test_what_is_no_image_of_up_to_three_channels_is_refused(segmenter, shape):
    with pytest.raises(AxesError, match=re.escape(str(shape))):
        segmenter.segment(np.zeros(shape, dtype=np.float32))


def test_an_image_of_more_channels_is_refused(segmenter):
    image = Image(np.zeros((4, 64, 64), dtype=np.float32), None, ("a", "b", "c", "d"))
    with pytest.raises(AxesError, match="4 channels, the model takes 1, 2 or 3"):
        segmenter.segment(image)


def test_arrays_of_two_dimensions_and_images_as_read_are_the_same(segmenter, discs):
    expected = segmenter.segment(discs[0])
    read = Image(discs[0].astype(np.float32), 0.5, ("nuclei",))
    for same in (discs[0][0], read):
        assert np.array_equal(segmenter.segment(same).labels, expected.labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
def test_the_kind_of_number_makes_no_difference(segmenter, discs, dtype):
    image, _ = discs
    expected = segmenter.segment(image, diameter_px=DIAMETER_PX)
    found = segmenter.segment(image.astype(dtype), diameter_px=DIAMETER_PX)
    assert np.array_equal(found.labels, expected.labels)


def test_nan_and_infinite_pixels_are_background(segmenter, discs):
    image, labels = discs
    broken = image.astype(np.float32)
    broken[0, :30, :40] = np.nan
    broken[0, 40, 60] = np.inf
    found = segmenter.segment(broken, diameter_px=DIAMETER_PX)
    assert_sound(found, labels.shape)
    assert not found.labels[2:24, 2:34].any()
    assert f1_of(labels[32:], found.labels[32:]) > 0.7
    assert len(segmenter.segment(np.full((1, 40, 40), np.nan)).scores) == 0


@pytest.mark.parametrize("shape", [(97, 131), (64, 255), (101, 100), (203, 77)])
@pytest.mark.parametrize("diameter", [None, DIAMETER_PX])
def test_labels_lie_on_the_grid_of_images_of_any_size(segmenter, draw_discs, shape, diameter):
    image, labels = draw_discs(sum(shape), shape)
    found = segmenter.segment(image[None], diameter_px=diameter)
    assert_sound(found, shape)
    assert f1_of(labels, found.labels) > 0.8


@pytest.mark.parametrize("radius", [5.5, 11, 30])
def test_cells_of_other_sizes_are_found_at_their_own_scale(segmenter, draw_discs, radius):
    side = int(12 * radius)
    image, labels = draw_discs(3, (side, side), radius)
    estimated = segmenter.segment(image[None])
    assert estimated.diameter_source == "estimated"
    assert estimated.diameter_px == pytest.approx(2 * radius, rel=0.3)
    assert f1_of(labels, estimated.labels) > 0.8
    given = segmenter.segment(image[None], diameter_px=2 * radius)
    assert given.diameter_source == "given"
    assert given.diameter_px == 2 * radius
    assert f1_of(labels, given.labels) > 0.8


@pytest.mark.parametrize(("diameter", "side"), [(48, 128), (24, 256), (12, 512), (1, 1024), (1e-9, 1024)])
def test_the_network_sees_cells_at_the_canonical_diameter_but_enlarges_little(segmenter, monkeypatch, diameter, side):
    seen, engine = [], segmenter.engine

    def watch(image):
        seen.append(image.shape)
        return engine(image)

    monkeypatch.setattr(segmenter, "engine", watch)
    segmenter.segment(np.random.default_rng(0).normal(size=(1, 256, 256)), diameter_px=diameter)
    assert seen == [(3, side, side)]


def test_a_scale_that_is_estimated_is_rounded_so_that_few_shapes_are_seen(segmenter):
    canonical_px, shape = segmenter.facts.canonical_diameter_px, (1000, 700)
    diameters = np.geomspace(canonical_px / 3, 3 * canonical_px, 500)
    factors = [segmenter.factors(shape, px, is_given=False) for px in diameters]
    off = np.log([factor * px / canonical_px for (factor, *_), px in zip(factors, diameters, strict=True)])
    coarser = np.log([finer / coarse / 4 for finer, coarse in factors])
    assert np.abs(off).max() < np.log(17 / 16)
    assert np.abs(coarser).max() < np.log(8 / 7)
    assert len({finer for finer, _ in factors}) < 40
    assert len({coarse for _, coarse in factors}) < 20
    assert abs(off.mean()) < 0.01, "Cells are seen too large or too small."
    for finer, _ in factors:
        assert module.rounded_factor(shape, finer, segmenter.network) == pytest.approx(finer, abs=1e-12)
    assert segmenter.factors(shape, 23.4, is_given=True) == [canonical_px / 23.4]


def test_no_scale_is_rounded_beyond_the_largest_nor_that_of_a_tiny_image(segmenter):
    for px in np.geomspace(1, 100, 50):
        for shape in ((333, 1000), (7, 7)):
            [factor, *_] = segmenter.factors(shape, px, is_given=False)
            assert factor <= LARGEST_FACTOR
            assert shape != (7, 7) or factor == min(segmenter.facts.canonical_diameter_px / px, LARGEST_FACTOR)


def test_where_no_cell_shows_the_size_that_counts_is_the_given_one(segmenter):
    noise = np.random.default_rng(0).normal(100, 10, (1, 96, 96))
    assert segmenter.segment(noise).diameter_source == "not known"
    assert segmenter.segment(noise, diameter_px=31).diameter_px == 31


@pytest.mark.parametrize("diameter", [0, -3, float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("blank", [False, True])
def test_a_diameter_that_cannot_be_is_a_config_error(segmenter, discs, diameter, blank):
    image = np.zeros_like(discs[0]) if blank else discs[0]
    with pytest.raises(ConfigError, match="diameter must be a positive number"):
        segmenter.segment(image, diameter_px=diameter)


def test_min_score_drops_cells_by_their_score(segmenter, discs):
    everything = segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_score=0)
    threshold = float(np.median(everything.scores))
    found = segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_score=threshold)
    assert_sound(found, everything.labels.shape)
    assert sorted(found.scores) == sorted(s for s in everything.scores if s >= threshold)
    assert 0 < len(found.scores) < len(everything.scores)
    assert len(segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_score=1.01).scores) == 0
    default = segmenter.segment(discs[0], diameter_px=DIAMETER_PX)
    assert len(default.scores) == (everything.scores >= segmenter.facts.min_score).sum()


def test_min_area_drops_cells_by_their_pixels_in_the_image(segmenter, discs):
    everything = segmenter.segment(discs[0], diameter_px=DIAMETER_PX)
    areas = np.bincount(everything.labels.ravel())[1:]
    threshold = int(np.median(areas))
    found = segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_area_px=threshold)
    assert_sound(found, everything.labels.shape)
    assert sorted(np.bincount(found.labels.ravel())[1:]) == sorted(a for a in areas if a >= threshold)
    assert 0 < len(found.scores) < len(everything.scores)


def test_each_score_stays_with_its_cell(segmenter, discs):
    """Dropping cells numbers the rest anew: each must keep the score that it had."""
    everything = segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_score=0)
    threshold = float(np.median(everything.scores))
    found = segmenter.segment(discs[0], diameter_px=DIAMETER_PX, min_score=threshold)
    for number, score in enumerate(found.scores, start=1):
        before = np.unique(everything.labels[found.labels == number])
        assert everything.scores[before - 1].tolist() == [score]


def test_the_same_image_gives_the_same_cells(segmenter, trained, discs):
    first = segmenter.segment(discs[0])
    for again in (segmenter, Segmenter.load(trained.folder, threads=1)):
        found = again.segment(discs[0].copy())
        assert found.diameter_px == first.diameter_px
        assert np.array_equal(found.labels, first.labels)
        assert np.array_equal(found.scores, first.scores)


def test_a_saved_model_finds_the_same_cells(segmenter, discs, tmp_path):
    segmenter.save(tmp_path / "copy")
    copy = Segmenter.load(tmp_path / "copy", threads=1)
    assert copy.facts == segmenter.facts
    assert np.array_equal(copy.segment(discs[0]).labels, segmenter.segment(discs[0]).labels)


def test_the_image_is_left_as_it_was(segmenter, discs):
    image = discs[0].astype(np.float32)
    before = image.copy()
    segmenter.segment(image)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("side_px", [130, 270])
def test_tiles_give_what_one_piece_gives(segmenter, draw_discs, monkeypatch, side_px):
    image = draw_discs(9, (350, 310))[0][None]
    whole = segmenter.segment(image, diameter_px=DIAMETER_PX)
    monkeypatch.setattr(module, "LEAST_CORE_PX", 0)
    monkeypatch.setattr(module, "MOST_SEEN_PX", side_px**2)
    tiled = segmenter.segment(image, diameter_px=DIAMETER_PX)
    assert len(whole.scores) > 30
    assert np.array_equal(tiled.labels, whole.labels)
    np.testing.assert_allclose(tiled.scores, whole.scores, atol=1e-4)


def test_a_halo_of_the_reach_is_needed_and_enough(segmenter, trained, monkeypatch):
    engine = OpenVinoEngine(trained.folder / "network.onnx", threads=1, precision="f32")
    pixels = np.random.default_rng(1).random((3, 240, 300), dtype=np.float32)
    network = segmenter.facts.network
    whole = predict_at_scale(Pyramid(pixels), 1.0, engine, network)
    monkeypatch.setattr(module, "LEAST_CORE_PX", 0)
    monkeypatch.setattr(module, "MOST_SEEN_PX", 0)
    np.testing.assert_allclose(predict_at_scale(Pyramid(pixels), 1.0, engine, network), whole, atol=1e-5)
    blind = network.model_copy(update={"reach_px": 0})
    assert np.abs(predict_at_scale(Pyramid(pixels), 1.0, engine, blind) - whole).max() > 0.01


@pytest.mark.parametrize("shape", [(300, 530), (40, 70), (256, 256), (257, 255), (1, 700)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_network_of_windows_sees_windows_of_its_size_only(shape, stride):
    """And what is put together from them is the image, pixel by pixel."""
    seen = []

    def engine(image):
        seen.append(image.shape)
        return image[:, ::stride, ::stride]

    network = NetworkFacts(name="unet", stride=stride, multiple_px=16, reach_px=None, window_px=256)
    pixels = np.random.default_rng(0).random((3, *(-(-side // stride) * stride for side in shape)), dtype=np.float32)
    assert np.array_equal(predict_at_scale(Pyramid(pixels), 1.0, engine, network), engine(pixels))
    assert set(seen[:-1]) == {(3, 256, 256)}


def test_seams_of_windows_lie_away_from_their_sides():
    """An output that is wrong within 32 px of a window's side is right everywhere but at the image's edge."""

    def engine(image):
        output = np.zeros_like(image)
        output[:, 32:-32, 32:-32] = 1
        return output

    network = NetworkFacts(name="unet", stride=1, multiple_px=32, reach_px=None, window_px=256)
    found = predict_at_scale(Pyramid(np.zeros((3, 608, 800), dtype=np.float32)), 1.0, engine, network)
    expected = engine(found)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(("stride", "fits"), [(2, True), (1, False)])
def test_memory_is_counted_on_the_grid_of_the_network(stride, fits, monkeypatch):
    monkeypatch.setattr(module, "available_bytes", lambda: 65 * 100 * 100)
    with nullcontext() if fits else pytest.raises(TooLargeError, match="100 x 100 px at 1 times"):
        network = NetworkFacts(name="resunet", stride=stride, multiple_px=16, reach_px=50, window_px=None)
        module.check_memory(1.0, (100, 100), network, decode_bytes=60)


@pytest.mark.parametrize("shape", [(100, 8), (7, 300), (1, 1)])
def test_what_may_be_seen_at_once_is(shape):
    seen = []

    def engine(image):
        seen.append(image.shape[1:])
        return image[:, ::2, ::2]

    network = NetworkFacts(name="resunet", stride=2, multiple_px=16, reach_px=50, window_px=None)
    predict_at_scale(Pyramid(np.zeros((3, *shape), dtype=np.float32)), 1.0, engine, network)
    assert len(seen) == 1


def test_a_network_that_reaches_far_still_sees_much_at_once():
    seen = []

    def engine(image):
        seen.append(image[0].size)
        return image[:, ::2, ::2]

    network = NetworkFacts(name="resunet", stride=2, multiple_px=64, reach_px=760, window_px=None)
    predict_at_scale(Pyramid(np.zeros((3, 3000, 2600), dtype=np.float32)), 1.0, engine, network)
    assert sum(seen) < 10 * 3000 * 2600


@pytest.mark.parametrize(
    ("part", "change", "word"),
    [
        ("representation", {"name": "bondary"}, "boundary"),
        ("representation", {"settings": {"grow": 1}}, "grow_px"),
        ("scorer", {"mean": [0.0], "scale": [1.0], "weights": [0.0, 0.0]}, "14"),
    ],
)
def test_a_model_of_another_kind_is_one_clear_error(segmenter, tmp_path, part, change, word):
    segmenter.save(tmp_path / "copy")
    path = tmp_path / "copy" / "model.json"
    facts = json.loads(path.read_text())
    facts[part] |= change
    path.write_text(json.dumps(facts))
    with pytest.raises(ModelError, match=word):
        Segmenter.load(tmp_path / "copy")


@pytest.mark.parametrize(("shape", "radius", "contrast"), [((512, 512), 10, 2.0), ((1024, 1024), 12, 3.0)])
def test_one_faint_cell_in_noise_is_not_taken_for_noise(shape, radius, contrast):
    y, x = np.mgrid[: shape[0], : shape[1]]
    noise = np.random.default_rng(0).normal(0, 1, shape)
    cell = np.hypot(y - shape[0] // 3, x - shape[1] // 2) < radius
    assert is_noise(normalise(noise[None].astype(np.float32)))
    assert not is_noise(normalise((noise + contrast * cell)[None].astype(np.float32)))


@pytest.mark.parametrize("quality", [50, 70, 85])
def test_noise_that_was_saved_as_jpeg_is_noise_and_a_cell_in_it_is_not(quality):
    y, x = np.mgrid[:256, :256]
    cell = np.hypot(y - 90, x - 130) < 10
    noise = np.random.default_rng(quality).normal(150, 6, (256, 256))

    def saved(image):
        packed = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        return normalise(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)[None].astype(np.float32))

    assert is_noise(saved(noise))
    assert not is_noise(saved(noise + 18 * cell))
