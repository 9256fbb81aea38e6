"""Files to take along, read back: what is shown, under the numbers of the page, with the corrections."""

import csv
import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from fewcell.web import downloads

CELLS = "/api/images/discs.png/cells/default"


def file(client, kind, **asked):
    answer = client.get(f"{CELLS}/files/{kind}", params=asked)
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    return answer.content


def ids(client, kind, **asked):
    content = file(client, kind, **asked)
    if kind == "csv":
        return [int(row["id"]) for row in csv.DictReader(io.StringIO(content.decode()))]
    if kind == "parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(io.BytesIO(content))["id"].to_pylist()
    if kind == "geojson":
        return [int(feature["properties"]["name"]) for feature in json.loads(content)["features"]]
    if kind == "rois":
        return [int(name.removesuffix(".roi")) for name in zipfile.ZipFile(io.BytesIO(content)).namelist()]
    return [number for number in np.unique(labels(client, kind, **asked)).tolist() if number]


def labels(client, kind, **asked):
    content = file(client, kind, **asked)
    if kind == "tiff":
        return tifffile.imread(io.BytesIO(content))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        archive.extractall(client.folder)
    return np.asarray(zarr.open_array(client.folder / "discs_label.zarr" / "0")[:])


@pytest.fixture
def corrected(client, tmp_path):
    """Cell 5 removed, 3 and 4 merged into a new one."""
    client.folder = tmp_path / "unpacked"
    count = len(client.get(CELLS).json()["columns"]["id"])
    client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]})
    client.post(f"{CELLS}/corrections", json={"kind": "merge", "cells": [3, 4]})
    return client, [1, 2, *range(6, count + 2)]


@pytest.mark.parametrize("kind", ["csv", "parquet", "geojson", "rois", "tiff", "zarr"])
def test_every_file_has_the_cells_of_the_page(corrected, kind):
    client, expected = corrected
    assert sorted(ids(client, kind)) == expected


@pytest.mark.parametrize("kind", ["csv", "geojson", "rois", "tiff", "zarr"])
def test_what_the_sliders_hide_is_not_in_the_files(corrected, kind):
    client, _ = corrected
    columns = client.get(CELLS).json()["columns"]
    middle = sorted(columns["area_px"])[len(columns["area_px"]) // 2]
    expected = [int(i) for i, area in zip(columns["id"], columns["area_px"], strict=True) if area >= middle]
    assert sorted(ids(client, kind, min_area_px=middle)) == expected


def test_label_images_are_those_of_the_page(corrected, tile):
    client, _ = corrected
    for kind in ("tiff", "zarr"):
        assert np.array_equal(labels(client, kind)[:512, :512], tile(client, 1, 0, 0))


def test_outlines_have_the_area_of_their_cells(corrected):
    shapely = pytest.importorskip("shapely.geometry")
    client, _ = corrected
    features = json.loads(file(client, "geojson"))["features"]
    for feature in features:
        area = feature["properties"]["measurements"]["Area px"]
        assert shapely.shape(feature["geometry"]).area == area


def test_the_overlay_is_a_picture(corrected):
    assert Image.open(io.BytesIO(file(corrected[0], "overlay"))).size == (600, 700)


def test_an_image_whose_cells_were_all_removed(client, root):
    for kind in ("csv", "geojson", "geojson.gz", "rois", "tiff", "zarr", "overlay"):
        assert file(client, kind, min_score=1)
    assert not list((root / "fewcell").rglob(".download*"))


def test_what_is_corrected_meanwhile_is_not_in_the_file(client, monkeypatch):
    before, write = client.get(CELLS).json()["columns"]["id"], downloads.write_export

    def later(*arguments, **how):
        assert client.post(f"{CELLS}/corrections", json={"kind": "delete", "cells": [5]}).status_code == 200
        return write(*arguments, **how)

    monkeypatch.setattr(downloads, "write_export", later)
    assert sorted(ids(client, "geojson")) == before
    assert 5 not in client.get(CELLS).json()["columns"]["id"]


def test_files_are_written_one_at_a_time(client, monkeypatch):
    """However many ask at once, memory is that of one; tiles are answered meanwhile."""
    at_once, most, go = [], [], Event()

    def write(cells, kind, shown, folder):
        at_once.append(kind)
        most.append(len(at_once))
        go.wait(20)
        at_once.pop()
        path = folder / "cells.csv"
        path.write_text("id\n")
        return path

    monkeypatch.setattr("fewcell.web.routes.write_file", write)
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(client.get, f"{CELLS}/files/csv") for _ in range(12)]
        while not most:
            sleep(0.01)
        assert client.get(f"{CELLS}/tiles/1/0/0").status_code == 200
        go.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert most == [1] * 12


def test_what_is_not_known_is_refused_and_leaves_nothing(client, root):
    for kind, asked in (("exe", {}), ("csv", {"min_score": 7}), ("csv", {"x": 1}), ("csv", {"min_score": "nan"})):
        assert client.get(f"{CELLS}/files/{kind}", params=asked).status_code in (404, 422)
    assert not list((root / "fewcell").rglob(".download*"))
