"""What is decided before the first tile of a slide: the scale, the contrast, and where tiles and blocks lie."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field

from fewcell import __version__
from fewcell.config import Strict
from fewcell.engine import Precision
from fewcell.errors import ConfigError, ReadError, TooLargeError
from fewcell.images import Contrast, Slide, SlidePyramid
from fewcell.segmenter import (
    FileSettings,
    Segmenter,
    canonical_shape,
    hashes_of,
    is_blank,
)
from fewcell.tiles import Tile, padded_shape, plan_tiles
from fewcell.types import Shape, Window
from fewcell.windows import grown, squares

__all__ = [
    "BLOCK_PX",
    "HALO_PX",
    "MOST_BLOCK_PX",
    "MOST_HALO_PX",
    "TILE_PX",
    "Block",
    "SlidePlan",
    "SlideTask",
    "Zoom",
    "plan_slide",
    "slide_task",
]

TILE_PX = 1024  # side of the part of a slide that the network sees at once, without its halo
BLOCK_PX = 2048  # side of a block, at canonical scale
MOST_BLOCK_PX = 3072  # and in pixels of the slide, which are more where cells are large
HALO_PX = 192  # what is seen around a block to read its cells, at canonical scale: so many times a usual cell's width
MOST_HALO_PX = 1024  # the same where the edge cuts cells: those that are wider than this are not whole


class Zoom(Strict):
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


class SlideTask(Strict):
    """What is asked: of which slide, with which model, and how. Two runs with the same task give the same bytes.

    fingerprint: of the slide. channels, axes, plane: how to open it. model_sha256: see `hashes_of`. precision and
    accurate: how the network is run. diameter_px: None if it is to be estimated. tile_px: side of what the network
    sees at once, without its halo. level: the score from which on a cell counts where scales compete.
    """

    version: str
    fingerprint: str
    channels: tuple[int, ...] | None
    axes: str | None
    plane: dict[str, int] | None
    model_sha256: dict[str, str]
    precision: Precision
    accurate: bool
    pixel_size_um: float | None
    diameter_px: float | None
    tile_px: int
    level: float
    min_score: float
    min_area_px: float

    @property
    def key(self) -> str:
        """A short word that differs where anything that decides the outcome does."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class SlidePlan(Strict):
    """What was decided for a task after the slide was looked at from afar.

    slide, model: where they are. shape: of the slide. zooms: none where nothing looks like a cell. reach_px,
    multiple_px, stride: of the network. min_surest: if no cell is as sure, there is none; 0 where the diameter was
    given. block_px, halo_px, most_halo_px: side of a block, what is seen around it, and around one whose cells are cut.
    """

    task: SlideTask
    slide: str
    model: str
    shape: Shape
    contrast_low: tuple[float, ...]
    contrast_span: tuple[float, ...]
    diameter_px: float
    diameter_source: Literal["given", "estimated", "not known"]
    zooms: tuple[Zoom, ...]
    reach_px: int
    multiple_px: int
    stride: int
    min_surest: float
    block_px: int
    halo_px: int
    most_halo_px: int

    @property
    def larger_px(self) -> float | None:
        """The diameter of larger cells that are sought besides, if any are."""
        return self.diameter_px * self.zooms[0].factor / self.zooms[-1].factor if len(self.zooms) > 1 else None

    @property
    def contrast(self) -> Contrast:
        return Contrast(np.array(self.contrast_low), np.array(self.contrast_span))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan. Raises ReadError for what is none."""
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except ValueError:  # no text, no JSON, or not these fields
            raise ReadError(
                f"{path}: is damaged, or of another fewcell. Remove this file, and segment again."
            ) from None

    def tiles(self) -> list[tuple[int, Tile]]:
        """Every tile that the network has to see, as (number of its zoom, tile), in the order of work."""
        side = self.task.tile_px
        return [
            (number, tile)
            for number, zoom in enumerate(self.zooms)
            for tile in plan_tiles(
                zoom.padded, core_px=(side, side), halo_px=self.reach_px, multiple_px=self.multiple_px
            )
            if tile.core[0] < zoom.shape[0] and tile.core[1] < zoom.shape[1]  # others hold nothing of the slide
        ]

    def blocks(self) -> list[Block]:
        """The blocks that cover the slide once, row by row."""
        if not self.zooms:
            return []
        return [self._block(i, core, self.halo_px) for i, core in enumerate(squares(self.shape, self.block_px))]

    def around(self, block: Block, halo_px: int) -> Block:
        """The same block with another halo."""
        return self._block(block.number, block.core, halo_px)

    def _block(self, number: int, core: Window, halo_px: int) -> Block:
        return Block(number, core, grown(core, halo_px, self.shape))


def slide_task(slide: Slide, segmenter: Segmenter, settings: FileSettings, tile_px: int = TILE_PX) -> SlideTask:
    """What is asked of a slide that was opened with the axes and plane of the settings.

    Raises ConfigError for a model whose network must see the whole image, for it cannot be used tile by tile, and for
    a diameter in micrometres where the pixel size is not known; ReadError for a path that cannot be written down.
    """
    facts, network = segmenter.facts, segmenter.network
    if network.reach_px is None or network.window_px is not None:
        raise ConfigError(
            f"The network {network.name} sees a whole image or windows of one size, and cannot be used on slides. "
            "Choose a model whose network is local, such as the one inside the package."
        )
    try:
        str(slide.path.absolute()).encode()
    except UnicodeEncodeError:
        raise ReadError(f"{slide.path}: its path holds bytes that are no text. Rename the file or folder.") from None
    pixel_size_um = settings.pixel_size_um or slide.pixel_size_um
    return SlideTask(
        version=__version__,
        fingerprint=slide.fingerprint(),
        channels=settings.channels,
        axes=settings.axes,
        plane=settings.plane,
        model_sha256=hashes_of(segmenter.facts),
        precision=segmenter.precision,
        accurate=segmenter.is_accurate,
        pixel_size_um=pixel_size_um,
        diameter_px=settings.diameter_px(slide.path, pixel_size_um),
        tile_px=tile_px,
        level=facts.min_score,
        min_score=facts.min_score if settings.min_score is None else settings.min_score,
        min_area_px=max(1.0, settings.min_area_px),
    )


def plan_slide(slide: Slide, segmenter: Segmenter, task: SlideTask) -> SlidePlan:
    """Look at a slide from afar and decide how its cells are to be sought.

    Parts that cannot be read are black. Raises ReadError if there are any, and nothing to be seen elsewhere.
    """
    facts, network, given_px = segmenter.facts, segmenter.network, task.diameter_px
    assert network.reach_px is not None  # `slide_task` has seen to that
    pyramid, damage = SlidePyramid(slide, task.channels), None
    try:
        diameter_px = None if is_blank(pyramid) else given_px or segmenter.likely_diameter(pyramid)
    except TooLargeError:
        raise
    except ReadError as error:
        damage, pyramid = error, SlidePyramid(slide, task.channels, pyramid.contrast, around_damage=True)
        diameter_px = given_px or segmenter.likely_diameter(pyramid)
        if diameter_px is None:
            raise damage from None
    factors = segmenter.factors(slide.shape, diameter_px, is_given=given_px is not None) if diameter_px else []
    zooms = []
    for factor in factors:
        shape = canonical_shape(slide.shape, factor, network.stride)
        grid = (shape[0] // network.stride, shape[1] // network.stride)
        zooms.append(Zoom(factor=factor, shape=shape, padded=padded_shape(shape, network.multiple_px), grid=grid))
    used_px = facts.canonical_diameter_px / factors[0] if factors else given_px
    factor = factors[0] if factors else 1.0
    return SlidePlan(
        task=task,
        slide=str(slide.path.absolute()),  # a link keeps its name: what it points to may have no suffix
        model=str(segmenter.folder.resolve()),
        shape=slide.shape,
        contrast_low=tuple(map(float, pyramid.contrast.low)),
        contrast_span=tuple(map(float, pyramid.contrast.span)),
        diameter_px=used_px or facts.canonical_diameter_px,
        diameter_source="given" if given_px is not None else "estimated" if zooms else "not known",
        zooms=tuple(zooms),
        reach_px=network.reach_px,
        multiple_px=network.multiple_px,
        stride=network.stride,
        min_surest=0.0 if given_px is not None else facts.min_surest,
        block_px=max(1, min(round(BLOCK_PX / factor), MOST_BLOCK_PX)),
        halo_px=max(1, round(HALO_PX / factor)),
        most_halo_px=max(1, round(MOST_HALO_PX / factor)),
    )
