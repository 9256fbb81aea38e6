"""From an image to its cells, with a model folder."""

from fewcell.segmenter.files import Failed, FileSettings, Segmented, parse_diameter, segment_files
from fewcell.segmenter.measure import busiest_window
from fewcell.segmenter.model_folder import (
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    ModelFacts,
    NetworkFacts,
    ScorerFacts,
    SourceFacts,
    find_model,
    read_model,
    write_model,
)
from fewcell.segmenter.scale import N_CLASSES, TRAINED_OCTAVES, WINDOW_PX, class_of
from fewcell.segmenter.segmenter import COARSER, Segmentation, Segmenter, predict_at_scale

__all__ = [
    "COARSER",
    "NETWORK_FILE",
    "N_CLASSES",
    "SCALE_FILE",
    "TRAINED_OCTAVES",
    "WEIGHTS_FILE",
    "WINDOW_PX",
    "Failed",
    "FileSettings",
    "ModelFacts",
    "NetworkFacts",
    "ScorerFacts",
    "Segmentation",
    "Segmented",
    "Segmenter",
    "SourceFacts",
    "busiest_window",
    "class_of",
    "find_model",
    "parse_diameter",
    "predict_at_scale",
    "read_model",
    "segment_files",
    "write_model",
]
