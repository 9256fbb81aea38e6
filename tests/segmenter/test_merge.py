"""Cells found at two scales: large ones stay where they are surer than the small ones that they overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from fewcell.images import resize_image, resize_labels
from fewcell.metrics import f1, match
from fewcell.segmenter import Segmenter
from fewcell.segmenter.merge import merge_scales
from fewcell.segmenter.scale import Estimate
from fewcell.types import Instances, Labels


def _instances(values: np.ndarray, seed: int) -> Instances:
    labels = ndimage.label(values)[0].astype(np.int32)
    scores = np.random.default_rng(seed).choice([0.1, 0.2, 0.3, 0.5, 0.9], labels.max()).astype(np.float32)
    return Instances(labels, scores)


def _slow_merge(first: Instances, second: Instances, level: float) -> Labels:
    """Cell by cell, as the words of `merge_scales` say."""
    shared = {
        (a, b): np.sum((first.labels == a) & (second.labels == b))
        for a in range(1, len(first) + 1)
        for b in range(1, len(second) + 1)
    }
    px = [np.bincount(found.labels.ravel(), minlength=len(found) + 1) for found in (first, second)]
    rivals = {
        (a, b)
        for (a, b), n in shared.items()
        if n and n >= 0.1 * min(px[0][a], px[1][b]) and first.scores[a - 1] >= level and second.scores[b - 1] >= level
    }
    against = np.zeros(len(second) + 1)
    for a in {a for a, _ in rivals}:
        best = max((b for one, b in sorted(rivals) if one == a), key=lambda b: shared[a, b])
        against[best] += first.scores[a - 1] - np.float32(level)
    stays = [b for b in range(1, len(second) + 1) if second.scores[b - 1] >= level]
    stays = [b for b in stays if second.scores[b - 1] - np.float32(level) > against[b] + 1e-9]
    gone = {a for a, b in rivals if b in stays}
    gone |= {a for (a, b), n in shared.items() if n and b in stays and first.scores[a - 1] < level}
    merged = np.zeros_like(first.labels)
    for number, b in enumerate(stays, start=len(first) - len(gone) + 1):
        merged[second.labels == b] = number
    for number, a in enumerate((a for a in range(1, len(first) + 1) if a not in gone), start=1):
        merged[first.labels == a] = number
    return merged


@settings(deadline=None, max_examples=80)
@given(
    one=hnp.arrays(np.bool_, (9, 12), elements=st.booleans()),
    other=hnp.arrays(np.bool_, (9, 12), elements=st.booleans()),
    seed=st.integers(0, 99),
)
def test_large_cells_stay_where_they_are_surer_than_what_they_overlap(one, other, seed):
    level = 0.25
    first, second = _instances(one, seed), _instances(other, seed + 1)
    merged = merge_scales(first, second, level)
    assert np.array_equal(merged.labels, _slow_merge(first, second, level))
    assert merged.labels.max(initial=0) <= len(merged)
    assert set(merged.scores) <= {*first.scores, *second.scores}


def test_what_becomes_of_a_cell_does_not_depend_on_what_is_far_away():
    """A chain of small cells and large ones, each upon the next; only one end of it differs."""
    first, second = np.zeros((2, 1, 400), dtype=np.int32)
    for i in range(20):
        first[0, 20 * i : 20 * i + 12], second[0, 20 * i + 8 : 20 * i + 22] = i + 1, i + 1
    scores = np.full((2, 20), 0.5, dtype=np.float32)
    scores[1] += 0.1
    one = merge_scales(Instances(first, scores[0]), Instances(second, scores[1]), 0.3)
    scores[0, -1] = 0.9
    other = merge_scales(Instances(first, scores[0].copy()), Instances(second, scores[1]), 0.3)
    assert np.array_equal(one.labels[:, :350] > 0, other.labels[:, :350] > 0)
    assert not np.array_equal(one.labels > 0, other.labels > 0)


def test_cells_below_the_level_stay_only_where_nothing_comes_in_their_way():
    first = Instances(np.array([[1, 1, 0, 2, 2, 0]], dtype=np.int32), np.array([0.1, 0.1], dtype=np.float32))
    second = Instances(np.array([[0, 1, 1, 0, 0, 2]], dtype=np.int32), np.array([0.9, 0.2], dtype=np.float32))
    merged = merge_scales(first, second, 0.3)
    assert merged.labels.tolist() == [[0, 2, 2, 1, 1, 0]]
    assert merged.scores.tolist() == pytest.approx([0.1, 0.9])


def test_cells_that_hardly_overlap_both_stay():
    first = Instances(np.array([[0] * 10 + [1] * 12], dtype=np.int32), np.array([0.8], dtype=np.float32))
    second = Instances(np.array([[1] * 11 + [0] * 11], dtype=np.int32), np.array([0.9], dtype=np.float32))
    assert merge_scales(first, second, 0.3).labels.tolist() == [[2] * 10 + [1] * 12]
    nearer = Instances(np.roll(second.labels, 1), second.scores)
    assert merge_scales(first, nearer, 0.3).labels.tolist() == [[0] + [1] * 11 + [0] * 10]


def test_large_cells_among_small_ones_are_found(trained, draw_discs, monkeypatch):
    small, small_labels = draw_discs(7, (280, 280), 11.0)
    large, large_labels = draw_discs(8, (70, 140), 11.0)
    large = resize_image(large[None].astype(np.float32), (280, 560))[0]
    large_labels = resize_labels(large_labels, (280, 560))
    image = np.concatenate([small, large], axis=1)[None].astype(np.float32)
    labels = np.concatenate([small_labels, np.where(large_labels > 0, large_labels + small_labels.max(), 0)], axis=1)
    segmenter = Segmenter.load(trained.folder, threads=1)
    monkeypatch.setattr(Segmenter, "estimate_scale", lambda *_, **__: Estimate(22.0, 0.99))
    found = segmenter.segment(image)
    assert f1(match(labels, found.labels)) > 0.8
    assert f1(match(large_labels, found.labels[:, 280:])) > 0.8
    given = segmenter.segment(image, diameter_px=22.0)
    assert f1(match(labels, given.labels)) < f1(match(labels, found.labels))
    # The score below which cells are dropped may be lower or higher than that by which scales are compared.
    everything = segmenter.segment(image, min_score=0)
    sure = everything.instances.of_score(segmenter.facts.min_score)
    assert np.array_equal(sure.labels > 0, found.labels > 0)
    assert np.all(segmenter.segment(image, min_score=0.6).scores >= 0.6)
    # What is too small takes no part.
    large_only = segmenter.segment(image, min_area_px=800)
    assert f1(match(large_labels, large_only.labels[:, 280:])) > 0.8
    assert np.bincount(large_only.labels.ravel())[1:].min() >= 800


def test_selecting_numbers_cells_anew():
    found = Instances(np.array([[1, 2, 2, 3, 3, 3]], dtype=np.int32), np.array([0.9, 0.2, 0.5], dtype=np.float32))
    kept = found.of_score(0.4).of_area(2)
    assert kept.labels.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert kept.scores.tolist() == [0.5]
