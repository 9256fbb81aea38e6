"""napari: a widget that finds the cells of an image layer.

napari makes the widget from the signature of `segment_layer` (magicgui), and shows the layer that it returns. Nothing
of napari is imported, so it is none of fewcell's requirements.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from fewcell.errors import AxesError, TooLargeError
from fewcell.handover.napari_reader import Layer
from fewcell.images import measure_cells
from fewcell.segmenter import Segmenter, scale_facts
from fewcell.slides import LARGE_PX
from fewcell.types import FloatArray

if TYPE_CHECKING:
    import napari  # pyright: ignore[reportMissingImports]

__all__ = ["segment_layer"]


def segment_layer(
    image: "napari.layers.Image",
    diameter_px: Annotated[float, {"min": 0, "max": 10_000}] = 0.0,
    min_score: Annotated[float, {"min": 0, "max": 1, "step": 0.05}] = 0.0,
    model: str = "default",
) -> "napari.types.LayerDataTuple":
    """Find every cell of a layer.

    diameter_px: about how wide the cells are; 0 estimates it. min_score: drop cells that are less likely to be right;
    0 is the model's own threshold. model: a name, or a folder.

    napari waits until it is done. Raises AxesError for a layer of more than two dimensions, TooLargeError for one that
    is segmented as a slide.
    """
    pixels = _pixels(image)
    found = _loaded(model).segment(pixels, diameter_px=diameter_px or None, min_score=min_score or None)
    columns = measure_cells(found.instances, pixels, channel_names=("red", "green", "blue") if image.rgb else ())
    options: dict[str, Any] = {
        "name": f"{image.name} cells",
        "features": {"index": columns.pop("id"), **columns},
        "scale": image.scale[-2:],
        "translate": image.translate[-2:],
        "metadata": {
            "fewcell": {"model": model, **scale_facts(found.diameter_px, found.diameter_source, found.larger_px)}
        },
    }
    layer: Layer = (found.labels, options, "labels")
    return layer


@lru_cache(maxsize=1)
def _loaded(model: str) -> Segmenter:
    return Segmenter.load(model)


def _pixels(image: Any) -> FloatArray:
    """The pixels of an image layer as (channel, height, width); of several resolutions, those of the finest."""
    data = image.data[0] if image.multiscale else image.data
    n_axes = len(data.shape) - bool(image.rgb)
    if n_axes != 2:
        raise AxesError(
            f"The layer {image.name!r} has {n_axes} dimensions, but fewcell takes images of two. Right-click the layer "
            "and choose Split Stack, or open one plane of the file."
        )
    height, width = data.shape[:2]
    if height * width >= LARGE_PX:
        raise TooLargeError(
            f"The layer {image.name!r} has {height} x {width} pixels, which is a slide. Type: fewcell segment FILE -o "
            "FILE_label.zarr, and open that in napari."
        )
    pixels = np.asarray(data, dtype=np.float32)
    return np.moveaxis(pixels[..., :3], -1, 0) if image.rgb else pixels[None]
