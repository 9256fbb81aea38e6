"""What a network says of four views of an image is turned back and averaged, on slides as in memory."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from fewcell.representations import REPRESENTATIONS, make_representation
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.segmenter.turned import TurnedEngine
from fewcell.slides import Means, SlidePlan, segment_slide
from fewcell.slides.work import Work


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_targets_of_turned_cells_are_turned_back(name, draw_discs) -> None:
    """An engine that sees the cells perfectly says the same of all four views."""
    representation = make_representation(name)
    labels = draw_discs(3)[1]
    turned = TurnedEngine(lambda image: representation.targets(image[0].astype(np.int32)), representation)
    seen = turned(np.stack([labels] * 3).astype(np.float32))
    expected = representation.targets(labels)
    allowed = representation.turn_tolerance + 1e-5
    assert np.abs(seen - expected).mean() <= allowed


def test_errors_that_depend_on_the_side_are_averaged(draw_discs) -> None:
    representation = make_representation("boundary")
    labels = draw_discs(3)[1]

    def leans(image):
        prediction = representation.targets(image[0].astype(np.int32))
        return np.roll(prediction, 2, axis=2)  # always to the right

    image = np.stack([labels] * 3).astype(np.float32)
    expected = representation.targets(labels)
    once, averaged = leans(image), TurnedEngine(leans, representation)(image)
    off = [np.square(seen - expected).mean() for seen in (once, averaged)]
    assert off[1] < 0.6 * off[0]


def test_slides_are_seen_so_as_well_also_by_other_processes(trained, draw_discs, tmp_path: Path) -> None:
    plain, accurate = (Segmenter.load(trained.folder, threads=1, accurate=on) for on in (False, True))
    image = draw_discs(5, shape=(230, 260))[0]
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64))
    chosen, how = FileSettings(diameter=22), Means(tile_px=96, threads=1)
    whole = [s.segment(image[None].astype(np.float32), diameter_px=22).labels for s in (plain, accurate)]
    assert np.any(whole[0] != whole[1])
    found = segment_slide(accurate, tmp_path / "i.tif", tmp_path / "o.zarr", chosen, how=how)
    np.testing.assert_array_equal(zarr.open_array(str(found.labels / "0"), mode="r")[:] > 0, whole[1] > 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text(found.plan.model_dump_json())
    assert SlidePlan.read(tmp_path / "run" / "plan.json").task.accurate
    assert Work.open(tmp_path / "run", threads=1).segmenter.is_accurate
