"""GeoJSON that QuPath (0.4 and later) opens: one detection a cell, with its outline and measurements.

Source: the format that QuPath itself writes (File > Export objects as GeoJSON), and RFC 7946.
"""

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from fewcell.images.write import table_fields
from fewcell.slides.export_outlines import Polygon, outlines
from fewcell.slides.export_source import ExportSource, Numbered

__all__ = ["write_geojson", "write_packed_geojson"]

_MEASUREMENTS = {
    "score": "Score",
    "area_px": "Area px",
    "diameter_px": "Diameter px",
    "area_um2": "Area um^2",
    "diameter_um": "Diameter um",
}


def write_geojson(path: Path, source: ExportSource) -> None:
    """Write the cells as a GeoJSON FeatureCollection, one line a cell, coordinates in pixels of the slide."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        _write(file, source)


def write_packed_geojson(path: Path, source: ExportSource) -> None:
    """Write the same GeoJSON in about a fifth of the bytes; QuPath opens it as it is."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        _write(text, source)


def _write(file: IO[str], source: ExportSource) -> None:
    file.write('{"type":"FeatureCollection","features":[')
    before = "\n"
    for numbered in source.filled():
        for feature in _features(numbered, source):
            file.write(before + json.dumps(feature, separators=(",", ":"), allow_nan=False))
            before = ",\n"
    file.write("\n]}\n")


def _features(numbered: Numbered, source: ExportSource) -> Iterator[dict[str, Any]]:
    """A GeoJSON feature a cell."""
    measured = numbered.columns()
    shown = {
        name: _MEASUREMENTS.get(name) or f"Mean {name.removeprefix('mean_')}" for name in measured if _is_shown(name)
    }
    rows = zip(*(_numbers(measured[name]) for name in shown), strict=True)
    for number, row, polygons in zip(measured["id"].tolist(), rows, outlines(numbered.piece), strict=True):
        yield {
            "type": "Feature",
            "id": source.identity(str(number)),
            "geometry": _geometry(polygons),
            "properties": {
                "objectType": "detection",
                "name": str(number),
                "measurements": {
                    name: value for name, value in zip(shown.values(), row, strict=True) if value is not None
                },
            },
        }


def _is_shown(column: str) -> bool:
    return column in _MEASUREMENTS or column.startswith("mean_")


def _numbers(column: NDArray[Any]) -> list[float | None]:
    """The numbers of a column as tables show them; None where one is not known, for JSON has no word for that."""
    unknown = ("", "inf", "-inf")
    return [
        None if field in unknown else float(field) if isinstance(field, str) else field
        for field in table_fields(column)
    ]


def _geometry(polygons: list[Polygon]) -> dict[str, Any]:
    closed = [[[*ring, ring[0]] for ring in (line.tolist() for line in polygon)] for polygon in polygons]
    if len(closed) == 1:
        return {"type": "Polygon", "coordinates": closed[0]}
    return {"type": "MultiPolygon", "coordinates": closed}
