"""What exports are made of: the cells of a slide, piece by piece."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.slides.plan import SlidePlan
from fewcell.slides.stitch import Piece

__all__ = ["ExportSource", "Numbered"]


@dataclass(frozen=True)
class Numbered:
    """A piece of a slide, and what its cells are counted from: cell i of it is number before + i on the slide."""

    piece: Piece
    before: int

    def columns(self) -> dict[str, NDArray[Any]]:
        """The measurements of its cells, under their numbers on the slide."""
        return {**self.piece.columns, "id": np.asarray(self.piece.columns["id"], dtype=np.int64) + self.before}


@dataclass(frozen=True)
class ExportSource:
    """What every export may use.

    pieces: begins a new pass over all pieces, in the order of their numbers; each is in memory only while it is at
    hand. n_cells: how many they hold together. labels: the finished label image, OME-Zarr.
    """

    pieces: Callable[[], Iterator[Numbered]]
    n_cells: int
    plan: SlidePlan
    labels: Path

    def filled(self) -> Iterator[Numbered]:
        """The pieces that hold cells."""
        return (numbered for numbered in self.pieces() if numbered.piece.n_cells)

    def identity(self, name: str) -> str:
        """A UUID for something of this slide: the same in every run, another for another slide or other settings."""
        return str(uuid.uuid5(self._identities, name))

    @cached_property
    def _identities(self) -> uuid.UUID:
        return uuid.uuid5(uuid.NAMESPACE_URL, f"https://pypi.org/project/fewcell/{self.plan.task.key}")
