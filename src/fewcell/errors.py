"""Every error that fewcell raises on purpose, and what it warns with.

The message of each error says what was wrong, what was got, what to do.

FewcellError
├── ReadError            a file cannot be read as an image, labels, or table
│   ├── AxesError        its axes or channels are ambiguous, or of a kind that needs a flag
│   │   └── StackError   it is a stack or a time series, of which one plane has to be chosen
│   └── TooLargeError    it would not fit into memory
├── WriteError           an output exists already, or cannot be written
├── DataError            a folder is not laid out as a dataset, or image and labels disagree
├── ConfigError          a setting, flag, or recipe is unknown or out of range
├── ModelError           a model folder is missing, damaged, or made by a newer fewcell
├── DeviceError          the device asked for is not there
└── MissingDependencyError   an optional library is not installed
FewcellWarning           work goes on, but not as one might think
"""

import difflib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = [
    "AxesError",
    "ConfigError",
    "DataError",
    "DeviceError",
    "FewcellError",
    "FewcellWarning",
    "MissingDependencyError",
    "ModelError",
    "ReadError",
    "StackError",
    "TooLargeError",
    "WriteError",
    "checked_settings",
    "how_to_install",
    "nearest",
    "pick",
    "require",
    "require_training",
    "said_of",
]

T = TypeVar("T")


class FewcellError(Exception):
    """Base of every error that fewcell raises on purpose."""


class FewcellWarning(UserWarning):
    """What fewcell warns with. Unlike what libraries warn of, it is heard while another thread reads a file."""


class ReadError(FewcellError):
    """A file cannot be read as an image, labels, or table."""


class AxesError(ReadError):
    """The axes or channels of an image are ambiguous, or of a kind that needs a flag."""


class StackError(AxesError):
    """A stack or a time series, of which one plane has to be chosen. letter: of the axis, z or t. size: planes."""

    def __init__(self, message: str, letter: str, size: int) -> None:
        super().__init__(message)
        self.letter, self.size = letter, size


class TooLargeError(ReadError):
    """An image would not fit into memory."""


class WriteError(FewcellError):
    """An output exists already, or cannot be written."""


class DataError(FewcellError):
    """A folder is not laid out as a dataset, or an image and its labels disagree."""


class ConfigError(FewcellError):
    """A setting, flag, or recipe is unknown or out of range."""


class ModelError(FewcellError):
    """A model folder is missing, damaged, or made by a newer fewcell."""


class DeviceError(FewcellError):
    """The device asked for is not there."""


class MissingDependencyError(FewcellError):
    """An optional library is not installed."""

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"This needs {library}, which is not installed. {how_to_install(extra)}")


def how_to_install(extra: str = "") -> str:
    """What to type to install fewcell, or an extra of it."""
    what = f"'.[{extra}]'" if extra else "."
    return f"In fewcell's folder, type: pip install {what}"


def require(extra: str, *libraries: str) -> None:
    """Raise MissingDependencyError for the first of these libraries that is not installed.

    extra: the extra of fewcell that brings them, for the message.
    """
    for library in libraries:
        if find_spec(library) is None:
            raise MissingDependencyError(library, extra)


def require_training() -> None:
    """Raise MissingDependencyError where a library is missing that every training needs."""
    require("train", "torch", "cv2", "safetensors", "onnx")


def nearest(name: str, known: Iterable[str]) -> str:
    """Half a sentence for an error message: the known name nearest to `name`, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}."


def pick(kind: str, name: str, table: Mapping[str, T]) -> T:
    """What a table holds under a name. Raises ConfigError for a name that is not there; kind: of what, for example
    "network"."""
    if name not in table:
        raise ConfigError(f"There is no {kind} {name!r}; {nearest(name, table)}")
    return table[name]


def checked_settings(kind: str, name: str, settings: Mapping[str, Any] | None, known: Iterable[str]) -> dict[str, Any]:
    """Settings as a variant of this kind and name takes them: lists, as JSON and TOML have them, are tuples.

    Raises ConfigError for the first that the variant does not have.
    """
    known, settings = list(known), settings or {}
    for setting in settings:
        if setting not in known:
            raise ConfigError(f"The {kind} {name!r} has no setting {setting!r}; {nearest(setting, known)}")
    return {setting: tuple(value) if isinstance(value, list) else value for setting, value in settings.items()}


def said_of(error: OSError) -> str:
    """An error message of what the system refused, and what to do."""
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}. Check the folder, your rights, and the free space."
