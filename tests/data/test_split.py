"""Splits keep experiments whole; sampling weights balance sources."""

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.data.dataset import Sample
from fewcell.data.split import as_often, grouped_split, hold_out, label_order, sampling_weights, split_by_modality
from fewcell.errors import DataError


def sample(number: int, *, source: str = "s", modality: str = "m", experiment: str = "e") -> Sample:
    return Sample(str(number), Path(f"{number}.png"), None, source, modality, experiment)


def samples_of(*groups: tuple[str, str, int]) -> list[Sample]:
    """Groups of (modality, experiment, number of images)."""
    flat = [(modality, experiment) for modality, experiment, count in groups for _ in range(count)]
    return [sample(i, modality=m, experiment=e) for i, (m, e) in enumerate(flat)]


letters = st.sampled_from("abcdefgh")
drawn_groups = st.lists(st.tuples(st.sampled_from("xyz"), letters, st.integers(1, 9)), min_size=2, max_size=20)


def learnable(samples: list[Sample]) -> bool:
    """Whether some experiment can be held out while each modality is still learned from."""
    experiments = {s.experiment for s in samples}
    return any({s.modality for s in samples if s.experiment != e} == {s.modality for s in samples} for e in experiments)


@settings(deadline=None)
@given(groups=drawn_groups, share=st.floats(0.01, 0.9), seed=st.integers(0, 99))
def test_a_split_is_whole_grouped_and_within_its_share(
    groups: list[tuple[str, str, int]], share: float, seed: int
) -> None:
    samples = samples_of(*groups)
    if len({s.experiment for s in samples}) < 2:
        with pytest.raises(DataError, match="one experiment"):
            grouped_split(samples, share, seed)
        return
    learn, held_out = grouped_split(samples, share, seed)
    assert sorted(map(id, learn + held_out)) == sorted(map(id, samples))
    assert learn
    assert held_out
    assert not {s.experiment for s in learn} & {s.experiment for s in held_out}
    if learnable(samples):
        assert {s.modality for s in learn} == {s.modality for s in samples}
    total, held = Counter(s.modality for s in samples), Counter(s.modality for s in held_out)
    within = all(held[m] <= share * total[m] + 1e-9 for m in total)
    assert within or len({s.experiment for s in held_out}) == 1


def test_a_split_uses_its_share_in_every_modality() -> None:
    samples = samples_of(*[(m, f"{m}{i}", 1) for m in "xyz" for i in range(20)])
    learn, held_out = grouped_split(samples, 0.25, seed=1)
    assert Counter(s.modality for s in held_out) == {"x": 5, "y": 5, "z": 5}
    assert (learn, held_out) == grouped_split(samples, 0.25, seed=1)
    assert held_out != grouped_split(samples, 0.25, seed=2)[1]
    assert {s.stem for s in held_out} == {s.stem for s in grouped_split(samples[::-1], 0.25, seed=1)[1]}


def test_a_modality_of_one_large_experiment_can_be_scored_too() -> None:
    """What has experiments enough is held out whole; of what has not, a share of the images is."""
    samples = samples_of(*[("x", f"x{i}", 4) for i in range(10)], ("y", "y", 20), ("z", "small", 7))
    learn, held_out = split_by_modality(samples, 0.2)
    assert sorted(map(id, learn + held_out)) == sorted(map(id, samples))
    assert Counter(s.modality for s in held_out) == {"x": 8, "y": 4}
    assert not {s.experiment for s in learn if s.modality == "x"} & {s.experiment for s in held_out}


def test_an_experiment_of_two_modalities_is_not_held_out_where_one_has_no_other() -> None:
    samples = samples_of(("x", "shared", 2), ("x", "x1", 4), ("x", "x2", 4), ("y", "shared", 3))
    for seed in range(8):
        learn, _ = grouped_split(samples, 0.3, seed)
        assert {s.modality for s in learn} == {"x", "y"}


def test_if_no_experiment_fits_the_smallest_that_leaves_its_modality_is_held_out() -> None:
    samples = samples_of(("x", "only", 1), ("y", "large", 50), ("y", "small", 20))
    assert {s.experiment for s in grouped_split(samples, 0.1)[1]} == {"small"}
    assert {s.experiment for s in grouped_split(samples_of(("x", "a", 3), ("y", "b", 2)), 0.1)[1]} == {"b"}


@pytest.mark.parametrize("modalities", ["x", "xy"])
def test_one_experiment_cannot_be_split(modalities: str) -> None:
    with pytest.raises(DataError, match=r"all .* belong to one experiment"):
        grouped_split(samples_of(*[(m, "only", 3) for m in modalities]), 0.2)


def of_sources(*groups: tuple[str, str, int]) -> list[Sample]:
    """Groups of (source, experiment, number of images)."""
    flat = [(source, experiment) for source, experiment, count in groups for _ in range(count)]
    return [sample(i, source=s, experiment=e) for i, (s, e) in enumerate(flat)]


SOURCES = [("a", "a1", 60), ("a", "a2", 20), ("b", "b1", 15), ("c", "c1", 4), ("c", "c2", 1)]


def drawn_by(samples: list[Sample], weights: np.ndarray, attribute: str) -> dict[str, float]:
    shares: dict[str, float] = defaultdict(float)
    for s, weight in zip(samples, weights, strict=True):
        shares[getattr(s, attribute)] += weight
    return shares


def test_balance_1_draws_every_image_equally_often() -> None:
    assert np.allclose(sampling_weights(of_sources(*SOURCES), 1), 1 / 100)


def test_balance_0_draws_every_source_and_experiment_equally_often() -> None:
    samples = of_sources(*SOURCES)
    weights = sampling_weights(samples, 0)
    assert drawn_by(samples, weights, "source") == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    expected = {"a1": 1 / 6, "a2": 1 / 6, "b1": 1 / 3, "c1": 1 / 6, "c2": 1 / 6}
    assert drawn_by(samples, weights, "experiment") == pytest.approx(expected)


def test_balance_between_draws_sources_by_the_root_of_their_size() -> None:
    samples = of_sources(("a", "a1", 81), ("b", "b1", 9))
    weights = sampling_weights(samples, 0.5)
    assert drawn_by(samples, weights, "source") == pytest.approx({"a": 0.75, "b": 0.25})


def test_modalities_are_drawn_more_evenly_as_asked() -> None:
    samples = samples_of(("x", "a", 6), ("x", "b", 2), ("y", "c", 2))
    before = sampling_weights(samples, 1)
    weights = sampling_weights(samples, 1, 1)
    assert drawn_by(samples, weights, "modality") == pytest.approx({"x": 0.5, "y": 0.5})
    assert weights[:8] == pytest.approx(before[:8] * weights[0] / before[0]), "within a modality nothing changes"
    between = drawn_by(samples, sampling_weights(samples, 1, 0.5), "modality")
    assert between == pytest.approx({"x": 2 / 3, "y": 1 / 3}), "the roots of 0.8 and 0.2"


def test_a_pool_is_drawn_as_often_of_each_modality_as_labels_are() -> None:
    labelled, pool = samples_of(("x", "a", 3), ("y", "b", 1)), samples_of(("x", "a", 2), ("y", "b", 6), ("z", "c", 2))
    weights = as_often(sampling_weights(pool, 1), pool, labelled, sampling_weights(labelled, 1))
    assert drawn_by(pool, weights, "modality") == pytest.approx({"x": 0.6, "y": 0.2, "z": 0.2}), "z has no labels"
    rare = samples_of(("x", "a", 1), ("y", "b", 99))
    weights = as_often(sampling_weights(rare, 1), rare, labelled[2:], sampling_weights(labelled[2:], 1))
    assert drawn_by(rare, weights, "modality") == pytest.approx({"x": 0.03, "y": 0.97}), "three times as often, no more"
    strange = samples_of(("unknown", "a", 5))
    assert as_often(sampling_weights(strange, 1), strange, labelled, np.ones(4)) == pytest.approx([0.2] * 5)


@settings(deadline=None)
@given(
    groups=st.lists(st.tuples(st.sampled_from("xyz"), letters, st.integers(1, 9)), min_size=1, max_size=12),
    modalities=st.lists(st.sampled_from("klm"), min_size=12, max_size=12),
    balance=st.floats(0, 1),
    even=st.floats(0, 1),
)
def test_weights_are_shares(
    groups: list[tuple[str, str, int]], modalities: list[str], balance: float, even: float
) -> None:
    samples = of_sources(*groups)
    samples = [replace(s, modality=modalities[i % 12]) for i, s in enumerate(samples)]
    weights = sampling_weights(samples, balance, even)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    before = drawn_by(samples, sampling_weights(samples, balance), "modality")
    evened = {modality: share ** (1 - even) for modality, share in before.items()}
    total = sum(evened.values())
    after = drawn_by(samples, weights, "modality")
    assert after == pytest.approx({modality: share / total for modality, share in evened.items()})


def test_the_order_of_labelling_spreads_over_modalities_sources_and_experiments() -> None:
    samples = [
        sample(i, source=f"{modality}{source}", modality=modality, experiment=f"{modality}{source}{experiment}")
        for modality, sources in (("a", 1), ("b", 3))
        for source in range(sources)
        for experiment in range(2)
        for i in range(4)
    ]
    order = label_order(samples)
    assert sorted(order) == list(range(len(samples)))
    first = [samples[i] for i in order]
    assert {s.modality for s in first[:2]} == {"a", "b"}
    assert len({s.source for s in first[:6]}) == 4
    assert len({s.experiment for s in first[:4] if s.modality == "a"}) == 2
    shuffled = samples[::-1]
    assert first == [shuffled[i] for i in label_order(shuffled)]


@settings(deadline=None)
@given(groups=drawn_groups, share=st.floats(0.01, 0.5), seed=st.integers(0, 99))
def test_images_held_out_are_whole_experiments_and_a_few_of_large_ones(groups, share, seed) -> None:
    samples = samples_of(*groups)
    sizes = Counter(s.experiment for s in samples)
    if len(sizes) < 2:
        return
    learn, held_out = hold_out(samples, share, seed)
    assert [s for s in samples if s in learn or s in held_out] == samples
    assert len(learn) + len(held_out) == len(samples)
    split = {s.experiment for s in learn} & {s.experiment for s in held_out}
    for name in split:
        spared = sum(s.experiment == name for s in held_out)
        assert 1 <= spared <= max(1, 0.25 * share * sizes[name] + 0.5)
    large = {name for name, size in sizes.items() if size >= 8}
    assert split == {s.experiment for s in learn} & large
    assert (learn, held_out) == hold_out(samples, share, seed)
