"""What was corrected becomes a dataset: labels where people looked, UNKNOWN elsewhere."""

import os

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.data.dataset import load_sample, open_dataset
from fewcell.images import open_slide
from fewcell.types import UNKNOWN
from fewcell.web.cells import Cells
from fewcell.web.lessons import (
    copy_lessons,
    count_lessons,
    crop_windows,
    crops_named,
    known_labels,
    write_crops,
)

CELLS = "/api/images/discs.png/cells/default"


def numbers(labels):
    return sorted(set(np.unique(labels).tolist()) - {0, UNKNOWN})


def test_only_what_was_looked_at_is_known(cells):
    stored = cells.read((0, 0, 700, 600))
    cells.correct("delete", [5], np.zeros((0, 2)))
    cells.correct("confirm", [9], np.zeros((0, 2)))
    cells.correct("region", [], np.array([[300.0, 300.0], [399.0, 399.0]]))
    known = known_labels(cells, (0, 0, 700, 600))
    assert (known[stored == 5] == 0).all()
    assert (known[stored == 9] == 9).all()
    region = np.s_[300:400, 300:400]
    assert np.array_equal(known[region], stored[region])
    touched = set(numbers(stored[region])) | {9}
    assert set(numbers(known)) == touched  # those that reach out of the region are whole
    for cell in touched:
        assert np.array_equal(known == cell, stored == cell)
    looked = np.isin(stored, [5, *touched])
    looked[region] = True
    assert (known[~looked] == UNKNOWN).all()


def test_parts_that_meet_are_one_crop(cells):
    for corner in (100.0, 150.0, 550.0):
        cells.correct("region", [], np.array([[corner, corner], [corner + 20, corner + 20]]))
    assert crop_windows(cells) == [(52, 52, 219, 219), (502, 502, 619, 600)]


def test_crops_that_would_be_too_large_together_stay_apart(cells, monkeypatch):
    monkeypatch.setattr("fewcell.web.lessons.MOST_CROP_PX", 150 * 150)
    for corner in (100.0, 150.0):
        cells.correct("region", [], np.array([[corner, corner], [corner + 20, corner + 20]]))
    assert crop_windows(cells) == [(52, 52, 169, 169), (102, 102, 219, 219)]


def test_every_correction_is_in_the_dataset_at_once_and_leaves_it_when_undone(client, root):
    folder = root / "fewcell" / "corrections"
    body = {"kind": "region", "points": [[100, 100], [300, 300]]}
    client.post(f"{CELLS}/corrections", json=body)
    (sample,) = open_dataset(folder)
    image, labels = load_sample(sample)
    assert labels is not None
    assert np.array_equal(image.pixels[0], np.asarray(Image.open(root / "discs.png"))[52:349, 52:349])
    assert (labels[48:249, 48:249] >= 0).all()
    assert (labels == UNKNOWN).any()
    known = client.get("/api/teaching").json()
    assert known == {"crops": 1, "cells": len(numbers(labels))}
    client.delete(f"{CELLS}/corrections")
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert client.get("/api/teaching").json() == {"crops": 0, "cells": 0}


def test_crops_lost_by_a_kill_are_made_again(root, client, open_page):
    client.post(f"{CELLS}/corrections", json={"kind": "confirm", "cells": [9]})
    files = sorted(path for path in (root / "fewcell" / "corrections").rglob("*.*"))
    assert len(files) == 2
    for path in files:
        path.unlink()
    with open_page(root) as again:
        again.get(CELLS)
    assert sorted(path for path in (root / "fewcell" / "corrections").rglob("*.*")) == files


@pytest.mark.parametrize(("dtype", "channels"), [("uint16", 1), ("uint8", 2), ("float32", 3)])
def test_images_that_are_no_pictures_keep_their_numbers(cells, tmp_path, dtype, channels):
    pixels = np.random.default_rng(0).uniform(0, 200, (channels, 700, 600)).astype(dtype)
    path = tmp_path / "discs.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "CYX"}, ome=True)
    other = Cells(cells.folder, tmp_path / "discs.tif", lambda: open_slide(path))
    other.correct("confirm", [9], np.zeros((0, 2)))
    with open_slide(path) as slide:
        write_crops(other, slide, tmp_path / "dataset", "[x]")
    (sample,) = open_dataset(tmp_path / "dataset")
    image, labels = load_sample(sample)
    top, left, bottom, right = crop_windows(other)[0]
    assert labels is not None
    assert np.array_equal(image.pixels, pixels[:, top:bottom, left:right].astype(np.float32))


def test_only_crops_that_a_change_meets_are_written_again(client, root):
    labels = root / "fewcell" / "corrections" / "labels"
    client.post(f"{CELLS}/corrections", json={"kind": "region", "points": [[20, 20], [120, 120]]})
    (first,) = labels.iterdir()
    written = first.stat().st_mtime_ns
    client.post(f"{CELLS}/corrections", json={"kind": "region", "points": [[400, 400], [500, 500]]})
    assert len(list(labels.iterdir())) == 2
    assert first.stat().st_mtime_ns == written
    inside = client.get(CELLS).json()["columns"]
    cell = next(
        int(i) for i, y, x in zip(inside["id"], inside["y"], inside["x"], strict=True) if 40 < y < 100 and 40 < x < 100
    )
    client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [cell]})
    assert first.stat().st_mtime_ns > written
    client.delete(f"{CELLS}/corrections")
    assert len(list(labels.iterdir())) == 2


def test_a_correction_that_cannot_be_learned_from_is_saved_and_the_cells_can_be_opened(client, root, open_page):
    (root / "fewcell" / "corrections").symlink_to(root)  # as a full disk would, it keeps crops from being written
    answer = client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]})
    assert answer.status_code == 200
    assert answer.json()["warning"].startswith("Saved, but nothing can be learned from it: ")
    with open_page(root) as another:
        assert 5 not in another.get(CELLS).json()["columns"]["id"]
    assert "warning" in client.delete(f"{CELLS}/corrections").json()
    (root / "fewcell" / "corrections").unlink()
    assert client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]}).json()["warning"] == ""


def test_where_crops_meet_the_newest_word_counts(cells, tmp_path):
    folder = tmp_path / "all"
    cells.correct("region", [], np.array([[100.0, 100.0], [300.0, 300.0]]))
    with open_slide(tmp_path / "served/discs.png") as slide:
        write_crops(cells, slide, folder, crops_named("discs.png", "a", "01234567"))
        write_crops(cells, slide, folder, crops_named("other@a.png", "a", "01234567"))
        alone = count_lessons(folder)
        gone, *_ = numbers(cells.read((150, 150, 250, 250)))
        while cells.corrections:
            cells.undo()
        cells.correct("delete", [gone], np.zeros((0, 2)))
        cells.correct("confirm", [numbers(cells.read((150, 150, 250, 250)))[0]], np.zeros((0, 2)))
        write_crops(cells, slide, folder, crops_named("discs.png", "b-1", "01234567"))
    newest = max((folder / "labels").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    os.utime(newest, ns=(newest.stat().st_atime_ns, newest.stat().st_mtime_ns + 10**9))
    assert count_lessons(folder) == {"crops": 3, "cells": alone["cells"] - 1}, "one is no cell, one is known twice"
    copy_lessons(folder, tmp_path / "some")
    samples = {sample.stem: sample for sample in open_dataset(tmp_path / "some")}
    assert sorted(samples) == sorted(path.name.removesuffix("_label.tiff") for path in (folder / "labels").iterdir())
    known = np.zeros((700, 600), dtype=int)
    for stem, sample in samples.items():
        if stem.startswith("discs.png@"):
            _, labels = load_sample(sample)
            top, left, bottom, right = map(int, stem.split("-")[-4:])
            known[top:bottom, left:right] += labels != UNKNOWN
    assert known.max() == 1, "nothing is known by two crops"


def test_what_is_too_large_to_be_a_crop_is_left_out(cells, monkeypatch):
    """As an older log may hold it: the cells must open nevertheless."""
    cells.correct("region", [], np.array([[100.0, 100.0], [300.0, 300.0]]))
    cells.correct("confirm", [numbers(cells.read((400, 400, 500, 500)))[0]], np.zeros((0, 2)))
    assert len(crop_windows(cells)) == 2
    monkeypatch.setattr("fewcell.web.lessons.MOST_ALONE_PX", 40_000)
    assert len(crop_windows(cells)) == 1


def test_crops_without_a_cell_are_kept_but_not_learned_from(client, root):
    client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]})
    assert len(list((root / "fewcell/corrections/labels").iterdir())) == 1
    assert client.get("/api/teaching").json() == {"crops": 0, "cells": 0}
    assert client.post("/api/teaching", json={"model": "default"}).status_code == 409
    client.post(f"{CELLS}/corrections", json={"kind": "confirm", "cells": [6]})
    assert client.get("/api/teaching").json()["cells"] == 1
