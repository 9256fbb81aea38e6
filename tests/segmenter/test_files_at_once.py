"""Files are worked on two at a time; results keep their order, and large ones are in memory one by one."""

import gc
import os
import threading
import time
import weakref
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from fewcell.errors import AxesError
from fewcell.segmenter import FileSettings, Segmenter, segment_files
from fewcell.segmenter import files as module


def write_images(folder: Path, draw_discs, count: int) -> list[Path]:
    paths = [folder / f"{i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        PillowImage.fromarray(draw_discs(i, shape=(90 + 10 * i, 120))[0].astype(np.uint8)).save(path)
    return paths


def test_results_are_those_of_one_at_a_time_in_their_order(trained, draw_discs, tmp_path, monkeypatch) -> None:
    segmenter = Segmenter.load(trained.folder, threads=2)
    paths = write_images(tmp_path, draw_discs, 7)
    paths.insert(3, tmp_path / "missing.png")
    chosen = FileSettings(diameter=22)
    together = list(segment_files(segmenter, paths, tmp_path / "together", chosen))
    monkeypatch.setattr(module, "AT_ONCE", 1)
    alone = list(segment_files(segmenter, paths, tmp_path / "alone", chosen))
    assert [result.path for result in together] == [result.path for result in alone] == paths
    assert [type(result) for result in together] == [type(result) for result in alone]
    for path in sorted((tmp_path / "alone").iterdir()):
        assert (tmp_path / "together" / path.name).read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "together").iterdir())) == 3 * 7


def test_an_error_holds_on_to_no_image(trained, draw_discs, tmp_path, monkeypatch) -> None:
    """Of a folder in which every file fails, all images would be in memory in the end."""
    held = []

    def refuse(segmenter, path, image, outputs, settings):
        held.append(weakref.ref(image.pixels))
        raise AxesError(f"{path}: has four channels.") from ValueError("four")

    monkeypatch.setattr(module, "_segment_image", refuse)
    paths = write_images(tmp_path, draw_discs, 4)
    failures = list(segment_files(Segmenter.load(trained.folder), paths, tmp_path / "o", FileSettings()))
    gc.collect()
    assert len(failures) == len(held) == 4
    assert [pixels() for pixels in held] == 4 * [None]
    assert "four channels" in str(failures[0].error)


def test_small_files_overlap_and_large_ones_do_not(trained, draw_discs, tmp_path, monkeypatch) -> None:
    segmenter = Segmenter.load(trained.folder, threads=2)
    paths = write_images(tmp_path, draw_discs, 4)
    inside, most = set(), []

    def slow(*_):
        inside.add(threading.get_ident())
        time.sleep(0.05)
        most.append(len(inside))
        inside.discard(threading.get_ident())
        raise ValueError("enough")

    monkeypatch.setattr(module, "_segment_image", slow)
    list(segment_files(segmenter, paths, tmp_path / "o", FileSettings()))
    assert max(most) == 2
    monkeypatch.setattr(module, "SMALL_PX", 10)
    most.clear()
    list(segment_files(segmenter, paths, tmp_path / "o", FileSettings()))
    assert max(most) == 1


def test_outputs_are_replaced_together_or_not_at_all(trained, draw_discs, tmp_path, monkeypatch) -> None:
    segmenter, paths, out = Segmenter.load(trained.folder), write_images(tmp_path, draw_discs, 1), tmp_path / "o"
    list(segment_files(segmenter, paths, out, FileSettings(diameter=30)))
    before, replace = {path: path.read_bytes() for path in out.iterdir()}, os.replace

    def refuse(source, to):
        if to == out / "0_label.tiff" and source.parent.name != "old":
            raise PermissionError(13, "Permission denied")
        replace(source, to)

    monkeypatch.setattr(os, "replace", refuse)
    (failed,) = segment_files(segmenter, paths, out, FileSettings(diameter=22, overwrite=True))
    assert "cannot be written" in str(failed.error)
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_is_not_replaced_by_a_file(trained, draw_discs, tmp_path) -> None:
    (tmp_path / "o" / "0_label.tiff").mkdir(parents=True)
    paths, chosen = write_images(tmp_path, draw_discs, 1), FileSettings(overwrite=True)
    (failed,) = segment_files(Segmenter.load(trained.folder), paths, tmp_path / "o", chosen)
    assert "0_label.tiff: is a folder" in str(failed.error)
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["0_label.tiff"]
