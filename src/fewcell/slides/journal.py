"""What of a slide is done already: a line a finished piece of work, so that a run that was killed can go on."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Journal"]


class Journal:
    """A text file that only grows: the names of finished pieces of work, one a line.

    A piece is named once all that it wrote is on the disk. A line that was cut short by a kill does not count, and is
    cut off when the journal is opened again. Use it in a `with` statement; one process at a time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        whole = b""
        if path.exists():
            text = path.read_bytes()
            whole = text[: text.rfind(b"\n") + 1]
        self.done = set(whole.decode().split("\n")[:-1])
        self._file = path.open("ab", buffering=0)
        self._file.truncate(len(whole))

    def finish(self, name: str) -> None:
        """Write down that a piece of work is finished. Its name must not hold a line break."""
        self._file.write(f"{name}\n".encode())
        os.fsync(self._file.fileno())
        self.done.add(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
