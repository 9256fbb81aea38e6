"""Features against a reference that looks at one instance and one pixel after the other; the scorer against truths."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewcell.errors import ConfigError
from fewcell.scoring import Scorer, instance_features
from fewcell.segmenter import ScorerFacts
from fewcell.types import Instances

LOG_AREA, RIM, ELONGATION, FRAME, GUESS = -5, -4, -3, -2, -1


def features(labels, prediction, scores=None):
    count = int(labels.max(initial=0))
    scores = np.full(count, 0.5, dtype=np.float32) if scores is None else np.array(scores, dtype=np.float32)
    return instance_features(Instances(labels, scores), prediction)


def features_one_by_one(labels, prediction):
    """The definition, written out: (n, 3 channels + 5), for first guesses of 0.5."""
    height, width = labels.shape
    rows = []
    for instance in range(1, labels.max(initial=0) + 1):
        inside = [tuple(p) for p in np.argwhere(labels == instance)]
        rim, on_frame, outside = set(), set(), []
        for y, x in inside:
            for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                v, u = y + dy, x + dx
                if not (0 <= v < height and 0 <= u < width):
                    on_frame.add((y, x))
                    rim.add((y, x))
                elif labels[v, u] != instance:
                    rim.add((y, x))
                    outside.append((v, u))  # once for each side on which it touches
        row = []
        for channel in prediction:
            for pixels in (inside, sorted(rim), outside):
                row.append(np.mean([channel[p] for p in pixels]) if pixels else 0.0)
        # Second moments of the pixels as unit squares.
        moments = np.cov(np.array(inside, dtype=float).T, bias=True) + np.eye(2) / 12
        short, long = np.linalg.eigvalsh(moments)
        area = len(inside)
        rows.append(
            [*row, np.log(area), len(rim) / np.sqrt(area), np.log(long / short) / 2, len(on_frame) / len(rim), 0]
        )
    return np.array(rows).reshape(-1, 3 * len(prediction) + 5)


def disc(radius, side=101):
    y, x = np.mgrid[:side, :side] - side // 2
    return (y**2 + x**2 <= radius**2).astype(np.int32)


@st.composite
def scenes(draw):
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    drawn = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 5)))
    labels = np.unique(np.append(drawn, 0), return_inverse=True)[1][:-1].reshape(shape).astype(np.int32)
    channels = draw(st.integers(1, 3))
    values = hnp.arrays(np.float32, (channels, *shape), elements=st.floats(-1, 1, width=32))
    return labels, draw(values)


@settings(deadline=None, max_examples=80)
@given(scenes())
def test_features_equal_the_definition(scene):
    labels, prediction = scene
    found = features(labels, prediction)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, features_one_by_one(labels, prediction), atol=1e-6)


def test_means_inside_on_the_rim_and_just_outside_for_each_channel():
    labels = np.zeros((7, 7), dtype=np.int32)
    labels[2:5, 2:5] = 1
    prediction = np.zeros((2, 7, 7), dtype=np.float32)
    prediction[0, 3, 3] = 0.9  # the only pixel that is not on the rim
    prediction[1, 1, 2:5] = 0.8  # 3 of the 12 neighbours
    (row,) = features(labels, prediction)
    np.testing.assert_allclose(row[:6], [0.1, 0, 0, 0, 0, 0.2], atol=1e-7)


def test_area_rim_and_elongation_tell_shapes_apart():
    def shape(labels):
        return features(labels, np.zeros((1, *labels.shape), dtype=np.float32))[0]

    round_one = shape(disc(20))
    assert round_one[LOG_AREA] == pytest.approx(np.log(np.pi * 20**2), abs=0.01)
    assert round_one[ELONGATION] == pytest.approx(0, abs=0.01)
    bar = np.zeros((20, 60), dtype=np.int32)
    bar[8:12, 5:53] = 1
    assert shape(bar)[ELONGATION] == pytest.approx(np.log(48 / 4))
    assert shape(bar)[RIM] == pytest.approx((2 * 48 + 2 * 2) / np.sqrt(48 * 4))
    assert shape(bar)[RIM] > 1.5 * round_one[RIM]
    assert shape(disc(20)[:, ::-1].T.copy()) == pytest.approx(round_one)


def test_the_share_of_the_rim_on_the_frame():
    labels = np.zeros((6, 8), dtype=np.int32)
    labels[:3, :3] = 1  # 8 rim pixels: 5 on the frame
    labels[3:5, 4:6] = 2
    found = features(labels, np.zeros((1, 6, 8), dtype=np.float32))
    assert found[:, FRAME] == pytest.approx([5 / 8, 0])


def test_an_instance_that_fills_the_image_has_no_outside():
    (row,) = features(np.ones((5, 5), dtype=np.int32), np.ones((1, 5, 5), dtype=np.float32))
    assert row == pytest.approx([1, 1, 0, np.log(25), 16 / 5, 0, 1, 0])


def test_the_first_guess_is_a_feature_however_sure_it_is():
    labels = np.array([[1, 2, 3, 4]], dtype=np.int32)
    found = features(labels, np.zeros((1, 1, 4), dtype=np.float32), [0.0, 0.5, 0.9, 1.0])
    assert found[:, GUESS] == pytest.approx([-np.log(999), 0, np.log(9), np.log(999)], rel=1e-4)


@pytest.mark.parametrize("shape", [(5, 7), (0, 0)])
def test_no_instance_has_no_row(shape):
    assert features(np.zeros(shape, np.int32), np.zeros((3, *shape), np.float32)).shape == (0, 14)


def known_logistic(rng, n):
    """Features, the true probability of each instance, and a draw from it."""
    features = rng.normal((100, 0.01, -3), (20, 0.002, 1), (n, 3))
    z = (features - (100, 0.01, -3)) / (20, 0.002, 1)
    truth = 1 / (1 + np.exp(-(1.5 * z[:, 0] - z[:, 1] + 0.6 * z[:, 2] ** 2 - 0.5)))
    return features, truth, rng.random(n) < truth


def test_a_known_logistic_is_recovered_and_calibrated():
    rng = np.random.default_rng(0)
    scorer = Scorer.fit(*known_logistic(rng, 20_000)[::2])
    np.testing.assert_allclose(scorer.weights, [1.5, -1, 0, 0, 0, 0.6], atol=0.1)
    features, truth, right = known_logistic(rng, 20_000)
    found = scorer(features)
    assert found.dtype == np.float32
    assert np.abs(found - truth).mean() < 0.02
    bins = np.minimum((found * 10).astype(int), 9)
    for number in range(10):
        here = bins == number
        assert here.sum() > 200
        assert right[here].mean() == pytest.approx(found[here].mean(), abs=0.05)


@pytest.mark.parametrize("n_units", [0, 4])
def test_instances_that_are_right_in_part_teach_how_far(n_units):
    features, share, _ = known_logistic(np.random.default_rng(1), 5_000)
    found = Scorer.fit(features, share, n_units=n_units)(features)
    assert np.abs(found - share).mean() < 0.01
    twice = np.concatenate([features, features]), np.arange(10_000) < 5_000
    weighted = Scorer.fit(*twice, np.concatenate([share, 1 - share]), n_units=n_units)(features)
    assert np.abs(found - weighted).max() < 0.02, "as if each were right with that weight and wrong with the rest"


@pytest.mark.parametrize("n", [1, 3, 500])
@pytest.mark.parametrize("answer", [True, False])
def test_instances_that_are_all_right_or_all_wrong_do_not_blow_up(answer, n):
    features = np.random.default_rng(n).normal(size=(n, 4))
    scorer = Scorer.fit(features, np.full(n, answer))
    assert np.isfinite([*scorer.mean, *scorer.scale, *scorer.weights, scorer.bias]).all()
    assert np.abs(scorer(features) - answer).max() < 0.05


def test_perfectly_separable_instances_do_not_blow_up():
    features = np.concatenate([np.full((20, 2), -1e3), np.full((30, 2), 1e3)])
    right = features[:, 0] > 0
    scorer = Scorer.fit(features, right)
    assert np.abs(scorer.weights).max() < 20
    assert ((scorer(features) > 0.5) == right).all()


def test_without_any_instance_nothing_is_known():
    scorer = Scorer.fit(np.zeros((0, 4)), np.zeros(0, dtype=bool))
    assert scorer(np.ones((2, 4))).tolist() == [0.5, 0.5]
    assert scorer(np.zeros((0, 4))).shape == (0,)


def test_constant_features_and_outliers_are_harmless():
    rng = np.random.default_rng(1)
    features = np.column_stack([rng.normal(size=400), np.full(400, 7.0)])
    scorer = Scorer.fit(features, features[:, 0] > 0)
    outliers = np.array([[1e30, 7.0], [-1e30, 7.0], [4.0, 1e30]])
    found = scorer(outliers)
    assert np.isfinite(found).all()
    assert found[0] > 0.9
    assert found[1] < 0.1


def waves(rng, n):
    """Instances whose truth depends on products of features: no sum of features and squares tells it."""
    features = rng.normal(size=(n, 3))
    return features, features[:, 0] * features[:, 1] > 0


def test_hidden_units_learn_what_squares_cannot():
    features, right = waves(np.random.default_rng(0), 4000)
    new, truth = waves(np.random.default_rng(1), 2000)
    plain, with_units = (Scorer.fit(features, right, n_units=n) for n in (0, 16))
    assert np.mean((plain(new) > 0.5) == truth) < 0.6
    assert np.mean((with_units(new) > 0.5) == truth) > 0.9
    assert with_units == Scorer.fit(features, right, n_units=16)
    assert np.abs(with_units(new) - plain(new)).max() > 0.2


@pytest.mark.parametrize("n_units", [0, 3])
def test_a_scorer_is_the_same_after_being_written_in_one_row(n_units):
    rng = np.random.default_rng(3)
    scorer = Scorer.fit(*waves(rng, 200), n_units=n_units)
    assert Scorer.from_numbers(scorer.numbers) == scorer
    assert len(scorer.numbers) == 2 + 4 * 3 + 5 * n_units
    with pytest.raises(ConfigError, match="no scorer of 3 features"):
        Scorer.from_numbers(scorer.numbers[:-1])


@pytest.mark.parametrize("numbers", [(), (-2.0, 1.0), (float("nan"), 1.0, 1.0), (1.7, 0, 1, 0, 0, 0)])
def test_numbers_that_are_no_scorer_are_refused(numbers):
    with pytest.raises(ConfigError, match="Train the model again"):
        Scorer.from_numbers(numbers)


@pytest.mark.parametrize("n_units", [0, 3])
def test_many_instances_are_judged_as_each_alone(n_units, monkeypatch):
    scorer = Scorer.fit(*waves(np.random.default_rng(3), 200), n_units=n_units)
    features = np.random.default_rng(4).normal(size=(5, 2, 3))
    monkeypatch.setattr("fewcell.scoring.scorer.ROWS_AT_ONCE", 3)
    alone = [[float(scorer(features[i, j])) for j in range(2)] for i in range(5)]
    np.testing.assert_allclose(scorer(features), alone, atol=1e-6)


@pytest.mark.parametrize("n_units", [0, 3])
def test_a_scorer_survives_the_model_file(n_units):
    scorer = Scorer.fit(*known_logistic(np.random.default_rng(2), 300)[::2], n_units=n_units)
    facts = ScorerFacts(**asdict(scorer))
    read = ScorerFacts.model_validate(json.loads(json.dumps(facts.model_dump(mode="json"))))
    assert Scorer(**read.model_dump()) == scorer
