"""trails: what the contract of all representations cannot say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewcell.representations import Flows
from fewcell.representations.flow_field import CELL, FLOW
from fewcell.representations.flow_kernels import arrive, follow, split_by_sink
from fewcell.representations.trails import Trails
from fewcell.types import Labels

from .scenes import SCENES


@settings(deadline=None, max_examples=200)
@given(leads=hnp.arrays(np.int64, (3, 5), elements=st.integers(-1, 14)))
def test_one_arrives_where_one_gets_by_going_on_and_on(leads):
    expected = np.full(leads.size, -1)
    ahead = leads.ravel()
    for start in np.flatnonzero(ahead >= 0):
        way = [int(start)]
        while ahead[way[-1]] >= 0 and ahead[way[-1]] not in way:
            way.append(int(ahead[way[-1]]))
        onward = ahead[way[-1]]
        expected[start] = way[-1] if onward < 0 else min(way[way.index(onward) :])
    assert np.array_equal(arrive(leads), expected.reshape(leads.shape))


@pytest.mark.parametrize("scene", ["touching", "rings", "crescents", "bacteria"])
def test_trails_find_what_flows_find_however_far_the_flow_is_followed(scene: str) -> None:
    prediction = Trails().targets(SCENES[scene])
    expected = Flows(sink_px=4, flow_error=6.0).decode(prediction).labels
    for hop_px in (3, 8, 30):
        found = Trails(hop_px=hop_px, flow_error=6.0).decode(prediction).labels
        assert np.mean(found == expected) > 0.99
        assert found.max() == expected.max()


def test_a_cell_may_be_longer_than_any_hop() -> None:
    labels: Labels = np.zeros((20, 900), dtype=np.int32)
    labels[5:15, 5:895] = 1
    found = Trails(hop_px=4).decode(Trails().targets(labels)).labels
    assert np.mean(found == labels) > 0.99


def test_a_cell_longer_than_a_tile_is_followed_from_tile_to_tile() -> None:
    labels: Labels = np.zeros((24, 400), dtype=np.int32)
    labels[4:10, 5:395], labels[12:18, 40:360] = 1, 2
    prediction, halo = Trails().targets(labels), Trails().hop_px + 2
    inside = prediction[CELL] > 0.5
    leads = np.full(labels.shape, -1)
    for left in range(0, 400, 50):  # tiles of 50 px, eight to a cell, each seen with the halo alone
        first, last = max(left - halo, 0), min(left + 50 + halo, 400)
        seen = follow(
            np.ascontiguousarray(prediction[FLOW, :, first:last]), inside[:, first:last], Trails().hop_px, False
        )
        rows, columns = np.divmod(seen, last - first)
        whole = np.where(seen >= 0, rows * 400 + columns + first, -1)
        leads[:, left : left + 50] = whole[:, left - first : left - first + 50]
    assert np.array_equal(leads, follow(prediction[FLOW], inside, Trails().hop_px, False))
    found = split_by_sink(arrive(leads), Trails().sink_px, 2)
    assert np.array_equal(found > 0, labels > 0)
    (one,), (other,) = np.unique(found[labels == 1]), np.unique(found[labels == 2])
    assert one != other


@pytest.mark.parametrize("scene", ["touching", "bacteria"])
def test_which_pixel_a_pixel_leads_to_is_the_same_on_a_tile(scene: str) -> None:
    prediction, variant = Trails().targets(SCENES[scene]), Trails()
    prediction += np.random.default_rng(0).normal(0, 0.1, prediction.shape).astype(np.float32)
    halo, (height, width) = variant.hop_px + 2, prediction.shape[1:]
    whole = follow(prediction[FLOW], prediction[CELL] > 0.5, variant.hop_px, False)
    top, left = height // 3, width // 4
    tile = np.ascontiguousarray(prediction[:, top:, left:])
    ends = follow(tile[FLOW], tile[CELL] > 0.5, variant.hop_px, False)
    columns = width - left
    there = np.where(ends >= 0, (ends // columns + top) * width + ends % columns + left, -1)
    assert np.array_equal(there[halo:, halo:], whole[top + halo :, left + halo :])


def test_two_centres_are_two_cells_though_their_foreground_is_one() -> None:
    labels: Labels = np.zeros((20, 34), dtype=np.int32)
    labels[4:16, 4:17], labels[4:16, 17:30] = 1, 2
    assert np.array_equal(Trails().decode(Trails().targets(labels)).labels, labels)


@pytest.mark.parametrize(("height", "width"), [(5, 20), (5, 5), (8, 8)])
def test_small_cells_that_touch_stay_apart(height: int, width: int) -> None:
    labels: Labels = np.zeros((30, 30), dtype=np.int32)
    labels[4 : 4 + height, 4 : 4 + width], labels[4 + height : 4 + 2 * height, 4 : 4 + width] = 1, 2
    assert np.array_equal(Trails(sink_px=2).decode(Trails().targets(labels)).labels, labels)
