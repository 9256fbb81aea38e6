"""Points, boxes and regions: what people may write, and everything that may be wrong with it."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from fewcell.data.dataset import load_sample, open_dataset, read_manifest
from fewcell.data.weak import read_boxes, read_points, read_regions, without_outline
from fewcell.errors import DataError
from fewcell.images import read_image
from fewcell.types import UNKNOWN

SHAPE = (40, 60)
WEAK = Path(__file__).parents[3] / "shared" / "data" / "weak"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "weak.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_points_are_y_and_x_whatever_else_a_file_holds(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffclass,x,y\nround,59.4,3\nlong,0,39.5\n")
    assert np.array_equal(read_points(path, SHAPE), [[3, 59.4], [39.5, 0]])
    assert read_points(written(tmp_path, "y,x\n"), SHAPE).shape == (0, 2)


def test_boxes_are_cut_to_the_image(tmp_path: Path) -> None:
    path = written(tmp_path, "y0,x0,y1,x1,class\n-3,10,20,70,RBC\n5,5,9,9,\n")
    assert np.array_equal(read_boxes(path, SHAPE), [[0, 10, 20, 60], [5, 5, 9, 9]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x,z\n1,2\n", "no column y"),
        ("y,x\n1,two\n", "no number"),
        ("y,x\n1\n", "no number"),
        ("y,x\n1,nan\n", "not finite"),
        ("y,x\n1,2\n45,2\n", r"row 2 \(45, 2\) lies outside of the image of 40 x 60"),
        ("", "no column y, x"),
    ],
)
def test_points_that_make_no_sense_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_points(written(tmp_path, text), SHAPE)


@pytest.mark.parametrize("row", ["9,5,9,9", "9,5,2,9", "50,5,60,9"])
def test_boxes_without_a_pixel_are_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(DataError, match="holds no pixel"):
        read_boxes(written(tmp_path, f"y0,x0,y1,x1\n{row}\n"), SHAPE)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for read in (read_points, read_boxes, read_regions):
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path / "none", SHAPE)


def square(y: float, x: float, side: float) -> list[list[float]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def test_regions_are_polygons_without_their_holes(tmp_path: Path) -> None:
    path = tmp_path / "regions.geojson"
    polygon = {"type": "Polygon", "coordinates": [square(2, 4, 20), square(10, 10, 5)]}
    expected = np.zeros(SHAPE, dtype=bool)
    expected[2:22, 4:24] = True
    expected[10:15, 10:15] = False
    for shape in (
        polygon,
        {"type": "Feature", "geometry": polygon, "properties": {}},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": polygon}]},
        [{"type": "Feature", "geometry": {"type": "MultiPolygon", "coordinates": [polygon["coordinates"]]}}],
    ):
        path.write_text(json.dumps(shape))
        assert np.array_equal(read_regions(path, SHAPE), expected)


@pytest.mark.parametrize("text", ["no json", "[]", "{}", "7", '{"type": "Point", "coordinates": [3, 4]}'])
def test_a_file_without_a_polygon_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "regions.geojson"
    path.write_text(text)
    with pytest.raises(DataError, match=r"regions\.geojson (holds no|is no GeoJSON of) polygon"):
        read_regions(path, SHAPE)


def test_a_dataset_knows_its_weak_labels_and_nothing_is_known_beyond_regions(tmp_path: Path) -> None:
    for name in ("images", "labels", "points", "boxes", "regions"):
        (tmp_path / name).mkdir()
    for stem in ("a", "b"):
        Image.fromarray(np.zeros(SHAPE, dtype=np.uint8)).save(tmp_path / "images" / f"{stem}.png")
    (tmp_path / "points" / "a.csv").write_text("y,x\n1,2\n")
    (tmp_path / "boxes" / "b.csv").write_text("y0,x0,y1,x1\n1,2,3,4\n")
    polygon = {"type": "Polygon", "coordinates": [square(0, 0, 30)]}
    (tmp_path / "regions" / "b.geojson").write_text(json.dumps(polygon))
    drawn = np.zeros(SHAPE, dtype=np.int32)
    drawn[5:9, 5:9], drawn[30:38, 40:50] = 1, 2
    tifffile.imwrite(tmp_path / "labels" / "b_label.tiff", drawn)
    a, b = open_dataset(tmp_path)
    assert (a.labels, a.points, a.boxes, a.regions) == (None, tmp_path / "points" / "a.csv", None, None)
    assert (b.points, b.boxes) == (None, tmp_path / "boxes" / "b.csv")
    labels = load_sample(b)[1]
    assert labels is not None
    assert np.array_equal(np.maximum(labels, 0), drawn)
    outside = np.ones(SHAPE, dtype=bool)
    outside[:30, :30] = False
    assert np.array_equal(labels == UNKNOWN, outside & (drawn == 0))

    (tmp_path / "points" / "c.csv").write_text("y,x\n")
    with pytest.raises(DataError, match="have no image, for example c"):
        open_dataset(tmp_path)


@given(labels=arrays(np.int32, (5, 6), elements=st.sampled_from([UNKNOWN, UNKNOWN, UNKNOWN, 0, 1, 7])))
def test_a_cell_among_nothing_but_unknown_has_no_outline(labels: np.ndarray) -> None:
    beside = {number: set() for number in (1, 7)}
    for y, x in np.ndindex(*labels.shape):
        for there in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if labels[y, x] > 0 and 0 <= there[0] < 5 and 0 <= there[1] < 6 and labels[there] != labels[y, x]:
                beside[labels[y, x]].add(int(labels[there]))
    lost = [number for number, its in beside.items() if its == {UNKNOWN}]
    assert np.array_equal(without_outline(labels), np.isin(labels, lost))


@pytest.mark.skipif(not WEAK.is_dir(), reason="the shared images are not there")
def test_real_points_and_boxes_are_as_many_as_the_manifest_says() -> None:
    samples = {sample.stem: sample for sample in open_dataset(WEAK)}
    said = {row["stem"]: row for row in read_manifest(WEAK.parent / "manifest.csv") if row["stem"] in samples}
    assert said.keys() == samples.keys()
    kinds = {"points": 0, "boxes": 0}
    for stem, sample in samples.items():
        pixels = read_image(sample.image).pixels
        shape = (pixels.shape[1], pixels.shape[2])
        points = read_points(sample.points, shape) if sample.points else None
        marks = points if points is not None else read_boxes(sample.boxes, shape) if sample.boxes else np.zeros((0, 2))
        kinds["points"] += sample.points is not None
        kinds["boxes"] += sample.boxes is not None
        assert len(marks) == int(said[stem]["n_instances"] or 0), stem
    assert min(kinds.values()) > 20
