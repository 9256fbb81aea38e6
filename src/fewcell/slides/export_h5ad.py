"""AnnData (.h5ad), for scanpy and squidpy: a cell is an observation, what was measured of it are the variables.

Source: the on-disk format of AnnData (https://anndata.readthedocs.io/en/stable/fileformat-prose.html). It is written
with h5py, because anndata itself writes a table only when all of it is in memory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import require
from fewcell.slides.export_source import ExportSource
from fewcell.slides.export_tables import NO_CELLS
from fewcell.slides.label_zarr import read_facts

if TYPE_CHECKING:
    import h5py

__all__ = ["check_h5ad", "write_h5ad"]

_NOT_MEASURED = ("id", "score", "y", "x")  # who and where a cell is; every other column is a variable
_CHUNK_ROWS = 4096
_VERSIONS = {"anndata": "0.1.0", "dict": "0.1.0"}  # of the encodings; of all others it is 0.2.0


def check_h5ad() -> None:
    """Raise MissingDependencyError where AnnData files cannot be written."""
    require("tables", "h5py")


def write_h5ad(path: Path, source: ExportSource) -> None:
    """Write the cells as an AnnData file.

    X: what was measured, float32, NaN where it is not known; var: the names of these columns. obs: id and score.
    obsm["spatial"]: x and y of the centre in pixels of the slide, in this order because squidpy expects it.
    uns["fewcell"]: how the cells were found, and the pixel size.
    """
    import h5py

    pieces = source.filled()
    first = next(pieces, None)
    columns = NO_CELLS if first is None else first.columns()
    measured = [name for name in columns if name not in _NOT_MEASURED]
    with h5py.File(path, "w") as file:
        _encode(file, "anndata")
        for name in ("layers", "obsm", "obsp", "uns", "varm", "varp"):
            _encode(file.create_group(name), "dict")
        _write_value(_begin_table(file, "var", []), "_index", measured)
        _begin_table(file, "obs", ["id", "score"])
        rows = _rows(columns, measured)
        for name, values in rows.items():
            _begin_rows(file, name, values)
        if first is not None:
            _append(file, rows)
        for numbered in pieces:
            _append(file, _rows(numbered.columns(), measured))
        _write_value(file["uns"], "fewcell", _facts(source))


def _rows(columns: Mapping[str, NDArray[Any]], measured: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Where in the file each part of some rows belongs."""
    return {
        "X": np.stack([np.asarray(columns[name], dtype=np.float32) for name in measured], axis=1),
        "obs/_index": np.array([str(number) for number in columns["id"].tolist()], dtype=object),
        "obs/id": columns["id"],
        "obs/score": columns["score"],
        "obsm/spatial": np.stack([columns["x"], columns["y"]], axis=1),
    }


def _begin_rows(file: "h5py.File", name: str, values: NDArray[Any]) -> None:
    """Make an array without rows, for rows like these."""
    import h5py

    is_text = values.dtype == object
    array = file.create_dataset(
        name,
        shape=(0, *values.shape[1:]),
        maxshape=(None, *values.shape[1:]),
        chunks=(_CHUNK_ROWS, *values.shape[1:]),
        dtype=h5py.string_dtype() if is_text else values.dtype,
        compression="gzip",
    )
    _encode(array, "string-array" if is_text else "array")


def _append(file: "h5py.File", rows: Mapping[str, NDArray[Any]]) -> None:
    for name, values in rows.items():
        array: Any = file[name]
        done = len(array)
        array.resize(done + len(values), axis=0)
        array[done:] = values


def _begin_table(file: "h5py.File", name: str, columns: Sequence[str]) -> "h5py.Group":
    import h5py

    group = file.create_group(name)
    _encode(group, "dataframe")
    group.attrs["_index"] = "_index"
    group.attrs.create("column-order", np.array(columns, dtype=object), dtype=h5py.string_dtype())
    return group


def _facts(source: ExportSource) -> dict[str, Any]:
    return {**read_facts(source.labels), "pixel_size_um": source.plan.task.pixel_size_um}


def _write_value(group: Any, name: str, value: Any) -> None:
    """Write a text, a number, a list of these, or a dictionary; what is None is left out."""
    if value is None:
        return
    if isinstance(value, Mapping):
        inner = group.create_group(name)
        _encode(inner, "dict")
        for key, one in value.items():
            _write_value(inner, key, one)
    elif isinstance(value, str):
        _encode(group.create_dataset(name, data=value), "string")
    elif isinstance(value, Sequence):
        import h5py

        numbers = bool(value) and not isinstance(value[0], str)
        array = group.create_dataset(name, data=value, dtype=None if numbers else h5py.string_dtype())
        _encode(array, "array" if numbers else "string-array")
    else:
        _encode(group.create_dataset(name, data=value), "numeric-scalar")


def _encode(node: Any, kind: str) -> None:
    """Say of a group or an array what it is, in the way in which AnnData looks for it."""
    node.attrs["encoding-type"] = kind
    node.attrs["encoding-version"] = _VERSIONS.get(kind, "0.2.0")
