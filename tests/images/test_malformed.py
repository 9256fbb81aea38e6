"""Damaged and hostile files: one clear error each; no crash, no hang, no flood of memory.

All files are read in a process of their own, so that a crash in a decoder fails a test, not pytest.
"""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

pytest.importorskip("resource", reason="memory can only be measured on Linux and macOS")

TIMEOUT_S = 60
MEMORY_BYTES = 2 * 2**30

READER = """
import json, resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
import numpy as np
from fewcell.errors import FewcellError
from fewcell.images import peak_bytes, read_image, read_labels

for name in json.load(sys.stdin):
    for read in (read_image, read_labels):
        row = {"name": name, "reader": read.__name__, "error": None, "message": "", "is_image": False}
        print(json.dumps({"begin": name}), flush=True)
        start = time.perf_counter()
        try:
            result = read(name)
            pixels = result if read is read_labels else result.pixels
            row["is_image"] = pixels.size > 0 and pixels.dtype in (np.float32, np.int32)
        except FewcellError as error:
            row.update(error="FewcellError", message=str(error))
        except BaseException as error:
            row.update(error=type(error).__name__, message=str(error))
        row["seconds"] = time.perf_counter() - start
        row["peak_bytes"] = peak_bytes()  # not that of the parent, with which getrusage begins
        print(json.dumps(row), flush=True)
"""


@dataclass(frozen=True)
class Case:
    name: str
    content: bytes | None
    must_fail: bool = True


def gradient(dtype=np.uint8, *, samples=1, height=40, width=56):
    y, x, s = np.ogrid[:height, :width, :samples]
    array = (y * 5 + x * 3 + s * 40 + np.random.default_rng(0).integers(0, 4, (height, width, samples))) % 251
    return array.astype(dtype).squeeze()


def pillow(array, kind, **options):
    file = io.BytesIO()
    PillowImage.fromarray(array).save(file, format=kind, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **{"photometric": "minisblack", **options})
    return file.getvalue()


def valid_files():
    rgb = gradient(samples=3)
    stack = np.stack([gradient(np.uint16)] * 3)
    return {
        "gray.png": pillow(gradient(), "PNG"),
        "rgb16.png": imagecodecs.png_encode(gradient(np.uint16, samples=3)),
        "rgb.jpg": pillow(rgb, "JPEG"),
        "progressive.jpg": pillow(rgb, "JPEG", progressive=True),
        "gray.bmp": pillow(gradient(), "BMP"),
        "rgb.bmp": pillow(rgb, "BMP"),
        "plain.tif": tiff(gradient(np.uint16)),
        "lzw.tif": tiff(gradient(np.uint16), compression="lzw", predictor=True),
        "deflate.tif": tiff(rgb, compression="deflate", photometric="rgb", rowsperstrip=8),
        "zstd.tif": tiff(gradient(np.float32), compression="zstd"),
        "packbits.tif": tiff(gradient(), compression="packbits"),
        "tiles.tif": tiff(gradient(np.uint16), tile=(16, 16), compression="deflate"),
        "jpeg.tif": tiff(rgb, compression="jpeg", photometric="rgb"),
        "big.tif": tiff(gradient(np.uint16), bigtiff=True),
        "channels.ome.tif": tiff(stack, ome=True, metadata={"axes": "CYX"}),
        "channels.tif": tiff(stack, imagej=True, metadata={"axes": "CYX"}),
    }


def truncated():
    for name, content in valid_files().items():
        for i, part in enumerate((0.002, 0.05, 0.2, 0.5, 0.9)):
            yield Case(f"cut{i}-{name}", content[: int(len(content) * part)])
        # The last byte of the ImageJ stack belongs to a resolution, not to pixels.
        yield Case(f"cut-last-{name}", content[:-1], must_fail=name != "channels.tif")


def flipped():
    rng = np.random.default_rng(5)
    for name, content in valid_files().items():
        for i in range(9):
            damaged = bytearray(content)
            for _ in range(1 + i % 3):
                damaged[rng.integers(min(400, len(content)))] ^= 1 << rng.integers(8)
            # A flipped bit can change one pixel, or a tag that does not matter.
            yield Case(f"flip{i}-{name}", bytes(damaged), must_fail=False)


def no_images():
    rng = np.random.default_rng(6)
    for suffix in ("png", "jpg", "bmp", "tif", "tiff"):
        yield Case(f"empty.{suffix}", b"")
        yield Case(f"text.{suffix}", b"cell,area\n1,20\n")
        yield Case(f"zeros.{suffix}", bytes(5000))
        yield Case(f"noise.{suffix}", rng.bytes(5000))
        yield Case(f"folder.{suffix}", None)
    for magic, suffix in (
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpg"),
        (b"BM", "bmp"),
        (b"II*\0", "tif"),
        (b"MM\0*", "tif"),
        (b"II+\0\x08\0\0\0", "tif"),
        (b"II*\0\x08\0\0\0", "tif"),
    ):
        for i in range(5):
            yield Case(f"noise{i}-{magic.hex()}.{suffix}", magic + rng.bytes((20, 300, 4000)[i % 3]))
        yield Case(f"only-{magic.hex()}.{suffix}", magic)
    for suffix in (".txt", ".czi", ".gif", ""):
        yield Case(f"suffix{suffix}", valid_files()["gray.png"])


def png(*chunks):
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts.append(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return b"".join(parts)


def ihdr(width, height, bits=8, colour_type=0, interlace=0):
    return b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlace)


def broken_pngs():
    rows, end = (b"IDAT", zlib.compress(bytes(11 * 10))), (b"IEND", b"")
    good = png(ihdr(10, 10), rows, end)
    for i, width, height in (
        (0, 0, 10),
        (1, 10, 0),
        (2, 2**31 - 1, 2**31 - 1),
        (3, 2**32 - 1, 1),
        (4, 40000, 40000),
    ):
        for colour_type, bits in ((0, 8), (2, 16), (6, 8), (3, 8)):
            header = ihdr(width, height, bits, colour_type)
            yield Case(f"size{i}-{colour_type}-{bits}.png", png(header, rows, end))
    for where in (29, len(good) - 20, len(good) - 1):
        yield Case(f"checksum{where}.png", good[:where] + bytes([good[where] ^ 1]) + good[where + 1 :])
    yield Case("no-end.png", png(ihdr(10, 10), rows))
    yield Case("no-header.png", png(rows, end))
    yield Case("no-pixels.png", png(ihdr(10, 10), end))
    yield Case("short-header.png", png((b"IHDR", b"\0\0"), rows, end))
    yield Case("odd-bits.png", png(ihdr(10, 10, bits=7), rows, end))
    yield Case("odd-colours.png", png(ihdr(10, 10, colour_type=5), rows, end))
    yield Case("no-palette.png", png(ihdr(10, 10, colour_type=3), rows, end), must_fail=False)
    yield Case("few-rows.png", png(ihdr(10, 10), (b"IDAT", zlib.compress(bytes(50))), end))
    yield Case("few-rows16.png", png(ihdr(10, 10, 16, 2), (b"IDAT", zlib.compress(bytes(50))), end))
    yield Case("scrambled.png", png(ihdr(10, 10), (b"IDAT", b"\x78\x9c" + b"\xa5" * 60), end))
    yield Case("scrambled16.png", png(ihdr(10, 10, 16, 2), (b"IDAT", b"\x78\x9c" + b"\xa5" * 60), end))
    bomb = zlib.compress(bytes(400_000_000), 1)
    yield Case("bomb-of-text.png", png(ihdr(10, 10), (b"zTXt", b"a\0\0" + bomb), rows, end), must_fail=False)
    yield Case("bomb-of-pixels.png", png(ihdr(10, 10), (b"IDAT", bomb), end), must_fail=False)
    animation = io.BytesIO()
    frames = [PillowImage.new("L", (8, 8), i) for i in (0, 90)]
    frames[0].save(animation, format="PNG", save_all=True, append_images=frames[1:])
    yield Case("animation.png", animation.getvalue())


def broken_bmps_and_jpegs():
    bmp = pillow(gradient(samples=3), "BMP")
    for i, (width, height) in enumerate(
        ((56, -(2**31)), (2**31 - 1, 2**31 - 1), (0, 40), (56, 0), (-56, 40), (56, 2**20), (56, -(2**20)))
    ):
        yield Case(f"size{i}.bmp", bmp[:18] + struct.pack("<ii", width, height) + bmp[26:])
    for i, bits in enumerate((0, 3, 5, 64, 65535)):
        yield Case(f"bits{i}.bmp", bmp[:28] + struct.pack("<H", bits) + bmp[30:])
    yield Case("far-pixels.bmp", bmp[:10] + struct.pack("<I", 2**31) + bmp[14:])
    yield Case("packing.bmp", bmp[:30] + struct.pack("<I", 77) + bmp[34:])
    jpeg = pillow(gradient(samples=3), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    for i, (height, width) in enumerate(((65535, 65535), (0, 56), (40, 0), (65535, 56))):
        yield Case(f"size{i}.jpg", jpeg[: frame + 5] + struct.pack(">HH", height, width) + jpeg[frame + 9 :])
    yield Case("bits.jpg", jpeg[: frame + 4] + b"\x10" + jpeg[frame + 5 :])
    yield Case("no-scan.jpg", jpeg[: jpeg.index(b"\xff\xda")] + b"\xff\xd9")


def raw_tiff(changes=None, data=bytes(100), next_ifd=0, extra=b""):
    """A gray TIFF of 10 x 10 pixels; `changes`: tag number -> (type, count, value), or None to remove it."""
    tags = {256: (4, 1, 10), 257: (4, 1, 10), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1), 277: (3, 1, 1)}
    tags |= {278: (4, 1, 10), 279: (4, 1, len(data))}
    tags[273] = (4, 1, 0)
    tags |= changes or {}
    tags = {number: value for number, value in sorted(tags.items()) if value is not None}
    start = 8 + 2 + 12 * len(tags) + 4
    if 273 not in (changes or {}):
        tags[273] = (4, 1, start)
    ifd = struct.pack("<H", len(tags))
    for number, (kind, count, value) in tags.items():
        ifd += struct.pack("<HHII", number, kind, count, value & 0xFFFFFFFF)
    return b"II*\0" + struct.pack("<I", 8) + ifd + struct.pack("<I", next_ifd) + data + extra


def broken_tiffs():
    changes = {
        "no-width": {256: None},
        "width-0": {256: (4, 1, 0)},
        "height-0": {257: (4, 1, 0)},
        "size-2e31": {256: (4, 1, 2**31), 257: (4, 1, 2**31)},
        "size-2e32": {256: (4, 1, 2**32 - 1), 257: (4, 1, 2**32 - 1), 278: (4, 1, 2**32 - 1)},
        "size-2e31-lzw": {256: (4, 1, 2**31), 257: (4, 1, 2**31), 278: (4, 1, 2**31), 259: (3, 1, 5)},
        "size-2e31-zstd": {256: (4, 1, 2**31), 257: (4, 1, 2**31), 278: (4, 1, 2**31), 259: (3, 1, 50000)},
        "size-2e15-deflate": {256: (4, 1, 2**15), 257: (4, 1, 2**15), 278: (4, 1, 2**15), 259: (3, 1, 8)},
        "height-11": {257: (4, 1, 11), 278: (4, 1, 11)},
        "strips-missing": {278: (4, 1, 1), 259: (3, 1, 32773)},
        "rows-missing": {278: (4, 1, 1)},
        "strips-none": {273: None},
        "counts-none": {279: None, 259: (3, 1, 5)},
        "offset-0": {273: (4, 1, 0)},
        "offset-beyond": {273: (4, 1, 2**31)},
        "offset-at-end": {273: (4, 1, 200)},
        "count-0": {279: (4, 1, 0)},
        "count-0-deflate": {279: (4, 1, 0), 259: (3, 1, 8)},
        "count-2e32": {279: (4, 1, 2**32 - 1), 259: (3, 1, 8)},
        "many-offsets": {273: (4, 2**32 - 1, 8)},
        "many-counts": {279: (4, 2**31, 8)},
        "bits-0": {258: (3, 1, 0)},
        "bits-7": {258: (3, 1, 7)},
        "bits-65535": {258: (3, 1, 65535)},
        "samples-0": {277: (3, 1, 0)},
        "samples-65535": {277: (3, 1, 65535)},
        "samples-3": {277: (3, 1, 3), 258: (3, 1, 8)},
        "format-99": {339: (3, 1, 99)},
        "complex": {339: (3, 1, 6), 258: (3, 1, 64)},
        "compression-9999": {259: (3, 1, 9999)},
        "compression-0": {259: (3, 1, 0)},
        "photometric-999": {262: (3, 1, 999)},
        "lab": {262: (3, 1, 8)},
        "tag-type-99": {256: (99, 1, 10)},
        "tile-0": {322: (4, 1, 0), 323: (4, 1, 0), 324: (4, 1, 8), 325: (4, 1, 100)},
        "tile-2e31": {322: (4, 1, 2**31), 323: (4, 1, 2**31), 324: (4, 1, 8), 325: (4, 1, 100)},
        "depth-2e31": {32997: (4, 1, 2**31)},
        **{f"scrambled-{c}": {259: (3, 1, c)} for c in (2, 3, 4, 5, 6, 7, 8, 32946, 34887, 34925, 50000, 50001)},
        **{f"scrambled-{c}": {259: (3, 1, c)} for c in (33003, 34712, 34892, 50002, 22610, 33007)},
    }
    # Without compression, all pixels are there whatever some tags say; fax codes and odd bits mean anything.
    may_pass = {"rows-missing", "count-0", "many-counts", "samples-0", "tile-2e31", "photometric-999", "lab"}
    may_pass |= {"bits-7", "counts-none", *(f"scrambled-{c}" for c in (2, 3, 4))}
    noise = b"\xa5\x5a\xff\x00\x13" * 20
    for name, change in changes.items():
        yield Case(f"{name}.tif", raw_tiff(change, noise), must_fail=name not in may_pass)
    yield Case("circle-of-one.tif", raw_tiff(next_ifd=8))
    yield Case("next-beyond.tif", raw_tiff(next_ifd=2**31))
    yield Case("next-into-pixels.tif", raw_tiff(next_ifd=140, data=b"\xff" * 100))
    yield Case("first-beyond.tif", b"II*\0" + struct.pack("<I", 2**31) + bytes(100))
    yield Case("first-0.tif", b"II*\0" + bytes(100))
    yield Case("first-itself.tif", b"II*\0" + struct.pack("<I", 0) + raw_tiff()[8:])
    yield Case("tags-65535.tif", b"II*\0" + struct.pack("<IH", 8, 65535) + bytes(500))
    yield Case("big-first-beyond.tif", b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**62) + bytes(100))
    yield Case("big-tags.tif", b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**62) + bytes(500))
    yield Case("sub-circle.tif", raw_tiff({330: (4, 1, 8)}), must_fail=False)
    pages = bytearray(tiff(np.stack([gradient()] * 3), metadata=None))
    with tifffile.TiffFile(io.BytesIO(bytes(pages))) as tif:
        offsets = [page.offset for page in tif.pages]
    last = pages.rfind(struct.pack("<I", offsets[2]))
    yield Case("circle-of-two.tif", bytes(pages[:last]) + struct.pack("<I", offsets[0]) + bytes(pages[last + 4 :]))
    bomb = zlib.compress(bytes(400_000_000), 1)
    yield Case("bomb.tif", raw_tiff({259: (3, 1, 8)}, bomb), must_fail=False)
    laughs = '<!DOCTYPE OME [<!ENTITY a0 "ha">'
    laughs += "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    for i, text in enumerate((laughs + "]><OME>&a11;</OME>", "<OME>" * 50_000 + "</OME>" * 50_000, "<OME")):
        text = ('<?xml version="1.0"?>' + text + " </OME>").encode()
        yield Case(f"description{i}.ome.tif", tiff(gradient(), description=text, metadata=None), must_fail=False)
    planes = tiff(np.stack([gradient(np.uint16)] * 3), ome=True, metadata={"axes": "CYX"})
    yield Case("more-planes.ome.tif", planes.replace(b'SizeC="3"', b'SizeC="9"'))
    elsewhere = planes.replace(b"<TiffData ", b"<TiffData><UUID FileName='x.tif'>u</UUID></TiffData><TiffData ", 1)
    yield Case("elsewhere.ome.tif", elsewhere, must_fail=False)


def with_value(content, tag, position, value):
    """The file with another number in one of the lists of its first page."""
    with tifffile.TiffFile(io.BytesIO(content)) as tif:
        found = tif.pages[0].tags[tag]
    kind = {3: "<H", 4: "<I"}[found.dtype]
    at = found.valueoffset + position * struct.calcsize(kind)
    return content[:at] + struct.pack(kind, value) + content[at + struct.calcsize(kind) :]


def tiffs_with_holes():
    """What tifffile would fill with zeros, or take for less than it is: the rest of the file is good."""
    array = gradient(np.uint16)
    files = {
        "tiles": (valid_files()["tiles.tif"], 324, 325),
        "strips": (tiff(array, compression="deflate", rowsperstrip=8), 273, 279),
        "plain-tiles": (tiff(array, tile=(16, 16)), 324, 325),
    }
    for name, (content, offsets, counts) in files.items():
        yield Case(f"hole-offset-{name}.tif", with_value(content, offsets, 2, 0))
        yield Case(f"hole-count-{name}.tif", with_value(content, counts, 2, 0))
        yield Case(f"hole-beyond-{name}.tif", with_value(content, offsets, 2, 60_000))
        yield Case(f"hole-height-{name}.tif", with_value(content, 257, 0, 400))
    yield Case("hole-plain.tif", with_value(tiff(array, rowsperstrip=8), 273, 0, 0))
    stack = {"array": np.stack([array] * 3), "imagej": True, "metadata": {"axes": "CYX"}}
    packed, one_run = tiff(**stack, compression="zlib"), tiff(**stack, truncate=True)
    yield Case("more-planes.tif", packed.replace(b"images=3", b"images=9").replace(b"channels=3", b"channels=9"))
    for i, lost in enumerate((200, 5000)):
        yield Case(f"cut-run{i}.tif", one_run[:-lost])


def corpus():
    cases = [
        *truncated(),
        *flipped(),
        *no_images(),
        *broken_pngs(),
        *broken_bmps_and_jpegs(),
        *broken_tiffs(),
        *tiffs_with_holes(),
    ]
    assert len({case.name for case in cases}) == len(cases)
    return cases


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Case and row of every read; the process may take no more than its time and memory."""
    folder, cases = tmp_path_factory.mktemp("malformed"), corpus()
    for case in cases:
        if case.content is None:
            (folder / case.name).mkdir()
        else:
            (folder / case.name).write_bytes(case.content)
    paths = {str(folder / case.name): case for case in cases}
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps(list(paths)),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"crashed at {lines[-1:]}: {done.stderr[-2000:]}"
    assert done.stderr == ""
    rows = [line for line in lines if "begin" not in line]
    assert len(rows) == 2 * len(cases)
    return [(paths[row["name"]], row) for row in rows]


def test_there_are_many_cases(results):
    must_fail = {case.name for case, _ in results if case.must_fail}
    assert len(must_fail) >= 200
    assert len({case.name for case, _ in results}) >= 350


def test_what_must_fail_fails(results):
    assert [case.name for case, row in results if case.must_fail and row["error"] is None] == []


def test_every_error_is_one_clear_paragraph_that_names_the_file(results):
    for case, row in results:
        if row["error"] is None:
            assert row["is_image"], case.name
        else:
            assert row["error"] == "FewcellError", (case.name, row)
            assert row["message"].startswith(row["name"] + ": "), row
            assert "\n" not in row["message"]
            text = row["message"].removeprefix(row["name"])
            assert 20 < len(text) < 600, row
            # What is wrong, and what to do: two sentences at least.
            assert text.rstrip().endswith((".", ")")), row


def test_none_takes_long_or_much_memory(results):
    assert max((row["seconds"], case.name) for case, row in results)[0] < 5
    assert max((row["peak_bytes"], case.name) for case, row in results)[0] < MEMORY_BYTES


def test_the_files_that_the_cases_are_made_of_are_readable(tmp_path):
    from fewcell.images import read_image

    contents = {
        **valid_files(),
        "raw.tif": raw_tiff(),
        "raw.png": png(ihdr(1, 1), (b"IDAT", zlib.compress(bytes(2))), (b"IEND", b"")),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert read_image(Path(tmp_path / name)).pixels.size > 0
