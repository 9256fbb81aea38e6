"""One row a cell: CSV for spreadsheets and scripts, Parquet for millions of rows."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from fewcell.errors import require
from fewcell.images.write import table_fields
from fewcell.slides.export_source import ExportSource

__all__ = ["NO_CELLS", "check_parquet", "write_csv", "write_parquet"]

# The columns of a slide without cells. What channels it has is known only where there are cells to measure.
NO_CELLS = {
    "id": np.zeros(0, dtype=np.int64),
    "score": np.zeros(0, dtype=np.float32),
    "y": np.zeros(0),
    "x": np.zeros(0),
    "area_px": np.zeros(0, dtype=np.int64),
    "diameter_px": np.zeros(0),
    "area_um2": np.zeros(0),
    "diameter_um": np.zeros(0),
}


def write_csv(path: Path, source: ExportSource) -> None:
    """Write the table of all cells as CSV: a header, one row a cell, nothing where a number is not known."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        has_header = False
        for numbered in source.filled():
            columns = numbered.columns()
            if not has_header:
                writer.writerow(columns)
                has_header = True
            writer.writerows(zip(*map(table_fields, columns.values()), strict=True))
        if not has_header:
            writer.writerow(NO_CELLS)


def check_parquet() -> None:
    """Raise MissingDependencyError where Parquet cannot be written."""
    require("tables", "pyarrow")


def write_parquet(path: Path, source: ExportSource) -> None:
    """Write the table of all cells as Parquet: the numbers as they are, null where one is not known."""
    import pyarrow as pa
    from pyarrow import parquet

    def table(columns: dict[str, Any], schema: Any = None) -> Any:
        arrays = {name: pa.array(column, from_pandas=True) for name, column in columns.items()}  # NaN becomes null
        return pa.table(arrays) if schema is None else pa.table(arrays).cast(schema)

    pieces = source.filled()
    first = next(pieces, None)
    begun = table(NO_CELLS if first is None else first.columns())
    with parquet.ParquetWriter(path, begun.schema, compression="zstd") as writer:
        if first is not None:
            writer.write_table(begun)
        for numbered in pieces:
            writer.write_table(table(numbered.columns(), begun.schema))
