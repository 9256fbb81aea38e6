"""For those who will wait: an image is seen from four sides, and what the network says of them is averaged."""

import numpy as np

from fewcell.engine import Engine
from fewcell.representations import Representation
from fewcell.types import FloatArray

__all__ = ["VIEWS", "TurnedEngine"]

VIEWS = ((0, False), (0, True), (2, False), (2, True))
"""By how many quarters of a circle an image is turned, and whether it is flipped before: those that keep its shape."""


class TurnedEngine:
    """An engine that runs another one on four views of each image, so it takes four times as long.

    What it says of a pixel depends on nothing that is further away, so it can be used on tiles as well.
    """

    def __init__(self, engine: Engine, representation: Representation) -> None:
        self._engine, self._representation = engine, representation

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on an image (3, height, width); returns a new array (channel, h, w) float32."""
        total = np.float32(0)
        for quarters, flip in VIEWS:
            view = np.ascontiguousarray(np.rot90(image[..., ::-1] if flip else image, quarters, axes=(1, 2)))
            upright = self._representation.turn(self._engine(view), quarters=-quarters % 4)
            total = total + (self._representation.turn(upright, flip=True) if flip else upright)
        return np.asarray(total / np.float32(len(VIEWS)))
