"""From an image to its cells, with a model folder."""

from fewcell.segmenter.model_folder import (
    ModelFacts,
    NetworkFacts,
    ScorerFacts,
    SourceFacts,
    find_model,
    read_model,
    write_model,
)
from fewcell.segmenter.segmenter import Segmentation, Segmenter, predict_at_scale

__all__ = [
    "ModelFacts",
    "NetworkFacts",
    "ScorerFacts",
    "Segmentation",
    "Segmenter",
    "SourceFacts",
    "find_model",
    "predict_at_scale",
    "read_model",
    "write_model",
]
