"""Pieces of work that are begun before they are asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

Piece = TypeVar("Piece")
Result = TypeVar("Result")


def ahead(
    pool: ThreadPoolExecutor, do: Callable[[Piece], Result], pieces: Iterable[Piece], count: int
) -> Iterator[Result]:
    """The results of pieces of work in their order, so many of them begun before they are asked for."""
    waiting: deque[Future[Result]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(do, piece))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
