"""Mistakes drawn over the worst images."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.benchmark import evaluate_folders
from fewcell.errors import DataError, WriteError
from fewcell.report.mistakes import MISTAKE_COLOURS, draw_worst


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Three images with two cells each, of which 2, 1 and 0 are found; in the last something else is."""
    data, predicted = tmp_path / "data", tmp_path / "predicted"
    for folder in (data / "images", data / "labels", predicted):
        folder.mkdir(parents=True)
    for n_found, stem in ((2, "good"), (1, "half"), (0, "bad")):
        truth, found = np.zeros((2, 90, 120), dtype=np.int32)
        truth[10:30, 10:30], truth[10:30, 60:80] = 1, 2
        found[(truth > 0) & (truth <= n_found)] = truth[(truth > 0) & (truth <= n_found)]
        if not n_found:
            found[50:70, 20:40] = 1
        Image.fromarray((100 * (truth > 0)).astype(np.uint8)).save(data / "images" / f"{stem}.png")
        tifffile.imwrite(data / "labels" / f"{stem}_label.tiff", truth)
        tifffile.imwrite(predicted / f"{stem}_label.tiff", found)
    return data, predicted


def has(picture: np.ndarray, colour: str) -> bool:
    rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return bool((picture == rgb).all(axis=-1).any())


def test_the_worst_come_first_with_their_mistakes_in_colour(folders: tuple[Path, Path], tmp_path: Path) -> None:
    evaluation = evaluate_folders(*folders)
    drawn = draw_worst(evaluation, tmp_path / "drawn", count=2)
    assert [path.name for path in drawn] == ["01_bad.png", "02_half.png"]
    bad, half = (np.asarray(Image.open(path))[: 8 * 90] for path in drawn)  # above the legend
    assert has(bad, MISTAKE_COLOURS["missed"])
    assert has(bad, MISTAKE_COLOURS["false"])
    assert has(half, MISTAKE_COLOURS["missed"])
    assert not has(half, MISTAKE_COLOURS["false"])
    assert has(half, "#FFFFFF"), "what is right is outlined as well"
    with pytest.raises(WriteError, match=r"01_bad\.png: exists already"):
        draw_worst(evaluation, tmp_path / "drawn")
    assert len(draw_worst(evaluation, tmp_path / "drawn", overwrite=True)) == 3


def test_an_image_without_a_prediction_is_all_missed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (folders[1] / "good_label.tiff").unlink()
    drawn = draw_worst(evaluate_folders(*folders), tmp_path / "drawn")
    picture = np.asarray(Image.open(next(path for path in drawn if "good" in path.name)))
    assert has(picture[: 8 * 90], MISTAKE_COLOURS["missed"])


@pytest.mark.parametrize(("height", "width"), [(90, 20), (505, 475), (700, 700)])
def test_the_legend_is_whole_however_narrow_the_image(tmp_path: Path, height: int, width: int) -> None:
    data, predicted = tmp_path / "data", tmp_path / "predicted"
    for folder in (data / "images", data / "labels", predicted):
        folder.mkdir(parents=True)
    labels = np.zeros((height, width), dtype=np.int32)
    labels[10:16, 6:12] = 1
    Image.fromarray(labels.astype(np.uint8)).save(data / "images" / "x.png")
    tifffile.imwrite(data / "labels" / "x_label.tiff", labels)
    tifffile.imwrite(predicted / "x_label.tiff", labels)
    (path,) = draw_worst(evaluate_folders(data, predicted), tmp_path / "drawn")
    legend = np.asarray(Image.open(path))[-26:]
    assert all(has(legend, colour) for colour in MISTAKE_COLOURS.values())
    assert (legend[:, -8:] == legend[0, 0]).all(), "its last word ends before its end"


def test_labels_without_images_cannot_be_drawn_on(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for image in (folders[0] / "images").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="There is no image to draw on"):
        draw_worst(evaluate_folders(*folders), tmp_path / "drawn")
