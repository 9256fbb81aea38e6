"""Tiles and blocks of a slide done by the workers of a Dask cluster, which share the folder of what is done."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from fewcell.errors import ConfigError, require
from fewcell.slides.work import Work

__all__ = ["do_block", "do_tile", "on_cluster"]

T = TypeVar("T")
OPENING = Lock()  # threads of one worker share what one of them has opened


def on_cluster(
    address: str, do: Callable[[str, int], T], folder: Path, numbers: Sequence[int]
) -> Iterator[tuple[int, T]]:
    """Do pieces of work on a cluster: each number with its result, as they are finished.

    address: of the scheduler, such as tcp://host:8786. What a worker that is lost was doing is done again by another.
    Raises ConfigError if there is no scheduler, MissingDependencyError without dask.distributed.
    """
    require("dask", "distributed")
    from distributed import Client, as_completed

    try:
        client = Client(address, timeout="20s")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"There is no Dask scheduler at {address} ({type(error).__name__}). Start one by `dask scheduler`, and "
            "workers by `dask worker ADDRESS` where fewcell is installed and the outputs can be reached."
        ) from None
    with client:
        futures = client.map(do, [str(folder.resolve())] * len(numbers), numbers, pure=False)
        number_of = dict(zip((future.key for future in futures), numbers, strict=True))
        for future, result in as_completed(futures, with_results=True):
            yield number_of[future.key], result


def do_tile(folder: str, number: int) -> tuple[bool, str | None]:
    """Do a tile, as a worker: whether there was nothing to be seen, and what was wrong if it cannot be read."""
    work = _work(folder)
    seen, problem = work.try_look(number)
    work.keep(number, work.predict(number, seen))
    return seen is None and problem is None, problem


def do_block(folder: str, number: int, *, may_widen: bool = True) -> bool:
    """Do a block, as a worker; whether it is done, see `Work.read_block`."""
    return _work(folder).read_block(number, may_widen=may_widen)


def _work(folder: str) -> Work:
    with OPENING:
        return _opened(folder)


@lru_cache(1)
def _opened(folder: str) -> Work:
    return Work.open(Path(folder), threads=_threads())


def _threads() -> int | None:
    from distributed import get_worker

    worker: Any = get_worker()
    return worker.state.nthreads
