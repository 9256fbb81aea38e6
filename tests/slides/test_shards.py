"""Slides shared by several processes: shards that know nothing of each other, and a Dask cluster."""

import shutil
import subprocess
import sys
from copy import copy
from functools import partial
from pathlib import Path

import pytest
import tifffile

from fewcell.errors import ConfigError, ModelError, ReadError, WriteError
from fewcell.family import alone
from fewcell.segmenter import FileSettings, Segmenter
from fewcell.slides import Execution, merge_slide, segment_shard, segment_slide
from fewcell.slides import plan as plan_module
from fewcell.slides.work import Work

CHOSEN, HOW = FileSettings(diameter=22), Execution(tile_px=96)


@pytest.fixture(scope="module")
def segmenter(trained) -> Segmenter:
    return Segmenter.load(trained.folder, threads=1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch) -> None:
    monkeypatch.setattr(plan_module, "BLOCK_PX", 100)
    monkeypatch.setattr(plan_module, "HALO_PX", 60)


@pytest.fixture
def slide_file(draw_discs, tmp_path) -> Path:
    tifffile.imwrite(tmp_path / "i.tif", draw_discs(4, shape=(380, 300))[0], tile=(64, 64))
    return tmp_path / "i.tif"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1), ()], ids=str)
def test_shards_in_any_order_and_not_all_of_them_end_with_the_same_bytes(
    segmenter, slide_file, tmp_path, monkeypatch, order
) -> None:
    segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", CHOSEN, exports=["csv"], how=HOW)
    for number in order:
        segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (number, 3), CHOSEN, how=HOW)
    assert not (tmp_path / "o.zarr").exists()
    if not order:
        with pytest.raises(WriteError, match="holds no run that could be merged"):
            merge_slide(tmp_path / "o.zarr")
        return
    looked, read, look, read_block = [], [], Work.look, Work.read_block
    monkeypatch.setattr(Work, "look", lambda self, n: looked.append(n) or look(self, n))
    monkeypatch.setattr(Work, "read_block", lambda self, n, **k: read.append(n) or read_block(self, n, **k))
    found = merge_slide(tmp_path / "o.zarr", exports=["csv"], how=HOW, threads=1)
    assert not looked, "shards do the tiles between them and their neighbours as well"
    assert len(read) == (0 if len(order) == 3 else 7), "the second third of 20 blocks"
    assert found.n_cells > 40
    assert files_of(tmp_path / "o.zarr") == files_of(tmp_path / "whole.zarr")
    assert (tmp_path / "o_cells.csv").read_bytes() == (tmp_path / "whole_cells.csv").read_bytes()


def test_shards_of_a_slide_of_unknown_scale_end_with_the_same_bytes(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    """Then blocks are read from tiles of two zooms."""
    monkeypatch.setattr(Segmenter, "likely_diameter", lambda *_, **__: 22.0)
    whole = segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", how=HOW)
    assert len(whole.plan.zooms) == 2
    assert whole.n_cells > 40
    for number in (1, 2, 3):
        segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (number, 3), how=HOW)
    merge_slide(tmp_path / "o.zarr", how=HOW, threads=1)
    assert files_of(tmp_path / "o.zarr") == files_of(tmp_path / "whole.zarr")


def test_what_the_first_shard_decided_counts_for_all(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    """Machines may differ in their last bits, and so in the diameter that they estimate."""
    for number, diameter_px in ((1, 22.0), (2, 26.0)):
        monkeypatch.setattr(Segmenter, "likely_diameter", lambda *_, px=diameter_px: px)
        segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (number, 2), how=HOW)
    plan = merge_slide(tmp_path / "o.zarr", how=HOW, threads=1).plan
    first, second = (segmenter.factors(plan.shape, px, is_given=False) for px in (22.0, 26.0))
    assert [zoom.factor for zoom in plan.zooms] == first != second


def test_merging_replaces_outputs_only_where_it_may(segmenter, slide_file, tmp_path) -> None:
    segment_slide(segmenter, slide_file, tmp_path / "o.zarr", FileSettings(diameter=30), exports=["geojson"], how=HOW)
    chosen = FileSettings(diameter=22, overwrite=True)
    segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (1, 2), chosen, how=HOW)
    with pytest.raises(WriteError, match="exists already"):
        merge_slide(tmp_path / "o.zarr", how=HOW, threads=1)
    assert merge_slide(tmp_path / "o.zarr", how=HOW, threads=1, overwrite=True).plan.diameter_px == 22.0
    assert not (tmp_path / "o_cells.geojson").exists(), "of other cells"


def test_a_block_that_needs_more_than_its_shard_did_is_left_to_the_merge(
    segmenter, slide_file, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(plan_module, "HALO_PX", 1)
    segment_slide(segmenter, slide_file, tmp_path / "whole.zarr", CHOSEN, how=HOW)
    for number in (1, 2):
        segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (number, 2), CHOSEN, how=HOW)
    read, read_block = [], Work.read_block
    monkeypatch.setattr(Work, "read_block", lambda self, n, **k: read.append(n) or read_block(self, n, **k))
    merge_slide(tmp_path / "o.zarr", how=HOW, threads=1)
    assert read, "cells were cut"
    assert files_of(tmp_path / "o.zarr") == files_of(tmp_path / "whole.zarr")


def test_a_shard_says_what_it_could_not_read(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    def breaks(self, number):
        raise ReadError("i.tif: this part of the file is damaged.")

    monkeypatch.setattr(Work, "look", breaks)
    unread = segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (1, 2), CHOSEN, how=HOW)
    assert len(unread) > 2
    assert all("damaged" in problem for problem in unread)


def test_shards_and_what_finishes_the_run_keep_each_other_away(segmenter, slide_file, tmp_path) -> None:
    """A shard that begins late must not write into a folder that is being moved away."""
    out = tmp_path / "o.zarr"
    segment_shard(segmenter, slide_file, out, (1, 2), CHOSEN, how=HOW)
    (folder,) = (tmp_path / "o.zarr.unfinished").iterdir()
    with alone(folder / "journal.lock", "held"), pytest.raises(WriteError, match="another run is at work"):
        segment_shard(segmenter, slide_file, out, (2, 2), CHOSEN, how=HOW)
    with alone(folder / "journal-2-of-2.lock", "held"), pytest.raises(WriteError, match="another run is at work"):
        merge_slide(out, how=HOW, threads=1)  # although the shard has done nothing yet
    segment_shard(segmenter, slide_file, out, (2, 2), CHOSEN, how=HOW)
    assert merge_slide(out, how=HOW, threads=1).n_cells > 40


def test_shards_that_begin_at_once_may_remove_the_same(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    """What a kill left half removed, and a run with other settings: each is gone when the second looks at it."""
    out, chosen = tmp_path / "o.zarr", FileSettings(diameter=22, overwrite=True)
    segment_shard(segmenter, slide_file, out, (1, 2), FileSettings(diameter=30), how=HOW)
    (tmp_path / ".o.zarr.unfinished-12345678" / "old").mkdir(parents=True)

    def twice(remove, *given, **how) -> None:
        remove(*given, **how)
        remove(*given, **how)

    for module, name in ((shutil, "rmtree"), (sys.modules["fewcell.slides.segment_slide"], "_remove")):
        monkeypatch.setattr(module, name, partial(twice, getattr(module, name)))
    segment_shard(segmenter, slide_file, out, (1, 2), chosen, how=HOW)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["o.zarr.unfinished"]
    assert len([*(tmp_path / "o.zarr.unfinished").iterdir()]) == 1


def test_shards_of_two_precisions_are_told_of_it(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    """As on a cluster whose computers differ, where each chooses what it is fastest in."""
    out, other = tmp_path / "o.zarr", copy(segmenter)
    other.precision = "f32" if segmenter.precision != "f32" else "bf16"
    segment_shard(segmenter, slide_file, out, (1, 2), CHOSEN, how=HOW)
    with pytest.raises(WriteError, match=rf"with precision {segmenter.precision}; here it would be {other.precision}"):
        segment_shard(other, slide_file, out, (2, 2), CHOSEN, how=HOW)
    (folder,) = (tmp_path / "o.zarr.unfinished").iterdir()
    shutil.copytree(folder, folder.with_name("b" * len(folder.name)))
    with pytest.raises(WriteError, match="holds 2 runs that were begun with different settings"):
        merge_slide(out, how=HOW, threads=1)


def test_what_a_machine_cannot_compute_is_not_merged_there(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    segment_shard(segmenter, slide_file, tmp_path / "o.zarr", (1, 2), CHOSEN, how=HOW)

    def load(*_, precision, device, **__):
        raise ConfigError(f"This CPU does not compute in {precision}.")

    monkeypatch.setattr(Segmenter, "load", load)
    with pytest.raises(ConfigError, match="Machines that share a slide need one precision"):
        merge_slide(tmp_path / "o.zarr", how=HOW, threads=1)

    def load_other(*_, precision, device, **__):
        assert (precision, device) == ("auto", "cuda"), "a precision is for CPUs only"
        other = copy(segmenter)
        other.precision = "f32" if segmenter.precision != "f32" else "bf16"
        return other

    monkeypatch.setattr(Segmenter, "load", load_other)
    with pytest.raises(ConfigError, match="on cuda it would be"):
        merge_slide(tmp_path / "o.zarr", how=HOW, threads=1, device="cuda")


def test_a_worker_with_another_model_is_refused(segmenter, slide_file, tmp_path) -> None:
    segmenter.save(tmp_path / "model")
    other = Segmenter.load(tmp_path / "model", threads=1)
    segment_shard(other, slide_file, tmp_path / "o.zarr", (1, 2), CHOSEN, how=HOW)
    (folder,) = (tmp_path / "o.zarr.unfinished").iterdir()
    assert Work.open(folder, threads=1).plan.task.model_sha256
    other.facts = other.facts.model_copy(update={"min_score": 0.9})
    other.save(tmp_path / "model")
    with pytest.raises(ModelError, match="is not the model"):
        Work.open(folder, threads=1)


@pytest.mark.parametrize("shard", [(0, 3), (4, 3), (1, 0)])
def test_a_shard_that_is_not_there_is_refused(segmenter, slide_file, tmp_path, shard) -> None:
    with pytest.raises(ConfigError, match="There is no shard"):
        segment_shard(segmenter, slide_file, tmp_path / "o.zarr", shard, CHOSEN)


def test_an_address_without_a_scheduler_is_one_clear_error(segmenter, slide_file, tmp_path, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")

    def fails(*_, **__):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", fails)
    with pytest.raises(ConfigError, match="There is no Dask scheduler at tcp"):
        segment_slide(segmenter, slide_file, tmp_path / "o.zarr", CHOSEN, how=Execution(dask="tcp://127.0.0.1:1"))


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_ends_with_the_same_bytes(segmenter, draw_discs, tmp_path, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")
    image = draw_discs(5, shape=(420, 500))[0]
    image[:, :170] = image.min()
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(64, 64))
    whole = segment_slide(segmenter, tmp_path / "i.tif", tmp_path / "whole.zarr", CHOSEN, how=Execution(tile_px=64))
    monkeypatch.chdir(tmp_path)
    scheduler = distributed.LocalCluster(n_workers=0, dashboard_address=None, protocol="tcp", silence_logs=50)
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.scheduler_address]
    options = ["--nthreads", "1", "--no-dashboard", "--no-nanny", "--local-directory", str(tmp_path / "dask")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    workers = [subprocess.Popen([*command, *options], **quiet) for _ in range(2)]
    try:
        done = []

        def report(progress) -> None:
            done.append(progress)
            if len(done) == 5:
                workers[0].kill()

        how = Execution(tile_px=64, dask=scheduler.scheduler_address)
        found = segment_slide(segmenter, tmp_path / "i.tif", tmp_path / "o.zarr", CHOSEN, how=how, report=report)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        scheduler.close()
    assert found.n_cells > 40
    assert 0 < found.empty_tiles == whole.empty_tiles < found.n_tiles
    assert workers[0].returncode < 0
    assert files_of(tmp_path / "o.zarr") == files_of(tmp_path / "whole.zarr")
