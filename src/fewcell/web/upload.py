"""Files that people drop on the page: checked for their name, size and dimensions before they are in the folder."""

import math
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin
from starlette.concurrency import run_in_threadpool

from fewcell.errors import ReadError
from fewcell.images import SLIDE_SUFFIXES, is_tiff
from fewcell.images.read import RESULT_ENDINGS, quiet_libraries
from fewcell.web.picture import open_middle
from fewcell.web.refusal import Refused
from fewcell.web.work_folder import UPLOAD, WorkFolder, check_name

__all__ = ["Limits", "check_dimensions", "receive"]


@dataclass(frozen=True)
class Limits:
    """What is accepted. picture_px: of images that can only be read as a whole. side_px: of any.

    kept_bytes: of what has to be in memory while an image is open: large where it is stored in one piece.
    """

    upload_bytes: int = 20 * 2**30
    picture_px: int = 250_000_000
    side_px: int = 400_000
    kept_bytes: int = 750_000_000


async def receive(name: str, chunks: AsyncIterator[bytes], folder: WorkFolder, limits: Limits) -> Path:
    """Put a file that arrives in chunks into the folder, whole or not at all.

    Raises Refused for a name that is no image's or taken, for too many bytes or pixels, and for what cannot be read.
    """
    check_name(name)
    target = folder.root / name
    suffix = target.suffix.lower()
    if suffix not in SLIDE_SUFFIXES or suffix == ".zarr" or name.lower().endswith(RESULT_ENDINGS):
        raise Refused(415, f"{name}: is not of a kind that can be read. Supported are {', '.join(SLIDE_SUFFIXES)}.")
    if os.path.lexists(target):
        raise Refused(409, f"{name}: is in the folder already. Rename the file.")
    folder.home.mkdir(exist_ok=True)
    temporary = folder.home / f"{UPLOAD}{secrets.token_hex(8)}{suffix}"
    try:
        with temporary.open("xb") as file:
            size = 0
            async for chunk in chunks:
                size += len(chunk)
                if size > limits.upload_bytes:
                    most = limits.upload_bytes / 2**30
                    raise Refused(413, f"{name}: is larger than {most:.3g} GiB. Copy it into the folder instead.")
                file.write(chunk)
        await run_in_threadpool(_take, temporary, target, limits)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _take(temporary: Path, target: Path, limits: Limits) -> None:
    """Give a file that has arrived its name, if it is an image within the limits and no other has the name."""
    try:
        check_dimensions(temporary, limits)
    except ReadError as error:
        raise Refused(422, str(error).replace(str(temporary), target.name)) from None
    try:
        os.link(temporary, target)  # unlike a renaming, this never replaces a file
    except FileExistsError:
        raise Refused(409, f"{target.name}: is in the folder already. Rename the file.") from None
    except OSError:  # a file system that knows no second name for a file
        os.rename(temporary, target)


def check_dimensions(path: Path, limits: Limits) -> None:
    """Raise Refused for an image of too many pixels, before they are read; and ReadError for what is no image."""
    if not is_tiff(path):
        shape = _picture_shape(path)
        if shape is not None and math.prod(shape) > limits.picture_px:
            most = limits.picture_px / 1e6
            raise Refused(413, f"{shape[0]} x {shape[1]} px is more than {most:.3g} megapixels. Save it as tiled TIFF.")
    with open_middle(path)[0] as slide:
        if max(slide.shape) > limits.side_px:
            raise Refused(413, f"{slide.shape[0]} x {slide.shape[1]} px: a side is longer than {limits.side_px:,} px.")
        if slide.kept_bytes > limits.kept_bytes:
            held = slide.kept_bytes / 1e6
            raise Refused(413, f"{held:,.0f} MB of it would have to be in memory at once. Save it as tiled TIFF.")


def _picture_shape(path: Path) -> tuple[int, int] | None:
    """Height and width as the head of the file says; None where it is for other readers to say."""
    for kind in (PngImagePlugin.PngImageFile, JpegImagePlugin.JpegImageFile, BmpImagePlugin.BmpImageFile):
        # The reader of its kind says what is wrong with it.
        with suppress(Exception), quiet_libraries(), kind(path) as picture:
            return picture.height, picture.width
    return None
