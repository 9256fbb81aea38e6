"""Memory: will an image fit into it? Asked before any of it is read. And giving it back."""

import ctypes
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fewcell.errors import ReadError, TooLargeError

__all__ = ["MEMORY_FRACTION", "available_bytes", "check_size", "give_memory_back", "peak_bytes"]

# An image may take this share of the memory that is free, counted as stored plus as float32: the rest of the
# work needs room too.
MEMORY_FRACTION = 0.5


def check_size(path: Path, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Raise before any memory is taken if an image has no pixels, odd numbers, or too many of them."""
    if dtype.kind not in "buif":
        raise ReadError(
            f"{path}: holds {dtype} numbers, which are not intensities. Save it as integers or real numbers."
        )
    count = math.prod(int(n) for n in shape)
    by = " x ".join(map(str, shape))
    if count <= 0:
        raise ReadError(f"{path}: has no pixels ({by}). Save the image again.")
    needed, allowed = count * (dtype.itemsize + 4), int(available_bytes() * MEMORY_FRACTION)
    if needed > allowed:
        raise TooLargeError(
            f"{path}: {by} pixels of {dtype} would need {needed / 2**30:,.1f} GiB of memory; "
            f"{allowed / 2**30:,.1f} GiB may be used. Cut the image into parts, choose a plane, or "
            "use a machine with more memory."
        )


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may still take: of the machine, and of its container or batch job.

    8 GiB where the system does not say. root: where the files of the system begin.
    """
    return max(0, min([_machine_bytes(root), *_group_bytes(root)]))


def peak_bytes() -> int | None:
    """The most memory that this process has had; None where the system does not say (Windows).

    On Linux what `getrusage` says begins with that of the parent, so the process itself is asked.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def give_memory_back() -> None:
    """Give the system back what the C library keeps of memory that was freed, where it can be asked to (glibc).

    It keeps it in pieces, which fit worse and worse where images of many sizes follow one another. Takes 3 ms after an
    image of a megapixel.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _machine_bytes(root: Path) -> int:
    """What is free where Linux says so, all that is built in on macOS, 8 GiB elsewhere."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text())
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, AttributeError, ValueError):
        return 8 * 2**30


def _group_bytes(root: Path) -> Iterator[int]:
    """What is left of each limit that Linux sets to a control group of this process, in both its versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if not controllers:
            top, limit, used, prefix = root / "sys/fs/cgroup", "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            top, prefix = root / "sys/fs/cgroup/memory", "total_"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # A limit may stand on any level. From inside a container, some levels or all but the top are hidden.
        for group in (Path(own), *Path(own).parents):
            folder = top / str(group).strip("/")
            try:
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
                statistics = (folder / "memory.stat").read_text()
            except (OSError, ValueError):
                continue  # Hidden, or "max".
            # Files that were read or written lately count as used, but give way.
            yield left + sum(map(int, re.findall(rf"^{prefix}(?:in)?active_file (\d+)", statistics, re.M)))
