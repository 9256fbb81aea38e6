"""How good a prediction is: F1 as in the challenge, and the scores that other papers report.

Every function takes what `matching` gives, so that all scores of an image share its rules: cells cut by the
image border are gone, large images are compared in tiles, and UNKNOWN counts for nothing.
"""

from dataclasses import dataclass

import numpy as np

from fewcell.metrics.matching import Counts, Overlaps, count_matches, scored_overlaps
from fewcell.metrics.mistakes import find_mistakes
from fewcell.types import Labels

__all__ = [
    "THRESHOLDS",
    "ImageScores",
    "PanopticQuality",
    "aggregated_jaccard",
    "average_precision",
    "f1",
    "panoptic_quality",
    "score_image",
]

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class PanopticQuality:
    """How well cells are recognised (rq), how well those are outlined (sq), and the product of both (pq)."""

    pq: float
    sq: float
    rq: float


@dataclass(frozen=True)
class ImageScores:
    """Every score of one image; each is in [0, 1], and 1 is best.

    counts, f1, average_precision: one entry for each of `THRESHOLDS`. mistakes: how many cells are wrong in which way,
    see `Mistakes`.
    """

    counts: tuple[Counts, ...]
    f1: tuple[float, ...]
    average_precision: tuple[float, ...]
    panoptic: PanopticQuality
    aggregated_jaccard: float
    mistakes: dict[str, int]

    @property
    def scorable(self) -> bool:
        """False without a true cell that the border does not cut: then all scores are 0 and say nothing."""
        return self.counts[0].n_true > 0

    def as_row(self) -> dict[str, float | int]:
        """The numbers as named columns; counts, precision, and recall are those at IoU 0.5."""
        at_half = self.counts[0]
        row: dict[str, float | int] = {
            "n_true": at_half.n_true,
            "n_predicted": at_half.n_predicted,
            "true_positives": at_half.true_positives,
            "precision": _ratio(at_half.true_positives, at_half.n_predicted),
            "recall": _ratio(at_half.true_positives, at_half.n_true),
        }
        row |= {f"f1_{100 * t:.0f}": value for t, value in zip(THRESHOLDS, self.f1, strict=True)}
        row |= {f"ap_{100 * t:.0f}": value for t, value in zip(THRESHOLDS, self.average_precision, strict=True)}
        row |= {"pq": self.panoptic.pq, "sq": self.panoptic.sq, "rq": self.panoptic.rq}
        row["aji"] = self.aggregated_jaccard
        row.update(self.mistakes)
        return row


def f1(counts: Counts) -> float:
    """The share of cells found, weighed against false ones: 2 TP / (n_true + n_predicted); 0 without any."""
    return _ratio(2 * counts.true_positives, counts.n_true + counts.n_predicted)


def average_precision(counts: Counts) -> float:
    """Cells found out of all true, missed, and false ones: TP / (TP + FP + FN); 0 where there are none.

    The word is that of the 2018 Data Science Bowl, StarDist, and Cellpose; it is no area under a curve.
    """
    return _ratio(counts.true_positives, counts.n_true + counts.n_predicted - counts.true_positives)


def panoptic_quality(table: Overlaps) -> PanopticQuality:
    """Panoptic quality (Kirillov et al., CVPR 2019): mean IoU of the matched cells times their F1.

    A match is an IoU strictly above 0.5, as in that paper, so it is unique; the challenge's F1 also takes 0.5
    itself. All three numbers are 0 without a match.
    """
    above_half = float(np.nextafter(0.5, 1))
    iou = table.pair_iou
    matched = iou[iou >= above_half]
    rq = f1(count_matches(table, above_half))
    sq = float(matched.mean()) if len(matched) else 0.0
    return PanopticQuality(pq=sq * rq, sq=sq, rq=rq)


def aggregated_jaccard(table: Overlaps) -> float:
    """Aggregated Jaccard index, AJI (Kumar et al., IEEE TMI 2017): shared over joined pixels of the image.

    Each true cell takes the prediction of highest IoU (of equals the smaller id), which several may take.
    True cells without one and predictions that nobody took add to the joined pixels, except predictions
    that lie mostly in UNKNOWN. 0 for an image without cells.
    """
    by_true_then_iou = np.lexsort((-table.pair_iou, table.pair_true))
    _, first = np.unique(table.pair_true[by_true_then_iou], return_index=True)
    best = by_true_then_iou[first]
    taken = np.zeros(table.n_predicted, bool)
    taken[table.pair_predicted[best]] = True

    shared = int(table.pair_px[best].sum())
    spare = int(table.predicted_areas[~taken & ~table.mostly_unknown].sum())
    joined = int(table.true_areas.sum() + table.predicted_areas[table.pair_predicted[best]].sum()) - shared
    return _ratio(shared, joined + spare)


def score_image(true: Labels, predicted: Labels) -> ImageScores:
    """Score the cells found in one image against the true ones.

    true: (height, width) labels, -1 where nobody annotated. predicted: the same shape, 0 or more.
    Takes about 0.05 s a megapixel on one core (100 megapixels with 200,000 cells: 5 s) and, beyond the two
    images, 20 bytes a pixel; from 25 megapixels on a constant 0.1 GB. DataError where the two are not labels
    of one image.
    """
    table = scored_overlaps(true, predicted)
    counts = tuple(count_matches(table, threshold) for threshold in THRESHOLDS)
    return ImageScores(
        counts=counts,
        f1=tuple(f1(c) for c in counts),
        average_precision=tuple(average_precision(c) for c in counts),
        panoptic=panoptic_quality(table),
        aggregated_jaccard=aggregated_jaccard(table),
        mistakes=find_mistakes(table).counts(),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
