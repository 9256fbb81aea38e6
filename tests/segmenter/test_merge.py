"""Cells found at two scales: in every region the surer scale wins; large cells among small ones are found."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from fewcell.images import resize_image, resize_labels
from fewcell.metrics import f1, match
from fewcell.segmenter import Segmenter
from fewcell.segmenter import segmenter as module
from fewcell.segmenter.merge import merge_scales
from fewcell.segmenter.scale import Estimate
from fewcell.types import Instances, Labels


def _instances(values: np.ndarray, seed: int) -> Instances:
    labels = ndimage.label(values)[0].astype(np.int32)
    scores = np.random.default_rng(seed).choice([0.1, 0.2, 0.3, 0.5, 0.9], labels.max()).astype(np.float32)
    return Instances(labels, scores)


def _slow_regions(first: Labels, second: Labels, strong: set[tuple[int, int]]) -> list[set[tuple[int, int]]]:
    """Sets of (which, label) of strong cells that hang together by overlaps of a tenth of the smaller or more."""
    regions = [{cell} for cell in sorted(strong)]
    for a, b in {(int(a), int(b)) for a, b in zip(first.ravel(), second.ravel(), strict=True) if a and b}:
        one, other = first == a, second == b
        is_much = np.sum(one & other) >= 0.1 * min(one.sum(), other.sum())
        if is_much and (0, a) in strong and (1, b) in strong:
            one, other = (next(r for r in regions if cell in r) for cell in ((0, a), (1, b)))
            if one is not other:
                one |= other
                regions.remove(other)
    return regions


@settings(deadline=None, max_examples=80)
@given(
    one=hnp.arrays(np.bool_, (9, 12), elements=st.booleans()),
    other=hnp.arrays(np.bool_, (9, 12), elements=st.booleans()),
    seed=st.integers(0, 99),
)
def test_in_every_region_the_surer_scale_wins(one, other, seed):
    level = 0.25
    both = [_instances(one, seed), _instances(other, seed + 1)]
    merged = merge_scales(*both, level)
    assert np.array_equal(np.unique(merged.labels[merged.labels > 0]), np.arange(1, len(merged) + 1))
    kept, of_first = {}, np.zeros(one.shape, dtype=bool)
    for number, score in enumerate(merged.scores, start=1):  # the first's come first
        mask = merged.labels == number
        labels = [int(found.labels[mask][0]) for found in both]
        if labels[0] and both[0].scores[labels[0] - 1] == score and np.array_equal(both[0].labels == labels[0], mask):
            kept[0, labels[0]] = score
            of_first |= mask
        else:
            assert both[1].scores[labels[1] - 1] == score
            assert np.array_equal((both[1].labels == labels[1]) & ~of_first, mask)
            kept[1, labels[1]] = score
    strong = {(w, i + 1) for w, found in enumerate(both) for i, s in enumerate(found.scores) if s >= level}
    total = sum(score - level for cell, score in kept.items() if cell in strong)
    best = 0.0
    for region in _slow_regions(both[0].labels, both[1].labels, strong):
        best += max(sum(both[w].scores[label - 1] - level for w, label in region if w == side) for side in (0, 1))
    assert total == pytest.approx(best, abs=1e-5)


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
    assert f1(match(labels, found.labels, (0.5,))[0]) > 0.8
    assert f1(match(large_labels, found.labels[:, 280:], (0.5,))[0]) > 0.8
    given = segmenter.segment(image, diameter_px=22.0)
    assert f1(match(labels, given.labels, (0.5,))[0]) < f1(match(labels, found.labels, (0.5,))[0])
    # The score below which cells are dropped may be lower or higher than that by which scales are compared.
    everything = segmenter.segment(image, min_score=0)
    sure = module.select_instances(everything.instances, segmenter.facts.min_score, min_area=1)
    assert np.array_equal(sure.labels > 0, found.labels > 0)
    assert np.all(segmenter.segment(image, min_score=0.6).scores >= 0.6)
    # What is too small takes no part.
    large_only = segmenter.segment(image, min_area_px=800)
    assert f1(match(large_labels, large_only.labels[:, 280:], (0.5,))[0]) > 0.8
    assert np.bincount(large_only.labels.ravel())[1:].min() >= 800


def test_selecting_numbers_cells_anew():
    found = Instances(np.array([[1, 2, 2, 3, 3, 3]], dtype=np.int32), np.array([0.9, 0.2, 0.5], dtype=np.float32))
    kept = module.select_instances(found, 0.4, min_area=2)
    assert kept.labels.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert kept.scores.tolist() == [0.5]
