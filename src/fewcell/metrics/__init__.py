"""Comparing predicted cells with true ones: the challenge's matching rule, F1, and the usual other scores."""

from fewcell.metrics.matching import (
    Counts,
    Overlaps,
    count_matches,
    match,
    overlaps,
    remove_border,
    scored_overlaps,
)
from fewcell.metrics.mistakes import MISTAKES, Mistakes, find_mistakes
from fewcell.metrics.points_and_boxes import bounding_boxes, box_iou, count_boxes, count_points, fitting_boxes, holders
from fewcell.metrics.scores import (
    THRESHOLDS,
    ImageScores,
    aggregated_jaccard,
    average_precision,
    f1,
    panoptic_quality,
    score_image,
)

__all__ = [
    "MISTAKES",
    "THRESHOLDS",
    "Counts",
    "ImageScores",
    "Mistakes",
    "Overlaps",
    "aggregated_jaccard",
    "average_precision",
    "bounding_boxes",
    "box_iou",
    "count_boxes",
    "count_matches",
    "count_points",
    "f1",
    "find_mistakes",
    "fitting_boxes",
    "holders",
    "match",
    "overlaps",
    "panoptic_quality",
    "remove_border",
    "score_image",
    "scored_overlaps",
]
