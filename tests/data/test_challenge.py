"""The challenge's archives, imitated with three small images a split: laid out, and refused when unsafe."""

import csv
import os
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.data.challenge import lay_out_challenge
from fewcell.data.dataset import open_dataset
from fewcell.errors import DataError, TooLargeError, WriteError

LABELLED = {"Training-labeled": "train", "Tuning": "validation", "Testing/Public": "test"}


def draw_labels(n_cells: int = 3, shape: tuple[int, int] = (40, 50)) -> np.ndarray:
    labels = np.zeros(shape, np.uint16)
    for i in range(n_cells):
        labels[2 : 2 + 8, 2 + 12 * i : 2 + 12 * i + 8] = i + 1
    return labels


def write_pair(part: Path, stem: str, suffix: str = ".png", shape: tuple[int, int] = (40, 50)) -> None:
    (part / "images").mkdir(parents=True, exist_ok=True)
    (part / "labels").mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(stem)).integers(0, 255, (*shape, 3), np.uint8)
    Image.fromarray(pixels).save(part / "images" / f"{stem}{suffix}")
    tifffile.imwrite(part / "labels" / f"{stem}_label.tiff", draw_labels(shape=shape), compression="zlib")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The archive as unpacked folders."""
    folder = tmp_path / "archive"
    for part in LABELLED:
        for number, suffix in ((1, ".bmp"), (2, ".png"), (3, ".tif")):
            write_pair(folder / part, f"cell_{number:05d}", suffix)
    write_pair(folder / "Testing/Hidden", "TestHidden_001")
    for predictions in ("1st_osilab_seg", "osilab_seg/labels"):
        (folder / "Testing/Public" / predictions).mkdir(parents=True)
        tifffile.imwrite(folder / "Testing/Public" / predictions / "cell_00009_label.tiff", draw_labels())
    (folder / "Testing/Public/WSI").mkdir()
    (folder / "Testing/Public/WSI-labels").mkdir()
    tifffile.imwrite(folder / "Testing/Public/WSI/OpenTest_051.tif", draw_labels())
    tifffile.imwrite(folder / "Testing/Public/WSI-labels/OpenTest_051_label.tiff", draw_labels())
    (folder / "release-part1").mkdir()
    Image.fromarray(draw_labels().astype(np.uint8)).save(folder / "release-part1/unlabeled_cell_00000.png")
    (folder / "train-unlabeled-part2").mkdir()
    tifffile.imwrite(folder / "train-unlabeled-part2/whole_slide_00001.tiff", draw_labels())
    return folder


def zip_up(archive: Path) -> Path:
    """The same archive as the zips that are published: train-unlabeled-part1.zip holds release-part1."""
    zipped = archive.parent / "zipped"
    zipped.mkdir()
    for name in ("Training-labeled", "Tuning", "Testing", "release-part1", "train-unlabeled-part2"):
        with zipfile.ZipFile(zipped / f"{name.replace('release', 'train-unlabeled')}.zip", "w") as file:
            for path in sorted((archive / name).rglob("*")):
                file.write(path, path.relative_to(archive))
            file.writestr(f"__MACOSX/{name}/images/._cell_00001.png", b"not an image")
    return zipped


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_folders_and_zips_give_the_same_dataset(archive: Path, tmp_path: Path) -> None:
    report = lay_out_challenge(archive, tmp_path / "a")
    assert report.problems == ()
    assert report.counts == {"train": 3, "validation": 3, "test": 3, "unlabelled": 1, "slides": 2}
    laid_out = tree(tmp_path / "a")
    names = {f"images/cell_0000{n}{s}" for n, s in ((1, ".bmp"), (2, ".png"), (3, ".tif"))}
    names |= {f"labels/cell_0000{n}_label.tiff" for n in (1, 2, 3)}
    expected = {f"{split}/{name}" for split in LABELLED.values() for name in names}
    expected |= {"slides/images/OpenTest_051.tif", "slides/labels/OpenTest_051_label.tiff"}
    expected |= {"slides/images/whole_slide_00001.tiff", "unlabelled/images/unlabeled_cell_00000.png"}
    assert set(laid_out) == expected | {"manifest.csv"}
    truth = archive / "Testing/Public/labels/cell_00001_label.tiff"
    assert laid_out["test/labels/cell_00001_label.tiff"] == truth.read_bytes()

    samples = open_dataset(tmp_path / "a" / "train")
    assert [sample.stem for sample in samples] == ["cell_00001", "cell_00002", "cell_00003"]
    assert all(sample.labels and sample.source == "neurips22" for sample in samples)

    zipped_report = lay_out_challenge(zip_up(archive), tmp_path / "b")
    assert tree(tmp_path / "b") == laid_out
    assert zipped_report.warnings == report.warnings


def test_manifest_says_what_was_measured(archive: Path, tmp_path: Path) -> None:
    lay_out_challenge(archive, tmp_path / "out")
    with (tmp_path / "out/manifest.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(rows) == 12
    row = rows["train/images/cell_00002.png"]
    assert (row["split"], row["stem"], row["source"]) == ("train", "cell_00002", "neurips22")
    assert (row["height"], row["width"], row["channels"], row["n_instances"]) == ("40", "50", "3", "3")
    assert float(row["median_diameter_px"]) == pytest.approx(2 * (64 / np.pi) ** 0.5, abs=0.05)
    assert row["modality"] == row["experiment"] == ""
    assert rows["unlabelled/images/unlabeled_cell_00000.png"]["n_instances"] == ""


def test_other_nesting_and_spelling_are_understood(archive: Path, tmp_path: Path) -> None:
    folder = tmp_path / "download"
    (folder / "x").mkdir(parents=True)
    archive.joinpath("Training-labeled").rename(folder / "x" / "Train_Labeled")
    (folder / "TUNING/Tuning").mkdir(parents=True)
    archive.joinpath("Tuning/images").rename(folder / "TUNING/Tuning/Images")
    archive.joinpath("Tuning/labels").rename(folder / "TUNING/Tuning/labels")
    report = lay_out_challenge(folder, tmp_path / "out")
    assert report.counts == {"train": 3, "validation": 3}
    # The folder of one part alone is understood too.
    assert lay_out_challenge(folder / "x" / "Train_Labeled", tmp_path / "one").counts == {"train": 3}


def test_counts_that_differ_from_the_published_are_warned_of(archive: Path, tmp_path: Path) -> None:
    shutil.rmtree(archive / "Tuning")
    report = lay_out_challenge(archive, tmp_path / "out")
    assert any("train: 3 " in line and "1000" in line for line in report.warnings)
    assert any("validation: 0 " in line and "101" in line for line in report.warnings)


def test_a_zip_next_to_its_unpacked_folder_is_not_used_twice(archive: Path, tmp_path: Path) -> None:
    zipped = zip_up(archive)
    shutil.copytree(archive / "Tuning", zipped / "Tuning")
    report = lay_out_challenge(zipped, tmp_path / "out")
    assert report.counts["validation"] == 3
    assert any("6 files are there twice" in line for line in report.warnings)


def break_missing_label(part: Path) -> str:
    (part / "labels/cell_00002_label.tiff").unlink()
    return "image without labels"


def break_missing_image(part: Path) -> str:
    (part / "images/cell_00002.png").unlink()
    return "labels without an image"


def break_size(part: Path) -> str:
    tifffile.imwrite(part / "labels/cell_00002_label.tiff", draw_labels(shape=(50, 40)))
    return "40 x 50 pixels, its labels are 50 x 40"


def break_no_cell(part: Path) -> str:
    tifffile.imwrite(part / "labels/cell_00002_label.tiff", draw_labels(0))
    return "no cell"


def break_fractions(part: Path) -> str:
    tifffile.imwrite(part / "labels/cell_00002_label.tiff", draw_labels().astype(np.float32) + 0.5)
    return "labels/cell_00002_label.tiff"


def break_image(part: Path) -> str:
    path = part / "images/cell_00002.png"
    path.write_bytes(path.read_bytes()[:500])
    return "images/cell_00002.png"


def break_ambiguous(part: Path) -> str:
    shutil.copy(part / "images/cell_00001.bmp", part / "images/cell_00002.bmp")
    return "several files"


BREAKS = [
    break_missing_label,
    break_missing_image,
    break_size,
    break_no_cell,
    break_fractions,
    break_image,
    break_ambiguous,
]


@pytest.mark.parametrize("damage", BREAKS)
def test_a_bad_pair_is_left_out_and_named_once(damage, archive: Path, tmp_path: Path) -> None:
    words = damage(archive / "Tuning")
    report = lay_out_challenge(archive, tmp_path / "out")
    (problem,) = report.problems
    assert words in problem
    assert problem.startswith("validation/")
    assert str(tmp_path) not in problem
    assert report.counts["validation"] == 2
    assert not list((tmp_path / "out/validation").rglob("cell_00002*"))
    with (tmp_path / "out/manifest.csv").open() as file:
        assert "validation/images/cell_00002.png" not in file.read()


def test_an_unlabelled_image_cut_short_is_only_a_warning(archive: Path, tmp_path: Path) -> None:
    write_pair(archive, "whole")
    data = (archive / "images/whole.png").read_bytes()
    (archive / "release-part1/unlabeled_cell_00504.png").write_bytes(data[:300])
    report = lay_out_challenge(archive, tmp_path / "out")
    assert report.problems == ()
    assert any("unlabeled_cell_00504" in line for line in report.warnings)
    assert report.counts["unlabelled"] == 1


def test_an_image_too_large_for_memory_stays_and_is_warned_of(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise TooLargeError(f"{path} would need more memory")

    monkeypatch.setattr("fewcell.data.challenge.read_image", refuse)
    report = lay_out_challenge(archive, tmp_path / "out")
    assert report.counts["train"] == 3
    assert any("cell_00001" in line and "not checked" in line for line in report.warnings)
    assert (tmp_path / "out/train/labels/cell_00001_label.tiff").exists()


def assert_refused(folder: Path, tmp_path: Path, words: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=words):
        lay_out_challenge(folder, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["../../evil.png", "/etc/evil.png", "..\\..\\evil.png", "C:\\evil.png"])
def test_a_zip_with_a_name_that_leads_out_is_refused(name: str, archive: Path, tmp_path: Path) -> None:
    zipped = zip_up(archive)
    with zipfile.ZipFile(zipped / "Tuning.zip", "a") as file:
        file.writestr(name, b"evil")
    assert_refused(zipped, tmp_path, r"Tuning\.zip.*evil\.png.*leads out")


def test_a_zip_with_a_link_is_refused(archive: Path, tmp_path: Path) -> None:
    zipped = zip_up(archive)
    link = zipfile.ZipInfo("Tuning/images/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(zipped / "Tuning.zip", "a") as file:
        file.writestr(link, "/etc/passwd")
    assert_refused(zipped, tmp_path, "a link")


def test_a_zip_cut_short_is_refused(archive: Path, tmp_path: Path) -> None:
    zipped = zip_up(archive)
    data = (zipped / "Tuning.zip").read_bytes()
    (zipped / "Tuning.zip").write_bytes(data[: len(data) // 2])
    assert_refused(zipped, tmp_path, r"Tuning\.zip is damaged.*download it again")


def test_a_zip_with_a_flipped_byte_is_refused_and_leaves_nothing(archive: Path, tmp_path: Path) -> None:
    zipped = zip_up(archive)
    data = bytearray((zipped / "Tuning.zip").read_bytes())
    data[data.index(b"cell_00001.bmp") + 2000] ^= 0xFF
    (zipped / "Tuning.zip").write_bytes(data)
    assert_refused(zipped, tmp_path, r"Tuning\.zip is damaged")


def test_a_zip_larger_than_the_disk_is_refused(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zipped = zip_up(archive)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="GB are needed"):
        lay_out_challenge(zipped, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # Unpacked files on the same disk are linked: they need no space.
    assert lay_out_challenge(archive, tmp_path / "out").counts["train"] == 3


def test_files_are_copied_where_links_are_impossible(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    lay_out_challenge(archive, tmp_path / "out")
    copy, original = (
        tmp_path / "out/train/images/cell_00002.png",
        archive / "Training-labeled/images/cell_00002.png",
    )
    assert copy.read_bytes() == original.read_bytes()
    assert not copy.samefile(original)


def test_existing_output_is_never_touched(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    lay_out_challenge(archive, out)
    before = tree(out)
    with pytest.raises(WriteError, match="remove it or choose another"):
        lay_out_challenge(archive, out)
    assert tree(out) == before


def test_a_folder_without_any_part_says_where_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", tmp_path, r"zenodo\.org/records/10719375")
    assert_refused(tmp_path / "absent", tmp_path, "is not a folder")
