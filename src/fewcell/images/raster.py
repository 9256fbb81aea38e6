"""Pixels as a file stores them, and the choice of one plane among its dimensions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewcell.errors import AxesError, StackError

__all__ = ["Raster", "Request", "choose_plane"]

STACKS = {"Z": "a z-stack", "T": "a time series"}


@dataclass(frozen=True)
class Raster:
    """Pixels as stored, before channels are put first. `axes` has one letter a dimension."""

    array: NDArray[Any]
    axes: str
    is_colour: bool = False
    pixel_size_um: float | None = None
    channel_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Request:
    """What the caller wants from a file. See `read_image` for axes and plane."""

    path: Path
    axes: str | None = None
    plane: Mapping[str, int] | None = None
    as_labels: bool = False


def choose_plane(request: Request, shape: Sequence[int], axes: str) -> tuple[tuple[int | slice, ...], str]:
    """What to take of each dimension, and the letters that remain: Y, X, and C or S where it has several.

    axes: what the file says of its dimensions; what the caller says counts more. Raises AxesError where more
    than one plane would remain, or it is not known what a dimension is.
    """
    path, axes = request.path, _named_axes(request, shape, axes)
    described = _describe(axes, shape)
    if not request.as_labels:
        _check_names(path, axes, shape)
    wanted = {letter.upper(): number for letter, number in (request.plane or {}).items()}
    for letter, number in wanted.items():
        size = shape[axes.index(letter)] if letter in axes else 1
        if letter in "YX" or not isinstance(number, int | np.integer):
            raise AxesError(f"{path}: plane {letter.lower()}={number!r} is none. Type for instance --plane z=3.")
        if not 0 <= number < size:
            raise AxesError(
                f"{path}: there is no plane {letter.lower()}={number}: the image has {size} along "
                f"{letter.lower()}, and the first is 0 ({described})."
            )
    index: list[int | slice] = []
    for letter, size in zip(axes, shape, strict=True):
        if letter in wanted:
            index.append(wanted[letter])
        elif letter in "YX" or (letter in "CS" and size > 1):
            index.append(slice(None))
        elif size == 1:
            index.append(0)
        elif request.as_labels:
            raise AxesError(f"{path}: labels must be a single plane, but are {described}. Save one plane.")
        elif letter in STACKS:
            what = f"{path}: is {STACKS[letter]} of {size} planes: {described}"
            middle = {each: n // 2 for each, n in zip(axes, shape, strict=True) if each in STACKS and n > 1}
            advice = f"Choose one plane, the first is 0: {_flag(middle | wanted)}"
            raise StackError(f"{what}. {advice}.", letter.lower(), size)
        else:
            raise AxesError(_which_plane(path, letter, size, described, axes))
    left = "".join(letter for letter, i in zip(axes, index, strict=True) if isinstance(i, slice))
    if "C" in left and "S" in left:
        raise AxesError(
            f"{path}: has several channels of several colours each: {described}. Choose one, such as --plane c=0."
        )
    return tuple(index), left


def _named_axes(request: Request, shape: Sequence[int], axes: str) -> str:
    if request.axes is None:
        return axes
    named = request.axes.upper()
    if not named.isalpha() or len(set(named)) < len(named) or not {"Y", "X"} <= set(named):
        raise AxesError(
            f"{request.path}: axes {request.axes!r} must be different letters, one a dimension, with Y (rows) "
            'and X (columns) among them, such as --axes CYX (axes="CYX") or --axes YXC.'
        )
    if len(named) != len(shape):
        raise AxesError(
            f"{request.path}: axes {named!r} name {len(named)} dimensions, but the image has "
            f"{len(shape)}: {_describe(axes, shape)}. Name each of them."
        )
    return named


def _check_names(path: Path, axes: str, shape: Sequence[int]) -> None:
    """Raise AxesError where several dimensions of more than one plane have one name: none of them can be chosen."""
    repeated = [n for n, letter in enumerate(axes) if axes.count(letter) > 1]
    if sum(shape[n] > 1 for n in repeated) < 2:
        return
    spare, named = iter(letter for letter in "ZCTABDEFGHIJ" if letter not in axes), list(axes)
    for n in repeated:
        named[n] = next(spare)
    letter = named[repeated[0]]
    raise AxesError(
        f"{path}: does not say what its dimensions are: {_describe(axes, shape)}. Name each of them, such as "
        f"--axes {''.join(named)} with --plane {letter.lower()}={shape[repeated[0]] // 2}."
    )


def _describe(axes: str, shape: Sequence[int]) -> str:
    return f"shape ({', '.join(map(str, shape))}), axes {axes}"


def _flag(plane: Mapping[str, int]) -> str:
    """What to type for a plane, in the shell and in Python."""
    small = {letter.lower(): int(number) for letter, number in plane.items()}
    return f"--plane {','.join(f'{letter}={number}' for letter, number in small.items())} (plane={json.dumps(small)})"


def _which_plane(path: Path, letter: str, size: int, described: str, axes: str) -> str:
    """The message for a dimension of several planes: what it is, and what to type."""
    ways = [f"to choose one plane, the first is 0, type {_flag({letter: size // 2})}"]
    if "Z" not in axes:
        as_stack = axes.replace(letter, "Z")
        ways.insert(0, f"if they are a stack, --axes {as_stack} with a plane such as --plane z={size // 2}")
    if "C" not in axes and "S" not in axes:
        as_channels = axes.replace(letter, "C")
        ways.insert(0, f'if they are channels, type --axes {as_channels} (axes="{as_channels}")')
    return f"{path}: does not say what its {size} planes are: {described}; {'; '.join(ways)}."
