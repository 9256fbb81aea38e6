"""How far scores can be trusted: against the metric itself, one threshold after the other, and known shares."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.benchmark import HEADLINE_MODALITIES
from fewcell.benchmark.trust import JudgedImage, calibration_error, judge_image, score_table, threshold_table
from fewcell.metrics import f1, match
from fewcell.types import UNKNOWN, Instances, Labels


def discs(seed: int, *, shift: float, side: int = 60) -> Labels:
    """Discs on a lattice of 12 px, some missing, each moved by up to `shift` px; some are cut by the frame."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), dtype=np.int32)
    y, x = np.mgrid[:side, :side]
    number = 0
    for cy in range(2, side, 12):
        for cx in range(4, side, 12):
            if rng.random() < 0.2:
                continue
            dy, dx = rng.uniform(-shift, shift, 2)
            number += 1
            labels[((y - cy - dy) ** 2 + (x - cx - dx) ** 2 <= 16) & (labels == 0)] = number
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int32)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000), unknown=st.booleans())
def test_f1_at_every_lowest_score_is_that_of_the_metric(seed: int, unknown: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, labels = discs(seed, shift=0), discs(seed + 1, shift=3)
    if unknown:
        truth[20:45, 10:50] = UNKNOWN
    found = Instances(labels, rng.random(int(labels.max())).astype(np.float32))
    judged = [judge_image(truth, found, modality, True) for modality in HEADLINE_MODALITIES]
    for line in threshold_table(judged):
        kept = np.append(False, found.scores >= line["min_score"])
        counts = match(truth, np.where(kept[labels], labels, 0).astype(np.int32))
        if counts.n_true:
            assert line["f1_50"] == line["f1_50_seen"] == pytest.approx(f1(counts))
        else:
            assert line["f1_50"] is None
        assert line["f1_50_unseen"] is None


def test_of_two_halves_of_a_cell_the_likelier_is_right() -> None:
    truth = np.zeros((12, 12), dtype=np.int32)
    labels = truth.copy()
    truth[4:8, 4:8], labels[4:8, 4:6], labels[4:8, 6:8] = 1, 1, 2
    judged = judge_image(truth, Instances(labels, np.array([0.3, 0.6], dtype=np.float32)), "phase", True)
    assert judged.right[judged.scores.argsort()].tolist() == [False, True]


def drawn(n: int, *, bias: float, seen: bool = True) -> JudgedImage:
    """So many cells whose scores are `bias` above the share of right ones among them."""
    rng = np.random.default_rng(n)
    truth = rng.uniform(0, 1 - bias, n)
    return JudgedImage("phase", seen, (truth + bias).astype(np.float32), rng.random(n) < truth, n)


def test_the_calibration_error_is_how_far_scores_are_from_the_truth() -> None:
    assert calibration_error([]) is None
    assert calibration_error([drawn(200_000, bias=0.0)]) == pytest.approx(0, abs=0.01)
    assert calibration_error([drawn(200_000, bias=0.2)]) == pytest.approx(0.2, abs=0.01)
    halves = [drawn(200_000, bias=0.0), drawn(200_000, bias=0.2)]
    assert 0 < (calibration_error(halves) or 0) < 0.2


def test_ranges_of_scores_hold_every_cell_once() -> None:
    images = [drawn(500, bias=0.1), drawn(300, bias=0.1, seen=False), drawn(0, bias=0.1)]
    table = score_table(images)
    for name, image in (("seen", images[0]), ("unseen", images[1])):
        lines = [line for line in table if line["images"] == name]
        assert sum(line["found"] for line in lines) == len(image.scores)
        assert sum(line["right"] for line in lines) == image.right.sum()
        assert sum(line["found"] * line["mean_score"] for line in lines) == pytest.approx(image.scores.sum())
        assert all(line["from"] <= line["mean_score"] < line["from"] + 0.05 for line in lines)
