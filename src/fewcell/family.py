"""Processes that know of each other: who ends with the one that began it, who keeps others away."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

from fewcell.errors import WriteError

__all__ = ["alone", "end_with_parent", "input_while_alive"]

INPUT = 0  # a file descriptor


@contextmanager
def alone(lock_file: Path, otherwise: str, *, wait_s: float = 0) -> Iterator[None]:
    """Hold a file for this process, even a kill lets go of it. Raises WriteError, saying `otherwise`, if it is held.

    wait_s: how long to wait for whoever holds it.

    Where files cannot be locked (a folder in which nothing can be written, some network drives) nobody is kept away.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, timeout=wait_s, mode=0o666)
    try:
        lock.acquire()
    except Timeout:
        raise WriteError(otherwise) from None
    except (OSError, NotImplementedError) as error:
        if isinstance(error, PermissionError) and lock_file.exists():
            raise WriteError(f"{lock_file} is of another user. {otherwise}") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def input_while_alive() -> Iterator[int]:
    """An input for a process that is begun here (`stdin` of `subprocess.run`): empty, and open as long as this is."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def end_with_parent() -> None:
    """Let this process end as soon as nobody holds the other end of its input, a pipe; nothing happens if it is none.

    What was not read of it is lost; from now on the input is empty, for processes that are begun here as well.
    """
    if not stat.S_ISFIFO(os.fstat(INPUT).st_mode):
        return
    held, nothing = os.dup(INPUT), os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, INPUT)
    os.close(nothing)

    def watch() -> None:
        # Not through sys.stdin: a process that is forked while a thread reads it could never close it.
        while os.read(held, 1024):
            pass
        os._exit(1)

    Thread(target=watch, name="end with parent", daemon=True).start()
