"""ROIs for the ROI Manager of ImageJ and Fiji: a zip file with one ROI a cell, named by its number."""

import zipfile
from pathlib import Path

import numpy as np

from fewcell.errors import ConfigError
from fewcell.slides.export_outlines import Polygon, outlines
from fewcell.slides.export_source import ExportSource

__all__ = ["MOST_ROIS", "check_roi_count", "write_rois"]

MOST_ROIS = 100_000  # ImageJ keeps all of them in memory, and draws and lists each by itself
_MOST_WHOLE_PX = 60_535  # ImageJ takes larger whole coordinates for negative ones
_MOVE_TO, _LINE_TO, _CLOSE = 0.0, 1.0, 4.0


def check_roi_count(source: ExportSource) -> None:
    """Raise ConfigError where there are more cells than ImageJ's ROI Manager can take."""
    if source.n_cells > MOST_ROIS:
        raise ConfigError(
            f"{source.labels}: holds {source.n_cells:,} cells, but ImageJ's ROI Manager can take no more than "
            f"{MOST_ROIS:,}. Export the label image (tiff) for ImageJ, GeoJSON for QuPath, or segment a part of the "
            "slide."
        )


def write_rois(path: Path, source: ExportSource) -> None:
    """Write the outline of every cell as an ImageJ ROI: filled, it gives the cell back to the pixel.

    Cells with holes, and those of several parts, become composite ROIs.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for numbered in source.filled():
            numbers = numbered.columns()["id"].tolist()
            for number, polygons in zip(numbers, outlines(numbered.piece), strict=True):
                entry = zipfile.ZipInfo(f"{number}.roi")  # of 1980: the same cells give the same bytes
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, _roi(str(number), polygons))


def _roi(name: str, polygons: list[Polygon]) -> bytes:
    from roifile import ROI_TYPE, ImagejRoi

    rings = [ring for polygon in polygons for ring in polygon]
    if len(rings) == 1:
        ring = rings[0] if rings[0].max() <= _MOST_WHOLE_PX else rings[0].astype(np.float32)
        roi = ImagejRoi.frompoints(ring, name=name)
        roi.roitype = ROI_TYPE.TRACED  # as the wand makes them: along pixel edges
        return roi.tobytes()
    segments: list[np.ndarray] = []
    for ring in rings:
        lines = np.column_stack([np.full(len(ring), _LINE_TO), ring])
        lines[0, 0] = _MOVE_TO
        segments += [lines.ravel(), np.array([_CLOSE])]
    path = np.concatenate(segments).astype(np.float32)
    left, top = np.min([ring.min(axis=0) for ring in rings], axis=0).tolist()
    right, bottom = np.max([ring.max(axis=0) for ring in rings], axis=0).tolist()
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        name=name,
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        shape_roi_size=len(path),
        multi_coordinates=path,
    ).tobytes()
