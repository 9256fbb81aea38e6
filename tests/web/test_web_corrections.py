"""The file of corrections: what was answered is there, whatever comes between."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewcell.errors import ReadError
from fewcell.web.corrections import UNCHANGED, Correction, CorrectionLog


def correction(number=1):
    patch = np.full((3, 4), UNCHANGED, np.int32)
    patch[1] = number
    row = {"id": float(number), "score": 1.0, "area_um2": None}
    return Correction("draw", (5, 6, 8, 10), (2, 3), (row,), (), patch)


def test_what_is_written_is_read(tmp_path):
    log = CorrectionLog(tmp_path / "log")
    assert log.read() == []
    log.add(correction(7))
    log.add(Correction("region", (0, 0, 9, 9)))
    first, second = log.read()
    assert first == correction(7)
    assert np.array_equal(first.patch, correction(7).patch)
    assert second == Correction("region", (0, 0, 9, 9))


def test_undo_takes_the_latest_away(tmp_path):
    log = CorrectionLog(tmp_path / "log")
    for number in (1, 2):
        log.add(correction(number))
    log.undo()
    log.add(correction(3))
    assert [one.added[0]["id"] for one in log.read()] == [1, 3]


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_line_that_a_kill_cut_short_does_not_count_and_is_written_over(tmp_path, cut):
    log = CorrectionLog(tmp_path / "log")
    log.add(correction(1))
    log.add(correction(2))
    log.path.write_bytes(log.path.read_bytes()[:-cut])
    assert log.read() == [correction(1)]
    log.add(correction(3))
    assert log.read() == [correction(1), correction(3)]


def test_a_damaged_line_is_said(tmp_path):
    log = CorrectionLog(tmp_path / "log")
    log.path.write_text('{"kind": "undo"}\n')
    with pytest.raises(ReadError, match="line 1 is damaged"):
        log.read()


@given(
    place=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.tuples(st.integers(0, 14), st.integers(0, 14)),
    step=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_a_part_of_a_copy_is_the_copy_of_the_part(place, size, window, step, seed):
    """Laid over a window of every step-th pixel, a correction is the same as laid over all, then thinned."""
    patch = np.random.default_rng(seed).integers(-1, 5, size).astype(np.int32)
    one = Correction("draw", (*place, place[0] + size[0], place[1] + size[1]), patch=patch)
    whole = np.full((32, 32), 9, np.int32)
    one.lay_over(whole, (0, 0, 32, 32))
    side = -(-32 // step)
    part = (min(window[0], side - 1), min(window[1], side - 1), min(window[0] + 7, side), min(window[1] + 7, side))
    seen = np.full((part[2] - part[0], part[3] - part[1]), 9, np.int32)
    one.lay_over(seen, part, step)
    assert np.array_equal(seen, whole[::step, ::step][part[0] : part[2], part[1] : part[3]])
