"""How far scores can be trusted: the share of right cells among those of a score, and F1 as one asks for more."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewcell.benchmark.summary import HEADLINE_MODALITIES
from fewcell.metrics import overlaps, remove_border
from fewcell.types import FloatArray, Instances, Labels

__all__ = ["JudgedImage", "calibration_error", "judge_image", "score_table", "threshold_table"]

BINS = 20
MIN_SCORES = np.arange(BINS) / BINS


@dataclass(frozen=True)
class JudgedImage:
    """The cells found in one image that count, those cut by the frame left out as in the challenge's rule.

    scores, right: (n,), of each found cell its score, and whether it has an IoU of 0.5 or more with a true cell.
    n_true: how many true cells there are.
    """

    modality: str
    seen: bool
    scores: FloatArray
    right: NDArray[np.bool_]
    n_true: int


def judge_image(truth: Labels, found: Instances, modality: str, seen: bool) -> JudgedImage:
    """Say of each found cell whether it is right. truth, found.labels: of the same shape, not cut into tiles.

    Of two that are each exactly half of a true cell, the one of the higher score is right.
    """
    kept = remove_border(found.labels)
    number = np.zeros(int(kept.max(initial=0)) + 1, dtype=np.int64)
    number[kept.ravel()] = found.labels.ravel()
    table = overlaps(remove_border(truth), kept)
    scores = found.scores[number[table.predicted_ids] - 1]
    fits = table.pair_iou >= 0.5
    true, predicted = table.pair_true[fits], table.pair_predicted[fits]
    by_score = np.argsort(-scores[predicted], kind="stable")
    _, first_true = np.unique(true[by_score], return_index=True)
    right = np.zeros(table.n_predicted, dtype=bool)
    right[predicted[by_score[first_true]]] = True
    counts = right | ~table.mostly_unknown
    return JudgedImage(modality, seen, scores[counts], right[counts], table.n_true)


def score_table(images: Sequence[JudgedImage]) -> list[dict[str, object]]:
    """For seen and unseen images and each of 20 ranges of scores: cells found, right ones, and their mean score."""
    lines: list[dict[str, object]] = []
    for seen, name in ((True, "seen"), (False, "unseen")):
        found, right, total = _bins([image for image in images if image.seen is seen])
        for number in np.flatnonzero(found):
            low, n = number / BINS, int(found[number])
            mean = total[number] / n
            lines.append({"images": name, "from": low, "found": n, "right": int(right[number]), "mean_score": mean})
    return lines


def calibration_error(images: Sequence[JudgedImage]) -> float | None:
    """The expected calibration error over 20 ranges of scores; None without any cell found.

    The mean over found cells of the distance between the mean score in their range and the share of right ones in it
    (Guo et al., On calibration of modern neural networks, ICML 2017).
    """
    found, right, total = _bins(images)
    return float(np.abs(right - total).sum() / found.sum()) if found.any() else None


def threshold_table(images: Sequence[JudgedImage]) -> list[dict[str, object]]:
    """For each lowest score that one asks for, the mean F1 over the four modalities: of all, seen and unseen images.

    A mean is missing where one of the modalities is. Images without a true cell that counts are in none.
    """
    groups = {"f1_50": (True, False), "f1_50_seen": (True,), "f1_50_unseen": (False,)}
    lines: list[dict[str, object]] = []
    for threshold in MIN_SCORES:
        line: dict[str, object] = {"min_score": float(threshold)}
        for name, seen in groups.items():
            f1s: dict[str, list[float]] = {modality: [] for modality in HEADLINE_MODALITIES}
            for image in images:
                if image.n_true and image.seen in seen and image.modality in f1s:
                    kept = image.scores >= threshold
                    f1s[image.modality].append(2 * image.right[kept].sum() / (image.n_true + kept.sum()))
            line[name] = float(np.mean([np.mean(v) for v in f1s.values()])) if all(f1s.values()) else None
        lines.append(line)
    return lines


def _bins(images: Sequence[JudgedImage]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """For each range of scores: cells found, right ones, and the sum of scores."""
    scores = np.concatenate([np.zeros(0, np.float32), *(image.scores for image in images)]).astype(np.float64)
    right = np.concatenate([np.zeros(0, bool), *(image.right for image in images)])
    number = np.minimum((scores * BINS).astype(np.int64), BINS - 1)
    found = np.bincount(number, minlength=BINS)
    return (
        found,
        np.bincount(number[right], minlength=BINS),
        np.bincount(number, weights=scores, minlength=BINS).astype(np.float64),
    )
