"""The literal table of objectives. A variant is one file and one line here."""

import inspect
from collections.abc import Callable

from torch import nn

from fewcell.config import Part
from fewcell.errors import ConfigError, checked_settings, pick
from fewcell.representations import Representation
from fewcell.training.consensus import Consensus
from fewcell.training.distilled import Distilled
from fewcell.training.mean_teacher import MeanTeacher
from fewcell.training.objective import Objective
from fewcell.training.supervised import Supervised

__all__ = ["OBJECTIVES", "make_objective"]

OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "supervised": Supervised,
    "mean_teacher": MeanTeacher,
    "consensus": Consensus,
    "distilled": Distilled,
}


def make_objective(part: Part, representation: Representation, teacher: nn.Module) -> Objective:
    """Build the objective that a recipe names. teacher: the moving average of the network.

    Raises ConfigError for an unknown name or setting.
    """
    variant = pick("objective", part.name, OBJECTIVES)
    known = list(inspect.signature(variant).parameters)[2:]
    settings = checked_settings("objective", part.name, part.settings, known)
    try:
        return variant(representation, teacher, **settings)
    except TypeError as error:
        raise ConfigError(
            f"The objective {part.name!r} does not take these settings: {part.settings} ({error})."
        ) from None
