"""Downloaded files, unpacked or still in zips, listed in one way and brought to a new place safely.

Zips come from strangers: links, names that lead out of their folder, and sizes beyond the free space are
refused before anything is written.
"""

import itertools
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from fewcell.errors import DataError, WriteError

__all__ = ["PackedFile", "list_files", "place_files", "require_space"]

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class PackedFile:
    """One file in a folder or in a zip.

    parts: its path below the folder that was listed; a zip counts as a folder named like it, without '.zip'.
    size_bytes: unpacked, as the zip declares it.
    source: the file itself, or the zip that holds it under the name `member`.
    """

    parts: tuple[str, ...]
    size_bytes: int
    source: Path
    member: str | None = None

    @property
    def name(self) -> str:
        return self.parts[-1]


def list_files(folder: Path) -> list[PackedFile]:
    """List every file below a folder and in the zips there, the unpacked ones first; no hidden ones.

    Raises DataError for a zip that is damaged, or that holds a link or a name that leads out of its folder.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    loose, packed = [], []
    for path in paths:
        parts = path.relative_to(folder).parts
        if path.suffix.lower() == ".zip":
            packed += _list_zip(path, (*parts[:-1], path.stem))
        else:
            loose.append(PackedFile(parts, path.stat().st_size, path))
    return loose + packed


def _list_zip(path: Path, above: tuple[str, ...]) -> list[PackedFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = [info for info in archive.infolist() if not info.is_dir()]
    except (*_DAMAGED, OSError) as error:
        raise _damaged(path, error) from error
    files = []
    for info in infos:
        parts = PurePosixPath(info.filename.replace("\\", "/")).parts
        absolute = not parts or parts[0].startswith("/") or ":" in parts[0]
        if absolute or ".." in parts or stat.S_ISLNK(info.external_attr >> 16):
            raise DataError(
                f"{path} holds {info.filename!r}, a link or a name that leads out of its folder. Nothing was "
                "unpacked: this is not the published archive, download it again."
            )
        if not parts[-1].startswith("."):
            files.append(PackedFile(above + parts, info.file_size, path, info.filename))
    return files


def _damaged(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path} is damaged or not complete ({error}). Nothing was laid out: download it again.")


def require_space(files: Iterable[PackedFile], parent: Path) -> None:
    """Refuse, before the first file is written, what would not fit on the disk; hard links need no space."""
    device = parent.stat().st_dev
    needed = sum(f.size_bytes for f in files if f.member or f.source.stat().st_dev != device)
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise WriteError(
            f"{needed / 1e9:.1f} GB are needed in {parent}, {free / 1e9:.1f} GB are free. Free some space or "
            "choose another place."
        )


def place_files(files: Iterable[tuple[PackedFile, Path]]) -> None:
    """Write files to their new paths with all their bytes: a hard link where the disk allows it, else a copy.

    Raises DataError for a damaged zip; what was written until then stays.
    """
    by_source = sorted(files, key=lambda pair: str(pair[0].source))
    for source, group in itertools.groupby(by_source, key=lambda pair: pair[0].source):
        group = list(group)
        try:
            with zipfile.ZipFile(source) if group[0][0].member else nullcontext() as archive:
                for file, target in group:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _place(file, target, archive)
        except _DAMAGED as error:
            raise _damaged(source, error) from error


def _place(file: PackedFile, target: Path, archive: zipfile.ZipFile | None) -> None:
    if archive and file.member:
        # zipfile reads no entry beyond the size that it declares, which was held against the free space.
        with archive.open(file.member) as packed, target.open("xb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        return
    try:
        os.link(file.source.resolve(), target)
    except OSError:  # another disk, or one that knows no hard links
        shutil.copyfile(file.source, target)
