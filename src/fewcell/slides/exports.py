"""The cells of a slide in the files that other programs read, written piece by piece.

What is in memory at once does not grow with the slide, but for a few numbers a cell where a format asks for them.
"""

import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fewcell.errors import FewcellWarning, pick, said_of
from fewcell.images import check_free, whole_file
from fewcell.slides.export_geojson import write_geojson, write_packed_geojson
from fewcell.slides.export_h5ad import check_h5ad, write_h5ad
from fewcell.slides.export_overlay import write_slide_overlay
from fewcell.slides.export_rois import check_roi_count, write_rois
from fewcell.slides.export_source import ExportSource, Numbered
from fewcell.slides.export_tables import check_parquet, write_csv, write_parquet
from fewcell.slides.export_tiff import write_label_tiff
from fewcell.slides.label_zarr import is_label_image

__all__ = [
    "EXPORTS",
    "Export",
    "ExportSource",
    "Numbered",
    "check_exports",
    "export_paths",
    "remove_outputs",
    "write_export",
]


class Export(NamedTuple):
    """A kind of file: how its name ends, what writes it, and whether that can be done on this machine and slide.

    check_machine, check_slide: raise the error to be shown before anything is written.
    """

    ending: str
    write: Callable[[Path, ExportSource], None]
    check_machine: Callable[[], None] = lambda: None
    check_slide: Callable[[ExportSource], None] = lambda source: None


EXPORTS: dict[str, Export] = {
    "csv": Export("_cells.csv", write_csv),
    "parquet": Export("_cells.parquet", write_parquet, check_machine=check_parquet),
    "h5ad": Export("_cells.h5ad", write_h5ad, check_machine=check_h5ad),
    "geojson": Export("_cells.geojson", write_geojson),
    "geojson.gz": Export("_cells.geojson.gz", write_packed_geojson),
    "rois": Export("_rois.zip", write_rois, check_slide=check_roi_count),
    "tiff": Export("_label.tiff", write_label_tiff),
    "overlay": Export("_overlay.png", write_slide_overlay),
}


def check_exports(kinds: Sequence[str], stem: Path, *, overwrite: bool) -> dict[str, Path]:
    """Find out before hours of work whether exports can be written at all: kind -> file.

    Raises ConfigError for a kind that is not known, MissingDependencyError where its library is not installed,
    WriteError where its file exists and may not be overwritten, or is a folder.
    """
    paths = export_paths(kinds, stem)
    for kind, path in paths.items():
        EXPORTS[kind].check_machine()
        check_free(path, overwrite=overwrite)
    return paths


def export_paths(kinds: Iterable[str], stem: Path) -> dict[str, Path]:
    """Where exports are written: kind -> file. Raises ConfigError for a kind that is not known."""
    return {kind: stem.with_name(stem.name + pick("export", kind, EXPORTS).ending) for kind in kinds}


def remove_outputs(paths: Iterable[Path]) -> None:
    """Remove those of these files that are there: what an earlier run wrote is not to lie beside what another did.

    Of label images those stay that do not say that fewcell made them: people make such as well. What cannot be removed
    is warned of.
    """
    for path in paths:
        if is_label_image(path) if path.stem.endswith("_label") else path.is_file():
            try:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            except OSError as error:
                said = f"{path}: is of an earlier run and cannot be removed: {said_of(error)}"
                warnings.warn(said, FewcellWarning, stacklevel=2)


def write_export(kind: str, path: Path, source: ExportSource) -> None:
    """Write the cells of a slide as a file of one kind, whole or not at all; a file that is there is replaced.

    kind: a name in EXPORTS. The same cells give the same bytes.

    Raises, before anything is written, MissingDependencyError where a library is not installed, and ConfigError for
    more cells than the kind can hold.
    """
    export = EXPORTS[kind]
    export.check_machine()
    export.check_slide(source)
    with whole_file(path, overwrite=True) as temporary:
        export.write(temporary, source)
