"""A run on a slide that is killed again and again, by the system and without a warning, ends with the same bytes."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tifffile

DRIVER = """
import sys
from pathlib import Path
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides import Execution, plan, segment_slide
plan.BLOCK_PX, plan.HALO_PX = 120, 60
if len(sys.argv) > 4:
    import importlib, os, signal
    module, name, when = sys.argv[4].split()
    module = importlib.import_module(module)
    function = getattr(module, name)

    def until_killed(*arguments, **keywords):
        if when == "after":
            function(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, until_killed)
segmenter = Segmenter.load(sys.argv[1], threads=2)
out, settings = Path(sys.argv[3]), FileSettings(diameter=22, overwrite=True)
segment_slide(segmenter, Path(sys.argv[2]), out, settings, how=Execution(tile_px=64), exports=["csv", "geojson"])
"""
KILLS = 10


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_with_the_same_bytes(trained, draw_discs, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "i.tif", draw_discs(5, shape=(500, 620))[0], tile=(64, 64))
    command = [sys.executable, "-c", DRIVER, str(trained.folder), str(tmp_path / "i.tif")]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    subprocess.run([*command, str(tmp_path / "whole" / "o.zarr")], check=True)
    killed = [*command, str(tmp_path / "killed" / "o.zarr")]

    def lines() -> int:
        journals = (tmp_path / "killed").glob("o.zarr.unfinished/*/journal.txt")
        return sum(journal.read_bytes().count(b"\n") for journal in journals)

    total = 80 + 36 + 2  # about as many lines as it has in the end
    for moment in sorted(random.Random(0).sample(range(total), KILLS)):
        process = subprocess.Popen(killed)
        while process.poll() is None and lines() < moment:
            time.sleep(0.002)
        assert process.poll() is None, "it ended before it was killed"
        process.kill()
        process.wait()
        assert not (tmp_path / "killed" / "o.zarr").exists()
    assert lines() >= 10
    subprocess.run(killed, check=True)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


@pytest.mark.slow
def test_a_run_that_is_killed_at_its_turns_ends_with_the_same_bytes(trained, draw_discs, tmp_path: Path) -> None:
    """While it plans, before labels are whole, between exports, while outputs are moved, and when all is there."""
    tifffile.imwrite(tmp_path / "i.tif", draw_discs(6, shape=(260, 300))[0], tile=(64, 64))
    command = [sys.executable, "-c", DRIVER, str(trained.folder), str(tmp_path / "i.tif")]
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    subprocess.run([*command, str(tmp_path / "whole" / "o.zarr")], check=True)
    killed = [*command, str(tmp_path / "killed" / "o.zarr")]
    for turn in (
        "fewcell.slides.segment_slide plan_slide before",
        "fewcell.slides.segment_slide plan_slide after",
        "fewcell.slides.run create_labels after",
        "fewcell.slides.run write_facts before",
        "fewcell.slides.run write_export before",
        "fewcell.slides.run write_export after",
        "os replace before",  # what an export was written to
        "fewcell.slides.segment_slide put_in_place before",
        "fewcell.slides.segment_slide put_in_place after",
        "fewcell.slides.segment_slide _remove before",
        "shutil rmtree before",
    ):
        assert subprocess.run([*killed, turn], check=False).returncode == -9, turn
    subprocess.run(killed, check=True)
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")
