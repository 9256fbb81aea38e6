"""Things that are costly to make, such as open images and parts of files, kept until others take their place."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Kept"]

T = TypeVar("T")


class Kept(Generic[T]):
    """The things that were used last, each made once, however many threads ask for it at a time."""

    def __init__(self, size_of: Callable[[T], float], most: float) -> None:
        """most: the sum of their sizes up to which they are kept; the last one is kept in any case."""
        self._size_of, self._most, self._size = size_of, most, 0.0
        self._kept: OrderedDict[Hashable, tuple[T, float]] = OrderedDict()
        self._lock, self._making = Lock(), dict[Hashable, Lock]()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key, made if it is not there. What making raises is raised, and made anew when asked."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            turn = self._making.setdefault(key, Lock())
        with turn:
            with self._lock:
                if key in self._kept:
                    return self._kept[key][0]
            try:
                thing = make()
                with self._lock:
                    self._keep(key, thing)
            finally:
                with self._lock:
                    self._making.pop(key, None)
            return thing

    def _keep(self, key: Hashable, thing: T) -> None:
        size = self._size_of(thing)
        if key in self._kept:  # made anew, as it was not kept long enough for those who waited for it
            self._size -= self._kept.pop(key)[1]
        self._kept[key] = thing, size
        self._size += size
        while len(self._kept) > 1 and self._size > self._most:
            self._size -= self._kept.popitem(last=False)[1][1]  # gone as soon as nobody uses it any more

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()
            self._size = 0.0
