"""A real slide of stained tissue, segmented by the command, and its outputs read by others."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from shapely.geometry import shape
from typer.testing import CliRunner

from fewcell.cli import app

SLIDE = Path(__file__).parents[2].parent / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"
yaozarrs = pytest.importorskip("yaozarrs")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    if not SLIDE.exists():
        pytest.skip(f"{SLIDE} is not there")
    out = tmp_path_factory.mktemp("real") / "o.zarr"
    done = CliRunner().invoke(app, ["segment", str(SLIDE), "-o", str(out), "--diameter", "7um", "--export", "geojson"])
    assert done.exit_code == 0, done.output
    return out.parent


@pytest.mark.slow
def test_labels_are_valid_for_an_independent_reader(outputs) -> None:
    group = yaozarrs.validate_zarr_store(str(outputs / "o.zarr"))
    assert group.ome_metadata().version == "0.5"
    labels = zarr.open_array(str(outputs / "o.zarr" / "0"), mode="r")
    assert labels.shape == (2967, 2220)
    assert labels.dtype == np.uint32
    assert zarr.open_group(str(outputs / "o.zarr"), mode="r").attrs["made_by"]["n_cells"] == labels[:].max()


@pytest.mark.slow
def test_all_polygons_are_valid_and_as_large_as_the_table_says(outputs) -> None:
    with open(outputs / "o_cells.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    features = json.loads((outputs / "o_cells.geojson").read_text(encoding="utf-8"))["features"]
    assert len(features) == len(rows) > 1000
    polygons = [shape(feature["geometry"]) for feature in features]
    assert all(polygon.is_valid for polygon in polygons)
    for row, polygon in zip(rows, polygons, strict=True):
        assert polygon.area == pytest.approx(float(row["area_px"]), rel=0.15, abs=4)
    wide = [float(row["diameter_um"]) for row in rows]
    assert 4 < np.median(wide) < 10, "nuclei of human tissue"
