"""Read microscopy images and label images from PNG, JPEG, BMP and TIFF files.

What is decided here, once:
- The content counts, not the suffix: a PNG named `.jpg` is read as the PNG it is. The suffix must be a known
  one.
- Alpha is dropped, and so is the fourth sample beside red, green and blue.
- Palettes are expanded to colours, or to gray where all their colours are gray; but in ImageJ and OME files,
  where a palette is only a way to display measured values, the values are kept. Labels keep their numbers.
- Rows and columns are as stored: EXIF and TIFF orientation tags are not applied, as in ImageJ and
  scikit-image, so that labels drawn there fit.
- Brighter is larger: gray TIFFs that store white as 0 are turned round (labels never are).
- A file that is cut short is an error; missing strips or tiles are never filled in.
"""

import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import AxesError, FewcellError, FewcellWarning, ReadError, TooLargeError
from fewcell.images.picture import read_bmp, read_jpeg, read_png
from fewcell.images.raster import Raster, Request
from fewcell.images.tiff import read_tiff
from fewcell.types import UNKNOWN, FloatArray, Labels

__all__ = [
    "SUFFIXES",
    "Image",
    "channels_first",
    "check_channels",
    "check_is_image_file",
    "is_file_or_lost",
    "is_tiff",
    "list_images",
    "one_clear_error",
    "pick_channels",
    "quiet_libraries",
    "read_image",
    "read_labels",
    "read_raster",
]

TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".btf", ".tf8", ".svs")
# What fewcell writes beside images: in a folder, no images to segment.
RESULT_ENDINGS = ("_label.tiff", "_label.tif", "_label.png", "_overlay.png", "_label.zarr")


@dataclass(frozen=True)
class Image:
    """An image as read from a file, with what the file says about it.

    pixels: (channel, height, width) float32, the file's own values, not normalised; NaN and infinity stay.
    pixel_size_um: micrometres per pixel; None where the file does not say, says something that only matters
        to printers (such as 72 or 300 dots per inch), or where rows and columns differ by more than 1 %.
    channel_names: one name a channel; the file's own where it has them.
    is_colour: the channels are red, green and blue, in this order.
    dtype: the type of the numbers in the file, such as "uint8".
    """

    pixels: FloatArray
    pixel_size_um: float | None
    channel_names: tuple[str, ...]
    is_colour: bool = False
    dtype: str = "float32"

    def choose(self, channels: Sequence[int]) -> "Image":
        """The same image with some of its channels, in this order; the first is 0.

        Raises AxesError for a channel that it does not have.
        """
        check_channels(channels, self.channel_names, "the image")
        chosen = list(channels)
        return replace(
            self,
            pixels=self.pixels[chosen],
            channel_names=tuple(self.channel_names[i] for i in chosen),
            is_colour=self.is_colour and chosen == [0, 1, 2],
        )


def read_image(
    path: str | os.PathLike[str],
    *,
    channels: Sequence[int] | None = None,
    axes: str | None = None,
    plane: Mapping[str, int] | None = None,
) -> Image:
    """Read one two-dimensional image, with all or some of its channels.

    channels: which channels, in which order; the first is 0. None takes all.
    axes: what the dimensions of the file are, such as "CYX" or "YXC"; needed where the file does not say.
    plane: which plane of a stack, such as {"z": 3}; the first is 0.

    Raises AxesError where the file holds more than one plane or does not say what its dimensions are,
    TooLargeError where it would not fit into memory, ReadError where it is damaged or of another kind.
    """
    request = Request(Path(path), axes, plane)
    with one_clear_error(request.path), quiet_libraries():
        raster = read_raster(request)
        return _to_image(raster, channels, request.path)


def read_labels(path: str | os.PathLike[str]) -> Labels:
    """Read a label image: 0 is background, -1 not annotated, every other number one cell.

    Returns (height, width) int32. Palette images give their indices. Raises ReadError for JPEG (it blurs the
    numbers), for colour, stacks, fractions, numbers below -1, and numbers too large for int32.
    """
    request = Request(Path(path), as_labels=True)
    with one_clear_error(request.path), quiet_libraries():
        return _to_labels(read_raster(request), request.path)


def list_images(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], suffixes: Sequence[str] = SUFFIXES
) -> list[Path]:
    """List the image files among files and folders (folders are not searched deeper), each once, however it is spelled.

    suffixes: of the kinds that count, in small letters; a folder with one of them, as an OME-Zarr, is an image itself.

    Files keep the order given; a folder's are sorted by name. Of a folder, hidden files are left out, and results:
    names that end in _label.tiff, _label.zarr, _overlay.png and the like; named one by one, these count too.
    Raises ReadError for a path that does not exist, a file of an unknown kind, and a folder without any image.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir() and not _is_image_folder(path, suffixes):
            files = [f for f in sorted(path.iterdir()) if _is_image_of_folder(f, suffixes)]
            if not files:
                raise ReadError(
                    f"{path}: the folder holds no image. Supported are {', '.join(suffixes)}; results, whose names "
                    f"end in {', '.join(RESULT_ENDINGS)}, are left out unless you name the files."
                )
            found += files
        else:
            check_is_image_file(path, suffixes)
            found.append(path)
    once: dict[tuple[str, str], Path] = {}
    for path in found:
        once.setdefault((os.path.realpath(path), path.name), path)  # links of other names are other images
    return list(once.values())


def is_file_or_lost(path: Path) -> bool:
    """Whether it is a file, or a link to something that is not there, which is said when it is read."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_image_of_folder(path: Path, suffixes: Sequence[str]) -> bool:
    is_result = path.name.lower().endswith(RESULT_ENDINGS)
    is_image = path.suffix.lower() in suffixes and (is_file_or_lost(path) or _is_image_folder(path, suffixes))
    return is_image and path.name[0] != "." and not is_result


def _is_image_folder(path: Path, suffixes: Sequence[str]) -> bool:
    return path.suffix.lower() == ".zarr" and ".zarr" in suffixes and path.is_dir()


def check_is_image_file(path: Path, suffixes: Sequence[str] = SUFFIXES) -> None:
    """Raise ReadError for what is no file of one of these kinds, nor an OME-Zarr where these count."""
    if _is_image_folder(path, suffixes):
        return
    if path.is_dir():
        raise ReadError(f"{path}: is a folder, not an image. Name a file inside it.")
    if path.is_symlink() and not path.exists():
        raise ReadError(f"{path}: is a link to {os.readlink(path)}, which is not there. Fetch it, or mend the link.")
    if not path.exists():
        raise ReadError(f"{path}: there is no such file or folder. Check the spelling and the current folder.")
    if not path.is_file():
        raise ReadError(f"{path}: is not an ordinary file. Copy the image into one.")
    if path.suffix.lower() == ".zarr":
        raise ReadError(f"{path}: is a file, but an OME-Zarr is a folder. If it is packed, unpack it.")
    if path.suffix.lower() not in suffixes:
        raise ReadError(
            f"{path}: files of the kind {path.suffix or '(no suffix)'!r} are not supported. Supported are "
            f"{', '.join(suffixes)}; export microscope formats as OME-TIFF (for instance with Fiji)."
        )


class _Quiet:
    """Libraries neither warn nor log what becomes an error here.

    Threads share how warnings are shown: the first that enters silences them, the last that leaves lets them speak.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._silenced = Lock(), 0, ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._silence()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._silenced.close()

    def _silence(self) -> None:
        logger, silence = logging.getLogger("tifffile"), lambda record: False
        logger.addFilter(silence)
        self._silenced.callback(logger.removeFilter, silence)
        self._silenced.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FewcellWarning)  # which another thread may have to say meanwhile


quiet_libraries = _Quiet()


@contextmanager
def one_clear_error(path: Path) -> Iterator[None]:
    """Whatever goes wrong inside becomes one ReadError that names the file."""
    try:
        yield
    except FewcellError:
        raise
    except MemoryError as error:
        raise TooLargeError(
            f"{path}: there is not enough memory to read this image. Close other programs, or cut the image."
        ) from error
    except OSError as error:
        what = error.strerror or _short(error)
        raise ReadError(f"{path}: cannot be read: {what}. Check that the file is complete and yours.") from error
    # Decoders answer damaged files with struct.error, KeyError, IndexError, zlib.error, SyntaxError, their
    # own classes and RecursionError: no list would be complete, and the user needs the same words for all.
    except Exception as error:
        raise ReadError(
            f"{path}: is damaged, or of a variety that is not supported ({_short(error)}). "
            "Open it in another program (for instance Fiji) and save it as TIFF."
        ) from error


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__


def is_tiff(path: Path) -> bool:
    """Whether a file begins as TIFFs do, whatever its name."""
    with path.open("rb") as file:
        return file.read(4) in TIFF_STARTS


def read_raster(request: Request) -> Raster:
    """Read the plane that was asked for, with the file's own numbers, into memory."""
    readers = {
        b"\x89PNG\r\n\x1a\n": read_png,
        b"\xff\xd8\xff": read_jpeg,
        b"BM": read_bmp,
        **dict.fromkeys(TIFF_STARTS, read_tiff),
    }
    check_is_image_file(request.path)
    with request.path.open("rb") as file:
        start = file.read(8)
    for magic, reader in readers.items():
        if start.startswith(magic):
            return reader(request)
    what = f"does not hold an image (it begins with {start!r})" if start else "is empty"
    raise ReadError(f"{request.path}: {what}. Supported are PNG, JPEG, BMP and TIFF.")


def channels_first(raster: Raster) -> NDArray[Any]:
    """The pixels of an image, (channel, height, width), as the file stores them."""
    channel_axis = next((a for a in "CS" if a in raster.axes), "")
    array = raster.array.transpose([raster.axes.index(a) for a in channel_axis + "YX"])
    return array if channel_axis else array[np.newaxis]


def _to_image(raster: Raster, channels: Sequence[int] | None, path: Path) -> Image:
    array = channels_first(raster)
    chosen, names, is_colour = pick_channels(raster.channel_names, len(array), raster.is_colour, channels, path)
    if chosen != list(range(len(array))):
        array = array[chosen]
    with np.errstate(over="ignore"):
        pixels = np.ascontiguousarray(array, dtype=np.float32)
    return Image(pixels, raster.pixel_size_um, names, is_colour, array.dtype.name)


def pick_channels(
    names: tuple[str, ...], count: int, is_colour: bool, channels: Sequence[int] | None, path: Path
) -> tuple[list[int], tuple[str, ...], bool]:
    """Which of the `count` channels of a file are taken, what they are called, and whether they are a colour picture's.

    names: as the file calls them; they count if there is one for each channel. channels: as for `read_image`.
    """
    if len(names) != count:
        if is_colour:
            names = ("red", "green", "blue")
        else:
            names = tuple(f"channel_{i}" for i in range(count)) if count > 1 else ("intensity",)
    chosen = list(range(count) if channels is None else channels)
    check_channels(chosen, names, str(path))
    return chosen, tuple(names[i] for i in chosen), is_colour and chosen == [0, 1, 2]


def check_channels(chosen: Sequence[int], names: Sequence[str], what: str) -> None:
    """Raise AxesError for no channel, and for one that is not there. what: has these channels, for the message."""
    if not len(chosen) or any(not 0 <= i < len(names) for i in chosen):
        raise AxesError(
            f"{what}: channels {list(chosen)} were asked for, but it has {len(names)}: {', '.join(names)}; "
            "the first is 0."
        )


def _to_labels(raster: Raster, path: Path) -> Labels:
    array, *more = channels_first(raster)
    if more:
        raise ReadError(
            f"{path}: labels must have one number a pixel, but there are {1 + len(more)} (colours or channels). "
            "Save them as gray TIFF or PNG, each cell with its own number."
        )
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high) and np.all(array == np.floor(array))):
        raise ReadError(f"{path}: labels must be whole numbers, but some have fractions or are not finite.")
    if low < UNKNOWN or high > np.iinfo(np.int32).max:
        raise ReadError(
            f"{path}: labels must lie between {UNKNOWN} (not annotated) and {np.iinfo(np.int32).max:,}, but "
            f"reach from {low} to {high}. Number the cells again, from 1."
        )
    return np.ascontiguousarray(array, dtype=np.int32)
