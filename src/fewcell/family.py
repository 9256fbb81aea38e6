"""Processes that end with the one that began them, were it killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

__all__ = ["end_with_parent", "input_while_alive"]


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
    """Let this process end as soon as nobody holds the other end of its input, which it must not use otherwise."""

    def watch() -> None:
        # Not through sys.stdin: a process that is forked while a thread reads it could never close it.
        while os.read(0, 1024):
            pass
        os._exit(1)

    Thread(target=watch, name="end with parent", daemon=True).start()
