"""What is decided before the first tile of a slide: the scale, the contrast, and where tiles and blocks lie."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fewcell import __version__
from fewcell.errors import ConfigError
from fewcell.images import Contrast, Slide, SlidePyramid, Window
from fewcell.segmenter import (
    NETWORK_FILE,
    SCALE_FILE,
    TILE_PX,
    FileSettings,
    Segmenter,
    canonical_shape,
    is_blank,
)
from fewcell.tiles import Shape, Tile, plan_tiles

__all__ = ["BLOCK_PX", "HALO_PX", "Block", "SlidePlan", "Zoom", "plan_slide"]

BLOCK_PX = 1536  # side of a block, at canonical scale
HALO_PX = 384  # what is seen around a block to read its cells, at canonical scale: so many times a usual cell's width


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Zoom(_Strict):
    """The slide enlarged by one factor: shape (height, width) in pixels there, whole ones of the network's grid.

    padded: shape, mirrored up to what the network takes. grid: shape of the prediction that is of the slide.
    """

    factor: Annotated[float, Field(gt=0)]
    shape: Shape
    padded: Shape
    grid: Shape


@dataclass(frozen=True)
class Block:
    """A part of the slide whose cells are read at once: its core, and what is seen for it, in pixels of the slide."""

    number: int
    core: Window
    window: Window

    @property
    def halo_px(self) -> int:
        """How much is seen around the core, where the slide does not end."""
        return max(abs(edge - seen) for edge, seen in zip(self.core, self.window, strict=True))


class SlidePlan(_Strict):
    """All that decides the cells of a slide. Two runs with the same plan give the same bytes.

    slide, channels, axes, plane: how to open it; fingerprint: of the file. model: its folder. shape: of the slide.
    zooms: none where nothing looks like a cell. reach_px, multiple_px, stride: of the network. min_surest: if no cell
    is as sure, there is none; 0 where the diameter was given.
    """

    version: str
    slide: str
    fingerprint: str
    channels: tuple[int, ...] | None
    axes: str | None
    plane: dict[str, int] | None
    model: str
    model_sha256: dict[str, str]
    shape: Shape
    pixel_size_um: float | None
    contrast_low: tuple[float, ...]
    contrast_span: tuple[float, ...]
    diameter_px: float
    diameter_source: Literal["given", "estimated", "not known"]
    zooms: tuple[Zoom, ...]
    reach_px: int
    multiple_px: int
    stride: int
    tile_px: int
    level: float
    min_score: float
    min_area_px: float
    min_surest: float

    @property
    def key(self) -> str:
        """A short word that differs where anything that decides the outcome does."""
        return hashlib.sha256(self.model_dump_json(exclude={"slide", "model"}).encode()).hexdigest()[:16]

    @property
    def contrast(self) -> Contrast:
        return Contrast(np.array(self.contrast_low), np.array(self.contrast_span))

    @classmethod
    def read(cls, path: Path) -> Self:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))

    def tiles(self) -> list[tuple[int, Tile]]:
        """Every tile that the network has to see, as (number of its zoom, tile), in the order of work."""
        return [
            (number, tile)
            for number, zoom in enumerate(self.zooms)
            for tile in plan_tiles(
                zoom.padded, core_px=self.tile_px, halo_px=self.reach_px, multiple_px=self.multiple_px
            )
        ]

    def blocks(self) -> list[Block]:
        """The blocks that cover the slide once, row by row."""
        if not self.zooms:
            return []
        factor = self.zooms[0].factor
        side, halo_px = (max(1, round(px / factor)) for px in (BLOCK_PX, HALO_PX))
        return [self._block(i, core, halo_px) for i, core in enumerate(_cores(self.shape, side))]

    def wider(self, block: Block) -> Block:
        """The same block with twice as much around it."""
        return self._block(block.number, block.core, 2 * block.halo_px)

    def _block(self, number: int, core: Window, halo_px: int) -> Block:
        top, left, bottom, right = core
        window = (
            max(top - halo_px, 0),
            max(left - halo_px, 0),
            min(bottom + halo_px, self.shape[0]),
            min(right + halo_px, self.shape[1]),
        )
        return Block(number, core, window)


def plan_slide(slide: Slide, segmenter: Segmenter, settings: FileSettings, tile_px: int = TILE_PX) -> SlidePlan:
    """Look at a slide from afar and decide how its cells are to be sought.

    settings: with the axes and plane with which it was opened. tile_px: side of what the network sees at once, without
    its halo. Raises ConfigError for a model whose network must see the whole image, for it cannot be used tile by tile,
    and for a diameter in micrometres where the pixel size is not known.
    """
    facts = segmenter.facts
    network = facts.network
    if network.reach_px is None or network.window_px is not None:
        raise ConfigError(
            f"The network {network.name} sees a whole image or windows of one size, and cannot be used on slides. "
            "Choose a model whose network is local, such as the one inside the package."
        )
    pixel_size_um = settings.pixel_size_um or slide.pixel_size_um
    given_px = settings.diameter_px(slide.path, pixel_size_um)
    is_given = given_px is not None
    pyramid = SlidePyramid(slide, settings.channels)
    diameter_px: float | None = None
    if not is_blank(pyramid):
        diameter_px = given_px or segmenter.likely_diameter(pyramid)
    factors = segmenter.factors(slide.shape, diameter_px, is_given=is_given) if diameter_px else []
    zooms = []
    for factor in factors:
        shape = canonical_shape(slide.shape, factor, network.stride)
        padded = (shape[0] + -shape[0] % network.multiple_px, shape[1] + -shape[1] % network.multiple_px)
        grid = (shape[0] // network.stride, shape[1] // network.stride)
        zooms.append(Zoom(factor=factor, shape=shape, padded=padded, grid=grid))
    used_px = facts.canonical_diameter_px / factors[0] if factors else given_px
    min_score = facts.min_score if settings.min_score is None else settings.min_score
    return SlidePlan(
        version=__version__,
        slide=str(slide.path.resolve()),
        fingerprint=slide.fingerprint(),
        channels=settings.channels,
        axes=settings.axes,
        plane=settings.plane,
        model=str(segmenter.folder.resolve()),
        model_sha256={name: facts.sha256[name] for name in (NETWORK_FILE, SCALE_FILE)},
        shape=slide.shape,
        pixel_size_um=pixel_size_um,
        contrast_low=tuple(map(float, pyramid.contrast.low)),
        contrast_span=tuple(map(float, pyramid.contrast.span)),
        diameter_px=used_px or facts.canonical_diameter_px,
        diameter_source="given" if is_given else "estimated" if zooms else "not known",
        zooms=tuple(zooms),
        reach_px=network.reach_px,
        multiple_px=network.multiple_px,
        stride=network.stride,
        tile_px=tile_px,
        level=facts.min_score,
        min_score=min_score,
        min_area_px=max(1.0, settings.min_area_px),
        min_surest=0.0 if is_given else facts.min_surest,
    )


def _cores(shape: Shape, side: int) -> Iterator[Window]:
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield top, left, min(top + side, shape[0]), min(left + side, shape[1])
