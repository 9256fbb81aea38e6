import csv

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from fewcell.errors import DataError, WriteError
from fewcell.images import (
    draw_overlay,
    read_image,
    read_labels,
    whole_file,
    write_cells,
    write_labels,
    write_overlay,
)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_whole_file_appears_only_when_done(tmp_path):
    path = tmp_path / "new" / "folder" / "a.ome.tif"
    with whole_file(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith(".ome.tif")
        temporary.write_text("done")
        assert not path.exists()
    assert path.read_text() == "done"
    assert names(path.parent) == ["a.ome.tif"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_whole_file_leaves_nothing_behind_when_it_fails(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write():
        with whole_file(path, overwrite=True) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_whole_file_refuses_to_overwrite(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(WriteError, match=r"a\.txt: exists already.*--overwrite"), whole_file(path):
        pass
    with pytest.raises(WriteError, match="is a folder"), whole_file(tmp_path, overwrite=True):
        pass
    with whole_file(path, overwrite=True) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_whole_file_where_no_file_can_be(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot be written"), whole_file(tmp_path / "file" / "a.txt"):
        pass
    with pytest.raises(WriteError, match="cannot be written"), whole_file(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 65_535, "uint16"),
        (0, 65_536, "uint32"),
        (-1, 32_767, "int16"),
        (-1, 32_768, "int32"),
        (0, 2**31 - 1, "uint32"),
    ],
)
@pytest.mark.parametrize("given", [np.int32, np.int64])
def test_labels_come_back(tmp_path, low, high, dtype, given):
    labels = np.random.default_rng(0).integers(0, 100, (70, 90)).astype(given)
    labels[0, 0], labels[-1, -1] = low, high
    write_labels(tmp_path / "a.tif", labels)
    assert tifffile.imread(tmp_path / "a.tif").dtype == dtype
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_70001_cells_come_back(tmp_path):
    labels = np.zeros((300, 300), np.uint32)
    labels.ravel()[:70_001] = np.arange(1, 70_002)
    write_labels(tmp_path / "a.tif", labels)
    back = read_labels(tmp_path / "a.tif")
    np.testing.assert_array_equal(back, labels)
    assert len(np.unique(back)) == 70_002


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (3, 3), (700, 3), (3, 700)])
def test_labels_of_any_shape_come_back(tmp_path, shape):
    labels = np.arange(np.prod(shape)).reshape(shape)
    write_labels(tmp_path / "a.tif", labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), labels)


def test_labels_are_compressed_and_keep_the_pixel_size(tmp_path):
    write_labels(tmp_path / "a.tif", np.zeros((1000, 1000), int), pixel_size_um=0.325)
    assert (tmp_path / "a.tif").stat().st_size < 50_000
    assert read_image(tmp_path / "a.tif").pixel_size_um == pytest.approx(0.325)
    write_labels(tmp_path / "b.tif", np.zeros((10, 10), int))
    assert read_image(tmp_path / "b.tif").pixel_size_um is None


def test_the_same_labels_give_the_same_bytes(tmp_path):
    labels = np.arange(100).reshape(10, 10)
    write_labels(tmp_path / "a.tif", labels)
    write_labels(tmp_path / "b.tif", labels)
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((2, 3, 4), int),
        np.zeros((2, 2)),
        np.zeros((0, 5), int),
        [[2**32]],
        [[-(2**31) - 1]],
        [[-1, 2**31]],
    ],
)
def test_what_cannot_be_written_as_labels(tmp_path, labels):
    with pytest.raises(WriteError, match=r"a\.tif: labels"):
        write_labels(tmp_path / "a.tif", np.array(labels))
    assert names(tmp_path) == []


def two_touching_cells():
    labels = np.zeros((20, 30), np.int32)
    labels[4:14, 4:12] = 1
    labels[4:14, 12:20] = 2
    labels[16:, :] = -1
    return labels


@pytest.mark.parametrize("brightness", [0.0, 0.5, 1.0])
def test_overlay_outlines_inside_cells_and_nothing_else(brightness):
    labels = two_touching_cells()
    image = draw_overlay(np.full((1, 20, 30), brightness), labels)
    assert image.shape == (20, 30, 3)
    assert image.dtype == np.uint8
    plain = round(brightness * 255)
    drawn = (np.abs(image.astype(int) - plain) > 60).any(-1)
    expected = labels > 0
    expected[5:13, 5:11] = False
    expected[5:13, 13:19] = False
    np.testing.assert_array_equal(drawn, expected)
    assert (image[~expected] == plain).all()
    # Both sides of the common border are drawn, each in the colour of its cell.
    assert (image[8, 11] != image[8, 12]).any()


def test_overlay_gives_touching_cells_different_colours():
    # Whatever their numbers: squares of 6 pixels, side by side; no two alike touch.
    for step in (1, 7, 30_000):
        squares = 1 + step * np.arange(64).reshape(8, 8)
        image = draw_overlay(np.zeros((1, 48, 48)), np.kron(squares, np.ones((6, 6), np.int64)))
        along, across = image[2::6], image[:, 2::6].transpose(1, 0, 2)
        for lines in (along, across):
            left, right = lines[:, 5:-6:6], lines[:, 6:-5:6]
            assert left.any(-1).all()
            assert right.any(-1).all()
            assert (left != right).any(-1).all()


def test_overlay_of_cells_cut_by_the_frame_is_open_there():
    image = draw_overlay(np.zeros((1, 8, 8)), np.ones((8, 8), int))
    assert not image.any()


def test_overlay_outlines_are_thicker_in_large_images_but_not_in_small_cells():
    def drawn(labels):
        return np.count_nonzero(draw_overlay(np.zeros((1, *labels.shape), np.float32), labels).any(-1))

    large = np.zeros((3200, 400), np.int32)
    large[100:300, 100:300] = 1
    assert drawn(large) == 200**2 - 194**2
    assert drawn(large[:400]) == 200**2 - 198**2
    small = np.zeros((3200, 400), np.int32)
    small[100:110, 100:110] = 1
    assert drawn(small) == 10**2 - 8**2


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_overlay_of_any_channels(channels):
    pixels = np.random.default_rng(0).random((channels, 6, 7))
    pixels[0, 0, :4] = np.nan, np.inf, -np.inf, 7
    image = draw_overlay(pixels, np.zeros((6, 7), np.int32))
    assert image[0, :4, 0].tolist() == [0, 255, 0, 255]
    shown = [0, 0, 0] if channels == 1 else range(min(channels, 3))
    np.testing.assert_allclose(image[1:, :, : len(shown)], pixels[shown, 1:].transpose(1, 2, 0) * 255, atol=0.51)
    assert (image[..., 2] == 0).all() == (channels == 2)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_overlay_takes_labels_of_any_type_and_gap(dtype):
    labels = two_touching_cells() if np.dtype(dtype).kind == "i" else np.maximum(two_touching_cells(), 0)
    labels = np.where(labels == 2, 30_000, labels).astype(dtype)
    assert draw_overlay(np.zeros((3, 20, 30)), labels)[4, 12].any()


def test_overlay_of_other_size_is_refused():
    with pytest.raises(DataError, match=r"\(1, 5, 5\).*\(5, 6\)"):
        draw_overlay(np.zeros((1, 5, 5)), np.zeros((5, 6), int))


def test_bytes_are_drawn_as_they_are():
    pixels, labels = np.random.default_rng(0).integers(0, 256, (3, 20, 30)).astype(np.uint8), two_touching_cells()
    np.testing.assert_array_equal(draw_overlay(pixels, labels), draw_overlay(pixels / 255, labels))
    np.testing.assert_array_equal(draw_overlay(pixels, np.zeros_like(labels)), np.moveaxis(pixels, 0, -1))


def test_write_overlay(tmp_path):
    pixels, labels = np.random.default_rng(0).random((3, 20, 30)), two_touching_cells()
    write_overlay(tmp_path / "a.png", pixels, labels)
    with PillowImage.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), draw_overlay(pixels, labels))
    with pytest.raises(WriteError, match="exists already"):
        write_overlay(tmp_path / "a.png", pixels, labels)


def test_write_cells(tmp_path):
    columns = {"id": np.array([1, 2]), "y": np.array([0.1, 12345.678], np.float64), "mean_a,b": [np.nan, 3.0]}
    write_cells(tmp_path / "a.csv", columns)
    assert (tmp_path / "a.csv").read_bytes() == b'id,y,"mean_a,b"\n1,0.1,\n2,12345.68,3\n'


def test_write_no_cells(tmp_path):
    write_cells(tmp_path / "a.csv", {"id": np.zeros(0, int), "y": np.zeros(0)})
    with (tmp_path / "a.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["id", "y"]]


def test_columns_of_different_length_are_refused(tmp_path):
    with pytest.raises(WriteError, match="of one length"):
        write_cells(tmp_path / "a.csv", {"id": [1, 2], "y": [1.0]})
    assert names(tmp_path) == []
