import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from official_rule import counts_with_unknown, iou_matrix, official_counts, without_border

from fewcell.errors import ConfigError, DataError
from fewcell.metrics import count_matches, match, overlaps, remove_border, scored_overlaps

THRESHOLDS = (0.1, 0.25, 1 / 3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def as_tuple(counts):
    return counts.true_positives, counts.n_true, counts.n_predicted


def scattered_ids(labels, rng):
    """The same cells under ids with gaps, up to the largest one there is; UNKNOWN and 0 stay."""
    top = int(labels.max(initial=0))
    names = np.sort(rng.choice(2**31 - 2, size=top, replace=False)) + 1
    if top:
        names[-1] = 2**31 - 1
    return np.where(labels > 0, np.concatenate([[0], names])[labels], labels).astype(np.int32)


def blocks(rng, side=12, n=6, unknown=False):
    """Rectangles drawn over each other; with few pixels, IoU of exactly 1/2 and 1/3 are common."""
    labels = np.zeros((side, side), np.int32)
    for cell in range(1, n + 1):
        y, x = rng.integers(0, side, 2)
        labels[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = cell
    if unknown:
        y, x = rng.integers(0, side, 2)
        labels[y : y + rng.integers(1, side), x : x + rng.integers(1, side)] = -1
    return labels


def perturbed(labels, rng):
    """Shifted, some cells lost, two merged, one cut in half: what predictions get wrong."""
    predicted = np.roll(np.where(labels == -1, 0, labels), rng.integers(-1, 2, 2), (0, 1))
    cells = np.unique(predicted[predicted > 0])
    if len(cells) > 2:
        lost, merged, into = rng.permutation(cells)[:3]
        predicted[predicted == lost] = 0 if rng.random() < 0.5 else lost
        predicted[predicted == merged] = into if rng.random() < 0.5 else merged
    if len(cells) and rng.random() < 0.7:
        y, x = np.nonzero(predicted == rng.choice(cells))
        predicted[y[: len(y) // 2], x[: len(y) // 2]] = cells.max() + 1
    return predicted


@st.composite
def label_pairs(draw):
    """Random, perturbed, halved, and empty pairs without UNKNOWN."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    kind = draw(st.sampled_from(["noise", "blocks", "perturbed", "halves", "empty truth", "empty prediction"]))
    if kind == "noise":
        shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=8))
        true, predicted = rng.integers(0, 5, (2, *shape))
    elif kind == "halves":
        # Cells 1, 2, ... of two columns; the prediction splits or joins them, so IoU is exactly 0.5.
        true = np.repeat(np.arange(1, 7), 2)[None].repeat(2, 0)
        predicted = np.where(rng.random(12) < 0.5, np.arange(1, 13), np.repeat([20, 21, 22], 4))[None].repeat(2, 0)
        if rng.random() < 0.5:
            true, predicted = predicted, true
    else:
        true = blocks(rng)
        predicted = perturbed(true, rng) if kind == "perturbed" else blocks(rng)
        true = true * 0 if kind == "empty truth" else true
        predicted = predicted * 0 if kind == "empty prediction" else predicted
    return true.astype(np.int32), predicted.astype(np.int32)


@settings(max_examples=300, deadline=None)
@given(label_pairs(), st.sampled_from(THRESHOLDS))
def test_counts_equal_the_official_assignment(pair, threshold):
    true, predicted = pair
    table = overlaps(true, predicted)
    assert as_tuple(count_matches(table, threshold)) == official_counts(true, predicted, threshold)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.booleans())
def test_the_whole_rule_equals_the_official_one(seed, wide_ids):
    rng = np.random.default_rng(seed)
    true = np.pad(blocks(rng), rng.integers(0, 3))
    predicted = perturbed(true, rng)
    expected = [official_counts(without_border(true), without_border(predicted), t) for t in THRESHOLDS]
    if wide_ids:
        true, predicted = scattered_ids(true, rng), scattered_ids(predicted, rng)
    table = scored_overlaps(true, predicted)
    assert [as_tuple(count_matches(table, threshold)) for threshold in THRESHOLDS] == expected


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(THRESHOLDS))
def test_unknown_equals_trying_every_assignment(seed, threshold):
    rng = np.random.default_rng(seed)
    true = blocks(rng, side=9, n=4, unknown=True)
    predicted = perturbed(true, rng) if rng.random() < 0.5 else blocks(rng, side=9, n=4)
    expected = counts_with_unknown(true, predicted, threshold)
    assert as_tuple(count_matches(overlaps(true, predicted), threshold)) == expected


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_overlaps_equal_counting_pair_by_pair(seed):
    rng = np.random.default_rng(seed)
    true = blocks(rng, unknown=True)
    predicted = perturbed(true, rng)
    table = overlaps(scattered_ids(true, rng), scattered_ids(predicted, rng))
    iou, mostly_unknown = iou_matrix(true, predicted)
    dense = np.zeros((table.n_true, table.n_predicted))
    dense[table.pair_true, table.pair_predicted] = table.pair_iou
    np.testing.assert_array_equal(dense, np.nan_to_num(iou))
    assert table.mostly_unknown.tolist() == mostly_unknown


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_remove_border_equals_doing_it_cell_by_cell(seed):
    rng = np.random.default_rng(seed)
    labels = blocks(rng, n=12, unknown=True)
    np.testing.assert_array_equal(remove_border(scattered_ids(labels, rng)), without_border(labels))


def test_two_halves_of_a_cell_are_one_match():
    true = np.array([[1, 1, 1, 1]], np.int32)
    halves = np.array([[1, 1, 2, 2]], np.int32)
    assert as_tuple(count_matches(overlaps(true, halves), 0.5)) == (1, 1, 2)
    assert as_tuple(count_matches(overlaps(halves, true), 0.5)) == (1, 2, 1)
    assert as_tuple(count_matches(overlaps(true, halves), 0.51)) == (0, 1, 2)


def test_below_a_half_the_greedy_choice_would_lose_a_match():
    # Cell 1 overlaps best with prediction 1, but cell 2 has no other partner than prediction 1.
    true = np.array([[1, 1, 1, 1, 1, 2, 2, 2]], np.int32)
    predicted = np.array([[2, 2, 1, 1, 1, 1, 1, 0]], np.int32)
    table = overlaps(true, predicted)
    np.testing.assert_allclose(table.pair_iou, [3 / 7, 2 / 5, 2 / 6])
    assert as_tuple(count_matches(table, 0.3)) == (2, 2, 2)


def test_remove_border_keeps_unknown_and_numbers_the_rest_in_order():
    labels = np.zeros((9, 9), np.int32)
    labels[:, 8] = -1
    labels[1, 4] = 5  # in the frame, by its second pixel from the edge
    labels[2, 2] = 70
    labels[6, 6] = 8
    expected = np.zeros_like(labels)
    expected[:, 8], expected[2, 2], expected[6, 6] = -1, 2, 1
    np.testing.assert_array_equal(remove_border(labels), expected)
    assert remove_border(labels, width_px=0).max() == 3
    assert remove_border(labels[:4, :4]).max() == 0


def test_rule_1_comes_before_unknown():
    true = np.zeros((20, 20), np.int32)
    true[:, 14:] = -1
    true[5:9, 10:14] = 1  # touches UNKNOWN, not the frame: stays
    predicted = np.zeros_like(true)
    predicted[5:9, 10:14] = 1
    predicted[12:14, 10:20] = 2  # would be a false positive, but reaches the frame inside UNKNOWN: cut
    assert as_tuple(match(true, predicted)) == (1, 1, 1)


def test_a_prediction_mostly_in_unknown_is_false_only_if_it_could_be_known_to_be():
    true = np.zeros((30, 30), np.int32)
    true[:, 15:] = -1
    true[5:9, 11:15] = 1
    predicted = np.zeros_like(true)
    predicted[20:22, 11:19] = 3  # exactly half of it in UNKNOWN: false
    predicted[24:26, 11:20] = 4  # more than half: nobody knows
    assert as_tuple(match(true, predicted)) == (0, 1, 1)
    predicted[5:9, 11:25] = 5  # mostly in UNKNOWN as well, and on its known part just the true cell: found
    assert as_tuple(match(true, predicted, 1.0)) == (1, 1, 2)


def test_right_predictions_are_those_that_fit_a_true_cell_well_enough():
    true, predicted = np.zeros((2, 8, 20), dtype=np.int32)
    true[:4, :4], true[:, 10:] = 1, -1
    predicted[:4, :2], predicted[5:7, :4], predicted[2:6, 9:14] = 1, 2, 3  # fits; is wrong; lies mostly in UNKNOWN
    is_right, known = overlaps(true, predicted).right_and_known()
    assert is_right.tolist() == [True, False, False]
    assert known.tolist() == [True, True, False]
    true[4, 0] = 1
    assert not overlaps(true, predicted).right_and_known()[0].any()


def test_the_known_half_of_a_cell_takes_it_before_the_unknown_one():
    true = np.array([[1, 1, 1, 1, -1, -1, -1]], np.int32)
    predicted = np.array([[1, 1, 2, 2, 2, 2, 2]], np.int32)
    assert as_tuple(count_matches(overlaps(true, predicted), 0.5)) == (1, 1, 1)


def test_large_images_are_compared_in_padded_tiles():
    true = np.zeros((5000, 5000), np.int32)
    true[100:120, 100:120] = 9  # inside a tile
    true[1990:2010, 500:520] = 4  # on a seam: each part touches its tile's frame
    true[4980:5000, 4980:5000] = 2**31 - 1  # at the image's edge, but not at the padded tile's frame
    true[300, 700] = true[300, 2700] = 3  # one id in two tiles is two cells
    true[2003:2100, 2500:2600] = -1
    predicted = np.where(true < 0, 0, true)
    predicted[2010:2020, 2510:2520] = 8  # in UNKNOWN
    predicted[4500:4510, 100:110] = 8
    assert as_tuple(match(true, predicted)) == (4, 4, 5)
    # One row less: below 25,000,000 pixels, one image.
    assert as_tuple(match(true[:-1], predicted[:-1])) == (3, 3, 4)


def test_tiles_equal_the_official_rule_tile_by_tile():
    rng = np.random.default_rng(3)
    true, predicted = np.zeros((2, 2500, 10_000), np.int32)
    for cell in range(1, 41):
        y, x = rng.integers(0, 2480), rng.choice([rng.integers(1970, 2020), rng.integers(0, 9980)])
        true[y : y + 16, x : x + 16] = cell
        shift = rng.integers(2, 6)
        predicted[y : y + 16, x + shift : x + 16 + shift] = cell
    expected = np.zeros(3, int)
    for y in range(0, 4000, 2000):
        for x in range(0, 10_000, 2000):
            tiles = [np.zeros((2000, 2000), np.int32) for _ in range(2)]
            for tile, image in zip(tiles, (true, predicted), strict=True):
                part = image[y : y + 2000, x : x + 2000]
                tile[: part.shape[0], : part.shape[1]] = part
            expected += official_counts(*map(without_border, tiles), 0.6)
    assert expected[0] > 20
    assert expected[0] < expected[1]
    assert as_tuple(match(true, predicted, 0.6)) == tuple(expected)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (3, 2)])
def test_the_smallest_images_have_no_cells(shape):
    labels = np.ones(shape, np.int32)
    assert as_tuple(match(labels, labels)) == (0, 0, 0)
    assert scored_overlaps(labels, labels).n_true == 0


def test_unsigned_and_wide_integers_are_labels():
    labels = np.zeros((10, 10), np.uint16)
    labels[4:6, 4:6] = 60_000
    assert as_tuple(match(labels, labels.astype(np.int64), 1.0)) == (1, 1, 1)


def test_wrong_input_says_what_it_got():
    good = np.zeros((4, 6), np.int32)
    with pytest.raises(DataError, match=r"4 x 6 .* 6 x 4"):
        overlaps(good, good.T)
    with pytest.raises(DataError, match="float64"):
        overlaps(good, good.astype(float))
    with pytest.raises(DataError, match="bool"):
        overlaps(good > 0, good)
    with pytest.raises(DataError, match=r"\(4, 6, 1\)"):
        remove_border(good[..., None])
    with pytest.raises(DataError, match="holds the label -1"):
        overlaps(good, good - 1)
    with pytest.raises(DataError, match="from -2"):
        overlaps(good - 2, good)
    with pytest.raises(DataError, match="2147483648"):
        overlaps(good, good.astype(np.int64) + 2**31)
    with pytest.raises(ConfigError, match="threshold is 0"):
        count_matches(overlaps(good, good), 0)
    with pytest.raises(ConfigError, match="width_px is -1"):
        remove_border(good, -1)
