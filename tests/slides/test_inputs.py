"""Inputs of any size: what goes through memory, and what tile by tile."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as PillowImage

from fewcell.errors import ReadError, WriteError
from fewcell.images import SLIDE_SUFFIXES, list_images, read_image, read_labels
from fewcell.segmenter import Failed, FileSettings, Segmented, Segmenter, read_seconds
from fewcell.slides import LARGE_PX, SegmentedSlide, is_slide, segment_inputs
from fewcell.slides import files as files_module
from fewcell.slides.label_zarr import read_facts
from fewcell.slides.work import Work

SETTINGS = FileSettings(diameter=22)


@pytest.fixture(scope="module")
def segmenter(trained) -> Segmenter:
    return Segmenter.load(trained.folder, threads=1)


@pytest.fixture
def folder(draw_discs, tmp_path, monkeypatch) -> Path:
    """Two small images and a large one, for what is large here."""
    monkeypatch.setattr(files_module, "LARGE_PX", 200 * 200)
    (tmp_path / "in").mkdir()
    for name, side in (("a.png", 96), ("b.tif", 90)):
        PillowImage.fromarray(draw_discs(1, shape=(side, side))[0]).save(tmp_path / "in" / name)
    tifffile.imwrite(tmp_path / "in" / "large.tif", draw_discs(2, shape=(200, 210))[0], tile=(64, 64))
    return tmp_path / "in"


def test_large_images_become_slides_and_others_files(segmenter, folder, tmp_path) -> None:
    reports = []
    found = list(
        segment_inputs(
            segmenter, list_images(folder), tmp_path / "out", SETTINGS, report=lambda path, p: reports.append((path, p))
        )
    )
    assert [type(one) for one in found] == [Segmented, Segmented, SegmentedSlide]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_cells.csv",
        "a_label.tiff",
        "a_overlay.png",
        "b_cells.csv",
        "b_label.tiff",
        "b_overlay.png",
        "large_cells.csv",
        "large_label.zarr",
        "large_overlay.png",
        "seconds.csv",
    ]
    took = read_seconds(tmp_path / "out")
    assert {stem: (one.height_px, one.width_px) for stem, one in took.items()} == {
        "a": (96, 96),
        "b": (90, 90),
        "large": (200, 210),
    }
    assert [one.seconds for one in took.values()] == pytest.approx([one.seconds for one in found], abs=1e-3)
    assert found[2].n_cells == zarr.open_array(str(tmp_path / "out" / "large_label.zarr" / "0"), mode="r")[:].max() > 20
    assert {path.name for path, _ in reports} == {"large.tif"}
    assert list(dict.fromkeys(p.stage for _, p in reports)) == ["tiles", "blocks", "labels"]
    assert all(0 < p.done <= p.total and p.seconds_left >= 0 for _, p in reports)


def test_one_input_may_be_given_the_name_of_its_labels(segmenter, folder, tmp_path) -> None:
    (found,) = segment_inputs(segmenter, [folder / "a.png"], tmp_path / "x.zarr", SETTINGS)
    assert isinstance(found, SegmentedSlide)
    assert found.segmentation.outputs == {
        "labels": tmp_path / "x.zarr",
        "csv": tmp_path / "x_cells.csv",
        "overlay": tmp_path / "x_overlay.png",
    }
    assert not (tmp_path / "seconds.csv").exists(), "the folder is not ours"
    assert len((tmp_path / "x_cells.csv").read_text().splitlines()) == 1 + found.n_cells
    with pytest.raises(WriteError, match="name of one label image, but there are 3 inputs"):
        list(segment_inputs(segmenter, list_images(folder), tmp_path / "y.zarr", SETTINGS))


def test_labels_say_alike_how_they_were_made_in_memory_and_tile_by_tile(segmenter, folder, tmp_path) -> None:
    list(segment_inputs(segmenter, [folder / "a.png"], tmp_path / "out", SETTINGS))
    list(segment_inputs(segmenter, [folder / "a.png"], tmp_path / "x.zarr", SETTINGS))
    with tifffile.TiffFile(tmp_path / "out" / "a_label.tiff") as tiff:
        of_image = json.loads(tiff.pages[0].description)
    of_slide = read_facts(tmp_path / "x.zarr")
    only_of_slides = {"slide", "n_cells", "n_tiles", "empty_tiles", "failed_tiles"}
    assert of_slide.keys() - of_image.keys() == only_of_slides
    assert {name: value for name, value in of_slide.items() if name not in only_of_slides} == of_image


def test_exports_are_made_of_images_of_any_size(segmenter, folder, tmp_path) -> None:
    (found,) = segment_inputs(segmenter, [folder / "a.png"], tmp_path, SETTINGS, exports=["geojson", "tiff"])
    assert list(found.segmentation.outputs) == ["labels", "csv", "overlay", "geojson", "tiff"]
    whole = segmenter.segment(read_image(folder / "a.png"), diameter_px=22)
    assert len(json.loads((tmp_path / "a_cells.geojson").read_text())["features"]) == len(whole.scores) > 3
    np.testing.assert_array_equal(read_labels(tmp_path / "a_label.tiff") > 0, whole.labels > 0)
    (failed,) = segment_inputs(segmenter, [folder / "a.png"], tmp_path / "o", SETTINGS, exports=["geojsn"])
    assert "There is no export 'geojsn'" in str(failed.error)
    assert not (tmp_path / "o").exists()


def test_what_an_earlier_run_wrote_is_replaced_or_goes(segmenter, folder, tmp_path) -> None:
    """By an image after a slide, and a slide after an image; without leave to overwrite, nothing goes."""
    image, out, again = folder / "a.png", tmp_path / "out", FileSettings(diameter=22, overwrite=True)
    out.mkdir()
    kept = ["a_cells.txt", "a.geojson", "a_b_cells.geojson", "ba_cells.geojson"]
    for name in kept:
        (out / name).write_text("mine")
    common = {"seconds.csv", "a_cells.csv", "a_overlay.png", *kept}

    def names(settings: FileSettings, *exports: str) -> set[str]:
        list(segment_inputs(segmenter, [image], out, settings, exports=exports))
        return {path.name for path in out.iterdir()} - common

    assert names(SETTINGS) == {"a_label.tiff"}
    assert names(again, "geojson", "rois") == {"a_label.zarr", "a_cells.geojson", "a_rois.zip"}
    assert names(again, "geojson.gz", "tiff") == {"a_label.zarr", "a_cells.geojson.gz", "a_label.tiff"}
    assert names(SETTINGS) == {"a_label.zarr", "a_cells.geojson.gz", "a_label.tiff"}
    assert names(again) == {"a_label.tiff"}


def test_what_is_not_of_an_earlier_run_stays(segmenter, folder, tmp_path) -> None:
    """Labels that people made, folders, inputs."""
    again = FileSettings(diameter=22, overwrite=True)
    tifffile.imwrite(tmp_path / "a_label.tiff", np.ones((96, 96), np.uint16))
    (tmp_path / "a_rois.zip").mkdir()
    (slide,) = segment_inputs(segmenter, [folder / "a.png"], tmp_path, again, exports=["geojson"])
    assert isinstance(slide, SegmentedSlide)
    (tmp_path / "b_label.zarr").mkdir()
    (tmp_path / "b_label.zarr" / "mine").write_text("")
    (image,) = segment_inputs(segmenter, [folder / "b.tif"], tmp_path, again)
    assert isinstance(image, Segmented)
    assert all((tmp_path / name).exists() for name in ("a_label.tiff", "a_rois.zip", "b_label.zarr/mine"))
    list(segment_inputs(segmenter, [folder / "a.png"], tmp_path / "in" / "c", SETTINGS))
    labels = (tmp_path / "in" / "c" / "a_label.tiff").rename(folder / "a_label.tiff")
    (slide,) = segment_inputs(segmenter, [labels], folder / "a.zarr", again)
    found = list(segment_inputs(segmenter, [folder / "a.png", labels], folder, again, exports=["geojson"]))
    assert isinstance(slide, SegmentedSlide)
    assert "a_label.tiff: is to be segmented" in str(found[0].error)
    assert labels.exists()


def test_a_tiff_is_what_images_have_anyway(segmenter, folder, tmp_path) -> None:
    found = list(segment_inputs(segmenter, list_images(folder), tmp_path / "out", SETTINGS, exports=["tiff"]))
    assert [type(one) for one in found] == [Segmented, Segmented, SegmentedSlide]
    assert {p.name for p in (tmp_path / "out").glob("*.tiff")} == {"a_label.tiff", "b_label.tiff", "large_label.tiff"}


def test_a_table_of_seconds_that_cannot_be_written_is_warned_of_once(segmenter, folder, tmp_path) -> None:
    (tmp_path / "out" / "seconds.csv").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"seconds\.csv: cannot be written") as warned:
        found = list(segment_inputs(segmenter, list_images(folder), tmp_path / "out", SETTINGS))
    assert [type(one) for one in found] == [Segmented, Segmented, SegmentedSlide]
    assert len(warned) == 1


def test_a_slide_that_fails_does_not_stop_the_others(segmenter, folder, tmp_path) -> None:
    tifffile.imwrite(folder / "c.tif", np.zeros((4, 200, 210), np.uint8), photometric="minisblack")
    (folder / "d.zarr").mkdir()
    paths = list_images(folder, SLIDE_SUFFIXES)
    found = {one.path.name: one for one in segment_inputs(segmenter, paths, tmp_path / "out", SETTINGS)}
    assert {name for name, one in found.items() if isinstance(one, Failed)} == {"c.tif", "d.zarr"}
    assert isinstance(found["large.tif"], SegmentedSlide)
    assert isinstance(found["d.zarr"].error, ReadError)


def test_a_fault_of_ours_is_told_and_the_others_go_on(segmenter, folder, tmp_path, monkeypatch) -> None:
    tifffile.imwrite(folder / "later.tif", np.zeros((200, 210), np.uint8), tile=(64, 64))
    monkeypatch.setattr(Work, "read_block", lambda *_, **__: 1 / 0)
    first, second = segment_inputs(segmenter, [folder / "large.tif", folder / "later.tif"], tmp_path / "o", SETTINGS)
    assert "unexpected ZeroDivisionError" in str(first.error)
    assert second.n_cells == 0, "a blank slide has no blocks to read"


def test_slides_of_one_name_do_not_overwrite_each_other(segmenter, folder, tmp_path) -> None:
    tifffile.imwrite(folder / "large.tiff", np.zeros((200, 210), np.uint8), tile=(64, 64))
    slides = [folder / "large.tif", folder / "large.tiff"]
    found = list(segment_inputs(segmenter, slides, tmp_path / "out", SETTINGS))
    assert all("2 files are called large" in str(one.error) for one in found)


def test_what_is_a_slide(tmp_path) -> None:
    PillowImage.new("L", (5000, LARGE_PX // 5000)).save(tmp_path / "large.png")
    PillowImage.new("L", (64, 64)).save(tmp_path / "small.jpg")
    tifffile.imwrite(tmp_path / "small.tif", np.zeros((64, 64), np.uint8))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    (tmp_path / "broken.tif").write_bytes(b"II*\0 no picture")
    (tmp_path / "slide.ndpi").write_bytes(b"")
    names = ("large.png", "small.jpg", "small.tif", "broken.png", "broken.tif", "slide.ndpi")
    assert [is_slide(tmp_path / name) for name in names] == [True, False, False, False, False, True]


def test_a_plane_may_make_a_slide_and_a_picture_too_large_for_others_is_one(tmp_path, monkeypatch) -> None:
    stack = np.zeros((2, 5000, LARGE_PX // 5000), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", stack, ome=True, metadata={"axes": "ZYX"}, compression="zlib")
    assert not is_slide(tmp_path / "stack.tif"), "what is wrong with it is said when it is read"
    assert is_slide(tmp_path / "stack.tif", plane={"z": 1})
    PillowImage.new("L", (64, 64)).save(tmp_path / "huge.png")
    monkeypatch.setattr(PillowImage, "MAX_IMAGE_PIXELS", 1000)
    assert is_slide(tmp_path / "huge.png")


def test_an_image_and_a_slide_of_one_name_do_not_overwrite_each_other(segmenter, tmp_path) -> None:
    PillowImage.new("L", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "a.ndpi").write_bytes(b"")
    found = list(segment_inputs(segmenter, [tmp_path / "a.png", tmp_path / "a.ndpi"], tmp_path / "out", SETTINGS))
    assert [("2 files are called a" in str(one.error)) for one in found] == [True, True]


def test_a_folder_may_hold_zarrs_and_results_are_left_out(tmp_path) -> None:
    for name in ("b.zarr", "c_label.zarr", "folder.tif"):
        (tmp_path / name).mkdir()
    for name in ("a.png", "s.svs", "s.ndpi", "d_label.tiff"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in list_images(tmp_path, SLIDE_SUFFIXES)] == ["a.png", "b.zarr", "s.ndpi", "s.svs"]
    assert [p.name for p in list_images(tmp_path)] == ["a.png", "s.svs"]
    assert list_images(tmp_path / "b.zarr", SLIDE_SUFFIXES) == [tmp_path / "b.zarr"]
    with pytest.raises(ReadError, match=r"holds no image"):
        list_images(tmp_path / "b.zarr")
