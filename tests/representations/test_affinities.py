"""affinities: what the contract of all representations cannot say."""

from itertools import product

import numpy as np
import pytest

from fewcell.representations.affinities import OFFSETS, STRIDES, Affinities
from fewcell.types import UNKNOWN, FloatArray, Labels

from .scenes import scattered

torch = pytest.importorskip("torch")

Pair = tuple[tuple[int, int], tuple[int, int]]


def pairs_of(
    prediction: FloatArray, strides: tuple[tuple[int, int], ...] = ((1, 1),) * len(OFFSETS)
) -> dict[Pair, float]:
    """Every pair of pixels inside the image that has an affinity, in whichever order its ends come."""
    _, height, width = prediction.shape
    found = {}
    for (dy, dx), stride, channel in zip(OFFSETS, strides, prediction, strict=False):
        for y, x in product(range(0, height, stride[0]), range(0, width, stride[1])):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                one, other = sorted([(y, x), (y + dy, x + dx)])
                found[one, other] = float(channel[y, x])
    return found


def mutex_watershed(prediction: FloatArray, threshold: float) -> Labels:
    """The algorithm as the paper states it, pair by pair."""
    inside = prediction[-1] > 0.5
    number = {place: i + 1 for i, place in enumerate(map(tuple, np.argwhere(inside).tolist()))}
    members = {n: {n} for n in number.values()}
    apart: set[frozenset[int]] = set()
    pairs = pairs_of(prediction, STRIDES)
    weights = {pair: a - threshold for pair, a in pairs.items() if set(pair) <= set(number)}
    for (one, other), weight in sorted(weights.items(), key=lambda item: -abs(item[1])):
        a, b = number[one], number[other]
        if a == b:
            continue
        if weight < 0:
            apart.add(frozenset((a, b)))
        elif frozenset((a, b)) not in apart:
            number |= {place: a for place, n in number.items() if n == b}
            members[a] |= members.pop(b)
            apart = {frozenset(a if n == b else n for n in pair) for pair in apart}
    labels = np.zeros(inside.shape, dtype=np.int32)
    for place, n in number.items():
        labels[place] = n if len(members[n]) > 1 else 0
    return labels


def same_pieces(one: Labels, other: Labels) -> bool:
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


def test_targets_say_of_every_pair_whether_it_is_one_cell() -> None:
    labels = np.random.default_rng(0).choice(np.array([UNKNOWN, 0, 3, 2**24 + 1], dtype=np.int32), (14, 17))
    targets = Affinities().targets(labels)
    pairs = pairs_of(targets)
    for (one, other), value in pairs.items():
        a, b = labels[one], labels[other]
        assert value == (0.5 if UNKNOWN in (a, b) else float(a == b > 0))
    n_beyond = targets[:-1].size - len(pairs)
    n_unknown = sum(UNKNOWN in (labels[one], labels[other]) for one, other in pairs)
    assert (targets[:-1] == 0.5).sum() == n_beyond + n_unknown


def test_a_pair_with_an_unknown_end_costs_nothing_at_its_known_end() -> None:
    labels = np.ones((12, 20), dtype=np.int32)
    labels[:, 10:] = UNKNOWN
    output = torch.zeros((1, len(Affinities.channels), 12, 20), requires_grad=True)
    loss = Affinities().loss(
        output, torch.from_numpy(Affinities().targets(labels))[None], torch.from_numpy(labels != UNKNOWN)[None]
    )
    loss.backward()
    learned = (output.grad[0] != 0).numpy()
    assert learned[-1, :, :10].all()
    assert learned[OFFSETS.index((0, 3)), :, :7].all()
    assert not learned[OFFSETS.index((0, 3)), :, 7:].any()
    assert not learned[OFFSETS.index((3, -3)), :, :3].any()
    assert learned[OFFSETS.index((3, -3)), :9, 3:10].all()


@pytest.mark.parametrize(("quarters", "flip"), [*product((-1, 0, 1, 2, 3), (False, True))])
def test_every_pair_turns_with_the_image(quarters: int, flip: bool) -> None:
    prediction = np.random.default_rng(1).random((len(Affinities.channels), 13, 18)).astype(np.float32)
    place = np.arange(13 * 18).reshape(13, 18)
    place = np.rot90(place[:, ::-1] if flip else place, quarters)
    turned = Affinities().turn(prediction, quarters=quarters, flip=flip)
    before = {frozenset(y * 18 + x for y, x in pair): a for pair, a in pairs_of(prediction).items()}
    after = {frozenset(int(place[end]) for end in pair): a for pair, a in pairs_of(turned).items()}
    assert after == before
    assert np.array_equal(turned[-1].ravel(), prediction[-1].ravel()[place.ravel()])


@pytest.mark.parametrize("threshold", [0.35, 0.5])
def test_decode_is_the_mutex_watershed(threshold: float) -> None:
    prediction = Affinities().targets(scattered(1, 2, pitch=12, seed=2))
    prediction[:-1] = np.random.default_rng(3).random(prediction[:-1].shape)
    found = Affinities(affinity_threshold=threshold, min_area_px=2).decode(prediction).labels
    assert found.max() > 2
    assert same_pieces(found, mutex_watershed(prediction, threshold))


def test_a_weak_bridge_does_not_join_cells_that_are_surely_two() -> None:
    labels = np.zeros((12, 24), dtype=np.int32)
    labels[:, :12], labels[:, 12:] = 1, 2
    prediction = Affinities().targets(labels)
    bridged = prediction.copy()
    bridged[0, :, 11] = 0.9
    assert same_pieces(Affinities().decode(bridged).labels, labels)
    for channel, (_, dx) in zip(bridged, OFFSETS, strict=False):
        if abs(dx) > 1:
            channel[:] = np.where(channel == 0, 0.2, channel)
    assert len(Affinities().decode(bridged)) == 1


def test_a_cell_in_two_parts_is_one() -> None:
    labels = np.zeros((12, 30), dtype=np.int32)
    labels[2:10, 3:13] = labels[2:10, 15:25] = 1
    assert np.array_equal(Affinities().decode(Affinities().targets(labels)).labels, labels)
    labels[labels > 0] += np.nonzero(labels)[1] > 13
    assert np.array_equal(Affinities().decode(Affinities().targets(labels)).labels, labels)


def test_small_pieces_are_dropped() -> None:
    labels = np.zeros((20, 20), dtype=np.int32)
    labels[2:4, 2:5], labels[10:18, 10:18] = 1, 2
    targets = Affinities().targets(labels)
    assert len(Affinities(min_area_px=6).decode(targets)) == 2
    assert len(Affinities(min_area_px=7).decode(targets)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (4, 30), (30, 9)])
def test_images_smaller_than_an_offset_are_decoded(shape: tuple[int, int]) -> None:
    labels = np.ones(shape, dtype=np.int32)
    found = Affinities(min_area_px=2).decode(Affinities().targets(labels)).labels
    assert np.array_equal(found, labels if labels.size > 1 else 0 * labels)


def test_a_prediction_that_is_not_a_number_does_not_crash() -> None:
    prediction = np.full((len(Affinities.channels), 20, 20), np.nan, dtype=np.float32)
    assert len(Affinities().decode(prediction)) == 0
    prediction[-1] = 1
    assert len(Affinities().decode(prediction)) == 0
