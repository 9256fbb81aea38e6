"""Loops over pixels, compiled. Imported only by the modules of kernels, which decoding and targets import when used."""

from collections.abc import Callable
from typing import Any

import numba

__all__ = ["compiled", "find_root"]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of plain arrays with numba, and keep the result on disk where some folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder for the cache: compile once a process
        return numba.njit(nogil=True)(function)


@compiled
def find_root(leader, place):
    """The root of a place in a forest in which every place names its leader, roots themselves; paths are halved."""
    while leader[place] != place:
        leader[place] = leader[leader[place]]
        place = leader[place]
    return place
