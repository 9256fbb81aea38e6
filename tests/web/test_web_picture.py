"""Images as the browser sees them: tiles that fit together, one contrast, opened once."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image

from fewcell.web.picture import Picture, tile_window
from fewcell.web.refusal import Refused


def decoded(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def smooth(shape, seed=0):
    """A picture without fine detail, which JPEG hardly changes."""
    small = np.random.default_rng(seed).integers(20, 230, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["png", "tiff", "pyramid"])
@pytest.mark.parametrize("step", [1, 2, 4, 8, 16])
def test_tiles_put_together_are_the_image(tmp_path, kind, step):
    pixels = smooth((2300, 2700))
    path = tmp_path / f"x.{'png' if kind == 'png' else 'tif'}"
    if kind == "png":
        Image.fromarray(pixels).save(path, compress_level=1)
    else:
        with tifffile.TiffWriter(path) as tiff:
            options = {"tile": (256, 256), "photometric": "rgb"}
            tiff.write(pixels, subifds=1 if kind == "pyramid" else 0, **options)
            if kind == "pyramid":
                half = np.asarray(Image.fromarray(pixels).reduce(2))
                tiff.write(half, subfiletype=1, **options)
    picture = Picture(path)
    low, span = picture._contrast.low[0], picture._contrast.span[0]
    height, width = -(-2300 // step), -(-2700 // step)
    rows = [
        np.concatenate([decoded(picture.tile(step, row, column)) for column in range(-(-width // 512))], axis=1)
        for row in range(-(-height // 512))
    ]
    seen = np.concatenate(rows).astype(float)
    assert seen.shape == (height, width, 3)
    expected = np.asarray(Image.fromarray(pixels).reduce(step)).astype(float)
    expected = np.clip((expected - low) / span, 0, 1) * 255
    assert np.abs(seen - expected).mean() < 3
    assert np.abs(seen - expected).max() < 40


def test_a_last_column_that_the_copies_round_away_is_shown(tmp_path):
    pixels = smooth((2000, 2 * 3 * 512 + 1))
    with tifffile.TiffWriter(tmp_path / "odd.tif") as tiff:
        options = {"tile": (256, 256), "photometric": "rgb"}
        tiff.write(pixels, subifds=1, **options)
        tiff.write(np.ascontiguousarray(pixels[::2, :-1:2]), subfiletype=1, **options)
    assert decoded(Picture(tmp_path / "odd.tif").tile(2, 0, 3)).shape == (512, 1, 3)


def test_dim_microscopy_is_stretched(tmp_path):
    pixels = np.zeros((300, 300), np.uint16)
    pixels[100:200, 100:200] = 900
    tifffile.imwrite(tmp_path / "dim.tif", pixels)
    tile = decoded(Picture(tmp_path / "dim.tif").tile(1, 0, 0))
    assert tile[150, 150].min() > 240
    assert tile[20, 20].max() < 15


def test_a_thumbnail_is_small(tmp_path):
    Image.fromarray(smooth((900, 1500))).save(tmp_path / "x.png")
    assert max(decoded(Picture(tmp_path / "x.png").thumbnail()).shape) == 256


@pytest.mark.parametrize(
    "place", [(3, 0, 0), (0, 0, 0), (-2, 0, 0), (1, 2, 0), (1, 0, -1), (4096, 0, 0), (2**70, 0, 0)]
)
def test_there_is_no_such_tile(place):
    with pytest.raises(Refused):
        tile_window((700, 600), *place)
