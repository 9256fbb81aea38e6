"""From an image to its cells, with a model folder."""

from fewcell.segmenter.blank import is_blank
from fewcell.segmenter.files import Failed, FileSettings, Segmented, segment_files
from fewcell.segmenter.measure import LARGEST_FACTOR, busiest_window
from fewcell.segmenter.merge import merge_scales
from fewcell.segmenter.model_folder import (
    FACTS_FILE,
    INT8_FILE,
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    Int8Facts,
    ModelFacts,
    NetworkFacts,
    ScorerFacts,
    SourceFacts,
    find_model,
    hashes_of,
    network_of,
    read_model,
    write_model,
)
from fewcell.segmenter.predict import canonical_shape, predict_at_scale
from fewcell.segmenter.scale import N_CLASSES, TRAINED_OCTAVES, WINDOW_PX, class_of, scale_prior, scales_of
from fewcell.segmenter.seconds import SECONDS_FILE, Took, read_seconds, record_seconds
from fewcell.segmenter.segmenter import (
    COARSER,
    Segmentation,
    Segmenter,
    scale_facts,
)

__all__ = [
    "COARSER",
    "FACTS_FILE",
    "INT8_FILE",
    "LARGEST_FACTOR",
    "NETWORK_FILE",
    "N_CLASSES",
    "SCALE_FILE",
    "SECONDS_FILE",
    "TRAINED_OCTAVES",
    "WEIGHTS_FILE",
    "WINDOW_PX",
    "Failed",
    "FileSettings",
    "Int8Facts",
    "ModelFacts",
    "NetworkFacts",
    "ScorerFacts",
    "Segmentation",
    "Segmented",
    "Segmenter",
    "SourceFacts",
    "Took",
    "busiest_window",
    "canonical_shape",
    "class_of",
    "find_model",
    "hashes_of",
    "is_blank",
    "merge_scales",
    "network_of",
    "predict_at_scale",
    "read_model",
    "read_seconds",
    "record_seconds",
    "scale_facts",
    "scale_prior",
    "scales_of",
    "segment_files",
    "write_model",
]
