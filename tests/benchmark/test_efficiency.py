"""The time that the challenge forgives, against the formula of its own script."""

import io

import pytest
from rich.console import Console

from fewcell.benchmark import measure_efficiency, render_efficiency, tolerance_s
from fewcell.segmenter import Took, record_seconds


@pytest.mark.parametrize(
    ("shape", "seconds"),
    [((1, 1), 10), ((512, 512), 10), ((1000, 1000), 10), ((1000, 1001), 10.01), ((10_000, 10_000), 1000)],
)
def test_ten_seconds_and_ten_a_megapixel(shape: tuple[int, int], seconds: float) -> None:
    assert tolerance_s(*shape) == pytest.approx(seconds)


def test_the_share_is_of_images_whose_time_is_known(tmp_path) -> None:
    for stem, seconds in (("quick", 1.0), ("just", 10.0), ("slow", 10.1), ("not asked", 99.0)):
        record_seconds(tmp_path, stem, Took(500, 500, seconds))
    record_seconds(tmp_path, "large", Took(2000, 2000, 39.9))
    found = measure_efficiency(["slow", "quick", "just", "large", "failed"], tmp_path)
    assert [image.stem for image in found.timed] == ["just", "large", "quick", "slow"]
    assert [image.is_inside for image in found.timed] == [True, True, True, False]
    assert found.unknown == ("failed",)
    assert found.share_inside == 0.75
    with Console(file=io.StringIO(), width=100, record=True) as console:
        console.print(render_efficiency(found))
    text = console.export_text()
    assert "3 of 4 images (75.0%) are inside" in text
    assert "No time is known of: failed" in text
    assert text.count("too slow") == 1


def test_no_known_time_is_no_share(tmp_path) -> None:
    record_seconds(tmp_path, "other", Took(1, 1, 1.0))
    assert measure_efficiency(["a"], tmp_path).share_inside is None
