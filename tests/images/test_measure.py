import numpy as np
import pytest
from skimage.measure import regionprops

from fewcell.errors import DataError
from fewcell.images import measure_cells
from fewcell.types import Instances

COLUMNS = ["id", "score", "y", "x", "area_px", "diameter_px", "area_um2", "diameter_um"]


def instances(labels, dtype=np.int32):
    labels = np.asarray(labels, dtype)
    count = int(labels.max(initial=0))
    return Instances(labels, np.linspace(0.1, 0.9, count).astype(np.float32))


def random_labels(count=40, shape=(120, 90), seed=0):
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int32)
    for i in range(1, count + 1):
        y, x = rng.integers(0, shape[0] - 3), rng.integers(0, shape[1] - 3)
        labels[y : y + rng.integers(3, 20), x : x + rng.integers(3, 20)] = i
    _, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(shape).astype(np.int32)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.uint16, np.int64])
def test_agrees_with_scikit_image(dtype):
    labels, pixels = random_labels(), np.random.default_rng(1).random((2, 120, 90)).astype(np.float32)
    found = measure_cells(instances(labels, dtype), pixels, pixel_size_um=0.5, channel_names=("a", "b"))
    regions = regionprops(labels, intensity_image=pixels.transpose(1, 2, 0))
    assert list(found) == [*COLUMNS, "mean_a", "mean_b"]
    assert len(regions) == len(found["id"]) > 20
    np.testing.assert_array_equal(found["id"], [r.label for r in regions])
    np.testing.assert_array_equal(found["score"], instances(labels).scores)
    np.testing.assert_array_equal(found["area_px"], [r.area for r in regions])
    np.testing.assert_allclose(np.stack([found["y"], found["x"]], 1), [r.centroid for r in regions])
    np.testing.assert_allclose(found["diameter_px"], [r.equivalent_diameter_area for r in regions])
    np.testing.assert_allclose(found["area_um2"], found["area_px"] * 0.25)
    np.testing.assert_allclose(found["diameter_um"], found["diameter_px"] * 0.5)
    means = np.stack([found["mean_a"], found["mean_b"]], 1)
    np.testing.assert_allclose(means, [r.intensity_mean for r in regions], rtol=1e-5)


def test_many_blocks_of_rows_give_the_same_as_one():
    labels = np.zeros((40, 300_000), np.int32)
    labels[2:38, 100:200] = 1
    labels[39, -1] = 2
    found = measure_cells(instances(labels), labels[None].astype(np.float32))
    assert found["y"].tolist() == [19.5, 39]
    assert found["x"].tolist() == [149.5, 299_999]
    assert found["area_px"].tolist() == [3600, 1]
    assert found["mean_channel_0"].tolist() == [1, 2]


def test_an_unknown_pixel_size_leaves_its_columns_empty():
    found = measure_cells(instances([[1, 1], [0, 2]]), np.ones((1, 2, 2)))
    assert list(found) == [*COLUMNS, "mean_channel_0"]
    assert np.isnan(found["area_um2"]).all()
    assert np.isnan(found["diameter_um"]).all()
    assert found["area_px"].tolist() == [2, 1]


def test_nan_pixels_do_not_count_and_unknown_is_no_cell():
    labels = [[1, 1, 2], [-1, 1, 0]]
    pixels = np.array([[[1, np.nan, np.nan], [100, 3, 100]]])
    found = measure_cells(instances(labels), pixels)
    np.testing.assert_array_equal(found["mean_channel_0"], [2, np.nan])
    assert found["area_px"].tolist() == [3, 1]


@pytest.mark.parametrize("shape", [(5, 6), (0, 6), (0, 0)])
def test_no_cells(shape):
    found = measure_cells(instances(np.zeros(shape)), np.ones((2, *shape)))
    assert list(found) == [*COLUMNS, "mean_channel_0", "mean_channel_1"]
    assert all(len(column) == 0 for column in found.values())


def test_a_number_without_pixels_has_no_centre():
    found = measure_cells(instances([[1, 0, 3]]), np.ones((1, 1, 3)))
    assert found["area_px"].tolist() == [1, 0, 1]
    np.testing.assert_array_equal(found["x"], [0, np.nan, 2])


def test_repeated_channel_names_stay_apart():
    found = measure_cells(instances([[1]]), np.arange(3).reshape(3, 1, 1), channel_names=("a", "b", "a"))
    assert [(n, found[n][0]) for n in list(found)[-3:]] == [("mean_a", 0), ("mean_b", 1), ("mean_a_2", 2)]


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match=r"\(1, 2, 3\).*\(2, 2\)"):
        measure_cells(instances(np.ones((2, 2))), np.ones((1, 2, 3)))
    with pytest.raises(DataError, match="1 channel names were given for 2 channels"):
        measure_cells(instances([[1]]), np.ones((2, 1, 1)), channel_names=("a",))
    with pytest.raises(DataError, match=r"reach 9.*1 cells"):
        measure_cells(Instances(np.array([[9]], np.int32), np.ones(1, np.float32)), np.ones((1, 1, 1)))


def test_every_channel_has_a_column_whatever_they_are_called():
    pixels = np.arange(1.0, 5)[:, None, None] * np.ones((4, 2, 2))
    found = measure_cells(instances([[1, 1], [0, 0]]), pixels, channel_names=("a", "a", "a_1", "a"))
    assert [found[name].tolist() for name in ("mean_a", "mean_a_1", "mean_a_1_2", "mean_a_3")] == [[1], [2], [3], [4]]
