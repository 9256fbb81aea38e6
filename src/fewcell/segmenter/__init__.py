"""From an image to its cells, with a model folder."""

from fewcell.segmenter.files import Failed, FileSettings, Segmented, parse_diameter, segment_files
from fewcell.segmenter.model_folder import (
    NETWORK_FILE,
    WEIGHTS_FILE,
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
    "NETWORK_FILE",
    "WEIGHTS_FILE",
    "Failed",
    "FileSettings",
    "ModelFacts",
    "NetworkFacts",
    "ScorerFacts",
    "Segmentation",
    "Segmented",
    "Segmenter",
    "SourceFacts",
    "find_model",
    "parse_diameter",
    "predict_at_scale",
    "read_model",
    "segment_files",
    "write_model",
]
