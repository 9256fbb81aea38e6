"""What a network says of four views of an image is turned back and averaged, on slides as in memory."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

from fewcell.representations import REPRESENTATIONS, make_representation
from fewcell.segmenter import FileSettings, NetworkFacts, Segmenter
from fewcell.segmenter.turned import TurnedEngine
from fewcell.slides import Execution, SlidePlan, segment_slide
from fewcell.slides.work import Work

FREE = NetworkFacts(name="resunet", stride=1, multiple_px=8, reach_px=20, window_px=None)
WINDOWS = FREE.model_copy(update={"window_px": 256})


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_targets_of_turned_cells_are_turned_back(name, draw_discs) -> None:
    """An engine that sees the cells perfectly says the same of all four views."""
    representation = make_representation(name)
    labels = draw_discs(3)[1]
    turned = TurnedEngine(lambda image: representation.targets(image[0].astype(np.int32)), representation, WINDOWS)
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
    once, averaged = leans(image), TurnedEngine(leans, representation, WINDOWS)(image)
    off = [np.square(seen - expected).mean() for seen in (once, averaged)]
    assert off[1] < 0.6 * off[0]


def test_both_scales_count_alike_and_lie_on_one_another(draw_discs) -> None:
    """Of a network that is right at the larger scale only, half is seen; cells are where they are."""
    representation = make_representation("boundary")
    labels = draw_discs(3, shape=(96, 160))[1]
    sizes = []

    def sees(image):
        sizes.append(image.shape[1:])
        return image[:3] if image.shape[1] > 96 else np.zeros_like(image)

    turned = TurnedEngine(sees, representation, FREE)
    assert turned.multiple_px == 32
    image = np.stack([labels > 0] * 3).astype(np.float32)
    seen = turned(image)
    assert set(sizes) == {(96, 160), (120, 200)}
    assert seen.shape == image.shape
    assert np.mean(2 * seen[0][labels > 0]) > 0.9
    assert np.mean(2 * seen[0][labels == 0]) < 0.1


def test_slides_are_seen_so_as_well_also_by_other_processes(trained, draw_discs, tmp_path: Path) -> None:
    plain, accurate = (Segmenter.load(trained.folder, threads=1, accurate=on) for on in (False, True))
    image = draw_discs(5, shape=(230, 260))[0]
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64))
    chosen, how = FileSettings(diameter=22), Execution(tile_px=96)
    whole = [s.segment(image[None].astype(np.float32), diameter_px=22).labels for s in (plain, accurate)]
    assert np.any(whole[0] != whole[1])
    found = segment_slide(accurate, tmp_path / "i.tif", tmp_path / "o.zarr", chosen, how=how)
    np.testing.assert_array_equal(zarr.open_array(str(found.labels / "0"), mode="r")[:] > 0, whole[1] > 0)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text(found.plan.model_dump_json())
    assert SlidePlan.read(tmp_path / "run" / "plan.json").task.accurate
    assert Work.open(tmp_path / "run", threads=1).segmenter.is_accurate
