"""Exports of a slide's cells, read back by libraries that know nothing of fewcell."""

import csv
import gzip
import io
import json
import tracemalloc
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anndata
import numpy as np
import pytest
import shapely
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pyarrow import parquet
from roifile import ROI_TYPE, ImagejRoi, roiread
from skimage.draw import polygon2mask

from fewcell import errors
from fewcell.errors import ConfigError, MissingDependencyError, WriteError
from fewcell.images import measure_cells, read_labels, write_cells
from fewcell.slides import export_rois
from fewcell.slides.export_outlines import outlines
from fewcell.slides.exports import EXPORTS, ExportSource, Numbered, check_exports, write_export
from fewcell.slides.label_zarr import chunks_of, create_labels, shrink_chunk
from fewcell.slides.plan import SlidePlan, SlideTask
from fewcell.slides.stitch import Piece, paint
from fewcell.types import Instances

SHAPE = (90, 130)


@dataclass(frozen=True)
class Drawn:
    """A drawn slide: its cells in pieces, the plan, the label image, and the same labels in memory."""

    numbered: list[Numbered]
    plan: SlidePlan
    path: Path
    labels: np.ndarray

    def pieces(self) -> Iterator[Numbered]:
        return iter(self.numbered)

    def write(self, kinds: tuple[str, ...] | list[str], stem: Path, *, overwrite: bool = False) -> dict[str, Path]:
        paths = check_exports(kinds, stem, overwrite=overwrite)
        n_cells = sum(numbered.piece.n_cells for numbered in self.numbered)
        for kind, path in paths.items():
            write_export(kind, path, ExportSource(self.pieces, n_cells, self.plan, self.path))
        return paths


def plan_of(shape: tuple[int, int], slide: Path, pixel_size_um: float | None, diameter_px: float = 15) -> SlidePlan:
    task = SlideTask(
        version="1",
        fingerprint="f",
        channels=None,
        axes=None,
        plane=None,
        model_sha256={},
        precision="f32",
        accurate=False,
        pixel_size_um=pixel_size_um,
        diameter_px=diameter_px,
        tile_px=1024,
        level=0.4,
        min_score=0.4,
        min_area_px=1,
    )
    return SlidePlan.model_construct(
        task=task,
        slide=str(slide),
        shape=shape,
        contrast_low=(0.0, 0.0, 0.0),
        contrast_span=(255.0, 255.0, 255.0),
        diameter_px=diameter_px,
    )


def piece_of(labels: np.ndarray, top: int = 0, left: int = 0, pixel_size_um: float | None = None) -> Piece:
    """A piece with these labels, numbered anew from 1, in a window whose first pixel is (top, left)."""
    labels = np.unique(np.append(0, labels.ravel()), return_inverse=True)[1][1:].reshape(labels.shape).astype(np.int32)
    count = int(labels.max(initial=0))
    scores = np.linspace(0.5, 0.987654321, count).astype(np.float32)
    pixels = np.stack([labels * 1.5, np.ones(labels.shape)])
    columns = {}
    if count:
        found = Instances(labels, scores)
        columns = measure_cells(found, pixels, pixel_size_um=pixel_size_um, channel_names=("DAPI", "a,b"))
        columns["y"], columns["x"] = columns["y"] + top, columns["x"] + left
    return Piece((top, left, top + labels.shape[0], left + labels.shape[1]), labels, columns, 0.9)


def draw_cells(shape: tuple[int, int]) -> np.ndarray:
    """Cells that touch, one with a hole, one of one pixel, one of 12 px across, and some at every edge."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    labels = np.zeros(shape, dtype=np.int32)
    labels[20:40, 10:30], labels[20:40, 30:44] = 1, 2
    labels[26:31, 15:22] = 0
    labels[33, 15] = 0
    labels[60, 60] = 3
    labels[np.hypot(y - 60, x - 20) <= 6] = 4
    labels[:5, :7] = 5
    labels[-4:, -9:] = 6
    labels[np.hypot(y - shape[0], x - 80) <= 11] = 7
    labels[np.hypot(y - 40, x - 100) <= 17] = 8
    return labels


def make(folder: Path, shape: tuple[int, int], cells: np.ndarray | None, pixel_size_um: float | None) -> Drawn:
    """A slide whose left and right halves are a piece each, with an empty piece between."""
    folder.mkdir(parents=True, exist_ok=True)
    cells = np.zeros(shape, dtype=np.int32) if cells is None else cells
    half = shape[1] // 2
    left = np.where(np.isin(cells, cells[:, :half]), cells, 0)
    parts = [piece_of(left, pixel_size_um=pixel_size_um), piece_of(np.zeros((0, 0), dtype=np.int32), 7, 7)]
    parts.append(piece_of(np.where(left > 0, 0, cells)[:, half:], 0, half, pixel_size_um))
    firsts = np.cumsum([0, *(part.n_cells for part in parts)]).tolist()
    labels = paint(parts, firsts[:-1], (0, 0, *shape))
    slide, path = folder / "slide.tif", folder / "labels.zarr"
    tifffile.imwrite(slide, np.repeat((cells > 0)[..., None] * np.uint8(150), 3, axis=2), photometric="rgb")
    create_labels(path, shape, pixel_size_um)
    arrays, windows = chunks_of(path)
    for level, window in windows:
        if level == 0:
            arrays[0][window[0] : window[2], window[1] : window[3]] = labels[
                window[0] : window[2], window[1] : window[3]
            ]
        else:
            shrink_chunk(arrays, level, window)
    numbered = [Numbered(part, before) for part, before in zip(parts, firsts[:-1], strict=True)]
    return Drawn(numbered, plan_of(shape, slide, pixel_size_um), path, labels)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return make(tmp_path_factory.mktemp("drawn"), SHAPE, draw_cells(SHAPE), 0.5)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return make(tmp_path_factory.mktemp("empty"), SHAPE, None, None)


@pytest.fixture(scope="module")
def written(drawn: Drawn, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return drawn.write(list(EXPORTS), tmp_path_factory.mktemp("written") / "name")


def fill(rings: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centres lie inside an odd number of rings, as programs fill a path. rings: x and y of edges."""
    masks = [polygon2mask(shape, np.asarray(ring)[:, ::-1] - 0.5 + [1e-6, 1e-6]) for ring in rings]
    return np.logical_xor.reduce(masks)


def assert_valid(geometry: dict) -> shapely.Geometry:
    """Shapely accepts it; outer rings go round counter-clockwise, holes the other way, all are closed."""
    shape = shapely.from_geojson(json.dumps(geometry))
    assert shape.is_valid, shapely.is_valid_reason(shape)
    polygons = [geometry["coordinates"]] if geometry["type"] == "Polygon" else geometry["coordinates"]
    for rings in polygons:
        assert all(ring[0] == ring[-1] for ring in rings)
        assert [shapely.LinearRing(ring).is_ccw for ring in rings] == [True] + [False] * (len(rings) - 1)
    return shape


def test_files_are_called_as_the_table_says(written: dict[str, Path]) -> None:
    assert [path.name for path in written.values()] == [
        "name_cells.csv",
        "name_cells.parquet",
        "name_cells.h5ad",
        "name_cells.geojson",
        "name_cells.geojson.gz",
        "name_rois.zip",
        "name_label.tiff",
        "name_overlay.png",
    ]
    assert {path.name for path in written["csv"].parent.iterdir()} == {path.name for path in written.values()}


def test_csv_has_a_row_a_cell_as_small_images_have(drawn: Drawn, written: dict[str, Path], tmp_path: Path) -> None:
    with written["csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["id"]) for row in rows] == [*range(1, 9)]
    assert [int(row["area_px"]) for row in rows] == np.bincount(drawn.labels.ravel())[1:].tolist()
    assert "mean_a,b" in rows[0]
    for row in rows:
        y, x = np.nonzero(drawn.labels == int(row["id"]))
        assert float(row["y"]) == pytest.approx(y.mean(), abs=1e-4)
        assert float(row["x"]) == pytest.approx(x.mean(), abs=1e-4)
    together = [numbered.columns() for numbered in drawn.numbered if numbered.piece.n_cells]
    write_cells(tmp_path / "one.csv", {name: np.concatenate([c[name] for c in together]) for name in together[0]})
    assert (tmp_path / "one.csv").read_bytes() == written["csv"].read_bytes()


def test_parquet_has_the_columns_of_the_csv(drawn: Drawn, written: dict[str, Path]) -> None:
    table = parquet.read_table(written["parquet"])
    with written["csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == list(rows[0])
    assert table["id"].to_pylist() == [*range(1, 9)]
    for name in table.column_names:
        np.testing.assert_allclose(table[name].to_numpy(), [float(row[name]) for row in rows], rtol=1e-6)
    assert parquet.ParquetFile(written["parquet"]).num_row_groups == 2


def test_anndata_reads_the_cells_with_what_was_measured(tmp_path: Path) -> None:
    drawn = make(tmp_path, SHAPE, draw_cells(SHAPE), 0.5)
    made_by = {"model": "default", "model_sha256": {"network.onnx": "0a"}, "n_cells": 8, "diameter_px": 15.5}
    zarr.open_group(str(drawn.path), mode="r+").attrs["made_by"] = made_by | {"channels": None, "failed_tiles": []}
    files = drawn.write(["csv", "h5ad"], tmp_path / "o")
    cells = anndata.read_h5ad(files["h5ad"])
    with files["csv"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert cells.shape == (8, 6)
    assert [*cells.obs_names] == [row["id"] for row in rows]
    assert [*cells.var_names] == ["area_px", "diameter_px", "area_um2", "diameter_um", "mean_DAPI", "mean_a,b"]
    for name in cells.var_names:
        np.testing.assert_allclose(cells[:, name].X[:, 0], [float(row[name]) for row in rows], rtol=1e-6)
    assert cells.obs["id"].tolist() == [*range(1, 9)]
    np.testing.assert_allclose(cells.obs["score"], [float(row["score"]) for row in rows], rtol=1e-6)
    np.testing.assert_allclose(cells.obsm["spatial"], [[float(row["x"]), float(row["y"])] for row in rows], rtol=1e-5)
    said = cells.uns["fewcell"]
    assert said["failed_tiles"].tolist() == []
    assert {key: said[key] for key in made_by} == made_by
    assert said["pixel_size_um"] == 0.5
    cells[cells.obs["score"] > 0.7].copy().write_h5ad(tmp_path / "again.h5ad")  # a whole AnnData in all its parts
    assert anndata.read_h5ad(tmp_path / "again.h5ad", backed="r").n_obs < 8


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    drawn = make(tmp_path, SHAPE, draw_cells(SHAPE), None)
    files = drawn.write(["csv", "parquet", "geojson", "h5ad"], tmp_path / "o")
    assert np.isnan(anndata.read_h5ad(files["h5ad"])[:, "area_um2"].X).all()
    with files["csv"].open(newline="", encoding="utf-8") as file:
        assert {row["area_um2"] for row in csv.DictReader(file)} == {""}
    assert parquet.read_table(files["parquet"])["area_um2"].null_count == 8
    (measured, *_) = [f["properties"]["measurements"] for f in json.loads(files["geojson"].read_text())["features"]]
    assert list(measured) == ["Score", "Area px", "Diameter px", "Mean DAPI", "Mean a,b"]


def test_geojson_is_what_qupath_reads(drawn: Drawn, written: dict[str, Path]) -> None:
    whole = json.loads(written["geojson"].read_text(encoding="utf-8"))
    assert whole["type"] == "FeatureCollection"
    areas = np.bincount(drawn.labels.ravel())
    for number, feature in enumerate(whole["features"], 1):
        assert feature["type"] == "Feature"
        assert uuid.UUID(feature["id"]).version == 5
        assert feature["properties"]["objectType"] == "detection"
        assert feature["properties"]["name"] == str(number)
        measured = feature["properties"]["measurements"]
        assert measured["Area px"] == areas[number]
        assert measured["Area um^2"] == pytest.approx(areas[number] / 4)
        assert {"Score", "Diameter um", "Mean DAPI"} <= set(measured)
        assert feature["geometry"]["type"] == "Polygon"
        assert assert_valid(feature["geometry"]).area == areas[number]
        filled = fill(feature["geometry"]["coordinates"], SHAPE)
        np.testing.assert_array_equal(filled, drawn.labels == number)
    assert len(whole["features"]) == 8
    assert len({feature["id"] for feature in whole["features"]}) == 8
    assert len(whole["features"][0]["geometry"]["coordinates"]) == 3  # two holes


def test_outlines_have_corners_only_where_they_turn(written: dict[str, Path]) -> None:
    for feature in json.loads(written["geojson"].read_text())["features"]:
        for ring in feature["geometry"]["coordinates"]:
            steps = np.diff(ring, axis=0)
            assert (np.count_nonzero(steps, axis=1) == 1).all()
            assert ((steps * np.roll(steps, 1, axis=0)).sum(axis=1) == 0).all()


def test_packed_geojson_is_the_plain_one(written: dict[str, Path]) -> None:
    assert gzip.decompress(written["geojson.gz"].read_bytes()) == written["geojson"].read_bytes()
    assert written["geojson.gz"].read_bytes()[4:8] == bytes(4)  # no time of day


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2)))
def test_any_shape_gives_valid_polygons_that_cover_it_exactly(labels: np.ndarray) -> None:
    """Specks, parts that meet in corners, holes that meet the outside, rings in rings."""
    piece = piece_of(labels, top=3, left=5)
    found = list(outlines(piece))
    assert len(found) == piece.n_cells
    for number, polygons in enumerate(found, 1):
        mask = piece.labels == number
        closed = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
        shape = assert_valid({"type": "MultiPolygon", "coordinates": closed})
        assert shape.area == mask.sum()
        boxes = [shapely.box(x + 5, y + 3, x + 6, y + 4) for y, x in np.argwhere(mask)]
        assert shape.symmetric_difference(shapely.union_all(boxes)).area == 0


def test_a_cell_of_several_parts_is_a_multipolygon_and_a_composite_roi(tmp_path: Path) -> None:
    cells = np.zeros((20, 24), dtype=np.int32)
    cells[2:6, 2:6], cells[6:9, 6:9] = 1, 1
    drawn = make(tmp_path, cells.shape, cells, None)
    files = drawn.write(["geojson", "rois"], tmp_path / "o")
    (feature,) = json.loads(files["geojson"].read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert assert_valid(feature["geometry"]).area == 25
    (roi,) = roiread(files["rois"])
    assert roi.roitype == ROI_TYPE.RECT
    np.testing.assert_array_equal(fill(roi.coordinates(multi=True), cells.shape), cells == 1)


def test_rois_filled_are_the_cells(drawn: Drawn, written: dict[str, Path]) -> None:
    rois = roiread(written["rois"])
    assert [roi.name for roi in rois] == [str(i) for i in range(1, 9)]
    for number, roi in enumerate(rois, 1):
        rings = roi.coordinates(multi=True) if roi.composite else [roi.coordinates()]
        np.testing.assert_array_equal(fill(rings, SHAPE), drawn.labels == number)
    assert [roi.roitype for roi in rois] == [ROI_TYPE.RECT] + [ROI_TYPE.TRACED] * 7


def test_rois_far_from_the_first_pixel_are_where_they_are(drawn: Drawn, tmp_path: Path) -> None:
    """Whole numbers in ROI files end at 65535."""
    piece = piece_of(np.ones((3, 4), dtype=np.int32), top=100_001, left=40_000)
    far = Drawn([Numbered(piece, 0)], drawn.plan, drawn.path, drawn.labels)
    (roi,) = roiread(far.write(["rois"], tmp_path / "o")["rois"])
    assert isinstance(roi, ImagejRoi)
    assert roi.coordinates().min(axis=0).tolist() == [40_000, 100_001]
    assert roi.coordinates().max(axis=0).tolist() == [40_004, 100_004]


def test_too_many_rois_are_refused_before_anything_is_written(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_rois, "MOST_ROIS", 7)
    with pytest.raises(ConfigError, match=r"8 cells.*no more than 7.*GeoJSON"):
        drawn.write(["rois"], tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_tiff_is_the_label_image_with_its_copies(tmp_path: Path) -> None:
    shape = (1100, 2100)
    drawn = make(tmp_path, shape, draw_cells(shape), 0.25)
    zarr.open_group(str(drawn.path), mode="r+").attrs["made_by"] = {"fewcell": "1"}
    path = drawn.write(["tiff"], tmp_path / "o")["tiff"]
    with tifffile.TiffFile(path) as tiff:
        (series,) = tiff.series
        assert tiff.is_bigtiff
        assert series.dtype == np.uint32
        assert tiff.pages.first.is_tiled
        assert tiff.pages.first.tags["XResolution"].value == (40_000, 1)
        assert '"fewcell": "1"' in tiff.ome_metadata.replace("&quot;", '"')
        levels = [level.asarray() for level in series.levels]
    assert [level.shape for level in levels] == [(1100, 2100), (550, 1050), (275, 525)]
    for i, level in enumerate(levels):
        np.testing.assert_array_equal(level, drawn.labels[:: 2**i, :: 2**i])
    np.testing.assert_array_equal(read_labels(path), drawn.labels)


@pytest.mark.parametrize(("shape", "diameter_px", "outlined"), [(SHAPE, 15, True), ((4100, 900), 15, False)])
def test_overlay_shows_the_cells(tmp_path: Path, shape, diameter_px: float, outlined: bool) -> None:
    drawn = make(tmp_path, shape, draw_cells(shape), None)
    picture = Image.open(drawn.write(["overlay"], tmp_path / "o")["overlay"])
    assert max(picture.size) == min(2000, max(shape))
    pixels = np.asarray(picture).astype(int)
    step = shape[0] / len(pixels)
    coloured = np.ptp(pixels, axis=2) > 40
    y, x = int(40 / step), int(100 / step)
    assert coloured[y, x] != outlined  # the middle of the largest cell
    assert not coloured[int(12 / step), x]
    if outlined:
        assert not coloured[drawn.labels == 0].any()
        assert set(np.unique(drawn.labels[coloured])) == {*range(1, 9)}


def test_no_cells_give_valid_empty_files(empty: Drawn, tmp_path: Path) -> None:
    files = empty.write(list(EXPORTS), tmp_path / "o")
    names = ["id", "score", "y", "x", "area_px", "diameter_px", "area_um2", "diameter_um"]
    assert files["csv"].read_text() == ",".join(names) + "\n"
    table = parquet.read_table(files["parquet"])
    assert (table.num_rows, table.column_names) == (0, names)
    cells = anndata.read_h5ad(files["h5ad"])
    assert (cells.shape, [*cells.var_names], cells.obsm["spatial"].shape) == ((0, 4), names[4:], (0, 2))
    assert json.loads(files["geojson"].read_text()) == {"type": "FeatureCollection", "features": []}
    assert gzip.decompress(files["geojson.gz"].read_bytes()) == files["geojson"].read_bytes()
    assert roiread(files["rois"]) == []
    assert not tifffile.imread(files["tiff"]).any()
    assert Image.open(files["overlay"]).size == (SHAPE[1], SHAPE[0])


def test_the_same_cells_give_the_same_bytes(drawn: Drawn, written: dict[str, Path], tmp_path: Path) -> None:
    again = drawn.write(list(EXPORTS), tmp_path / "name")
    for kind, path in again.items():
        assert path.read_bytes() == written[kind].read_bytes(), kind


@pytest.mark.parametrize(
    ("kind", "n_pieces"), [("csv", 40), ("parquet", 40), ("h5ad", 40), ("geojson", 40), ("rois", 10)]
)
def test_memory_does_not_grow_with_the_slide(drawn: Drawn, tmp_path: Path, kind: str, n_pieces: int) -> None:
    """20,000 cells in 40 pieces take no more memory than one piece; ROIs some bytes a cell, for the list of the zip."""
    piece = piece_of(np.kron(np.arange(1, 501).reshape(20, 25), np.ones((8, 8), dtype=int)))

    def write(count: int) -> Path:
        numbered = (Numbered(piece, 500 * i) for i in range(count))
        source = ExportSource(lambda: numbered, 500 * count, drawn.plan, drawn.path)
        EXPORTS[kind].write(tmp_path / "o", source)
        return tmp_path / "o"

    def peak(count: int) -> int:
        tracemalloc.start()
        write(count)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    write(1)  # libraries are loaded
    one, all_of_them = peak(1), peak(n_pieces)
    assert all_of_them < one + 300_000 + (800 * 500 * n_pieces if kind == "rois" else 0)
    if kind == "geojson":
        assert json.loads((tmp_path / "o").read_text())["features"][-1]["properties"]["name"] == "20000"


def test_an_unknown_kind_says_the_nearest(drawn: Drawn, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no export 'geojsn'; did you mean 'geojson'\?"):
        drawn.write(["csv", "geojsn"], tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_a_missing_library_is_named_with_the_line_to_type(
    drawn: Drawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pyarrow.*pip install '\.\[tables\]'"):
        drawn.write(["csv", "parquet"], tmp_path / "o")
    with pytest.raises(MissingDependencyError, match=r"h5py.*pip install '\.\[tables\]'"):
        drawn.write(["csv", "h5ad"], tmp_path / "o")
    assert not list(tmp_path.iterdir())


def test_existing_files_stay_untouched_unless_they_may_be_overwritten(drawn: Drawn, tmp_path: Path) -> None:
    (tmp_path / "o_cells.geojson").write_text("mine")
    with pytest.raises(WriteError, match=r"o_cells\.geojson: exists already.*--overwrite"):
        drawn.write(["csv", "geojson"], tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["o_cells.geojson"]
    assert (tmp_path / "o_cells.geojson").read_text() == "mine"
    assert check_exports(["csv"], tmp_path / "o", overwrite=False) == {"csv": tmp_path / "o_cells.csv"}
    drawn.write(["geojson"], tmp_path / "o", overwrite=True)
    assert len(json.load(io.StringIO((tmp_path / "o_cells.geojson").read_text()))["features"]) == 8


def test_a_pass_that_fails_leaves_no_file(drawn: Drawn, tmp_path: Path) -> None:
    def pieces() -> Iterator[Numbered]:
        yield drawn.numbered[0]
        raise RuntimeError("the disk is gone")

    for kind in ("csv", "parquet", "geojson", "geojson.gz"):
        with pytest.raises(RuntimeError, match="the disk is gone"):
            write_export(kind, tmp_path / "o", ExportSource(pieces, 8, drawn.plan, drawn.path))
    assert not list(tmp_path.iterdir())
