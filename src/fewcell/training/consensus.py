"""consensus: learn from labels, and from what a teacher's views of other images agree on."""

from typing import final

from torch import Tensor, nn

from fewcell.errors import ConfigError
from fewcell.representations import Representation
from fewcell.training.objective import Batch, Objective, Rounds, distance_to

__all__ = ["Consensus"]


@final
class Consensus(Objective):
    """The representation's loss on labelled pixels, of people and of a teacher.

    In rounds, the mean network so far looks at images of the pool in several views. Cells on which these agree, as far
    as held-out labels show that such cells are right, are labels for the rest of training; what is not sure is UNKNOWN.
    Points and boxes say more than agreement: where there are any, they decide.

    pool_share: of each batch, drawn from images that the teacher has labelled. at, images, keep, precision: see
    `Rounds`. paste: of crops of these images into which cells are set that the teacher was sure of in another one.
    soft: weight of the distance to what the moving average of the network predicts where nothing is known, as for
    `MeanTeacher`: cells that agreement leaves out are the difficult ones.

    Source: ours. Self-training by agreement of whole instances, beside that of pixels (mean teachers: Tarvainen and
    Valpola, 2017; agreement of augmented views as a filter: Wang et al., data distillation, 2018).
    """

    def __init__(
        self,
        representation: Representation,
        teacher: nn.Module,
        *,
        pool_share: float = 0.5,
        at: tuple[float, ...] = (0.35, 0.6),
        images: int = 200,
        keep: float = 0.7,
        precision: float = 0.8,
        paste: float = 0.0,
        soft: float = 0.0,
    ) -> None:
        if (
            not at
            or not all(0 <= share <= 1 for share in (keep, precision, paste, *at))
            or not 0 < pool_share < 1
            or images < 1
            or soft < 0
        ):
            raise ConfigError(
                "consensus takes pool_share, at, keep, precision, paste between 0 and 1, at least one image a round, "
                f"and soft of 0 or more; got {pool_share}, {at}, {keep}, {precision}, {paste}, {images}, {soft}."
            )
        self.representation, self.teacher, self.soft = representation, teacher, soft
        self.needs_plain = soft > 0
        self.pool_share, self.paste = pool_share, paste
        self.rounds = Rounds(tuple(sorted(at)), images, keep, precision)

    def losses(self, output: Tensor, batch: Batch, share: float) -> dict[str, Tensor]:
        """'supervised', for to the loss, a label is a label; and 'soft', if it has a weight."""
        parts = {"supervised": self.representation.loss(output, batch.targets, batch.known)}
        if self.soft:
            far = distance_to(self.teacher, self.representation, output, batch)
            unknown = ~batch.known
            parts["soft"] = self.soft * (far * unknown).sum() / max(int(unknown.sum()), 1)
        return parts
