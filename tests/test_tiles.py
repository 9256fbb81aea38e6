"""Tiles: cores cover an image once, windows lie on the network's grid, and seams do not show."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewcell.tiles import (
    LEAST_STEPS,
    pad_to_multiple,
    padded_shape,
    plan_tiles,
    plan_windows,
    predict_in_windows,
    predict_tiled,
    whole_steps,
)
from fewcell.types import FloatArray

MULTIPLE, STRIDE, REACH, FEW_PX = 8, 2, 5, 16

multiples = st.integers(1, 9)


@settings(deadline=None)
@given(
    rows=multiples, columns=multiples, core=multiples, halo_px=st.integers(0, 40), multiple=st.sampled_from([1, 4, 16])
)
def test_cores_cover_every_pixel_once_and_windows_lie_on_the_grid(
    rows: int, columns: int, core: int, halo_px: int, multiple: int
) -> None:
    height, width, core_px = rows * multiple, columns * multiple, core * multiple
    covered = np.zeros((height, width), dtype=int)
    for tile in plan_tiles((height, width), core_px=(core_px, core_px), halo_px=halo_px, multiple_px=multiple):
        top, left, bottom, right = tile.core
        assert 0 < bottom - top <= core_px
        assert 0 < right - left <= core_px
        covered[top:bottom, left:right] += 1
        assert all(side % multiple == 0 for side in (*tile.core, *tile.window))
        y0, x0, y1, x1 = tile.window
        assert 0 <= y0 <= max(top - halo_px, 0)
        assert 0 <= x0 <= max(left - halo_px, 0)
        assert min(bottom + halo_px, height) <= y1 <= min(bottom + halo_px + multiple - 1, height)
        assert min(right + halo_px, width) <= x1 <= min(right + halo_px + multiple - 1, width)
    assert (covered == 1).all()


@pytest.mark.parametrize(("shape", "core_px"), [((12, 16), 16), ((16, 0), 16), ((16, 16), 12), ((16, 16), 0)])
def test_sizes_off_the_grid_are_refused(shape: tuple[int, int], core_px: int) -> None:
    with pytest.raises(ValueError, match="not a positive multiple of 8"):
        list(plan_tiles(shape, core_px=(core_px, core_px), halo_px=0, multiple_px=8))


def local_mean(image: FloatArray) -> FloatArray:
    """A stand-in for a network: it sees `REACH` px, and where it stands on a grid of `MULTIPLE` px."""
    assert image.shape[1] % MULTIPLE == image.shape[2] % MULTIPLE == 0
    padded = np.pad(image.astype(np.float64), [(0, 0), (REACH, REACH), (REACH, REACH)])
    side = 2 * REACH + 1
    mean = np.lib.stride_tricks.sliding_window_view(padded, (1, side, side)).mean(axis=(3, 4, 5))
    place = np.add.outer(np.arange(image.shape[1]) % MULTIPLE, 10 * (np.arange(image.shape[2]) % MULTIPLE))
    return (mean + place)[:, ::STRIDE, ::STRIDE].astype(np.float32)


@settings(deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    most_px=st.none() | st.integers(1, 5000),
    seed=st.integers(0, 2**16),
)
def test_a_tiled_image_is_the_whole_image(height: int, width: int, most_px: int | None, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)
    grid = {"stride": STRIDE, "multiple_px": MULTIPLE, "halo_px": REACH}
    shapes = set()

    def look(window: tuple[int, int, int, int]) -> FloatArray:
        top, left, bottom, right = window
        return padded[:, top:bottom, left:right]

    def predict(part: FloatArray) -> FloatArray:
        shapes.add(part.shape)
        return local_mean(part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewcell.tiles.FEW_SHAPES_PX", FEW_PX)
        patch.setattr("fewcell.tiles.LEAST_STEPS", 2)
        field = padded_shape((height, width), MULTIPLE)
        missing = [(0, new - old) for new, old in zip(field, (height, width), strict=True)]
        padded = np.pad(image, [(0, 0), *missing], mode="symmetric")
        tiled = predict_tiled(look, (height, width), predict, **grid, most_px=most_px)
    assert len(shapes) == 1
    _, high, wide = shapes.pop()
    if most_px is None or padded[0].size <= most_px:
        assert (high, wide) == padded.shape[1:]
    else:
        assert high * wide <= max(most_px, (FEW_PX + 2 * MULTIPLE) ** 2)
    whole = local_mean(padded)[:, : -(-height // STRIDE), : -(-width // STRIDE)]
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, whole, atol=1e-6)


@pytest.mark.parametrize(("multiple", "most"), [(1, 80), (16, 48), (32, 40), (48, 30), (200, 11)])
def test_images_of_many_shapes_are_seen_in_few(multiple: int, most: int) -> None:
    """And little is mirrored."""
    sides = {side: padded_shape((side, 5), multiple)[0] for side in range(1, 2049)}
    assert all(padded % multiple == 0 for padded in sides.values())
    assert all(0 <= padded - side < max(multiple, side / LEAST_STEPS) for side, padded in sides.items())
    assert len(set(sides.values())) <= most
    assert padded_shape((5, 777), multiple) == (padded_shape((5, 5), multiple)[0], sides[777])


@pytest.mark.parametrize(("steps", "lengths"), [(8, 49), (4, 41)])
def test_images_are_enlarged_to_few_lengths(steps: int, lengths: int) -> None:
    """By half a step more or less at most; where a step is much beside a side, to no other."""
    multiple = 16
    sides = {side / 4: whole_steps(side / 4, multiple, steps) for side in range(4, 4 * 4097)}
    rounded = {side: length for side, length in sides.items() if length is not None}
    assert min(rounded) == multiple * steps
    assert all(length % multiple == 0 for length in rounded.values())
    assert all(abs(length - side) <= side / steps / 2 for side, length in rounded.items())
    assert len(set(rounded.values())) == lengths
    assert all(whole_steps(length, multiple, steps) == length for length in rounded.values())
    assert all(padded_shape((length, length), multiple) == (length, length) for length in rounded.values())


@pytest.mark.parametrize(
    ("shape", "tiles"), [((1600, 1600), 1), ((2200, 2200), 2), ((1000, 4000), 2), ((5000, 2000), 5)]
)
def test_tiles_are_cut_so_that_little_is_seen_twice(shape: tuple[int, int], tiles: int) -> None:
    """In strips, which have halos on two sides only, or at once."""
    seen: list[tuple[int, ...]] = []

    def predict(part: FloatArray) -> FloatArray:
        seen.append(part.shape)
        return part[:, ::2, ::2]

    def look(window: tuple[int, int, int, int]) -> FloatArray:
        top, left, bottom, right = window
        return np.zeros((1, bottom - top, right - left), np.float32)

    predict_tiled(look, shape, predict, stride=2, multiple_px=16, halo_px=178, most_px=1792**2)
    assert len(seen) == tiles


def test_padding_mirrors_at_the_lower_and_right_edge() -> None:
    image = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    padded = pad_to_multiple(image, 4)
    assert padded.shape == (1, 4, 4)
    assert np.array_equal(padded[0], [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [0, 1, 2, 2]])
    assert pad_to_multiple(padded, 4) is padded
    larger = pad_to_multiple(image, 4, at_least_px=7)
    assert larger.shape == (1, 8, 8)
    assert larger[0, 0].tolist() == [0, 1, 2, 2, 1, 0, 0, 1]
    assert larger[0, :, 0].tolist() == [0, 3, 3, 0, 0, 3, 3, 0]


@settings(deadline=None)
@given(rows=st.integers(0, 60), columns=st.integers(0, 60), window_px=st.integers(1, 40), data=st.data())
def test_windows_have_one_size_and_their_cores_cover_every_pixel_once(
    rows: int, columns: int, window_px: int, data: st.DataObject
) -> None:
    halo_px = data.draw(st.integers(0, (window_px - 1) // 2))
    shape = window_px + rows, window_px + columns
    covered = np.zeros(shape, dtype=int)
    n = 0
    for tile in plan_windows(shape, window_px=window_px, halo_px=halo_px):
        (top, left, bottom, right), (y0, x0, y1, x1) = tile.core, tile.window
        covered[top:bottom, left:right] += 1
        n += 1
        for core, window, side in [((top, bottom), (y0, y1), shape[0]), ((left, right), (x0, x1), shape[1])]:
            assert 0 <= window[0] < window[1] == window[0] + window_px <= side
            assert core[0] < core[1]
            assert core[0] >= window[0] + halo_px or core[0] == window[0] == 0
            assert core[1] <= window[1] - halo_px or core[1] == window[1] == side
    assert (covered == 1).all()
    # As few as can be: the first and the last use their halo at the edge.
    assert n == np.prod([max(1, -(-(side - 2 * halo_px) // (window_px - 2 * halo_px))) for side in shape])


@pytest.mark.parametrize(
    ("shape", "halo_px", "words"),
    [((15, 16), 0, "no window of 16"), ((16, 16), 8, "no core"), ((16, 16), -1, "no core")],
)
def test_windows_that_cannot_be_are_refused(shape: tuple[int, int], halo_px: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        list(plan_windows(shape, window_px=16, halo_px=halo_px))


@settings(deadline=None)
@given(height=st.integers(1, 60), width=st.integers(1, 60), seed=st.integers(0, 2**16))
def test_windows_of_a_local_network_give_what_the_whole_image_gives(height: int, width: int, seed: int) -> None:
    image = np.random.default_rng(seed).normal(size=(2, height, width)).astype(np.float32)

    def predict(window: FloatArray) -> FloatArray:
        assert window.shape == (2, 24, 24)
        return local_mean(window)

    grid = {"stride": STRIDE, "multiple_px": MULTIPLE}
    found = predict_in_windows(image, predict, **grid, window_px=24, halo_px=8)
    whole = local_mean(pad_to_multiple(image, MULTIPLE, at_least_px=24))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole[:, : -(-height // STRIDE), : -(-width // STRIDE)], atol=1e-6)


@pytest.mark.parametrize(("window_px", "halo_px"), [(25, 8), (24, 4)])
def test_windows_off_the_grid_are_refused(window_px: int, halo_px: int) -> None:
    image, grid = np.zeros((1, 30, 30), np.float32), {"stride": STRIDE, "multiple_px": MULTIPLE}
    with pytest.raises(ValueError, match="not a multiple of 8"):
        predict_in_windows(image, local_mean, **grid, window_px=window_px, halo_px=halo_px)
