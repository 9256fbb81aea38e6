"""mean_teacher: learn from labels, and to predict what the mean of earlier networks predicts."""

from typing import final

from torch import Tensor, nn

from fewcell.errors import ConfigError
from fewcell.representations import Representation
from fewcell.segmenter import find_model
from fewcell.training.objective import Batch, Objective, distance_to

__all__ = ["MeanTeacher"]


@final
class MeanTeacher(Objective):
    """The representation's loss on labelled pixels, and the distance to the teacher's prediction on all.

    The teacher is the moving average of the network. It sees each crop as it is, flipped and turned, the network the
    same crop with varied intensities; the teacher's prediction is turned back. The distance is the mean square over
    pixels and channels, each over its range.

    pool_share: of each batch, drawn from images without labels. weight: of the distance, from `ramp` of the budget on;
    before that it rises. scale_by: a finished model that tells how wide the cells of these images are; those in which
    it sees none are left out. None: they are seen at any scale.

    Source: Tarvainen and Valpola, Mean teachers are better role models (NeurIPS 2017).
    """

    needs_plain = True

    def __init__(
        self,
        representation: Representation,
        teacher: nn.Module,
        *,
        pool_share: float = 0.5,
        weight: float = 4.0,
        ramp: float = 0.3,
        scale_by: str | None = "default",
    ) -> None:
        if not 0 < pool_share < 1 or not 0 < ramp <= 1 or weight < 0:
            raise ConfigError(
                f"mean_teacher takes pool_share and ramp between 0 and 1, and a weight of 0 or more; got {pool_share}, "
                f"{ramp} and {weight}."
            )
        self.representation, self.teacher = representation, teacher
        self.pool_share, self.weight, self.ramp = pool_share, weight, ramp
        self.scale_by = find_model(scale_by) if scale_by else None

    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """Two parts, 'supervised' and 'consistency'."""
        far = distance_to(self.teacher, self.representation, output, batch).mean()
        return {
            "supervised": self.representation.loss(output, batch.targets, batch.known),
            "consistency": self.weight * min(1.0, share / self.ramp) * far,
        }
