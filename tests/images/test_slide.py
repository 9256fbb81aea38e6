"""Slides: windows equal parts of the whole, whatever the format; little memory; one clear error each."""

import json
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from fewcell.errors import AxesError, MissingDependencyError, ReadError, TooLargeError
from fewcell.images import Level, Slide, memory, open_slide, read_image
from fewcell.images.slide import PictureSlide, level_steps
from fewcell.images.slide_pyramid import SlidePyramid
from fewcell.images.slide_tiff import TiffSlide

SVS = Path(__file__).parents[2].parent / "shared" / "data" / "slides" / "CMU-1-Small-Region.svs"


def noise(shape, dtype=np.uint8, seed=0):
    """Numbers that compress, and of which no two neighbouring tiles are the same."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(100, 50, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def halves(array, yx, n):
    """An image and n - 1 copies, each half as large as the one before, of every second pixel."""
    levels = [array]
    while len(levels) < n:
        index = [slice(None)] * array.ndim
        index[yx[0]] = index[yx[1]] = slice(None, None, 2)
        levels.append(levels[-1][tuple(index)])
    return levels


def write_pyramid(path, levels, **options):
    """A TIFF whose smaller levels are SubIFDs of the first."""
    first = {"metadata": None, **options}
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False), ome=options.pop("ome", None)) as tif:
        first = {k: v for k, v in first.items() if k not in ("bigtiff", "ome")}
        tif.write(levels[0], subifds=len(levels) - 1, **first)
        for level in levels[1:]:
            tif.write(level, subfiletype=1, **{**first, "metadata": None})


def whole(slide, level=0):
    return slide.read((0, 0, *slide.levels[level].shape), level)


def assert_windows(slide, expected, level=0, seed=0):
    """The level as a whole and some windows, corners among them, equal the array (channel, height, width).

    So does any choice of its channels.
    """
    count, height, width = expected.shape
    assert slide.levels[level].shape == (height, width)
    rng = np.random.default_rng(seed)
    windows = [
        (0, 0, height, width),
        (height - 1, width - 1, height, width),
        (0, 0, 1, 1),
        (0, width - 1, height, width),
    ]
    for _ in range(8):
        (top, bottom), (left, right) = (sorted(rng.integers(0, side + 1, 2)) for side in (height, width))
        windows += [(top, left, max(bottom, top + 1), max(right, left + 1))] if top < height and left < width else []
    for window in windows:
        top, left, bottom, right = window
        part = slide.read(window, level)
        assert part.dtype == slide.dtype == expected.dtype
        assert part.dtype.isnative
        assert part.flags.c_contiguous
        assert part.flags.writeable
        np.testing.assert_array_equal(part, expected[:, top:bottom, left:right])
        chosen = rng.integers(0, count, rng.integers(1, 3)).tolist()
        part = slide.read(window, level, chosen)
        assert part.dtype == expected.dtype
        assert part.flags.c_contiguous
        np.testing.assert_array_equal(part, expected[chosen, top:bottom, left:right])
    with pytest.raises(AxesError, match="were asked for"):
        slide.read(windows[0], level, [count])


def assert_as_read_image(path, kind: type[Slide] = TiffSlide, **options):
    """The slide says and shows the same as `read_image`."""
    image = read_image(path, **options)
    with open_slide(path, **options) as slide:
        assert isinstance(slide, kind)
        assert slide.path == path
        assert slide.shape == image.pixels.shape[1:]
        assert slide.n_channels == len(image.pixels)
        assert slide.channel_names == image.channel_names
        assert slide.is_colour == image.is_colour
        assert slide.pixel_size_um == image.pixel_size_um
        assert slide.dtype.name == image.dtype
        assert slide.levels[0] == Level(image.pixels.shape[1:], (1, 1))
        np.testing.assert_array_equal(whole(slide).astype(np.float32), image.pixels)
        assert_windows(slide, whole(slide))


# --- TIFF ---------------------------------------------------------------------------------------------------

LAYOUTS = {
    "gray strips": ((70, 90), {"compression": "lzw", "rowsperstrip": 7}),
    "gray strips as they are": ((70, 90), {"rowsperstrip": 7}),
    "one strip": ((70, 90), {}),
    "one compressed strip": ((70, 90), {"compression": "deflate", "rowsperstrip": 70}),
    "gray tiles": ((70, 90), {"compression": "zstd", "tile": (16, 32)}),
    "gray tiles as they are": ((70, 90), {"tile": (16, 32)}),
    "tiles as wide as the image": ((64, 96), {"tile": (16, 96)}),
    "predictor": ((70, 90), {"compression": "deflate", "predictor": True, "tile": (32, 16)}),
    "colours": ((70, 90, 3), {"photometric": "rgb", "compression": "lzw", "tile": (16, 16)}),
    "colours as they are": ((70, 90, 3), {"photometric": "rgb"}),
    "colours one after the other": (
        (3, 70, 90),
        {"photometric": "rgb", "planarconfig": "separate", "compression": "lzw", "tile": (16, 16)},
    ),
    "colours one after the other, as they are": ((3, 70, 90), {"photometric": "rgb", "planarconfig": "separate"}),
    "alpha": ((70, 90, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (16, 16)}),
    "gray and alpha": ((70, 90, 2), {"photometric": "minisblack", "extrasamples": ["assocalpha"], "tile": (16, 16)}),
    "samples": ((70, 90, 5), {"photometric": "minisblack", "planarconfig": "contig", "tile": (16, 16)}),
    "separate samples": ((5, 70, 90), {"photometric": "minisblack", "planarconfig": "separate", "tile": (16, 16)}),
    "pages": ((4, 70, 90), {"metadata": {"axes": "CYX"}, "compression": "lzw", "tile": (16, 16)}),
    "pages as they are": ((4, 70, 90), {"metadata": {"axes": "CYX"}}),
    "page of one": ((1, 70, 90), {"compression": "lzw"}),
    "white is zero": ((70, 90), {"photometric": "miniswhite", "tile": (16, 16)}),
    "BigTIFF": ((70, 90), {"bigtiff": True, "tile": (16, 16), "compression": "lzw"}),
    "last byte first": ((70, 90), {"byteorder": ">", "tile": (16, 16), "compression": "lzw"}),
    "last byte first, as they are": ((70, 90), {"byteorder": ">"}),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiff_layouts_mean_what_they_mean_to_read_image(tmp_path, layout, dtype):
    shape, options = LAYOUTS[layout]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(shape, dtype), **{"photometric": "minisblack", **options})
    assert_as_read_image(path)
    if len(shape) == 3 and shape != (1, 70, 90) and layout != "gray and alpha":
        assert_as_read_image(path, channels=[2, 0])


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint32, np.int32, np.float16, np.float64, bool])
def test_tiff_types(tmp_path, dtype):
    for options in ({}, {"compression": "deflate"}):
        tifffile.imwrite(tmp_path / "a.tif", noise((40, 48), dtype), **options)
        assert_as_read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("axes", ["CYX", "CYXS", "ZCYX", "TZCYX", "YXS"])
def test_imagej_stacks_without_pages_of_their_own(tmp_path, axes):
    sizes = {"T": 2, "Z": 3, "C": 4, "Y": 30, "X": 40, "S": 3}
    dtype = np.uint8 if "S" in axes else np.uint16
    tifffile.imwrite(tmp_path / "a.tif", noise([sizes[a] for a in axes], dtype), imagej=True, metadata={"axes": axes})
    plane = {a: 1 for a in axes if a in ("TZC" if "S" in axes else "TZ")}
    assert_as_read_image(tmp_path / "a.tif", plane=plane)


@pytest.mark.parametrize("axes", ["CYX", "ZCYX", "CYXS", "TCYX"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "tile": (16, 16)}])
def test_ome_stacks(tmp_path, axes, options):
    sizes = {"T": 2, "Z": 3, "C": 2, "Y": 30, "X": 40, "S": 3}
    metadata = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["DAPI", "actin"]}}
    colours = {"photometric": "rgb"} if "S" in axes else {}
    array = noise([sizes[a] for a in axes], np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", array, ome=True, metadata=metadata, **options, **colours)
    plane = {a: 1 for a in axes if a in ("TZC" if "S" in axes else "TZ")}
    assert_as_read_image(tmp_path / "a.ome.tif", plane=plane)
    if plane:
        with pytest.raises(AxesError, match="--plane"):
            open_slide(tmp_path / "a.ome.tif")


def test_axes_that_the_user_names(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((3, 40, 50)), photometric="minisblack", metadata=None)
    with pytest.raises(AxesError, match="--axes CYX"):
        open_slide(tmp_path / "a.tif")
    assert_as_read_image(tmp_path / "a.tif", axes="CYX")
    assert_as_read_image(tmp_path / "a.tif", axes="ZYX", plane={"z": 2})
    assert_as_read_image(tmp_path / "a.tif", axes="CXY", kind=PictureSlide)
    assert_as_read_image(tmp_path / "a.tif", axes="YXC", kind=PictureSlide)


def test_palette(tmp_path):
    table = np.arange(768, dtype=np.uint16).reshape(3, 256) * 61
    gray = np.repeat(np.arange(256, dtype=np.uint16)[np.newaxis] * 257, 3, axis=0)
    for colormap, count in ((table, 3), (gray, 1)):
        array = noise((40, 50))
        tifffile.imwrite(tmp_path / "a.tif", array, photometric="palette", colormap=colormap, tile=(16, 16))
        assert_as_read_image(tmp_path / "a.tif")
        assert open_slide(tmp_path / "a.tif").n_channels == count


def test_a_palette_of_colours_is_colour_where_only_its_grays_are_seen(tmp_path):
    colormap = np.repeat(np.arange(256, dtype=np.uint16)[np.newaxis] * 257, 3, axis=0)
    colormap[0, 255] = 0
    array = np.minimum(noise((40, 50)), 254)
    array[0, 0] = 255
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="palette", colormap=colormap)
    assert_as_read_image(tmp_path / "a.tif")
    with open_slide(tmp_path / "a.tif") as slide:
        assert slide.read((1, 1, 3, 4)).shape == (3, 2, 3)


def test_jpeg_tiles(tmp_path):
    y, x = np.mgrid[:200, :300]
    array = np.stack([y, x // 2, 255 - y], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", compression="jpeg", tile=(64, 64))
    assert_as_read_image(tmp_path / "a.tif")


# --- levels -------------------------------------------------------------------------------------------------

PYRAMIDS = {
    "gray": ((101, 131), (0, 1), {"photometric": "minisblack"}),
    "colours": ((101, 131, 3), (0, 1), {"photometric": "rgb"}),
    "BigTIFF": ((101, 131), (0, 1), {"photometric": "minisblack", "bigtiff": True}),
    "OME channels": ((3, 101, 131), (1, 2), {"photometric": "minisblack", "ome": True, "metadata": {"axes": "CYX"}}),
    "OME colours": ((101, 131, 3), (0, 1), {"photometric": "rgb", "ome": True, "metadata": {"axes": "YXS"}}),
}


@pytest.mark.parametrize("name", PYRAMIDS)
@pytest.mark.parametrize("storage", [{"tile": (32, 16), "compression": "deflate"}, {"compression": "lzw"}, {}])
def test_levels_in_subifds(tmp_path, name, storage):
    shape, yx, options = PYRAMIDS[name]
    levels = halves(noise(shape, np.uint16), yx, 4)
    path = tmp_path / "a.tif"
    write_pyramid(path, levels, **storage, **options)
    with open_slide(path) as slide:
        assert [level.step for level in slide.levels] == [(1, 1), (2, 2), (4, 4), (8, 8)]
        for n, level in enumerate(levels):
            channels_first = level[np.newaxis] if level.ndim == 2 else np.moveaxis(level, 0 if yx == (1, 2) else -1, 0)
            assert_windows(slide, channels_first, n, seed=n)
    assert_as_read_image(path)


def test_levels_on_pages_of_their_own(tmp_path):
    levels = halves(noise((96, 128, 3)), (0, 1), 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for n, level in enumerate(levels):
            tif.write(level, photometric="rgb", tile=(32, 32), subfiletype=int(n > 0), metadata=None)
    with open_slide(tmp_path / "a.tif") as slide:
        assert [level.shape for level in slide.levels] == [(96, 128), (48, 64), (24, 32)]
        for n, level in enumerate(levels):
            assert_windows(slide, level.transpose(2, 0, 1), n)


def write_svs(path, levels):
    """Like Aperio's: levels on pages of their own, a thumbnail in between."""
    options = {"photometric": "rgb", "compression": "jpeg", "metadata": None, "compressionargs": {"level": 95}}
    with tifffile.TiffWriter(path) as tif:
        text = "Aperio Image Library v11.2.1\n256x200 |AppMag = 20|MPP = 0.4990"
        tif.write(levels[0], tile=(64, 64), description=text, **options)
        tif.write(levels[-1], rowsperstrip=16, **options)
        for level in levels[1:]:
            tif.write(level, tile=(64, 64), description="Aperio Image Library v11.2.1\n", **options)


def smooth(height, width):
    y, x = np.mgrid[:height, :width]
    return np.stack([y % 256, x % 256, (x + y) % 256], -1).astype(np.uint8)


def test_svs(tmp_path):
    levels = [smooth(256, 384), smooth(64, 96)]
    write_svs(tmp_path / "a.svs", levels)
    assert_as_read_image(tmp_path / "a.svs")
    with open_slide(tmp_path / "a.svs") as slide:
        assert slide.pixel_size_um == 0.499
        assert [level.step for level in slide.levels] == [(1, 1), (4, 4)]
        assert np.abs(whole(slide, 1).transpose(1, 2, 0).astype(int) - levels[1]).mean() < 20


@pytest.mark.parametrize(
    ("shapes", "steps"),
    [
        ([(101, 203), (50, 101), (25, 50)], [1, 2, 4]),
        ([(101, 203), (51, 102), (26, 51)], [1, 2, 4]),
        ([(5, 1000), (1, 125)], [1, 8]),
        ([(46000, 32914), (11500, 8228), (2875, 2057)], [1, 4, 16]),
        ([(7, 7)], [1]),
    ],
)
def test_steps_are_whole_where_sizes_were_rounded(shapes, steps):
    assert [level.step for level in level_steps(shapes)] == [(step, step) for step in steps]


def test_steps_that_are_no_whole_numbers():
    _, level = level_steps([(300, 300), (200, 150)])
    assert level.step == (1.5, 2.0)


def test_levels_that_differ_in_more_than_size_are_left_out(tmp_path):
    array = noise((96, 128))
    write_pyramid(tmp_path / "a.tif", [array, array[::2, ::2].astype(np.uint16), array[::4, ::4]])
    with open_slide(tmp_path / "a.tif") as slide:
        assert all(level.shape != (48, 64) for level in slide.levels)
        assert_windows(slide, array[np.newaxis])


# --- windows ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Slides of several formats that all show the same: (levels, slides)."""
    folder = tmp_path_factory.mktemp("slides")
    levels = halves(noise((2, 90, 110), np.uint16), (1, 2), 3)
    write_pyramid(folder / "tiles.tif", levels, tile=(16, 32), compression="lzw", ome=True, metadata={"axes": "CYX"})
    write_pyramid(folder / "strips.tif", levels, rowsperstrip=9, compression="lzw", ome=True, metadata={"axes": "CYX"})
    write_pyramid(folder / "plain.tif", levels, ome=True, metadata={"axes": "CYX"})
    write_zarr(folder / "two.ome.zarr", levels, version="0.4")
    write_zarr(folder / "three.ome.zarr", levels, version="0.5")
    slides = [open_slide(path) for path in sorted(folder.iterdir())]
    yield levels, slides
    for slide in slides:
        slide.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_window_is_a_part_of_its_level(opened, data):
    levels, slides = opened
    slide = data.draw(st.sampled_from(slides))
    n = data.draw(st.integers(0, 2))
    _, height, width = levels[n].shape
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    part = slide.read((top, left, bottom, right), n)
    np.testing.assert_array_equal(part, levels[n][:, top:bottom, left:right])


@pytest.mark.parametrize("window", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 91, 5), (0, 5, 5, 5), (0, 0, 5, 111)])
def test_windows_must_lie_inside(opened, window):
    for slide in opened[1]:
        with pytest.raises(ValueError, match="90 x 110 px"):
            slide.read(window)
        with pytest.raises(ValueError, match="no level"):
            slide.read((0, 0, 1, 1), 3)


def test_threads_read_the_same(opened):
    levels, slides = opened
    rng = np.random.default_rng(3)
    jobs = []
    for _ in range(300):
        n = int(rng.integers(3))
        _, height, width = levels[n].shape
        top, left = int(rng.integers(height)), int(rng.integers(width))
        jobs.append((slides[rng.integers(len(slides))], (top, left, min(top + 40, height), min(left + 40, width)), n))
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda job: job[0].read(job[1], job[2]), jobs))
    for (_, (top, left, bottom, right), n), part in zip(jobs, parts, strict=True):
        np.testing.assert_array_equal(part, levels[n][:, top:bottom, left:right])


def test_a_closed_slide_cannot_be_read(tmp_path):
    for name in ("a.tif", "a.png", "a.ome.zarr"):
        path = tmp_path / name
        if name == "a.ome.zarr":
            write_zarr(path, [noise((1, 20, 30))], version="0.4")
        elif name == "a.png":
            PillowImage.fromarray(noise((20, 30))).save(path)
        else:
            tifffile.imwrite(path, noise((20, 30)), compression="lzw")
        with open_slide(path) as slide:
            slide.read((0, 0, 2, 2))
        with pytest.raises(ValueError, match="has been closed"):
            slide.read((0, 0, 2, 2))
        slide.close()


# --- OME-Zarr -----------------------------------------------------------------------------------------------


def write_zarr(path, levels, version, axes="cyx", unit="micrometer", um=0.5, names=None, chunk_px=16, **extra):
    """An OME-Zarr image as the standard describes it."""
    two = version == "0.4"
    group = zarr.open_group(path, mode="w", zarr_format=2 if two else 3)
    kinds = {"c": "channel", "t": "time"}
    described = [
        {"name": a, "type": kinds.get(a, "space")} | ({"unit": unit} if a in "yx" and unit else {}) for a in axes
    ]
    datasets = []
    for n, level in enumerate(levels):
        keys = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if two else {}
        chunks = tuple(chunk_px if a in "yx" else 1 for a in axes)
        array = group.create_array(str(n), shape=level.shape, chunks=chunks, dtype=level.dtype, **keys)
        array[...] = level
        scale = [um * 2**n if a in "yx" else 1.0 for a in axes]
        datasets.append({"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    about = {"multiscales": [{"axes": described, "datasets": datasets, "version": version}], **extra}
    if names:
        about["omero"] = {"channels": [{"label": name} for name in names]}
    group.attrs.update(about if two else {"ome": {"version": version, **about}})
    return group


versions = pytest.mark.parametrize("version", ["0.4", "0.5"])


@versions
@pytest.mark.parametrize("axes", ["cyx", "yx", "tczyx", "czyx", "yxc"])
def test_zarr(tmp_path, version, axes):
    sizes = {"t": 1, "z": 1, "c": 3, "y": 61, "x": 45}
    array = noise([sizes[a] for a in axes], np.uint16)
    levels = halves(array, (axes.index("y"), axes.index("x")), 3)
    write_zarr(tmp_path / "a.ome.zarr", levels, version, axes)
    with open_slide(tmp_path / "a.ome.zarr") as slide:
        assert slide.pixel_size_um == 0.5
        assert not slide.is_colour
        assert [level.step for level in slide.levels] == [(1, 1), (2, 2), (4, 4)]
        for n, level in enumerate(levels):
            flat = np.moveaxis(level, -1, 0) if axes == "yxc" else level.reshape(-1, *level.shape[-2:])
            assert_windows(slide, flat, n)
    if "c" in axes:
        with open_slide(tmp_path / "a.ome.zarr", channels=[2, 0]) as slide:
            assert_windows(slide, (np.moveaxis(array, -1, 0) if axes == "yxc" else array.reshape(3, 61, 45))[[2, 0]])
            assert slide.channel_names == ("channel_2", "channel_0")


@versions
def test_zarr_stacks_need_a_plane(tmp_path, version):
    array = noise((2, 3, 4, 20, 30), np.uint16).astype(">u2" if version == "0.4" else "u2")
    write_zarr(tmp_path / "a.zarr", [array], version, "tczyx")
    with pytest.raises(AxesError, match=r"time series of 2 planes.*--plane t=1"):
        open_slide(tmp_path / "a.zarr")
    with pytest.raises(AxesError, match=r"z-stack of 4 planes.*--plane t=0,z=2"):
        open_slide(tmp_path / "a.zarr", plane={"t": 0})
    with open_slide(tmp_path / "a.zarr", plane={"t": 1, "z": 3}) as slide:
        assert_windows(slide, array[1, :, 3].astype(np.uint16))
    with open_slide(tmp_path / "a.zarr", plane={"t": 1, "z": 3, "c": 1}) as slide:
        assert_windows(slide, array[1, 1:2, 3].astype(np.uint16))


@versions
def test_zarr_in_shards_and_other_codecs(tmp_path, version):
    array = noise((1, 64, 96))
    group = write_zarr(tmp_path / "a.zarr", [array], version)
    del group["0"]
    options = {"compressors": None} if version == "0.4" else {"shards": (1, 64, 32)}
    group.create_array("0", shape=array.shape, chunks=(1, 16, 16), dtype="u1", **options)[...] = array
    with open_slide(tmp_path / "a.zarr") as slide:
        assert_windows(slide, array)


def test_a_chunk_is_decoded_once_for_neighbouring_windows(tmp_path, monkeypatch):
    array = noise((3, 900, 1300))
    write_zarr(tmp_path / "a.zarr", [array], "0.5", chunk_px=100)
    with open_slide(tmp_path / "a.zarr") as slide:
        decoded, direct = [], type(slide)._direct
        monkeypatch.setattr(type(slide), "_direct", lambda self, *a: decoded.append(a) or direct(self, *a))
        for left in range(0, 1200, 100):
            window = (17, left, 880, left + 100)
            assert np.array_equal(slide.read(window), array[:, 17:880, left : left + 100])
        assert len(decoded) == len(set(decoded)) < 12


@versions
@pytest.mark.parametrize(
    ("unit", "um", "expected"),
    [
        ("nanometer", 250, 0.25),
        ("millimeter", 0.001, 1.0),
        ("micrometer", 0.5, 0.5),
        (None, 0.5, None),
        ("pixel", 1, None),
    ],
)
def test_zarr_pixel_sizes(tmp_path, version, unit, um, expected):
    write_zarr(tmp_path / "a.zarr", [noise((1, 20, 30))], version, unit=unit, um=um)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.pixel_size_um == (None if expected is None else pytest.approx(expected))


@versions
def test_zarr_names_and_colours(tmp_path, version):
    for names, is_colour in ((["DAPI", "actin", "tubulin"], False), (["Red", "Green", "Blue"], True)):
        write_zarr(tmp_path / "a.zarr", [noise((3, 20, 30))], version, names=names)
        with open_slide(tmp_path / "a.zarr") as slide:
            assert slide.channel_names == tuple(names)
            assert slide.is_colour == is_colour
        assert not open_slide(tmp_path / "a.zarr", channels=[1]).is_colour


@versions
def test_zarr_labels_are_no_images(tmp_path, version):
    image = noise((1, 20, 30))
    group = write_zarr(tmp_path / "a.zarr", [image], version)
    group.create_group("labels")
    label = {"image-label": {"version": version}}
    write_zarr(tmp_path / "a.zarr" / "labels" / "cells", [image[0].astype(np.uint32)], version, "yx", **label)
    write_zarr(tmp_path / "cells.zarr", [image[0].astype(np.uint32)], version, "yx", **label)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert_windows(slide, image)
    for path in (tmp_path / "a.zarr" / "labels" / "cells", tmp_path / "cells.zarr"):
        with pytest.raises(ReadError, match="holds labels, not an image"):
            open_slide(path)
    with pytest.raises(ReadError, match="no image of OME-Zarr"):
        open_slide(tmp_path / "a.zarr" / "labels")


@versions
def test_zarr_of_several_images(tmp_path, version):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_group("OME")
    write_zarr(tmp_path / "a.zarr" / "0", [noise((1, 20, 30))], version)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.shape == (20, 30)
    write_zarr(tmp_path / "a.zarr" / "1", [noise((1, 10, 20))], version)
    with pytest.raises(ReadError, match=r"holds 2 images: 0, 1\. Name one, such as .*a\.zarr.0"):
        open_slide(tmp_path / "a.zarr")
    assert open_slide(tmp_path / "a.zarr" / "1").shape == (10, 20)


def test_folders_that_are_no_slides(tmp_path):
    with pytest.raises(ReadError, match="is a folder, not an image"):
        open_slide(tmp_path)
    group = write_zarr(tmp_path / "a.zarr", [noise((1, 20, 30))], "0.5")
    with pytest.raises(ReadError, match="one array of a Zarr"):
        open_slide(tmp_path / "a.zarr" / "0")
    group.attrs["ome"] = {**group.attrs["ome"], "multiscales": [{"datasets": [{"path": "0"}]}]}
    with pytest.raises(ReadError, match="does not name its dimensions"):
        open_slide(tmp_path / "a.zarr")
    axes = [{"name": a} for a in "cyx"]
    group.create_group("g")
    for name, words in (("../b", "outside"), ("", "outside"), ("9", "damaged"), ("g", "not an array")):
        group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": name}]}]}
        with pytest.raises(ReadError, match=words):
            open_slide(tmp_path / "a.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(ReadError):
        open_slide(tmp_path / "a.zarr")


def test_zarr_never_unpickles(tmp_path):
    write_zarr(tmp_path / "a.zarr", [noise((1, 20, 30))], "0.4")
    file = tmp_path / "a.zarr" / "0" / ".zarray"
    file.write_text(json.dumps({**json.loads(file.read_text()), "filters": [{"id": "pickle", "protocol": 5}]}))
    with pytest.raises(ReadError, match="'object_codec_id': 'pickle'"):
        open_slide(tmp_path / "a.zarr")


@pytest.mark.parametrize("left_bytes", [0, 10, 20, 100])
@pytest.mark.parametrize("codec", ["default", "none", "blosc", "gzip", "zstd", "shards"])
@versions
def test_a_chunk_that_is_cut_short_is_one_clear_error(tmp_path, version, codec, left_bytes):
    array = noise((1, 40, 40))
    group = write_zarr(tmp_path / "a.zarr", [array], version)
    two = version == "0.4"
    if codec != "default":
        of_two = {"blosc": numcodecs.Blosc(), "gzip": numcodecs.GZip(), "zstd": numcodecs.Zstd()}
        of_three = {"blosc": BloscCodec(), "gzip": GzipCodec(), "zstd": ZstdCodec()}
        options = {"compressors": (of_two if two else of_three).get(codec)}
        if two:
            options["chunk_key_encoding"] = {"name": "v2", "separator": "/"}
        elif codec == "shards":
            options = {"shards": (1, 16, 16), "compressors": BloscCodec()}
        del group["0"]
        chunks = (1, 8, 8) if codec == "shards" and not two else (1, 16, 16)
        group.create_array("0", shape=array.shape, chunks=chunks, dtype="u1", **options)[...] = array
    chunk = tmp_path / "a.zarr" / "0" / ("0/1/1" if two else "c/0/1/1")
    chunk.write_bytes(chunk.read_bytes()[:left_bytes])
    with open_slide(tmp_path / "a.zarr") as slide:
        np.testing.assert_array_equal(slide.read((0, 0, 16, 40)), array[:, :16])
        with pytest.raises(ReadError, match=r"a\.zarr: .*damaged"):
            slide.read((0, 0, 17, 40))


# --- pictures -----------------------------------------------------------------------------------------------


def test_pictures_are_slides_of_one_level(tmp_path):
    PillowImage.fromarray(noise((30, 40, 3))).save(tmp_path / "a.png")
    PillowImage.fromarray(noise((30, 40, 4))).save(tmp_path / "alpha.png")
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(noise((30, 40), np.uint16)))
    PillowImage.fromarray(noise((30, 40, 3))).save(tmp_path / "a.jpg")
    PillowImage.fromarray(noise((30, 40))).save(tmp_path / "a.bmp")
    for path in sorted(tmp_path.iterdir()):
        assert_as_read_image(path, PictureSlide)
    assert_as_read_image(tmp_path / "a.png", PictureSlide, channels=[2])


def test_a_picture_larger_than_memory_is_refused(tmp_path, monkeypatch):
    PillowImage.fromarray(noise((300, 400, 3))).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", noise((300, 400)), compression="lzw", rowsperstrip=300)
    monkeypatch.setattr(memory, "available_bytes", lambda: 500_000)
    for name in ("a.png", "a.tif"):
        with pytest.raises(TooLargeError, match="GiB of memory"):
            open_slide(tmp_path / name)


def test_too_many_channels_are_refused_before_any_is_read(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "many.tif", noise((7, 64, 64)), metadata={"axes": "CYX"}, ome=True)
    with open_slide(tmp_path / "many.tif") as slide:
        monkeypatch.setattr(type(slide), "read", lambda *_: pytest.fail("it was read"))
        with pytest.raises(AxesError, match="7 channels"):
            SlidePyramid(slide)
        with pytest.raises(AxesError, match="asked for, but it has 7"):
            SlidePyramid(slide, channels=[7])


def test_a_window_larger_than_memory_is_refused(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", noise((300, 400)), compression="lzw", tile=(16, 16))
    with open_slide(tmp_path / "a.tif") as slide:
        monkeypatch.setattr(memory, "available_bytes", lambda: 500_000)
        slide.read((0, 0, 100, 100))
        with pytest.raises(TooLargeError, match="1 x 300 x 400 pixels"):
            whole(slide)


# --- memory -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiles", "strips", "zarr", "run"])
def test_a_window_of_a_large_slide_takes_little_memory(tmp_path, kind):
    side = 20_000
    path = tmp_path / ("a.zarr" if kind == "zarr" else "a.tif")
    if kind == "tiles":
        tile = imagecodecs.zlib_encode(np.full((1000, 1000), 7, np.uint8).tobytes())
        options = {"tile": (1008, 1008), "compression": "adobe_deflate"}
        tile = imagecodecs.zlib_encode(np.full((1008, 1008), 7, np.uint8).tobytes())
        tifffile.imwrite(path, iter([tile] * 20**2), shape=(side, side), dtype=np.uint8, **options)
    elif kind == "strips":
        strip = imagecodecs.zlib_encode(np.full((100, side), 7, np.uint8).tobytes())
        options = {"rowsperstrip": 100, "compression": "adobe_deflate"}
        tifffile.imwrite(path, iter([strip] * 200), shape=(side, side), dtype=np.uint8, **options)
    elif kind == "run":
        tifffile.imwrite(path, shape=(side, side), dtype=np.uint8)  # a file with a hole: takes no room on the disk
    else:
        group = write_zarr(path, [np.zeros((1, 1, 1), np.uint8)], "0.5")
        del group["0"]
        group.create_array("0", shape=(1, side, side), chunks=(1, 1000, 1000), dtype=np.uint8, fill_value=7)
    tracemalloc.start()
    try:
        with open_slide(path) as slide:
            assert slide.shape == (side, side)
            part = slide.read((9_000, 9_000, 9_500, 9_500))
            assert (part == (0 if kind == "run" else 7)).all()
            whole_bytes, peak_bytes = side * side, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < whole_bytes / 20


def test_huge_fake_dimensions_take_no_memory(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((64, 64)), tile=(16, 16), compression="lzw", metadata=None)
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        places = {name: tif.pages.first.tags[name].valueoffset for name in ("ImageWidth", "ImageLength", "TileWidth")}
    for changed in (("ImageWidth",), ("ImageWidth", "ImageLength"), ("TileWidth",)):
        damaged = bytearray(content)
        for name in changed:
            damaged[places[name] : places[name] + 2] = b"\xf0\xff"
        (tmp_path / "b.tif").write_bytes(damaged)
        tracemalloc.start()
        try:
            with pytest.raises(ReadError), open_slide(tmp_path / "b.tif") as slide:
                slide.read((0, 0, 64, 64))
            assert tracemalloc.get_traced_memory()[1] < 30_000_000
        finally:
            tracemalloc.stop()
    group = write_zarr(tmp_path / "a.zarr", [noise((1, 20, 20))], "0.5")
    del group["0"]
    huge = 10**7
    group.create_array("0", shape=(1, huge, huge), chunks=(1, huge, huge), dtype=np.uint8)
    with pytest.raises(TooLargeError):
        open_slide(tmp_path / "a.zarr")


# --- damage -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.002, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("layout", ["gray tiles", "gray strips", "one strip", "colours", "pages", "BigTIFF"])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, layout, part):
    shape, options = LAYOUTS[layout]
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(shape), **{"photometric": "minisblack", **options})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ReadError, match=r"a\.tif: ") as caught:
        open_slide(path)
    assert (
        "fresh copy" in str(caught.value) or "another program" in str(caught.value) or "does not" in str(caught.value)
    )


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "lzw"}])
def test_a_file_that_is_cut_while_it_is_read(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", noise((500, 600)), **options)
    with open_slide(tmp_path / "a.tif") as slide:
        os.truncate(tmp_path / "a.tif", 20_000)
        with pytest.raises(ReadError, match="become shorter"):
            whole(slide)


def test_a_damaged_tile_is_an_error_where_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64)), tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(path) as tif:
        offset = tif.pages.first.dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"12345678"
    path.write_bytes(content)
    with open_slide(path) as slide:
        slide.read((0, 0, 16, 64))
        with pytest.raises(ReadError, match=r"a\.tif: is damaged"):
            slide.read((0, 0, 64, 64))


def test_tiles_that_were_never_written_are_an_error(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64)), tile=(16, 16))
    with tifffile.TiffFile(path) as tif:
        place = tif.pages.first.tags["TileOffsets"].valueoffset
    content = bytearray(path.read_bytes())
    content[place + 8 : place + 12] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(ReadError, match="some of its pixels are missing"):
        open_slide(path)


def test_what_is_no_slide(tmp_path):
    with pytest.raises(ReadError, match="there is no such file"):
        open_slide(tmp_path / "a.zarr")
    for name, content, words in (
        ("a.txt", b"text", "'.txt' are not supported"),
        ("a.tif", b"", "is empty"),
        ("b.tif", b"no image at all", "does not hold an image"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError, match=words):
            open_slide(tmp_path / name)
    tifffile.imwrite(tmp_path / "c.tif", noise((20, 20), np.float32).astype(np.complex64))
    with pytest.raises(ReadError, match="not intensities"):
        open_slide(tmp_path / "c.tif")
    tifffile.imwrite(tmp_path / "d.tif", noise((20, 30)), metadata=None)
    tifffile.imwrite(tmp_path / "d.tif", noise((25, 30)), metadata=None, append=True)
    with pytest.raises(ReadError, match="do not belong together"):
        open_slide(tmp_path / "d.tif")
    tifffile.imwrite(tmp_path / "e.tif", noise((9, 9)))
    with pytest.raises(AxesError, match=r"channels \[3\] were asked for"):
        open_slide(tmp_path / "e.tif", channels=[3])


# --- fingerprints -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.zarr", "b.zarr"])
def test_a_fingerprint_changes_with_the_file_and_the_choice(tmp_path, name):
    path = tmp_path / name
    array = noise((3, 40, 40))
    if name == "a.tif":
        tifffile.imwrite(path, array, metadata={"axes": "CYX"}, photometric="minisblack")
        part = path
    elif name == "a.png":
        PillowImage.fromarray(array.transpose(1, 2, 0)).save(path)
        part = path
    else:
        write_zarr(path, [array], "0.4" if name == "a.zarr" else "0.5")
        part = path / "0" / ("0/1/1" if name == "a.zarr" else "c/0/1/1")

    def fingerprint(**options):
        with open_slide(path, **options) as slide:
            return slide.fingerprint()

    first = fingerprint()
    assert first == fingerprint()
    assert len(first) == 16
    if name.endswith("zarr"):
        (path / "labels").mkdir()
        (path / "labels" / "new").write_text("what is written beside the image does not change it")
        assert fingerprint() == first
    chosen = {first, fingerprint(channels=[0]), fingerprint(channels=[1]), fingerprint(channels=[1, 0])}
    assert len(chosen) == 4
    stat = part.stat()
    os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert fingerprint() not in chosen


# --- OpenSlide ----------------------------------------------------------------------------------------------


def test_openslide_reads_what_tifffile_reads(tmp_path):
    pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    from fewcell.images.raster import Request
    from fewcell.images.slide_openslide import ScannerSlide

    write_svs(tmp_path / "a.svs", [smooth(256, 384), smooth(64, 96)])
    with open_slide(tmp_path / "a.svs") as ours, ScannerSlide(Request(tmp_path / "a.svs"), None) as theirs:
        assert theirs.levels == ours.levels
        assert theirs.pixel_size_um == ours.pixel_size_um
        assert theirs.channel_names == ours.channel_names
        assert theirs.is_colour
        for n in range(2):
            assert_windows(theirs, whole(theirs, n), n)
            np.testing.assert_allclose(whole(theirs, n).astype(int), whole(ours, n).astype(int), atol=2)
        assert len(theirs.fingerprint()) == 16
    with ScannerSlide(Request(tmp_path / "a.svs"), [2, 0]) as theirs:
        assert theirs.read((0, 0, 5, 6)).shape == (2, 5, 6)
    with pytest.raises(ValueError, match="has been closed"):
        theirs.read((0, 0, 5, 6))
    with pytest.raises(AxesError):
        ScannerSlide(Request(tmp_path / "a.svs", plane={"s": 1}), None)
    with pytest.raises(AxesError):
        ScannerSlide(Request(tmp_path / "a.svs", plane={"z": 1}), None)


def test_tiffs_of_scanners_that_tifffile_does_not_turn_into_one_picture_go_to_openslide(tmp_path):
    pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    from fewcell.images.slide_openslide import ScannerSlide

    about = "Aperio Image Library v11.2.1\n256x200 |AppMag = 20|MPP = 0.4990"
    options = {"photometric": "rgb", "tile": (64, 64), "metadata": None, "description": about}
    for compression, kind in ((33003, ScannerSlide), (33005, TiffSlide)):
        tifffile.imwrite(tmp_path / "a.svs", smooth(128, 192), compression=compression, **options)
        with open_slide(tmp_path / "a.svs") as slide:
            assert isinstance(slide, kind)
            assert slide.shape == (128, 192)
            assert_windows(slide, whole(slide))


def test_a_scanner_file_is_read_on_after_damage(tmp_path):
    pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    from fewcell.images.raster import Request
    from fewcell.images.slide_openslide import ScannerSlide

    write_svs(tmp_path / "a.svs", [smooth(256, 384), smooth(64, 96)])
    with tifffile.TiffFile(tmp_path / "a.svs") as tif:
        page = tif.pages[0]
        offset, high, wide = page.dataoffsets[0], page.tilelength, page.tilewidth
    with (tmp_path / "a.svs").open("r+b") as file:
        file.seek(offset)
        file.write(bytes(64))
    with ScannerSlide(Request(tmp_path / "a.svs"), None) as slide:
        for _ in range(2):
            with pytest.raises(ReadError, match=r"a\.svs"):
                slide.read((0, 0, high, wide))
            assert slide.read((high, wide, 256, 384)).std() > 1


def test_what_a_scanner_left_out_is_white(tmp_path, monkeypatch):
    openslide = pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    from fewcell.images.raster import Request
    from fewcell.images.slide_openslide import ScannerSlide

    write_svs(tmp_path / "a.svs", [smooth(256, 384), smooth(64, 96)])
    seen = PillowImage.new("RGBA", (3, 2), (10, 20, 30, 255))
    seen.putpixel((1, 0), (0, 0, 0, 0))
    monkeypatch.setattr(openslide.OpenSlide, "read_region", lambda *_: seen)
    with ScannerSlide(Request(tmp_path / "a.svs"), None) as slide:
        part = slide.read((0, 0, 2, 3))
    assert part[:, 0, 1].tolist() == [255, 255, 255]
    assert part[:, 1, 1].tolist() == [10, 20, 30]


def test_damaged_scanner_files_are_one_clear_error(tmp_path):
    pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    for name in ("a.ndpi", "a.mrxs", "a.scn", "a.czi"):
        (tmp_path / name).write_bytes(noise(5000).tobytes())
        with pytest.raises(ReadError, match=name):
            open_slide(tmp_path / name)


def test_a_missing_extra_says_what_to_type(tmp_path, monkeypatch):
    (tmp_path / "a.ndpi").write_bytes(b"x")
    monkeypatch.setattr("fewcell.errors.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install '\.\[slides\]'"):
        open_slide(tmp_path / "a.ndpi")


@pytest.mark.skipif(not SVS.exists(), reason=f"{SVS} is not here")
def test_a_real_svs():
    assert_as_read_image(SVS)
    with open_slide(SVS) as ours:
        assert ours.shape == (2967, 2220)
        assert ours.pixel_size_um == 0.499
        part = ours.read((1000, 900, 1400, 1300))
    pytest.importorskip("openslide", reason="the extra fewcell[slides] is not installed")
    from fewcell.images.raster import Request
    from fewcell.images.slide_openslide import ScannerSlide

    with ScannerSlide(Request(SVS), None) as theirs:
        assert theirs.shape == (2967, 2220)
        assert theirs.pixel_size_um == 0.499
        np.testing.assert_allclose(theirs.read((1000, 900, 1400, 1300)).astype(int), part.astype(int), atol=3)
