"""How fast the networks of a comparison are by themselves, as benchmarks/networks.py measured them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewcell.benchmark.tables import read_table
from fewcell.errors import DataError
from fewcell.report.results import Method, Results

__all__ = ["Speed", "load_speeds", "precisions"]

SPEEDS_FILE = "networks.csv"
UNIT = "_mpx_per_s"


@dataclass(frozen=True)
class Speed:
    """A method, and how fast its network is: megapixels a second by precision.

    training_crops_per_s: how many crops it learns from in a second, on one thread. machine: on which.
    """

    method: Method
    mpx_per_s: dict[str, float]
    training_crops_per_s: float
    machine: str


def load_speeds(folders: Sequence[Path], results: Results) -> list[Speed]:
    """The speeds of all methods whose network was measured, in the order of the results; none where none was.

    Raises DataError for a table that lacks a column.
    """
    tables = [path for folder in folders if (path := folder / SPEEDS_FILE).exists()]
    measured: dict[tuple[str, str], dict[str, str]] = {}
    for path in tables:
        for row in read_table(path):
            try:
                measured[row["network"], _written(json.loads(row["settings"]))] = row
            except (KeyError, ValueError):
                raise DataError(f"{path} is no table of benchmarks/networks.py: a row is {row}.") from None
    return [_speed(method, row) for method in results.methods if (row := measured.get(_network_of(method)))]


def precisions(speeds: Sequence[Speed]) -> list[str]:
    """Every precision in which a network was measured, the fastest of the first one first."""
    return list(dict.fromkeys(precision for speed in speeds for precision in speed.mpx_per_s))


def _speed(method: Method, row: dict[str, str]) -> Speed:
    speeds = {name.removesuffix(UNIT): float(value) for name, value in row.items() if name.endswith(UNIT) and value}
    return Speed(method, speeds, float(row["training_crops_per_s"]), row["machine"])


def _network_of(method: Method) -> tuple[str, str]:
    settings = method.rows[0]["settings"]
    return method.network, _written(json.loads(settings).get("network", {}) if settings else {})


def _written(settings: object) -> str:
    return json.dumps(settings, sort_keys=True)
