"""What of a slide is done already: a line a finished piece of work, so that a run that was killed can go on."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Journal"]


class Journal:
    """A text file that only grows: the names of finished pieces of work, one a line.

    A piece is named once it is written. A line that was cut short by a kill does not count, and is
    cut off when the journal is opened again. Use it in a `with` statement; one process at a time. others: journals of
    other processes, of which only what stands there now is known; `own` is what stands in this one alone.
    """

    def __init__(self, path: Path, others: Iterable[Path] = ()) -> None:
        self.path = path
        whole = _whole_lines(path)
        self.own = set(whole.decode().split("\n")[:-1])
        self.done = {line for text in map(_whole_lines, others) for line in text.decode().split("\n")[:-1]} | self.own
        self._file = path.open("ab", buffering=0)
        self._file.truncate(len(whole))

    def finish(self, name: str) -> None:
        """Write down that a piece of work is finished. Its name must not hold a line break."""
        self._file.write(f"{name}\n".encode())
        os.fsync(self._file.fileno())
        self.done.add(name)
        self.own.add(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _whole_lines(path: Path) -> bytes:
    text = path.read_bytes() if path.exists() else b""
    return text[: text.rfind(b"\n") + 1]
