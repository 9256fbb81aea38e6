"""supervised: learn from labels alone."""

from typing import final

from torch import Tensor, nn

from fewcell.representations import Representation
from fewcell.training.objective import Batch, Objective

__all__ = ["Supervised"]


@final
class Supervised(Objective):
    """The representation's loss on labelled pixels."""

    def __init__(self, representation: Representation, teacher: nn.Module) -> None:
        self.representation = representation

    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """One part, 'supervised'."""
        return {"supervised": self.representation.loss(output, batch.targets, batch.known)}
