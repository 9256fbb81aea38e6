"""Dataset folders: the layout, the manifest, and everything that may be wrong with them."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.data.dataset import diameter_px, find_manifest, load_sample, open_dataset, open_unlabelled, read_manifest
from fewcell.errors import DataError, ReadError


def add(folder: Path, stem: str, *, suffix: str = ".png", labels: str | None = "_label.tiff", side: int = 20) -> None:
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), 7, dtype=np.uint8)).save(folder / "images" / f"{stem}{suffix}")
    if labels:
        drawn = np.zeros((side, 30), dtype=np.uint16)
        drawn[2:6, 3:9] = 5
        path = folder / "labels" / f"{stem}{labels}"
        Image.fromarray(drawn).save(path) if labels.endswith("png") else tifffile.imwrite(path, drawn)


def add_manifest(path: Path, *rows: str, header: str = "split,stem,file,source,modality,experiment,licence") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "train"
    add(folder, "a")
    add(folder, "b", suffix=".tif")
    add(folder, "c", suffix=".jpg", labels=None)
    return folder


def test_unlabelled_are_files_folders_of_images_and_datasets_without_their_labels(folder: Path) -> None:
    of_dataset = open_unlabelled([folder])
    assert [(s.stem, s.labels, s.source) for s in of_dataset] == [(stem, None, "train") for stem in "abc"]
    plain = open_unlabelled([folder / "images", str(folder / "images" / "a.png")])
    assert [(s.stem, s.labels, s.source) for s in plain] == [(stem, None, "images") for stem in "abc"]
    with pytest.raises(ReadError, match="holds no image"):
        open_unlabelled([folder.parent])


def test_images_with_and_without_labels(folder: Path) -> None:
    a, b, c = open_dataset(str(folder))
    assert [s.stem for s in (a, b, c)] == ["a", "b", "c"]
    assert a.labels == folder / "labels" / "a_label.tiff"
    assert b.image == folder / "images" / "b.tif"
    assert c.labels is None
    assert (a.source, a.modality, a.experiment, a.licence) == ("train", "unknown", "train/a", "not stated")
    image, labels = load_sample(a)
    assert labels is not None
    assert image.pixels.shape == (1, *labels.shape) == (1, 20, 30)
    assert (labels.dtype, labels.sum()) == (np.int32, 5 * 24)
    assert load_sample(c)[1] is None


def test_an_unlabelled_folder_needs_no_labels_folder(tmp_path: Path) -> None:
    add(tmp_path, "x", labels=None)
    (tmp_path / "labels").rmdir()
    assert [s.labels for s in open_dataset(tmp_path)] == [None]


@pytest.mark.parametrize("ending", ["_label.tif", "_label.png", "_label.TIF"])
def test_labels_may_be_other_files_without_loss(folder: Path, ending: str) -> None:
    add(folder, "d", labels=ending)
    sample = open_dataset(folder)[3]
    assert sample.labels == folder / "labels" / f"d{ending}"
    assert load_sample(sample)[1] is not None


def test_hidden_files_are_left_alone(folder: Path) -> None:
    (folder / "labels" / "._a_label.tiff").write_bytes(b"an operating system's own")
    (folder / "images" / "._a.png").write_bytes(b"an operating system's own")
    assert len(open_dataset(folder)) == 3


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder 'images'"):
        open_dataset(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        open_dataset(tmp_path)


def test_labels_without_an_image_are_refused(folder: Path) -> None:
    (folder / "images" / "a.png").unlink()
    with pytest.raises(DataError, match=r"1 label files .* have no image, for example a"):
        open_dataset(folder)


def test_two_files_of_one_stem_are_refused(folder: Path) -> None:
    add(folder, "b", suffix=".png")
    with pytest.raises(DataError, match="one stem, 'b'"):
        open_dataset(folder)
    (folder / "images" / "b.png").unlink()
    add(folder, "a", labels="_label.tif")
    with pytest.raises(DataError, match=r"a_label\.tiff .*of one stem, 'a'"):
        open_dataset(folder)


def test_image_and_labels_of_different_size_are_refused(folder: Path) -> None:
    add(folder, "a", side=21)
    with pytest.raises(DataError, match="is 21 x 30 but its image is 20 x 30"):
        load_sample(open_dataset(folder)[0])


@pytest.mark.parametrize("place", ["in", "beside", "given"])
def test_the_manifest_says_where_images_come_from(folder: Path, tmp_path: Path, place: str) -> None:
    path = {"in": folder, "beside": folder.parent, "given": tmp_path}[place] / "manifest.csv"
    add_manifest(path, "train,a,,lab,phase,movie 1,CC0", "train,b,,,,,", "train,gone,,lab,phase,movie 2,")
    assert find_manifest(folder) == (None if place == "given" else path)
    a, b, c = open_dataset(folder, path if place == "given" else None)
    assert (a.source, a.modality, a.experiment, a.licence) == ("lab", "phase", "movie 1", "CC0")
    for sample in (b, c):
        assert (sample.source, sample.modality, sample.experiment) == ("train", "unknown", f"train/{sample.stem}")


def test_the_manifest_may_say_how_wide_cells_are(folder: Path) -> None:
    manifest = folder / "manifest.csv"
    add_manifest(manifest, "a, 24.5 ", "b,", header="stem,diameter_px")
    assert [sample.diameter_px for sample in open_dataset(folder)] == [24.5, None, None]
    for wrong in ("0", "-3", "nan", "inf", "wide"):
        add_manifest(manifest, f"a,{wrong}", header="stem,diameter_px")
        with pytest.raises(DataError, match=rf"diameter_px of a.png is '{wrong}'"):
            open_dataset(folder)


def test_the_manifest_in_the_folder_comes_before_the_one_beside(folder: Path) -> None:
    add_manifest(folder / "manifest.csv", "train,a,,inside,,,")
    add_manifest(folder.parent / "manifest.csv", "train,a,,outside,,,")
    assert open_dataset(folder)[0].source == "inside"


@pytest.mark.parametrize(
    "rows",
    [
        ["test,a,test/images/a.png,wrong,,,", "train,a,train/images/a.png,right,,,"],
        ["test,a,,wrong,,,", "train,a,,right,,,", "weak,a,,wrong,,,"],
        ["train,a,test/images/a.png,wrong,,,", "validation,a,train/images/a.png,right,,,"],
        ["test,a,images/a.png,wrong,,,", "train,a,images/a.png,right,,,", "train,a,images/a.tif,wrong,,,"],
        ["x,a,/far/away/test/images/a.png,wrong,,,", "y,a,/far/away/train/images/a.png,right,,,"],
        ["test,a,test/images/a.png,right,,,"],
    ],
    ids=["file and split", "split", "file before split", "both needed", "absolute", "the only one"],
)
@pytest.mark.parametrize("backwards", [False, True])
def test_of_several_rows_that_of_the_image_counts(folder: Path, rows: list[str], backwards: bool) -> None:
    add_manifest(folder.parent / "manifest.csv", *(rows[::-1] if backwards else rows))
    assert open_dataset(folder)[0].source == "right"


def test_rows_that_nothing_tells_apart_are_refused(folder: Path) -> None:
    add_manifest(folder.parent / "manifest.csv", "test,a,,one,,,", "weak,a,,two,,,")
    with pytest.raises(DataError, match=r"2 rows for .*a\.png.*'train'"):
        open_dataset(folder)


def test_a_manifest_as_spreadsheets_save_it(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_bytes("stem,source\r\nä,lab\r\n".encode("utf-8-sig"))
    assert read_manifest(path) == [{"stem": "ä", "source": "lab"}]
    assert read_manifest(None) == []


def test_a_manifest_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'stem'; its columns are name, source\.$"):
        read_manifest(add_manifest(tmp_path / "m.csv", "1,2", header="name,source"))
    with pytest.raises(DataError, match=r"its columns are stem;source\. Separate columns by commas\.$"):
        read_manifest(add_manifest(tmp_path / "m.csv", "a;lab", header="stem;source"))
    (tmp_path / "empty.csv").touch()
    with pytest.raises(DataError, match=r"empty.csv has no column 'stem'; its first line is empty\.$"):
        read_manifest(tmp_path / "empty.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "missing.csv")
    (tmp_path / "latin.csv").write_bytes(b"stem\n\xe4\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path / "latin.csv")


def test_the_diameter_is_that_of_the_median_cell() -> None:
    labels = np.zeros((40, 40), dtype=np.int32)
    labels[:2, :2], labels[10:20, 10:20], labels[25:36, 25:36] = 3, 2**31 - 1, 7
    labels[0, 30:] = -1
    assert diameter_px(labels) == pytest.approx(2 * (100 / np.pi) ** 0.5)
    assert diameter_px(np.full((5, 5), -1, dtype=np.int32)) is None


def test_images_that_the_manifest_does_not_know_are_said(folder: Path) -> None:
    """Else images of one slide would be learned from and held out."""
    add_manifest(folder / "manifest.csv", "a.png,s1", "b.tif,s1", "c,s1", header="stem,experiment")
    with pytest.warns(UserWarning, match=r"no row for 2 of the 3 images .*such as a, b: each counts as an experiment"):
        samples = open_dataset(folder)
    assert [sample.experiment for sample in samples] == ["train/a", "train/b", "s1"]
