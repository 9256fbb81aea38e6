import logging
import math
import os
import platform
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from fewcell.errors import AxesError, FewcellWarning, ReadError, TooLargeError
from fewcell.images import SLIDE_SUFFIXES, list_images, memory, read_image, read_labels
from fewcell.images.read import quiet_libraries
from fewcell.segmenter.files import _for_display

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def noise(shape, dtype=np.uint8, seed=0):
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.normal(100, 50, shape).astype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)


def assert_pixels(image, expected):
    assert image.pixels.dtype == np.float32
    assert image.pixels.flags.c_contiguous
    assert len(image.channel_names) == len(image.pixels)
    np.testing.assert_array_equal(image.pixels, np.asarray(expected).astype(np.float32))


# --- PNG, JPEG, BMP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_png(tmp_path, dtype, samples):
    array = noise((9, 13, samples), dtype)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array.squeeze()))
    kept = {1: 1, 2: 1, 3: 3, 4: 3}[samples]
    image = read_image(path)
    assert_pixels(image, array[..., :kept].transpose(2, 0, 1))
    assert image.is_colour == (kept == 3)
    assert image.channel_names == (("red", "green", "blue") if kept == 3 else ("intensity",))
    assert image.pixel_size_um is None


def png(width, height, bits, colour_type, rows, *extra, interlace=0):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)
    chunks = [(b"IHDR", header), *extra, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def test_png_of_few_bits_keeps_its_own_values(tmp_path):
    for bits, row, values in ((1, 0b10110000, [1, 0, 1, 1]), (2, 0b11100100, [3, 2, 1, 0])):
        (tmp_path / "a.png").write_bytes(png(4, 1, bits, 0, bytes([0, row])))
        assert_pixels(read_image(tmp_path / "a.png"), [[values]])
        assert read_labels(tmp_path / "a.png").tolist() == [values]
    (tmp_path / "a.png").write_bytes(png(4, 1, 4, 0, bytes([0, 0x0F, 0x72])))
    assert read_labels(tmp_path / "a.png").tolist() == [[0, 15, 7, 2]]


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_png_with_a_long_text_is_read(tmp_path, kind):
    text = b"name\0\0" + zlib.compress(bytes(2**21))
    (tmp_path / "a.png").write_bytes(png(4, 1, 8, 0, bytes([0, 5, 6, 7, 8]), (kind, text)))
    assert_pixels(read_image(tmp_path / "a.png"), [[[5, 6, 7, 8]]])


def test_png_palette(tmp_path):
    index = np.array([[0, 1], [2, 1]], np.uint8)
    path = tmp_path / "a.png"
    for colours, expected in (
        ([10, 10, 10, 99, 99, 99, 50, 50, 50], [[[10, 99], [50, 99]]]),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [[[1, 4], [7, 4]], [[2, 5], [8, 5]], [[3, 6], [9, 6]]]),
    ):
        picture = PillowImage.fromarray(index, mode="L")
        picture.putpalette(colours)
        picture.save(path, transparency=1)
        assert_pixels(read_image(path), expected)
        np.testing.assert_array_equal(read_labels(path), index)


def test_jpeg(tmp_path):
    y, x = np.mgrid[:32, :48]
    array = np.stack([y * 4, x * 4, 255 - y * 4], -1).astype(np.uint8)
    for suffix in ("jpg", "jpeg", "JPG"):
        PillowImage.fromarray(array).save(tmp_path / f"a.{suffix}", format="JPEG", quality=100, subsampling=0)
        image = read_image(tmp_path / f"a.{suffix}")
        assert image.is_colour
        assert np.abs(image.pixels - array.transpose(2, 0, 1)).max() <= 4
    PillowImage.fromarray(array[..., 0]).save(tmp_path / "g.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "g.jpg").pixels - array[..., 0]).max() <= 2


def test_cmyk_jpeg_becomes_rgb(tmp_path):
    PillowImage.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels.shape == (3, 16, 16)
    np.testing.assert_allclose(image.pixels[:, 8, 8], [200, 30, 60], atol=3)


def test_exif_orientation_is_not_applied(tmp_path):
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    PillowImage.new("L", (32, 16)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").pixels.shape == (1, 16, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_bmp(tmp_path, mode):
    rgb = PillowImage.fromarray(noise((9, 13, 3)))
    source = rgb.convert("P", palette=PillowImage.Palette.ADAPTIVE) if mode == "P" else rgb.convert(mode)
    source.save(tmp_path / "a.bmp")
    expected = source.convert("RGB") if mode in ("P", "RGBA") else source
    array = np.atleast_3d(np.asarray(expected)).transpose(2, 0, 1)
    assert_pixels(read_image(tmp_path / "a.bmp"), array)


def test_the_content_counts_not_the_suffix(tmp_path):
    array = noise((5, 6))
    (tmp_path / "a.tif").write_bytes(imagecodecs.png_encode(array))
    assert_pixels(read_image(tmp_path / "a.tif"), array[None])


# --- TIFF: types, compressions, colours ---------------------------------------------------------------------

TYPES = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_types(tmp_path, dtype, byteorder):
    array = noise((19, 23), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=byteorder, photometric="minisblack")
    assert_pixels(read_image(tmp_path / "a.tif"), array[None])


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_tiff_compressions(tmp_path, compression, tile, bigtiff):
    array = noise((50, 70, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, compression=compression, tile=tile, bigtiff=bigtiff, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert_pixels(image, array.transpose(2, 0, 1))
    assert image.is_colour


def test_jpeg_in_tiff(tmp_path):
    y, x = np.mgrid[:64, :64]
    array = np.stack([y * 3, x * 3, 255 - y * 3], -1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", array, compression="jpeg", compressionargs={"level": 98}, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "b.tif",
        array,
        compression="jpeg",
        compressionargs={"level": 98, "outcolorspace": "ycbcr"},
        tile=(32, 32),
        photometric="rgb",
    )
    with tifffile.TiffFile(tmp_path / "b.tif") as tif:
        assert tif.pages[0].photometric.name == "YCBCR"
    assert np.abs(read_image(tmp_path / "a.tif").pixels - array.transpose(2, 0, 1)).max() < 8
    assert np.abs(read_image(tmp_path / "b.tif").pixels - array.transpose(2, 0, 1)).max() < 12


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_in_tiff_is_dropped(tmp_path, planar):
    array = noise((9, 13, 4))
    written = array if planar == "contig" else array.transpose(2, 0, 1)
    tifffile.imwrite(tmp_path / "a.tif", written, photometric="rgb", planarconfig=planar, extrasamples=["unassalpha"])
    image = read_image(tmp_path / "a.tif")
    assert_pixels(image, array[..., :3].transpose(2, 0, 1))
    assert image.is_colour
    tifffile.imwrite(
        tmp_path / "g.tif",
        array[..., :2],
        photometric="minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"],
    )
    assert_pixels(read_image(tmp_path / "g.tif"), array[..., :1].transpose(2, 0, 1))


def test_samples_without_a_colour_are_channels(tmp_path):
    array = noise((9, 13, 5), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack", planarconfig="contig")
    image = read_image(tmp_path / "a.tif")
    assert_pixels(image, array.transpose(2, 0, 1))
    assert not image.is_colour
    assert image.channel_names == tuple(f"channel_{i}" for i in range(5))


def test_tiff_where_white_is_zero_is_turned_round_but_labels_are_not(tmp_path):
    array = noise((9, 13))
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="miniswhite")
    assert_pixels(read_image(tmp_path / "a.tif"), 255 - array[None])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), array)


@pytest.mark.parametrize("gray", [False, True])
def test_tiff_palette(tmp_path, gray):
    index = noise((9, 13))
    table = noise((3, 256), seed=1).astype(np.uint16) * 257
    if gray:
        table[:] = table[0]
    tifffile.imwrite(tmp_path / "a.tif", index, photometric="palette", colormap=table)
    image = read_image(tmp_path / "a.tif")
    assert_pixels(image, table[: 1 if gray else 3, index] // 257)
    assert image.is_colour != gray
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), index)


def test_imagej_palette_is_only_for_display(tmp_path):
    index = noise((9, 13))
    table = np.zeros((3, 256), np.uint8)
    table[1] = np.arange(256)
    tifffile.imwrite(tmp_path / "a.tif", index, imagej=True, colormap=table.astype(np.uint16) * 257)
    assert_pixels(read_image(tmp_path / "a.tif"), index[None])


def test_colours_of_printing_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 13, 4)), photometric="separated")
    with pytest.raises(ReadError, match=r"a\.tif.*SEPARATED.*Save it as RGB"):
        read_image(tmp_path / "a.tif")


def test_complex_numbers_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((4, 4), np.complex64))
    with pytest.raises(ReadError, match="complex64"):
        read_image(tmp_path / "a.tif")


def test_two_threads_that_read_leave_warnings_as_they_were(tmp_path):
    """They end in the order in which they began, so that each alone would put back what the other had silenced."""
    before, logger = warnings.filters[:], logging.getLogger("tifffile")
    n_before = len(logger.filters)
    one, other = quiet_libraries(), quiet_libraries()
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    with warnings.catch_warnings(record=True) as said:
        warnings.warn("still read by the other", stacklevel=1)
        warnings.warn("said by a third", FewcellWarning, stacklevel=1)
    assert [str(one.message) for one in said] == ["said by a third"]
    other.__exit__(None, None, None)
    assert warnings.filters == before
    assert len(logger.filters) == n_before


def test_nan_and_infinity_stay(tmp_path):
    array = np.array([[np.nan, np.inf], [-np.inf, 1e300]])
    tifffile.imwrite(tmp_path / "a.tif", array)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels, [[[np.nan, np.inf], [-np.inf, np.inf]]])


# --- axes, planes, channels ---------------------------------------------------------------------------------


def test_bare_stack_is_ambiguous_and_the_error_says_what_to_type(tmp_path):
    array = noise((7, 20, 30), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None)
    with pytest.raises(AxesError, match=r"a\.tif.*\(7, 20, 30\).*--axes CYX.*axes=\"CYX\".*--axes ZYX") as error:
        read_image(path)
    assert "\n" not in str(error.value)
    assert_pixels(read_image(path, axes="CYX"), array)
    assert_pixels(read_image(path, axes="cyx", channels=[6, 0]), array[[6, 0]])
    assert_pixels(read_image(path, axes="ZYX", plane={"z": 3}), array[3:4])
    assert_pixels(read_image(path, plane={"I": 3}), array[3:4])


def test_last_axis_without_metadata_is_ambiguous(tmp_path):
    array = noise((20, 30, 5), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="minisblack")
    with pytest.raises(AxesError, match=r"\(20, 30, 5\)"):
        read_image(path)
    assert_pixels(read_image(path, axes="YXC"), array.transpose(2, 0, 1))
    assert_pixels(read_image(path, axes="XYC"), array.transpose(2, 1, 0))


@pytest.mark.parametrize(("axes", "shape"), [("ZCYX", (4, 2, 9, 13)), ("TZCYX", (3, 4, 2, 9, 13)), ("TYX", (3, 9, 13))])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_stacks_need_a_plane(tmp_path, axes, shape, kind, compression):
    array, path = noise(shape, np.uint16), tmp_path / "a.tif"
    tifffile.imwrite(path, array, metadata={"axes": axes}, compression=compression, **{kind: True})
    first = "z-stack" if axes[0] == "Z" else "time series"
    with pytest.raises(AxesError, match=rf"a\.tif.*{first} of {shape[0]} planes.*--plane {axes[0].lower()}="):
        read_image(path)
    plane = {a.lower(): n - 1 for a, n in zip(axes, shape, strict=True) if a in "TZ"}
    expected = array[tuple(-1 if a in "TZ" else slice(None) for a in axes)]
    assert_pixels(read_image(path, plane=plane), expected.reshape(-1, 9, 13))
    if "C" in axes:
        assert_pixels(read_image(path, plane=plane | {"c": 1}), expected[1:])
    if "TZ" in axes:
        with pytest.raises(AxesError, match=r'--plane t=1,z=2 \(plane={"t": 1, "z": 2}\)'):
            read_image(path)
        with pytest.raises(AxesError, match="--plane t=0,z=2 "):
            read_image(path, plane={"t": 0})
    with pytest.raises(AxesError, match=rf"there is no plane .=99.*{axes[0].lower()}"):
        read_image(path, plane=plane | {axes[0].lower(): 99})


def test_axes_of_one_are_dropped(tmp_path):
    array = noise((1, 1, 2, 9, 13), np.uint16)
    for i, options in enumerate(({"imagej": True}, {"ome": True}, {})):
        path = tmp_path / f"{i}.tif"
        tifffile.imwrite(path, array, metadata={"axes": "TZCYX"}, photometric="minisblack", **options)
        assert_pixels(read_image(path, plane={"z": 0}), array[0, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (3, 3), (4, 4)])
def test_small_and_thin_images(tmp_path, shape):
    array = noise(shape)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    assert_pixels(read_image(tmp_path / "a.tif"), array[None])
    assert_pixels(read_image(tmp_path / "a.png"), array[None])
    np.testing.assert_array_equal(read_labels(tmp_path / "a.tif"), array)


def test_colours_in_several_channels_need_a_choice(tmp_path):
    array, path = noise((2, 9, 13, 3)), tmp_path / "a.ome.tif"
    tifffile.imwrite(path, array, metadata={"axes": "CYXS"}, photometric="rgb", ome=True)
    with pytest.raises(AxesError, match="--plane c=0"):
        read_image(path)
    image = read_image(path, plane={"c": 1})
    assert_pixels(image, array[1].transpose(2, 0, 1))
    assert image.is_colour


def test_channels_choose_and_order(tmp_path):
    array, path = noise((9, 13, 3)), tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(array))
    image = read_image(path, channels=[2, 0])
    assert_pixels(image, array[..., [2, 0]].transpose(2, 0, 1))
    assert image.channel_names == ("blue", "red")
    assert not image.is_colour
    for wrong in ([3], [-1], []):
        with pytest.raises(AxesError, match=r"has 3: red, green, blue; the first is 0"):
            read_image(path, channels=wrong)


@pytest.mark.parametrize("axes", ["", "YYX", "CY", "Y X", "C,Y,X", "CYX3"])
def test_senseless_axes(tmp_path, axes):
    tifffile.imwrite(tmp_path / "a.tif", noise((2, 9, 13)), photometric="minisblack")
    with pytest.raises(AxesError, match="--axes CYX"):
        read_image(tmp_path / "a.tif", axes=axes)


def test_axes_must_name_each_dimension(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 13)))
    with pytest.raises(AxesError, match=r"'CYX' name 3 dimensions, but the image has 2: shape \(9, 13\)"):
        read_image(tmp_path / "a.tif", axes="CYX")


@pytest.mark.parametrize("plane", [{"y": 0}, {"x": 1}, {"z": 0.5}, {"z": 1}, {"z": -1}])
def test_senseless_planes(tmp_path, plane):
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 13)))
    with pytest.raises(AxesError, match=r"a\.tif: (plane .* is none|there is no plane|.*--plane)"):
        read_image(tmp_path / "a.tif", plane=plane)


def test_pyramid_gives_the_full_size(tmp_path):
    array = noise((64, 96))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(array, subifds=1, tile=(16, 16), photometric="minisblack")
        tif.write(array[::2, ::2], subfiletype=1, tile=(16, 16), photometric="minisblack")
    assert_pixels(read_image(tmp_path / "a.tif"), array[None])
    with tifffile.TiffWriter(tmp_path / "b.tif") as tif:
        tif.write(array, photometric="minisblack", metadata=None)
        tif.write(array[::3, ::5], subfiletype=1, photometric="minisblack", metadata=None)
    assert_pixels(read_image(tmp_path / "b.tif"), array[None])


def test_unrelated_images_in_a_tiff_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(noise((64, 96)), photometric="minisblack", metadata=None)
        tif.write(noise((40, 30)), photometric="minisblack", metadata=None)
    with pytest.raises(ReadError, match=r"holds 2 images.*\(64, 96\), \(40, 30\)"):
        read_image(tmp_path / "a.tif")


# --- what else the file says --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "size", "expected"),
    [
        ("µm", 0.5, 0.5),
        ("nm", 325, 0.325),
        ("mm", 0.001, 1.0),
        ("pixel", 1, None),
        ("µm", -1, None),
        ("µm", 3.25e-7, None),
    ],
)
def test_pixel_size_and_names_from_ome(tmp_path, unit, size, expected):
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": size,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": size,
        "PhysicalSizeYUnit": unit,
        "Channel": {"Name": ["DAPI", "β-actin"]},
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((2, 9, 13)), metadata=metadata, photometric="minisblack")
    image = read_image(tmp_path / "a.ome.tif")
    assert image.pixel_size_um == (None if expected is None else pytest.approx(expected))
    assert image.channel_names == ("DAPI", "β-actin")
    assert read_image(tmp_path / "a.ome.tif", channels=[1]).channel_names == ("β-actin",)


def test_the_one_colour_that_is_taken_of_a_picture_is_not_called_red(tmp_path):
    pixels = noise((9, 13, 3))
    PillowImage.fromarray(pixels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    for name in ("a.png", "a.tif"):
        image = read_image(tmp_path / name, plane={"s": 1})
        assert (image.channel_names, image.is_colour) == (("intensity",), False)
        assert_pixels(image, pixels[None, :, :, 1])


def test_dimensions_of_one_name_have_to_be_named(tmp_path):
    pixels = noise((2, 3, 16, 17))
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")
    for plane in (None, {"q": 1}):
        with pytest.raises(AxesError, match=r"--axes ZCYX with --plane z=1"):
            read_image(tmp_path / "a.tif", plane=plane)
    assert_pixels(read_image(tmp_path / "a.tif", axes="ZCYX", plane={"z": 1}), pixels[1])
    with pytest.raises(AxesError, match="labels must be a single plane"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("unit", "per_unit", "expected"),
    [
        ("micron", 4, 0.25),
        ("um", 2, 0.5),
        ("\\u00B5m", 2, 0.5),
        ("nm", 0.004, 0.25),
        ("mm", 1000, 1.0),
        ("cm", 10_000, 1.0),
        ("inch", 254_000, 0.1),
        ("inch", 72, None),
        ("", 4, None),
        ("pixel", 1, None),
    ],
)
def test_pixel_size_from_imagej(tmp_path, unit, per_unit, expected):
    tifffile.imwrite(
        tmp_path / "a.tif",
        noise((9, 13)),
        imagej=True,
        resolution=(per_unit, per_unit),
        metadata={"unit": unit},
    )
    size = read_image(tmp_path / "a.tif").pixel_size_um
    assert size == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("unit", ["INCH", "CENTIMETER", "NONE"])
@pytest.mark.parametrize("um", [0.1, 0.65, 3.0])
def test_pixel_size_from_tiff_tags(tmp_path, unit, um):
    per_unit = {"INCH": 25_400, "CENTIMETER": 10_000, "NONE": 1}[unit] / um
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 13)), resolution=(per_unit, per_unit), resolutionunit=unit)
    size = read_image(tmp_path / "a.tif").pixel_size_um
    assert size == (None if unit == "NONE" else pytest.approx(um, rel=1e-5))


@pytest.mark.parametrize("dpi", [1, 72, 96, 150, 300, 600, 1200, 2400])
def test_resolutions_for_printers_are_no_pixel_sizes(tmp_path, dpi):
    for unit, count in (("INCH", dpi), ("CENTIMETER", dpi / 2.54)):
        tifffile.imwrite(tmp_path / "a.tif", noise((9, 13)), resolution=(count, count), resolutionunit=unit)
        assert read_image(tmp_path / "a.tif").pixel_size_um is None


def test_pixels_that_are_not_square_have_no_size(tmp_path):
    for ratio, is_known in ((1.005, True), (1.05, False)):
        tifffile.imwrite(
            tmp_path / "a.tif",
            noise((9, 13)),
            resolution=(20_000, 20_000 * ratio),
            resolutionunit="CENTIMETER",
        )
        assert (read_image(tmp_path / "a.tif").pixel_size_um is not None) == is_known


def test_nonsense_in_the_description_does_not_cost_the_image(tmp_path):
    ome = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="13" SizeY="9" SizeC="1" SizeZ="1" '
        'SizeT="1" PhysicalSizeX="large" PhysicalSizeY="0.5"><TiffData/></Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.tif", noise((9, 13)), description=ome, metadata=None)
    image = read_image(tmp_path / "a.tif")
    assert image.pixels.shape == (1, 9, 13)
    assert image.pixel_size_um is None


# --- the stored type ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "float32", "float64"])
def test_the_stored_type_is_known_and_kept(tmp_path, dtype):
    array = np.zeros((3, 9, 13), dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, ome=True, metadata={"axes": "CYX"}, byteorder=array.dtype.byteorder)
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == image.choose([2, 0]).dtype == np.dtype(dtype).name
    assert image.pixels.dtype == np.float32


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_only_colours_of_8_bits_are_displayed_as_they_are(tmp_path, dtype):
    bright = {np.uint8: 255, np.uint16: 200, np.float32: 1}[dtype]
    array = np.linspace(0, bright / 2, 24 * 32 * 3).reshape(24, 32, 3).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert image.is_colour
    shown = _for_display(image)
    if dtype is np.uint8:
        np.testing.assert_array_equal(shown, image.pixels)
        assert shown.dtype == np.uint8
    else:
        assert shown.max() == 1


# --- labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i2", "i4", "i8", "f4", "f8"])
def test_labels_of_every_type(tmp_path, dtype):
    array = np.arange(120).reshape(10, 12).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array)
    labels = read_labels(tmp_path / "a.tif")
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, array)


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "f4"])
def test_unknown_stays(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[-1, 0], [7, -1]], dtype))
    assert read_labels(tmp_path / "a.tif").tolist() == [[-1, 0], [7, -1]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.0, 1.5]]), "whole numbers"),
        (np.array([[0.0, np.nan]]), "whole numbers"),
        (np.array([[0.0, np.inf]]), "whole numbers"),
        (np.array([[0, -2]], np.int16), "between -1"),
        (np.array([[0, 2**31]], np.uint32), "between -1.*2147483648"),
        (np.array([[0, 2**63]], np.uint64), "between -1"),
        (np.zeros((4, 5, 3), np.uint8), "one number a pixel, but there are 3"),
        (np.zeros((7, 4, 5), np.uint8), "single plane"),
    ],
)
def test_what_cannot_be_labels(tmp_path, array, message):
    colour = {"photometric": "rgb" if array.shape[-1] == 3 else "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", array, **colour)
    with pytest.raises(ReadError, match=rf"a\.tif.*{message}"):
        read_labels(tmp_path / "a.tif")


def test_labels_in_jpeg_are_refused(tmp_path):
    PillowImage.new("L", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(ReadError, match="JPEG blurs"):
        read_labels(tmp_path / "a.jpg")


# --- lists of files, memory, real data ----------------------------------------------------------------------


def test_list_images(tmp_path):
    for name in ("b.PNG", "a.tif", "notes.txt", "._a.tif", "c.jpg"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    names = ["a.tif", "b.PNG", "c.jpg"]
    assert [p.name for p in list_images(tmp_path)] == names
    assert [p.name for p in list_images(str(tmp_path))] == names
    assert [p.name for p in list_images([tmp_path / "c.jpg", tmp_path])] == ["c.jpg", "a.tif", "b.PNG"]
    assert list_images([]) == []


def test_an_image_in_two_spellings_is_one_but_links_of_other_names_are_others(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("one").mkdir()
    Path("one/a.tif").write_bytes(b"x")
    Path("one/b.tif").symlink_to("a.tif")
    Path("two").symlink_to("one")
    spelled = ["one", "one/../one", "two", "one/a.tif", tmp_path / "one" / "a.tif"]
    assert list_images(spelled) == [Path("one/a.tif"), Path("one/b.tif")]


def test_results_in_a_folder_are_no_images_unless_named(tmp_path):
    results = ["a_label.tiff", "a_overlay.png", "b_label.tif", "c_LABEL.PNG"]
    others = ["a.tif", "a_label.bmp", "label.png", "my_label_2.tiff"]
    for name in results + others:
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in list_images(tmp_path)] == others
    named = [tmp_path / name for name in results]
    assert list_images(named) == named
    for name in others:
        (tmp_path / name).unlink()
    with pytest.raises(ReadError, match=r"holds no image.*_label\.tiff"):
        list_images(tmp_path)


def test_list_images_errors(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ReadError, match=r"nowhere.*no such file or folder"):
        list_images([tmp_path / "nowhere"])
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(ReadError, match=r"gone\.png: is a link to nowhere\.png, which is not there"):
        list_images(tmp_path / "gone.png")
    (tmp_path / "gone.png").unlink()
    (tmp_path / "packed.zarr").write_bytes(b"x")
    with pytest.raises(ReadError, match=r"packed\.zarr: is a file, but an OME-Zarr is a folder"):
        list_images(tmp_path / "packed.zarr", SLIDE_SUFFIXES)
    with pytest.raises(ReadError, match=r"'\.txt' are not supported.*\.tiff"):
        list_images([tmp_path / "notes.txt"])
    with pytest.raises(ReadError, match="holds no image"):
        list_images(tmp_path)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries cannot be asked to")
def test_memory_in_pieces_is_given_back():
    """Of 200 MB in pieces all but a few are freed, and the C library keeps what lies below the last."""
    script = """
import re
from pathlib import Path
from fewcell.images import give_memory_back

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

pieces = [bytearray(b"x" * 100_000) for _ in range(2000)]
kept = pieces[::100]
del pieces
before = resident_mb()
give_memory_back()
print(before - resident_mb())
"""
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert float(said) > 100


def test_an_image_larger_than_memory_is_refused_before_reading(tmp_path, monkeypatch):
    array = noise((100, 100), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", array)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    needed = 100 * 100 * (2 + 4)
    for name in ("a.tif", "a.png"):
        monkeypatch.setattr(memory, "available_bytes", lambda: needed / memory.MEMORY_FRACTION)
        assert read_image(tmp_path / name).pixels.shape == (1, 100, 100)
        monkeypatch.setattr(memory, "available_bytes", lambda: needed / memory.MEMORY_FRACTION - 2)
        with pytest.raises(TooLargeError, match=r"100 x 100 pixels of uint16 would need"):
            read_image(tmp_path / name)


def test_one_plane_of_a_stack_needs_the_memory_of_one(tmp_path, monkeypatch):
    array, path = noise((50, 100, 100), np.uint16), tmp_path / "a.tif"
    tifffile.imwrite(path, array, metadata={"axes": "ZYX"}, ome=True, compression="zlib")
    monkeypatch.setattr(memory, "available_bytes", lambda: 100 * 100 * 6 / memory.MEMORY_FRACTION)
    assert_pixels(read_image(path, plane={"z": 49}), array[49:])


def test_available_memory_is_plausible():
    assert 2**26 < memory.available_bytes() < 2**50


def test_memory_where_there_is_no_meminfo(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10**7}.__getitem__)
    assert memory.available_bytes(tmp_path) == 4096 * 10**7
    monkeypatch.delattr(os, "sysconf")
    assert memory.available_bytes(tmp_path) == 8 * 2**30


GB = 10**9


def linux(root, groups, files):
    """Draw a file system that says 100 GB are free, and what the control groups of this process allow."""
    texts = {"proc/meminfo": f"MemFree: 7 kB\nMemAvailable:   {100 * GB // 1024} kB\n", "proc/self/cgroup": groups}
    for name, text in (texts | files).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(str(text))
    return memory.available_bytes(root)


def limit_v2(folder, limit, used, files=0):
    statistics = f"anon 5\ninactive_file {files}\nactive_file {files}\ninactive_anon 77\n"
    return {
        f"{folder}/memory.max": limit, f"{folder}/memory.current": used, f"{folder}/memory.stat": statistics
    }  # fmt: skip


def test_memory_of_a_container(tmp_path):
    assert linux(tmp_path / "none", "0::/\n", {}) == 100 * GB // 1024 * 1024
    inside = limit_v2("sys/fs/cgroup", 4 * GB, 3 * GB)
    assert linux(tmp_path / "inside", "0::/\n", inside) == 1 * GB
    assert linux(tmp_path / "hidden", "0::/system.slice/docker-1\n", inside) == 1 * GB
    # Files that were read lately fill the limit, but are no use of it.
    cached = limit_v2("sys/fs/cgroup", 4 * GB, 4 * GB, files=GB)
    assert linux(tmp_path / "cached", "0::/\n", cached) == 2 * GB
    over = limit_v2("sys/fs/cgroup", 4 * GB, 5 * GB)
    assert linux(tmp_path / "over", "0::/\n", over) == 0


def test_memory_of_a_batch_job_is_limited_on_any_level(tmp_path):
    job, step = "sys/fs/cgroup/slurm/job_1", "sys/fs/cgroup/slurm/job_1/step_0"
    both = limit_v2(job, 8 * GB, 2 * GB) | limit_v2(step, "max", 2 * GB)
    assert linux(tmp_path, "0::/slurm/job_1/step_0\n", both) == 6 * GB


def test_memory_of_a_container_in_the_first_version(tmp_path):
    folder = "sys/fs/cgroup/memory/docker/1"
    statistics = f"inactive_file 1\ntotal_inactive_file {GB}\ntotal_active_file {GB}\n"
    limits = {
        f"{folder}/memory.limit_in_bytes": 5 * GB,
        f"{folder}/memory.usage_in_bytes": 4 * GB,
        f"{folder}/memory.stat": statistics,
    }
    assert linux(tmp_path, "9:name=systemd:/docker/1\n4:cpu,memory:/docker/1\n0::/\n", limits) == 3 * GB


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared images are not there")
def test_real_images():
    slide = read_image(DATA / "slides" / "CMU-1-Small-Region.svs")
    assert slide.pixels.shape == (3, 2967, 2220)
    assert slide.pixel_size_um == pytest.approx(0.499)
    for path in list_images(DATA / "test" / "images")[::40]:
        image = read_image(path)
        labels = read_labels(DATA / "test" / "labels" / f"{path.stem}_label.tiff")
        assert image.pixels.shape[1:] == labels.shape
        assert math.isfinite(image.pixels.sum())
