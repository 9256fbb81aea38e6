"""Slides: cells across seams, runs that were killed, tiles that cannot be read."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fewcell.errors import AxesError, ConfigError, ReadError, TooLargeError, WriteError
from fewcell.images import Slide, read_image
from fewcell.images.slide_tiff import TiffSlide
from fewcell.metrics import overlaps
from fewcell.representations import Trails
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides import Execution, merge_slide, segment_shard, segment_slide
from fewcell.slides import plan as plan_module
from fewcell.slides.work import Work

SHAPE = (420, 530)


class Killed(BaseException):
    pass


@pytest.fixture(scope="session")
def segmenter(trained) -> Segmenter:
    return Segmenter.load(trained.folder, threads=1)


@pytest.fixture(scope="session")
def slide_file(draw_discs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "discs.tif"
    tifffile.imwrite(path, draw_discs(3, shape=SHAPE)[0], tile=(64, 80))
    return path


@pytest.fixture
def small_blocks(monkeypatch) -> Iterator[None]:
    monkeypatch.setattr(plan_module, "BLOCK_PX", 150)
    monkeypatch.setattr(plan_module, "HALO_PX", 60)
    return


def labels_of(path: Path, level: int = 0) -> np.ndarray:
    return zarr.open_array(str(path / str(level)), mode="r")[:].astype(np.int32)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_cells(one: np.ndarray, other: np.ndarray, iou: float = 1.0) -> None:
    """Every cell has a twin that is the same, to the pixel where `iou` is 1."""
    assert one.max() == other.max()
    table = overlaps(one, other)
    assert (table.pair_iou >= iou).sum() == one.max()


@pytest.mark.parametrize("diameter_px", [22.0, 17.3, 60.0])
def test_a_slide_has_the_cells_of_the_image(segmenter, slide_file, tmp_path, small_blocks, diameter_px) -> None:
    whole = segmenter.segment(read_image(slide_file), diameter_px=diameter_px)
    assert diameter_px > 30 or len(whole.scores) > 100
    found = segment_slide(
        segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=diameter_px), how=Execution(tile_px=96)
    )
    assert found.n_cells == len(whole.scores)
    assert_same_cells(whole.labels, labels_of(found.labels))
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("diameter_px", [22.0, 8.0])
def test_a_slide_of_unknown_scale_has_the_cells_of_the_image(
    segmenter, slide_file, tmp_path, small_blocks, monkeypatch, diameter_px
) -> None:
    """Then larger cells are sought as well, and both are merged."""
    monkeypatch.setattr(Segmenter, "likely_diameter", lambda *_, **__: diameter_px)
    monkeypatch.setattr(plan_module, "HALO_PX", 200)  # a region of cells of two scales may be wide
    whole = segmenter.segment(read_image(slide_file))
    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", how=Execution(tile_px=128))
    assert found.plan.diameter_source == whole.diameter_source == "estimated"
    assert len(found.plan.zooms) == 2
    assert len(found.plan.blocks()) > 10
    assert len(whole.scores) > 50
    assert_same_cells(whole.labels, labels_of(found.labels))


def test_trails_lead_through_tiles_and_seams(slide_file, tmp_path, monkeypatch) -> None:
    """They have no bound, so blocks are joined; which pixel a pixel leads to is the same in each."""
    monkeypatch.setattr(plan_module, "BLOCK_PX", 150)
    monkeypatch.setattr(plan_module, "HALO_PX", 60)
    default = Segmenter.load(threads=1)
    assert default.facts.representation.name == "canopy", "whose network predicts what trails reads"
    segmenter = Segmenter(default.engine, Trails(), default.scorer, default.facts, default.folder)
    decode, read = Trails.decode, []
    monkeypatch.setattr(Trails, "decode", lambda trails, seen: read.append(seen.shape) or decode(trails, seen))
    whole = segmenter.segment(read_image(slide_file), diameter_px=22.0)
    assert len(whole.scores) > 100
    found = segment_slide(
        segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22.0), how=Execution(tile_px=96)
    )
    assert len(read) > 10, "the image, and every block"
    assert_same_cells(whole.labels, labels_of(found.labels), 0.99)


def test_two_runs_do_not_share_a_folder(segmenter, slide_file, tmp_path) -> None:
    refused: list[str] = []

    def again(_: object) -> None:
        if not refused:
            with pytest.raises(WriteError) as told:
                segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22.0))
            refused.append(str(told.value))

    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22.0), report=again)
    assert "another run is at work there" in refused[0]
    assert found.n_cells > 100


def test_a_run_that_is_at_work_is_not_removed_by_another(segmenter, slide_file, tmp_path) -> None:
    refused: list[str] = []

    def again(_: object) -> None:
        if not refused:
            other = FileSettings(diameter=30.0, overwrite=True)
            with pytest.raises(WriteError) as told:
                segment_slide(segmenter, slide_file, tmp_path / "o.zarr", other)
            refused.append(str(told.value))

    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22.0), report=again)
    assert "another run is at work there" in refused[0]
    assert found.n_cells > 100


@given(st.integers(0, 1000), st.integers(100, 260), st.sampled_from([64, 96, 128]))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_cells_on_the_corners_of_four_tiles_are_those_of_the_image(
    tmp_path_factory, monkeypatch, seed, block_px, tile_px
) -> None:
    monkeypatch.setattr(plan_module, "BLOCK_PX", block_px)
    segmenter, rng = Segmenter.load(threads=1), np.random.default_rng(seed)
    shape, y, x = (300, 330), *np.mgrid[:300, :330]
    image = rng.normal(40, 4, shape)
    corners = [(i, j) for i in range(tile_px, shape[0] - 12, tile_px) for j in range(tile_px, shape[1] - 12, tile_px)]
    for corner in corners:
        cy, cx = np.array(corner) + rng.uniform(-4, 4, 2)
        image += 150 * np.clip(rng.uniform(10, 13) - np.hypot(y - cy, x - cx), 0, 1)
    image = np.clip(image, 0, 255).astype(np.uint8)
    folder = tmp_path_factory.mktemp("corners")
    tifffile.imwrite(folder / "i.tif", image)
    whole = segmenter.segment(image[None].astype(np.float32), diameter_px=24)
    assert sum(whole.labels[corner] > 0 for corner in corners) > len(corners) / 2
    how = Execution(tile_px=tile_px)
    found = segment_slide(segmenter, folder / "i.tif", folder / "o.zarr", FileSettings(diameter=24), how=how)
    assert found.n_tiles > len(corners)
    assert_same_cells(whole.labels, labels_of(found.labels), iou=0.99)


@given(st.integers(0, 1000), st.integers(60, 260), st.sampled_from([64, 96, 160, 1024]), st.floats(0.6, 1.6))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cell_shows_where_seams_were(
    segmenter, draw_discs, tmp_path_factory, monkeypatch, seed, block_px, tile_px, size
) -> None:
    monkeypatch.setattr(plan_module, "BLOCK_PX", block_px)
    monkeypatch.setattr(plan_module, "HALO_PX", 80)
    folder = tmp_path_factory.mktemp("seams")
    image = draw_discs(seed, shape=(230, 290), radius_px=11 * size)[0]
    tifffile.imwrite(folder / "i.tif", image)
    whole = segmenter.segment(image[None].astype(np.float32), diameter_px=22 * size)
    chosen = FileSettings(diameter=22 * size)
    found = segment_slide(segmenter, folder / "i.tif", folder / "o.zarr", chosen, how=Execution(tile_px=tile_px))
    # Pixels as far from one cell as from another go to either of them, or to none: `boundary` alone does not say which.
    assert_same_cells(whole.labels, labels_of(found.labels), iou=0.9)


@pytest.mark.parametrize("moment", [0, 1, 5, 12, 18, 26, 33, 35, 36])
def test_a_run_that_was_killed_ends_with_the_same_bytes(
    segmenter, slide_file, tmp_path, small_blocks, monkeypatch, moment
) -> None:
    chosen = FileSettings(diameter=22)
    segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", chosen, how=Execution(tile_px=128))
    count = 0

    def dies(self, name):
        nonlocal count
        count += 1
        if count > moment:
            raise Killed
        return finish(self, name)

    from fewcell.slides.journal import Journal

    finish = Journal.finish
    monkeypatch.setattr(Journal, "finish", dies)
    with pytest.raises(Killed):
        segment_slide(segmenter, slide_file, tmp_path / "killed.zarr", chosen, how=Execution(tile_px=128))
    monkeypatch.setattr(Journal, "finish", finish)
    assert not (tmp_path / "killed.zarr").exists()
    looked, look = [], Work.look
    monkeypatch.setattr(Work, "look", lambda self, number: looked.append(number) or look(self, number))
    found = segment_slide(segmenter, slide_file, tmp_path / "killed.zarr", chosen, how=Execution(tile_px=128))
    assert len(looked) == max(0, found.n_tiles - moment), "what was done is not done again"
    assert files_of(tmp_path / "killed.zarr") == files_of(tmp_path / "whole.zarr")


def test_an_unfinished_run_is_not_gone_on_with_otherwise(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Work, "read_block", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    monkeypatch.undo()
    with pytest.raises(WriteError, match="unfinished: holds a run with other settings"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30))
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30, overwrite=True))
    with pytest.raises(WriteError, match="exists already"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30))


def test_what_the_system_leaves_beside_an_unfinished_run_is_no_run(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    """As a file manager does in every folder that is looked at."""
    monkeypatch.setattr(Work, "read_block", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    monkeypatch.undo()
    unfinished = tmp_path / "o.zarr.unfinished"
    (unfinished / ".DS_Store").write_bytes(b"looked at")
    shutil.copytree(next(unfinished.glob("*/plan.json")).parent, unfinished / ("0" * 16))
    looked, look = [], Work.look
    monkeypatch.setattr(Work, "look", lambda self, number: looked.append(number) or look(self, number))
    with pytest.raises(WriteError, match="holds a run with other settings"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22, overwrite=True))
    assert not looked, "what was done is kept, whatever else is removed"
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_damaged_plan_is_one_clear_error_and_goes_when_asked(segmenter, slide_file, tmp_path, monkeypatch, content):
    out, asked = tmp_path / "o.zarr", FileSettings(diameter=22)
    foreign = tmp_path / "o.zarr.unfinished" / ("0" * 16) / "plan.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(content)
    said = "plan.json: is damaged, or of another fewcell. Remove this file"
    with pytest.raises(ReadError, match=said):
        merge_slide(out)
    with pytest.raises(ReadError, match=said):
        segment_slide(segmenter, slide_file, out, asked)
    monkeypatch.setattr(Work, "read_block", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        segment_slide(segmenter, slide_file, out, FileSettings(diameter=22, overwrite=True))
    monkeypatch.undo()
    assert not foreign.exists()
    (own,) = (tmp_path / "o.zarr.unfinished").glob("*/plan.json")
    own.write_bytes(content)
    with pytest.raises(ReadError, match=said):
        segment_shard(segmenter, slide_file, out, (1, 2), asked)
    own.unlink()
    assert segment_slide(segmenter, slide_file, out, asked).n_cells > 20


def test_a_run_that_is_being_planned_keeps_others_away(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    """Planning a large slide takes a while."""
    module = sys.modules["fewcell.slides.segment_slide"]  # the package has the function under that name
    planned, plan = [], module.plan_slide

    def plan_slide(slide, segmenter, task):
        if not planned:
            planned.append(task)
            with pytest.raises(WriteError, match="holds a run with other settings"):
                segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30))
        return plan(slide, segmenter, task)

    monkeypatch.setattr(module, "plan_slide", plan_slide)
    assert segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22)).n_cells > 20
    assert len(planned) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["o.zarr"]


def test_settings_that_fail_begin_no_run(segmenter, draw_discs, tmp_path) -> None:
    gray = draw_discs(1)[0]
    tifffile.imwrite(tmp_path / "four.tif", np.stack([gray] * 4), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(AxesError, match="--channels"):
        segment_slide(segmenter, tmp_path / "four.tif", tmp_path / "o.zarr", FileSettings(diameter=22))
    assert [path.name for path in tmp_path.iterdir()] == ["four.tif"]
    found = segment_slide(
        segmenter, tmp_path / "four.tif", tmp_path / "o.zarr", FileSettings(diameter=22, channels=(1,))
    )
    assert found.n_cells > 3


def test_a_slide_may_be_a_link_to_a_file_of_any_name(segmenter, slide_file, tmp_path) -> None:
    shutil.copy2(slide_file, tmp_path / "0a1b2c")
    (tmp_path / "slide.tif").symlink_to(tmp_path / "0a1b2c")
    assert segment_slide(segmenter, tmp_path / "slide.tif", tmp_path / "o.zarr", FileSettings(diameter=22)).n_cells > 20


def test_the_slide_itself_is_not_replaced_by_an_export(segmenter, slide_file, tmp_path) -> None:
    shutil.copy2(slide_file, tmp_path / "x_label.tiff")
    chosen = FileSettings(diameter=22, overwrite=True)
    with pytest.raises(WriteError, match="the place of the slide itself"):
        segment_slide(segmenter, tmp_path / "x_label.tiff", tmp_path / "x_label.zarr", chosen, exports=["tiff"])
    assert (tmp_path / "x_label.tiff").read_bytes() == slide_file.read_bytes()


def test_a_tile_that_cannot_be_read_is_listed_and_the_rest_goes_on(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    chosen = FileSettings(diameter=22)
    whole = segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", chosen, how=Execution(tile_px=128))
    look = Work.look

    def breaks(self, number):
        if number == 0:
            raise ReadError("discs.tif: this part of the file is damaged.")
        return look(self, number)

    monkeypatch.setattr(Work, "look", breaks)
    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, how=Execution(tile_px=128))
    assert len(found.failed) == 1
    assert "0, 0, 117, 117 (top, left, bottom, right): discs.tif: this part" in found.failed[0]
    assert 0.7 * whole.n_cells < found.n_cells < whole.n_cells
    assert zarr.open_group(str(found.labels)).attrs["made_by"]["failed_tiles"] == list(found.failed)


def test_the_place_of_a_tile_that_cannot_be_read_lies_in_the_slide(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    def breaks(self, number):
        raise ReadError(f"{slide_file}: this part is damaged.")

    monkeypatch.setattr(Work, "look", breaks)
    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    assert found.failed == (f"0, 0, {SHAPE[0]}, {SHAPE[1]} (top, left, bottom, right): this part is damaged.",)


@pytest.mark.parametrize("damaged", [(5,), range(20)], ids=["a part", "everything"])
def test_a_small_slide_with_damage_is_not_taken_for_an_empty_one(segmenter, draw_discs, tmp_path, damaged) -> None:
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, draw_discs(3, shape=(256, 320))[0], tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        offsets = tif.pages[0].dataoffsets
    with open(path, "r+b") as file:
        for tile in damaged:
            file.seek(offsets[tile])
            file.write(b"damaged!")
    if len(damaged) > 1:
        with pytest.raises(ReadError, match="no part of it can be read"):
            segment_slide(segmenter, path, tmp_path / "o.zarr", FileSettings(diameter=22))
        return
    how = Execution(tile_px=64)
    found = segment_slide(segmenter, path, tmp_path / "o.zarr", FileSettings(diameter=22), how=how)
    assert found.failed
    assert found.n_cells > 10


@pytest.mark.parametrize("step", range(10))
def test_a_run_that_is_killed_while_its_outputs_are_moved_can_be_ended(
    segmenter, slide_file, tmp_path, small_blocks, monkeypatch, step
) -> None:
    """Over older outputs, whichever of the moves is the last."""
    chosen, kinds = FileSettings(diameter=22, overwrite=True), ["csv", "tiff"]
    segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", chosen, exports=kinds)
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30), exports=kinds)
    moves = iter(range(100))

    def mortal(function):
        def moves_or_dies(*paths, **how):
            if next(moves) >= step:
                raise Killed
            return function(*paths, **how)

        return moves_or_dies

    module, mortal_os = sys.modules["fewcell.slides.segment_slide"], SimpleNamespace(**vars(os))
    mortal_os.rename, mortal_os.replace = mortal(os.rename), mortal(os.replace)
    monkeypatch.setattr(module, "os", mortal_os)
    monkeypatch.setattr("fewcell.images.write.os", mortal_os)
    monkeypatch.setattr(module, "shutil", SimpleNamespace(rmtree=mortal(shutil.rmtree)))
    with pytest.raises(Killed):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, exports=kinds)
    monkeypatch.undo()
    monkeypatch.setattr(plan_module, "BLOCK_PX", 150)
    monkeypatch.setattr(plan_module, "HALO_PX", 60)
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, exports=kinds)
    assert files_of(tmp_path / "o.zarr") == files_of(tmp_path / "whole.zarr")
    for ending in ("_cells.csv", "_label.tiff"):
        assert (tmp_path / f"o{ending}").read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


def test_outputs_that_cannot_all_be_replaced_are_as_they_were(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    kinds = ["csv", "overlay"]
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30), exports=kinds)
    before, replace = files_of(tmp_path), os.replace

    def refuse(source, to):
        if to == tmp_path / "o.zarr" and source.name == "labels.zarr":
            raise PermissionError(13, "Permission denied")
        replace(source, to)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "rename", refuse)
    chosen = FileSettings(diameter=22, overwrite=True)
    with pytest.raises(PermissionError):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, exports=kinds)
    monkeypatch.undo()
    assert {name: data for name, data in files_of(tmp_path).items() if "unfinished" not in name} == before
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, exports=kinds)
    assert files_of(tmp_path) != before


def test_a_folder_is_not_replaced_by_a_file(segmenter, slide_file, tmp_path) -> None:
    (tmp_path / "o_cells.csv").mkdir()
    with pytest.raises(WriteError, match=r"o_cells\.csv: is a folder"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(overwrite=True), exports=["csv"])
    assert [path.name for path in tmp_path.iterdir()] == ["o_cells.csv"]


def test_what_is_there_already_is_noticed_before_the_slide_is_looked_at(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    monkeypatch.setattr(Slide, "read", lambda *_: 1 / 0)
    with pytest.raises(WriteError, match="exists already"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))


def test_a_run_goes_on_where_slide_and_outputs_were_moved_to(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    """Also on a file system without links."""
    chosen = FileSettings(diameter=22)
    (tmp_path / "before").mkdir()
    shutil.copy2(slide_file, tmp_path / "before" / "discs.tif")
    monkeypatch.setattr(Work, "read_block", lambda *_, **__: 1 / 0)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError("no links here")))
    with pytest.raises(ZeroDivisionError):
        segment_slide(segmenter, tmp_path / "before" / "discs.tif", tmp_path / "before" / "o.zarr", chosen)
    monkeypatch.undo()
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.setattr(Work, "look", lambda *_: 1 / 0)  # every tile is done already
    monkeypatch.setattr(Work, "read_block", lambda self, *_, **__: Work.open(self.folder, threads=1) and 1 / 0)
    with pytest.raises(ZeroDivisionError):  # and a worker, which reads the plan, finds the slide
        segment_slide(segmenter, tmp_path / "after" / "discs.tif", tmp_path / "after" / "o.zarr", chosen)
    monkeypatch.undo()
    found = segment_slide(segmenter, tmp_path / "after" / "discs.tif", tmp_path / "after" / "o.zarr", chosen)
    assert found.n_cells > 100


def test_of_many_channels_only_those_are_decoded_that_the_network_sees(segmenter, draw_discs, tmp_path, monkeypatch):
    """All are measured nevertheless."""
    image = draw_discs(7, shape=(260, 300))[0]
    other = np.random.default_rng(0).normal(100, 9, (4, *image.shape)).astype(image.dtype)
    many = np.concatenate([other[:3], image[None], other[3:]])
    tifffile.imwrite(tmp_path / "one.tif", image, tile=(64, 64))
    tifffile.imwrite(tmp_path / "many.ome.tif", many, tile=(64, 64), metadata={"axes": "CYX"}, photometric="minisblack")
    seen, measured, read_block, decode = [], [], Work.read_block, TiffSlide._decode

    def measuring(self, number, **how):
        with monkeypatch.context() as patched:
            patched.setattr(TiffSlide, "_decode", lambda *given: measured.append(given[2].page.index) or decode(*given))
            return read_block(self, number, **how)

    monkeypatch.setattr(TiffSlide, "_decode", lambda *given: seen.append(given[2].page.index) or decode(*given))
    monkeypatch.setattr(Work, "read_block", measuring)
    kinds = ["csv", "overlay"]
    one = segment_slide(segmenter, tmp_path / "one.tif", tmp_path / "1.zarr", FileSettings(diameter=22))
    seen.clear()
    chosen = FileSettings(diameter=22, channels=(3,))
    found = segment_slide(segmenter, tmp_path / "many.ome.tif", tmp_path / "5.zarr", chosen, exports=kinds)
    assert set(seen) == {3}, "planned, tile by tile, and shown"
    assert {*measured, 3} == {0, 1, 2, 3, 4}
    assert found.n_cells == one.n_cells > 20
    labels = [zarr.open_array(tmp_path / name / "0")[:] for name in ("1.zarr", "5.zarr")]
    assert np.array_equal(*labels)
    header = found.outputs["csv"].read_text().splitlines()[0]
    assert sum("mean" in column for column in header.split(",")) == 5


def test_a_path_that_is_no_text_is_one_clear_error(segmenter, slide_file, tmp_path) -> None:
    odd = tmp_path / "caf\udce9.tif"
    try:
        shutil.copy2(slide_file, odd)
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(ReadError, match="Rename the file"):
        segment_slide(segmenter, odd, tmp_path / "o.zarr", FileSettings(diameter=22))


@pytest.mark.parametrize("name", ["o.zarr", "o[1].zarr"])
def test_what_a_kill_left_half_removed_is_removed(segmenter, slide_file, tmp_path, name) -> None:
    (tmp_path / f".{name}.unfinished-12345678" / "old").mkdir(parents=True)
    segment_slide(segmenter, slide_file, tmp_path / name, FileSettings(diameter=22))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_was_left_half_removed_when_all_was_done_is_removed(segmenter, slide_file, tmp_path) -> None:
    (tmp_path / "o.zarr").mkdir()
    left = tmp_path / ".o.zarr.unfinished-12345678"
    left.mkdir()
    with pytest.raises(WriteError, match="exists already"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
    assert not left.exists()
    left.mkdir()
    with pytest.raises(WriteError, match="holds no run"):
        merge_slide(tmp_path / "o.zarr")
    assert not left.exists()


def test_where_the_edge_of_what_is_seen_cuts_a_cell_more_is_seen(segmenter, draw_discs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(plan_module, "BLOCK_PX", 90)
    monkeypatch.setattr(plan_module, "HALO_PX", 4)
    image = draw_discs(6, shape=(260, 240))[0]
    tifffile.imwrite(tmp_path / "i.tif", image)
    whole = segmenter.segment(image[None].astype(np.float32), diameter_px=22).labels
    twins = []
    for most_px in (4, 64):
        monkeypatch.setattr(plan_module, "MOST_HALO_PX", most_px)
        found = segment_slide(segmenter, tmp_path / "i.tif", tmp_path / f"{most_px}.zarr", FileSettings(diameter=22))
        twins.append((overlaps(whole, labels_of(found.labels)).pair_iou >= 0.9).sum() / whole.max())
    assert twins[0] < 0.9
    assert twins[1] > 0.97


def test_labels_never_take_the_place_of_a_slide_or_of_what_is_not_ours(segmenter, draw_discs, tmp_path) -> None:
    group = zarr.create_group(str(tmp_path / "s.zarr"), zarr_format=3)
    group.create_array("0", data=draw_discs(3)[0])
    axes = [{"name": name, "type": "space"} for name in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    before = files_of(tmp_path / "s.zarr")
    chosen = FileSettings(diameter=22, overwrite=True)
    for out in (tmp_path / "s.zarr", tmp_path / "s.zarr" / "labels.zarr"):
        with pytest.raises(WriteError, match="would take the place of the slide"):
            segment_slide(segmenter, tmp_path / "s.zarr", out, chosen)
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(WriteError, match="is no label image of fewcell"):
        segment_slide(segmenter, tmp_path / "s.zarr", tmp_path / "mine.zarr", chosen)
    assert files_of(tmp_path / "s.zarr") == before
    assert segment_slide(segmenter, tmp_path / "s.zarr", tmp_path / "o.zarr", chosen).n_cells > 5


@pytest.mark.parametrize("diameter_px", [22.0, None])
def test_cells_beside_damage_are_found_and_measured(segmenter, draw_discs, tmp_path, diameter_px) -> None:
    image = draw_discs(3, shape=SHAPE)[0]
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(tmp_path / "i.tif") as tif:
        offset = tif.pages[0].dataoffsets[20]  # the third tile of the third row
    with open(tmp_path / "i.tif", "r+b") as file:
        file.seek(offset)
        file.write(b"damaged!")
    chosen, kinds = FileSettings(diameter=diameter_px), ["csv", "overlay"]
    found = segment_slide(
        segmenter, tmp_path / "i.tif", tmp_path / "o.zarr", chosen, exports=kinds, how=Execution(tile_px=96)
    )
    assert 1 <= len(found.failed) < found.n_tiles / 2
    assert all("damaged" in text for text in found.failed)
    assert found.n_cells > 50
    assert len((tmp_path / "o_cells.csv").read_text().splitlines()) == 1 + found.n_cells


def test_an_export_that_cannot_hold_so_many_cells_keeps_no_other_back(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("fewcell.slides.export_rois.MOST_ROIS", 10)
    found = segment_slide(
        segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22), exports=["rois", "csv"]
    )
    assert found.n_cells > 100
    assert "no more than 10" in found.refused[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.zarr", "o_cells.csv"]
    assert set(found.outputs) == {"labels", "csv"}


def test_what_does_not_fit_into_memory_now_is_not_taken_for_damage(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    look = Work.look

    def is_full(self, number):
        if number == 3:
            raise TooLargeError("no memory just now")
        return look(self, number)

    monkeypatch.setattr(Work, "look", is_full)
    chosen, how = FileSettings(diameter=22), Execution(tile_px=96)
    with pytest.raises(TooLargeError):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, how=how)
    monkeypatch.undo()
    assert segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen, how=how).failed == ()


@pytest.mark.parametrize("diameter_px", [None, 22.0])
def test_a_blank_slide_has_no_cells(segmenter, tmp_path, diameter_px) -> None:
    tifffile.imwrite(tmp_path / "i.tif", np.full((300, 200), 7, np.uint8), tile=(64, 64))
    found = segment_slide(segmenter, tmp_path / "i.tif", tmp_path / "o.zarr", FileSettings(diameter=diameter_px))
    assert found.n_cells == 0
    assert labels_of(found.labels).shape == (300, 200)
    assert not labels_of(found.labels).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("value", "dtype"), [(np.nan, np.float32), (1e300, np.float64)])
def test_a_slide_of_numbers_that_are_none_has_no_cells(segmenter, tmp_path, value, dtype) -> None:
    """As an image of such has; nothing is wrong with the file."""
    tifffile.imwrite(tmp_path / "i.tif", np.full((300, 200), value, dtype), tile=(64, 64))
    found = segment_slide(segmenter, tmp_path / "i.tif", tmp_path / "o.zarr", exports=["csv", "overlay"])
    assert (found.n_cells, found.failed) == (0, ())


def test_where_nothing_is_to_be_seen_the_network_does_not_look(segmenter, draw_discs, tmp_path) -> None:
    image = np.full((500, 400), 40, np.uint8)
    image[:120, :120] = draw_discs(1, shape=(120, 120))[0]
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64))
    found = segment_slide(
        segmenter, tmp_path / "i.tif", tmp_path / "o.zarr", FileSettings(diameter=22), how=Execution(tile_px=96)
    )
    assert 10 < found.empty_tiles < found.n_tiles
    assert found.n_cells > 5


def test_labels_are_an_ome_zarr_with_smaller_copies(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    chosen = FileSettings(diameter=22, pixel_size_um=0.5)
    in_one_chunk = segment_slide(segmenter, slide_file, tmp_path / "one.zarr", chosen)
    monkeypatch.setattr("fewcell.slides.label_zarr.CHUNK_PX", 128)
    found = segment_slide(segmenter, slide_file, tmp_path / "o.zarr", chosen)
    group = zarr.open_group(str(found.labels), mode="r")
    ome = group.attrs["ome"]
    assert ome["version"] == "0.5"
    datasets = ome["multiscales"][0]["datasets"]
    assert [d["path"] for d in datasets] == ["0", "1", "2", "3"]
    assert [d["coordinateTransformations"][0]["scale"] for d in datasets] == [[0.5 * 2**i] * 2 for i in range(4)]
    assert {axis["unit"] for axis in ome["multiscales"][0]["axes"]} == {"micrometer"}
    full = labels_of(found.labels)
    np.testing.assert_array_equal(full, labels_of(in_one_chunk.labels))
    for level in range(1, 4):
        full = full[::2, ::2]
        np.testing.assert_array_equal(labels_of(found.labels, level), full)
    assert group.attrs["made_by"]["n_cells"] == found.n_cells


def test_a_network_that_sees_everything_is_refused(segmenter, slide_file, tmp_path) -> None:
    network = segmenter.facts.network.model_copy(update={"reach_px": None})
    facts = segmenter.facts.model_copy(update={"network": network})
    everywhere = Segmenter(segmenter.engine, segmenter.representation, segmenter.scorer, facts, segmenter.folder)
    with pytest.raises(ConfigError, match="cannot be used on slides"):
        segment_slide(everywhere, slide_file, tmp_path / "o.zarr")


def test_a_slide_that_changed_is_noticed(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    fingerprints = iter(["a" * 16, "b" * 16])
    monkeypatch.setattr(Slide, "fingerprint", lambda self: next(fingerprints))
    with pytest.raises(ReadError, match="has changed since"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=22))
