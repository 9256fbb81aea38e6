import numpy as np
import pytest
from official_rule import iou_matrix, official_counts, without_border

from fewcell.metrics import (
    THRESHOLDS,
    Counts,
    aggregated_jaccard,
    average_precision,
    count_matches,
    f1,
    overlaps,
    panoptic_quality,
    score_image,
)


def disc(radius, side=60):
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return (y**2 + x**2 <= radius**2).astype(np.int32)


def cells_and_prediction(seed, n=12, side=64):
    """Separate-ish discs, and a prediction with shifted, lost, extra, and resized ones."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    true, predicted = np.zeros((2, side, side), np.int32)
    for cell in range(1, n + 1):
        cy, cx, radius = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(3, 8)
        true[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = cell
        dy, dx, factor = rng.normal(0, 1.5), rng.normal(0, 1.5), rng.uniform(0.7, 1.2)
        if rng.random() < 0.85:
            predicted[(y - cy - dy) ** 2 + (x - cx - dx) ** 2 <= (factor * radius) ** 2] = cell
    return true, predicted


def jaccard_by_the_paper(true, predicted):
    """Algorithm 1 of Kumar et al. 2017, one true cell after the other."""
    known = true != -1
    iou, mostly_unknown = iou_matrix(true, predicted)
    true_cells = [(true == i) for i in np.unique(true[true > 0])]
    predicted_cells = [(predicted == i) & known for i in np.unique(predicted[predicted > 0])]
    shared, joined, used = 0, 0, set()
    for i, cell in enumerate(true_cells):
        best = int(np.argmax(iou[i])) if predicted_cells else 0
        if not predicted_cells or iou[i, best] == 0:
            joined += cell.sum()
            continue
        shared += (cell & predicted_cells[best]).sum()
        joined += (cell | predicted_cells[best]).sum()
        used.add(best)
    for j, cell in enumerate(predicted_cells):
        if j not in used and not mostly_unknown[j]:
            joined += cell.sum()
    return shared / joined if joined else 0


def test_hand_computed_case():
    # 4 px against 4 px sharing 3: IoU 3/5. One true cell of 2 px missed, one false prediction of 3 px.
    true = np.array([[1, 1, 1, 1, 0, 2, 2, 0, 0, 0]], np.int32)
    predicted = np.array([[0, 5, 5, 5, 5, 0, 0, 7, 7, 7]], np.int32)
    table = overlaps(true, predicted)
    counts = count_matches(table, 0.6)
    assert counts == Counts(true_positives=1, n_true=2, n_predicted=2)
    assert f1(counts) == 2 / 4
    assert average_precision(counts) == 1 / 3
    quality = panoptic_quality(table)
    assert quality.sq == 3 / 5
    assert quality.rq == 2 / 4
    assert quality.pq == pytest.approx(3 / 10)
    assert aggregated_jaccard(table) == 3 / (5 + 2 + 3)


def test_a_prediction_may_serve_two_true_cells_in_the_jaccard_index():
    true = np.array([[1, 1, 1, 2, 2]], np.int32)
    predicted = np.array([[1, 1, 1, 1, 1]], np.int32)
    # Cell 1: 3 of 5 shared; cell 2: 2 of 5.
    assert aggregated_jaccard(overlaps(true, predicted)) == (3 + 2) / (5 + 5)


def test_spare_predictions_mostly_in_unknown_cost_nothing_in_the_jaccard_index():
    true = np.array([[1, 1, 0, 0, -1, -1, -1]], np.int32)
    half_unknown = np.array([[1, 1, 2, 2, 2, 2, 0]], np.int32)
    mostly_unknown = np.array([[1, 1, 2, 2, 2, 2, 2]], np.int32)
    assert aggregated_jaccard(overlaps(true, half_unknown)) == 2 / 4
    assert aggregated_jaccard(overlaps(true, mostly_unknown)) == 1


def test_panoptic_quality_needs_more_than_a_half():
    table = overlaps(np.array([[1, 1]], np.int32), np.array([[1, 0]], np.int32))
    assert f1(count_matches(table, 0.5)) == 1
    assert panoptic_quality(table).pq == 0


@pytest.mark.parametrize(("radius", "found"), [(7.1, 1), (7.0, 0), (14.1, 1), (14.2, 0), (10, 1)])
def test_a_disc_of_20_px_survives_between_three_less_and_four_more(radius, found):
    # Areas go with the square of the radius: 10 / sqrt(2) = 7.07 and 10 * sqrt(2) = 14.14 bound IoU 0.5.
    # The drawn discs are fine-grained enough to show it: 20 times the size.
    scale = 20
    true, predicted = disc(10 * scale, 30 * scale), disc(radius * scale, 30 * scale)
    assert score_image(true, predicted).counts[0].true_positives == found


def test_perfect_empty_and_unscorable_images():
    cell = disc(10)
    perfect = score_image(cell, cell)
    assert perfect.scorable
    assert perfect.f1 == perfect.average_precision == (1,) * len(THRESHOLDS)
    assert perfect.panoptic.pq == perfect.aggregated_jaccard == 1
    missed = score_image(cell, 0 * cell)
    assert missed.scorable
    assert set(missed.f1) | {missed.panoptic.pq, missed.panoptic.sq, missed.aggregated_jaccard} == {0}
    at_the_edge = disc(10)[20:, 20:]
    nothing = score_image(at_the_edge, at_the_edge)
    assert not nothing.scorable
    assert not score_image(0 * cell, cell).scorable
    assert nothing.f1[0] == nothing.aggregated_jaccard == 0


@pytest.mark.parametrize("seed", range(12))
def test_scores_equal_brute_force(seed):
    true, predicted = cells_and_prediction(seed)
    if seed % 2:
        predicted = predicted * 1000
    scores = score_image(true, predicted)
    true, predicted = without_border(true), without_border(predicted)
    for threshold, got_f1, got_precision in zip(THRESHOLDS, scores.f1, scores.average_precision, strict=True):
        found, n_true, n_predicted = official_counts(true, predicted, threshold)
        precision, recall = found / n_predicted, found / n_true
        assert got_f1 == pytest.approx(2 * precision * recall / (precision + recall) if found else 0)
        assert got_precision == pytest.approx(found / (found + (n_predicted - found) + (n_true - found)))
    assert scores.aggregated_jaccard == pytest.approx(jaccard_by_the_paper(true, predicted))


@pytest.mark.parametrize("seed", range(8))
def test_jaccard_index_with_unknown_equals_brute_force(seed):
    true, predicted = cells_and_prediction(seed)
    true[:, 40:] = -1
    assert aggregated_jaccard(overlaps(true, predicted)) == pytest.approx(jaccard_by_the_paper(true, predicted))


@pytest.mark.parametrize("seed", range(6))
def test_panoptic_quality_equals_panoptica(seed):
    panoptica = pytest.importorskip("panoptica", reason="panoptica, the independent reference, is missing")
    true, predicted = cells_and_prediction(seed)
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.UNMATCHED_INSTANCE,
        # panoptica takes an IoU of 0.5 itself as a match; the paper does not.
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=float(np.nextafter(0.5, 1))),
    )
    reference = evaluator.evaluate(predicted.astype(np.uint16), true.astype(np.uint16), verbose=False)
    reference = reference["ungrouped"]
    ours = panoptic_quality(overlaps(true, predicted))
    assert ours.pq > 0.1
    assert (ours.pq, ours.sq, ours.rq) == pytest.approx((reference.pq, reference.sq, reference.rq))


def test_row_names_every_number():
    true, predicted = cells_and_prediction(0)
    scores = score_image(true, predicted)
    row = scores.as_row()
    assert [name for name in row if name.startswith("f1_")] == ["f1_50", "f1_60", "f1_70", "f1_80", "f1_90"]
    assert (row["f1_50"], row["f1_90"], row["ap_60"]) == (
        scores.f1[0],
        scores.f1[4],
        scores.average_precision[1],
    )
    assert row["precision"] == row["true_positives"] / row["n_predicted"]
    assert row["recall"] == row["true_positives"] / row["n_true"]
    assert (row["pq"], row["aji"]) == (scores.panoptic.pq, scores.aggregated_jaccard)
