"""For those who will wait: an image is seen from four sides at two scales, and what the network says is averaged."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fewcell.engine import Engine
from fewcell.images import resize_image
from fewcell.representations import Representation
from fewcell.segmenter.model_folder import NetworkFacts
from fewcell.types import FloatArray, Turn

__all__ = ["TurnedEngine"]

VIEWS = (Turn(0), Turn(0, flip=True), Turn(2), Turn(2, flip=True))
"""Those that keep the shape of an image."""

LARGER = Fraction(5, 4)
"""The second scale at which a network that takes images of any size sees each view."""


@dataclass(frozen=True)
class TurnedEngine:
    """An engine that runs another one on four views of each image, at two scales: it takes 11 to 12 times as long.

    network: of that engine. One that is given windows of one size sees them at one scale, in four times as long.
    What it says of a pixel depends on nothing that is further away, so it can be used on tiles as well; their sides
    must be multiples of `multiple_px`, which keeps the pixels of the second scale in place, whatever the tile.
    """

    engine: Engine
    representation: Representation
    network: NetworkFacts

    @property
    def multiple_px(self) -> int:
        """Sides of images that it is given must be multiples of this."""
        return self.network.multiple_px * (1 if self.network.window_px else LARGER.denominator)

    def __call__(self, image: FloatArray) -> FloatArray:
        """Run the network on an image (3, height, width); returns a new array (channel, h, w) float32."""
        seen = self._turned(image)
        if self.network.window_px is not None:
            return seen
        height, width = (int(side * LARGER) for side in image.shape[1:])
        larger = self._turned(resize_image(image, (height, width)))
        return (seen + resize_image(larger, (seen.shape[1], seen.shape[2]))) / np.float32(2)

    def _turned(self, image: FloatArray) -> FloatArray:
        total = np.float32(0)
        for view in VIEWS:
            total = total + self.representation.turn(self.engine(view.of(image)), **vars(view.undo))
        return np.asarray(total / np.float32(len(VIEWS)))
