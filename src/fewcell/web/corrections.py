"""What people have corrected, as a file that only grows: one line a correction, on the disk before it is answered.

The labels that the model found are never changed. A correction holds the pixels that it changes, and they are laid over
the labels in their order; undoing takes the latest away. So a kill at any moment loses nothing.
"""

import base64
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import ReadError
from fewcell.types import Window

__all__ = ["UNCHANGED", "Correction", "CorrectionLog", "Row"]

UNCHANGED = -1

Row = dict[str, float | None]
"""The measurements of a cell; None where one is not known."""


@dataclass(frozen=True)
class Correction:
    """One step: what it was, where, which cells it removed and added, and which were found to be right.

    window: in pixels of the slide. patch: what its pixels become, UNCHANGED where they stay; None if nothing changes.
    """

    kind: str
    window: Window
    removed: tuple[int, ...] = ()
    added: tuple[Row, ...] = ()
    confirmed: tuple[int, ...] = ()
    patch: NDArray[np.int32] | None = field(default=None, compare=False)

    def lay_over(self, labels: NDArray[Any], window: Window, step: int = 1) -> None:
        """Change what it changes in a window of the labels, in place.

        window, step: of the copy of every step-th pixel, in its own pixels.
        """
        if self.patch is None:
            return
        top, left = -(-self.window[0] // step), -(-self.window[1] // step)
        seen = self.patch[top * step - self.window[0] :: step, left * step - self.window[1] :: step]
        y0, x0 = max(top, window[0]), max(left, window[1])
        y1, x1 = min(top + seen.shape[0], window[2]), min(left + seen.shape[1], window[3])
        if y0 >= y1 or x0 >= x1:
            return
        new = seen[y0 - top : y1 - top, x0 - left : x1 - left]
        here = labels[y0 - window[0] : y1 - window[0], x0 - window[1] : x1 - window[1]]
        here[new != UNCHANGED] = new[new != UNCHANGED]

    def line(self) -> str:
        packed = None
        if self.patch is not None:
            packed = base64.b64encode(zlib.compress(self.patch.astype("<i4").tobytes())).decode()
        facts = {"kind": self.kind, "window": self.window, "removed": self.removed, "added": self.added}
        return json.dumps(facts | {"confirmed": self.confirmed, "patch": packed}, allow_nan=False)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        top, left, bottom, right = facts["window"]
        patch = None
        if facts["patch"] is not None:
            numbers = np.frombuffer(zlib.decompress(base64.b64decode(facts["patch"])), dtype="<i4")
            patch = numbers.reshape(bottom - top, right - left).astype(np.int32)
        lists = {name: tuple(facts[name]) for name in ("removed", "added", "confirmed")}
        return cls(facts["kind"], (top, left, bottom, right), patch=patch, **lists)


class CorrectionLog:
    """The file of corrections. One that a kill cut short was never answered, and does not count."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Correction]:
        """The corrections that were not undone. Raises ReadError for a file that is damaged."""
        if not self.path.exists():
            return []
        text = self.path.read_bytes()
        kept: list[Correction] = []
        for number, line in enumerate(text[: text.rfind(b"\n") + 1].splitlines(), 1):
            try:
                facts = json.loads(line)
                if facts["kind"] == "undo":
                    kept.pop()
                else:
                    kept.append(Correction.from_facts(facts))
            except (ValueError, KeyError, TypeError, IndexError, zlib.error):
                raise ReadError(f"{self.path}: line {number} is damaged. Remove that line, or the file.") from None
        return kept

    def add(self, correction: Correction) -> None:
        self._write(correction.line())

    def undo(self) -> None:
        """Write down that the latest correction does not count."""
        self._write(json.dumps({"kind": "undo"}))

    def _write(self, line: str) -> None:
        with self.path.open("a+b") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":  # cut short by a kill
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
