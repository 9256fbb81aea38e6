"""Decoded parts of a file, kept for the next window that touches them."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any

from numpy.typing import NDArray

__all__ = ["ChunkCache"]


class ChunkCache:
    """The chunks that were used last, up to a number of bytes. For several threads."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._chunks: OrderedDict[Hashable, NDArray[Any]] = OrderedDict()
        self._lock, self._making = Lock(), dict[Hashable, Lock]()

    def get(self, key: Hashable, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The chunk of this key, made if it is not there: once, however many threads want it, for it may be large."""
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
            turn = self._making.setdefault(key, Lock())
        with turn:
            with self._lock:
                if key in self._chunks:
                    return self._chunks[key]
            try:
                chunk = make()
                with self._lock:
                    self._chunks[key] = chunk
                    self._bytes += chunk.nbytes
                    while self._bytes > self._most_bytes:
                        self._bytes -= self._chunks.popitem(last=False)[1].nbytes
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return chunk

    def clear(self) -> None:
        """Give the memory back."""
        with self._lock:
            self._chunks.clear()
            self._bytes = 0
