"""The command line, from arguments to files, exit codes and messages, with the model inside the package."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage
from skimage import data as skimage_data

from fewcell import cli, terminal
from fewcell.engine import choose_precision, offered_precisions
from fewcell.errors import FewcellWarning
from fewcell.images import read_labels, write_labels
from fewcell.metrics import f1, match
from fewcell.segmenter import read_seconds
from fewcell.training.progress import shown_progress

SHARED = Path(__file__).parents[1].parent / "shared" / "data"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command with arguments; returns (exit code, stdout, stderr)."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["fewcell", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return run_command


@pytest.fixture
def nuclei(tmp_path) -> Path:
    """A drawn fluorescence image of 25 nuclei, 24 px wide."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    image = rng.normal(10, 2, (256, 256))
    for i in range(25):
        cy, cx = 28 + 48 * (i // 5) + rng.integers(-6, 7), 28 + 48 * (i % 5) + rng.integers(-6, 7)
        image += 120 * np.clip(13 - np.hypot(y - cy, x - cx), 0, 1)
    path = tmp_path / "nuclei.png"
    PillowImage.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)
    return path


def test_segment_writes_labels_overlay_and_table(run, nuclei, tmp_path):
    code, out, _ = run("segment", nuclei, "-o", tmp_path / "out", "--diameter", 24, "--threads", 1)
    assert code == 0
    assert "diameter 24.0 px, given" in out
    labels = read_labels(tmp_path / "out" / "nuclei_label.tiff")
    assert labels.shape == (256, 256)
    assert 22 <= labels.max() <= 28
    assert PillowImage.open(tmp_path / "out" / "nuclei_overlay.png").size == (256, 256)
    with open(tmp_path / "out" / "nuclei_cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == labels.max()
    assert 18 < np.median([float(row["diameter_px"]) for row in rows]) < 30
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "nuclei_cells.csv",
        "nuclei_label.tiff",
        "nuclei_overlay.png",
        "seconds.csv",
    ]


def test_the_diameter_is_estimated_and_said_when_it_is_not_given(run, nuclei, tmp_path):
    code, out, _ = run("segment", nuclei, "-o", tmp_path, "--threads", 1)
    assert code == 0
    assert "estimated" in out
    with tifffile.TiffFile(tmp_path / "nuclei_label.tiff") as tiff:
        made_by = json.loads(tiff.pages[0].description)
    said, larger = re.search(r"diameter ([0-9.]+) px, estimated; ([0-9.]+) px besides", out).groups()
    assert made_by["diameter_px"] == pytest.approx(float(said), abs=0.06)
    assert made_by["larger_px"] == pytest.approx(float(larger), abs=0.06)
    assert float(larger) == pytest.approx(4 * float(said), abs=0.3)
    assert made_by["diameter_source"] == "estimated"
    assert set(made_by["model_sha256"]) == {"model.json", "network.onnx", "scale.onnx"}


def test_a_diameter_in_um_uses_the_pixel_size(run, nuclei, tmp_path):
    um = ("segment", nuclei, "-o", tmp_path / "um", "--diameter", "12um", "--threads", 1)
    code, out, err = run(*um)
    assert code == 1
    assert "--pixel-size" in err
    code, out, err = run(*um, "--pixel-size", 0.5)
    assert code == 0
    assert "diameter 24.0 px, given" in out
    with open(tmp_path / "um" / "nuclei_cells.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert float(row["diameter_um"]) == pytest.approx(float(row["diameter_px"]) / 2, rel=1e-3)


@pytest.mark.parametrize(
    "flag",
    [("--diameter", ""), ("--pixel-size", "inf"), ("--pixel-size", "1e-7"), ("--min-area", "inf")],
)
def test_a_flag_without_sense_is_refused(run, nuclei, tmp_path, flag):
    """As from a script whose variable is not set."""
    code, _, err = run("segment", nuclei, "-o", tmp_path / "out", *flag)
    assert code != 0
    assert flag[0].strip("-") in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["segment", "train", "package", "qupath"])
@pytest.mark.parametrize("out", [("-o", ""), ("--out=",)])
def test_an_empty_output_is_refused(run, tmp_path, monkeypatch, command, out):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(command, *out)
    assert (code, f"fewcell: {out[0]} is followed by nothing" in err) == (1, True)
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_to_be_segmented_is_not_replaced(run, nuclei, tmp_path):
    other = tmp_path / "nuclei_overlay.png"
    shutil.copy(nuclei, other)
    code, _, err = run("segment", nuclei, other, "-o", tmp_path, "--diameter", 24, "--overwrite")
    assert code == 1
    assert "1 of 2 files failed" in err
    assert "nuclei_overlay.png" in err
    assert "would be replaced" in err
    assert other.read_bytes() == nuclei.read_bytes()
    assert (tmp_path / "nuclei_overlay_label.tiff").exists()
    code, _, err = run("segment", nuclei, other, "-o", tmp_path, "--diameter", 24, "--overwrite", "--export", "geojson")
    assert code == 1
    assert "would be replaced" in err
    assert other.read_bytes() == nuclei.read_bytes()


def test_a_link_to_nothing_is_a_failure(run, nuclei, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(nuclei, folder / "good.png")
    (folder / "gone.png").symlink_to(tmp_path / "not fetched")
    (folder / "loop.png").symlink_to("loop.png")
    code, _, err = run("segment", folder, "-o", tmp_path / "out", "--diameter", 24)
    assert code == 1
    assert "2 of 3 files failed" in err
    assert "gone.png" in err
    assert "loop.png" in err


def test_bad_files_are_listed_and_the_others_finish(run, nuclei, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(nuclei, folder / "good.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    (folder / "empty.tif").write_bytes(b"")
    code, out, err = run("segment", folder, "-o", tmp_path / "out", "--diameter", 24)
    assert code == 1
    assert "good.png" in out
    assert "2 of 3 files failed" in err
    assert "broken.png" in err
    assert "empty.tif" in err
    assert {p.name.split("_")[0] for p in (tmp_path / "out").iterdir()} == {"good", "seconds.csv"}
    assert list(read_seconds(tmp_path / "out")) == ["good"]


def test_outputs_are_replaced_only_when_asked(run, nuclei, tmp_path):
    command = ("segment", nuclei, "-o", tmp_path / "out", "--diameter", 24)
    assert run(*command)[0] == 0
    (tmp_path / "out" / "nuclei_cells.csv").write_text("mine")
    code, _, err = run(*command)
    assert code == 1
    assert "--overwrite" in err
    assert (tmp_path / "out" / "nuclei_cells.csv").read_text() == "mine"
    assert run(*command, "--overwrite")[0] == 0
    assert (tmp_path / "out" / "nuclei_cells.csv").read_text() != "mine"


def test_files_of_one_name_do_not_overwrite_each_other(run, nuclei, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.copy(nuclei, tmp_path / "other" / nuclei.name)
    code, _, err = run("segment", nuclei, tmp_path / "other", "-o", tmp_path / "out")
    assert code == 1
    assert "2 of 2 files failed" in err


def test_nothing_is_left_when_an_output_cannot_be_written(run, nuclei, tmp_path, monkeypatch):
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fewcell.segmenter.files.write_labels", full)
    code, _, err = run("segment", nuclei, "-o", tmp_path / "out", "--diameter", 24)
    assert code == 1
    assert "No space left" in err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_said_before_anything_is_done(run, nuclei, tmp_path):
    (tmp_path / "taken").write_text("")
    for out in (tmp_path / "taken" / "deeper", tmp_path / "taken" / "o.zarr"):
        code, printed, err = run("segment", nuclei, "-o", out)
        assert code == 1
        assert "taken: is a file" in err
        assert not printed


def test_what_the_system_refuses_is_one_clear_error(run, nuclei, tmp_path, monkeypatch):
    def full(*arguments: object, **keywords: object) -> None:
        raise OSError(28, "No space left on device", "scratch")

    monkeypatch.setattr("fewcell.slides.segment_shard", full)
    code, _, err = run("segment", nuclei, "-o", tmp_path / "o.zarr", "--shard", "1/2")
    assert code == 1
    assert "fewcell: No space left on device: scratch. Check" in err
    assert "Traceback" not in err


def test_a_slide_says_how_far_it_is_where_there_is_no_terminal_and_how_much_is_empty(run, tmp_path, monkeypatch):
    monkeypatch.setattr(terminal, "SAID_EVERY_S", 0.0)
    image = np.full((300, 2600), 40, np.uint8)
    image[100:160, 100:160] = np.asarray(skimage_data.coins())[:60, :60]
    tifffile.imwrite(tmp_path / "i.tif", image, tile=(256, 256))
    code, out, err = run("segment", tmp_path / "i.tif", "-o", tmp_path / "o.zarr", "--diameter", 24)
    assert code == 0
    assert "; 2 of 3 tiles are empty" in out
    assert re.search(r"tiles: 2 of 3, 0:00:\d\d left", err)


def test_what_could_not_be_read_or_written_of_a_slide_is_told_by_the_exit_code(run, nuclei, tmp_path, monkeypatch):
    monkeypatch.setattr("fewcell.slides.export_rois.MOST_ROIS", 3)
    code, _, err = run("segment", nuclei, "-o", tmp_path / "r.zarr", "--diameter", 24, "--export", "rois")
    assert (code, "no more than 3" in err, (tmp_path / "r.zarr").exists()) == (1, True, True)
    slide = tmp_path / "i.tif"
    tifffile.imwrite(slide, np.asarray(PillowImage.open(nuclei)), tile=(64, 64), compression="zlib")
    with tifffile.TiffFile(slide) as tif:
        offset = tif.pages[0].dataoffsets[5]
    with open(slide, "r+b") as file:
        file.seek(offset)
        file.write(b"damaged!")
    one = ("segment", slide, "-o", tmp_path / "o.zarr", "--diameter", 24)
    shard = ("segment", slide, "-o", tmp_path / "s.zarr", "--diameter", 24, "--shard", "1/1")
    for command in (one, shard, ("merge", tmp_path / "s.zarr")):
        code, _, err = run(*command)
        assert code == 1
        assert "1 tiles could not be read" in err
    assert f"{slide}: 1 tiles could not be read" in run(*one, "--overwrite")[2]


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (("--shard", "x"), "2/8"),
        (("--shard", "0/0"), "2/8"),
        (("--export", "foo"), "no export 'foo'"),
        (("--shard", "1/2", "--export", "csv"), "merge"),
        (("--dask", "tcp://127.0.0.1:1", "--device", "cuda"), "does not reach the workers"),
    ],
)
def test_wrong_flags_of_slides_are_one_clear_error_at_once(run, nuclei, tmp_path, monkeypatch, flags, word):
    monkeypatch.setattr("fewcell.segmenter.Segmenter.load", None)  # takes seconds
    code, _, err = run("segment", nuclei, "-o", tmp_path / "o.zarr", *flags)
    assert (code, word in err) == (1, True)
    assert not list(tmp_path.glob("o*"))
    if "--dask" in flags:
        assert run("merge", tmp_path / "o.zarr", *flags)[::2] == (1, err)


def test_mistakes_are_drawn_and_what_is_missing_is_told_by_the_exit_code(run, nuclei, tmp_path):
    assert run("segment", nuclei, "-o", tmp_path / "found", "--diameter", 24)[0] == 0
    labels = read_labels(tmp_path / "found" / "nuclei_label.tiff")
    for folder in ("one", "two"):
        write_labels(tmp_path / folder / "labels" / "nuclei_label.tiff", labels)
        (tmp_path / folder / "images").mkdir()
        shutil.copy(nuclei, tmp_path / folder / "images" / "nuclei.png")
    write_labels(tmp_path / "two" / "labels" / "other_label.tiff", labels)
    shutil.copy(nuclei, tmp_path / "two" / "images" / "other.png")
    assert run("evaluate", tmp_path / "one", tmp_path / "found", "--draw", tmp_path / "wrong")[0] == 0
    assert list((tmp_path / "wrong").glob("*.png"))
    code, out, _ = run("evaluate", tmp_path / "two", tmp_path / "found")
    assert (code, "1 failed" in out, "other" in out) == (1, True, True)


def test_channels_are_chosen_for_the_model_and_all_are_measured(run, nuclei, tmp_path):
    gray = np.asarray(PillowImage.open(nuclei))
    stack = np.stack([np.full_like(gray, 7), gray, 255 - gray, gray // 2])
    tifffile.imwrite(tmp_path / "four.tif", stack, imagej=True, metadata={"axes": "CYX"})
    code, _, err = run("segment", tmp_path / "four.tif", "-o", tmp_path / "out", "--diameter", 24)
    assert code == 1
    assert "4 channels" in err
    assert "--channels" in err
    code, *_ = run("segment", tmp_path / "four.tif", "-o", tmp_path / "out", "--diameter", 24, "--channels", "1")
    assert code == 0
    with open(tmp_path / "out" / "four_cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert 22 <= len(rows) <= 28
    assert {name for name in rows[0] if name.startswith("mean_")} == {f"mean_channel_{i}" for i in range(4)}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--diameter", "wide"), ("'wide'", "12um")),
        (("--diameter", "0"), ("'0'",)),
        (("--channels", "red"), ("'red'", "2,0")),
        (("--channels", "5"), ("[5]", "nuclei.png", "intensity")),
        (("--plane", "3"), ("'3'", "z=3")),
        (("--model", "defualt"), ("defualt", "default")),
        (("--device", "gpu"), ("gpu", "cpu, cuda")),
    ],
)
def test_a_wrong_flag_is_one_clear_error(run, nuclei, tmp_path, flags, words):
    code, _, err = run("segment", nuclei, "-o", tmp_path / "out", *flags)
    assert code == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_a_missing_input_is_one_clear_error(run, tmp_path):
    code, _, err = run("segment", tmp_path / "nowhere", "-o", tmp_path / "out")
    assert code == 1
    assert "nowhere" in err


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((300, 200), np.uint8), id="black"),
        pytest.param(np.full((64, 64, 3), 255, np.uint8), id="white"),
        pytest.param(np.zeros((1, 1), np.uint8), id="1x1"),
        pytest.param(np.zeros((1, 500), np.uint8), id="line"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8), id="noise"),
        pytest.param(np.random.default_rng(1).integers(0, 256, (256, 256, 3), np.uint8), id="colour-noise"),
        pytest.param(np.random.default_rng(2).poisson(3, (256, 256)).astype(np.uint8), id="photon-noise"),
        pytest.param(np.linspace(0, 255, 256 * 256).reshape(256, 256).astype(np.uint8), id="gradient"),
    ],
)
def test_images_without_cells_give_no_cells(run, tmp_path, image):
    PillowImage.fromarray(image).save(tmp_path / "image.png")
    code, out, _ = run("segment", tmp_path / "image.png", "-o", tmp_path / "out")
    assert code == 0
    assert "image.png: 0 cells" in out
    assert read_labels(tmp_path / "out" / "image_label.tiff").shape == image.shape[:2]


def test_demo_needs_no_network(run, tmp_path, monkeypatch):
    def refuse(*arguments: object, **keywords: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    code, out, _ = run("demo", "-o", tmp_path)
    assert code == 0
    for name in ("ihc", "cell"):
        overlay = tmp_path / f"{name}_overlay.png"
        assert str(overlay) in out
        image = PillowImage.open(Path(skimage_data.__file__).parent / f"{name}.png")
        assert PillowImage.open(overlay).size == image.size
    assert read_labels(tmp_path / "ihc_label.tiff").max() > 50


def test_info_says_what_runs(run):
    code, out, _ = run("info")
    assert code == 0
    for word in ("OpenVINO", "threads", "resunet", "canopy", "dsb2018", "licence"):
        assert word in out
    chosen, offered = choose_precision("auto", has_int8=True), ", ".join(offered_precisions(has_int8=True))
    assert f"{chosen} (this CPU and model offer {offered}; --precision chooses)" in out


def test_evaluate_scores_what_segment_writes(run, tmp_path):
    truth = np.zeros((100, 100), np.int32)
    truth[10:30, 10:30], truth[50:80, 50:80] = 1, 2
    half = np.where(truth == 1, 1, 0).astype(np.int32)
    write_labels(tmp_path / "true" / "a_label.tiff", truth)
    write_labels(tmp_path / "predicted" / "a_label.tiff", half)
    code, out, _ = run("evaluate", tmp_path / "true", tmp_path / "predicted", "--out", tmp_path / "rows.csv")
    assert code == 0
    assert "0.667" in out
    with open(tmp_path / "rows.csv", newline="") as file:
        assert float(next(csv.DictReader(file))["f1_50"]) == pytest.approx(2 / 3)
    assert (tmp_path / "rows-summary.csv").exists()


@pytest.mark.parametrize(
    ("flags", "word"),
    [((), "rows.csv: exists already"), (("--overwrite", "--note", "model"), "--note"), (None, "summary.csv: exists")],
)
def test_evaluate_says_before_it_scores_what_it_cannot_write(run, tmp_path, monkeypatch, flags, word):
    monkeypatch.setattr("fewcell.benchmark.evaluate_folders", None)  # may take an hour
    (tmp_path / ("rows.csv" if flags is not None else "rows-summary.csv")).write_text("")
    code, _, err = run("evaluate", tmp_path, tmp_path, "--out", tmp_path / "rows.csv", *(flags or ()))
    assert (code, word in err) == (1, True)


def test_evaluate_shows_what_each_image_took(run, nuclei, tmp_path):
    assert run("segment", nuclei, "-o", tmp_path / "out", "--diameter", 24)[0] == 0
    write_labels(tmp_path / "true" / "nuclei_label.tiff", read_labels(tmp_path / "out" / "nuclei_label.tiff"))
    code, out, _ = run("evaluate", tmp_path / "true", tmp_path / "out", "--efficiency")
    assert code == 0
    assert re.search(r"nuclei +256 +256 +[0-9.]+ +10\.0", out)
    assert "of 1 images" in out
    (tmp_path / "out" / "seconds.csv").unlink()
    code, _, err = run("evaluate", tmp_path / "true", tmp_path / "out", "--efficiency")
    assert code == 1
    assert "has no seconds.csv" in err


def test_train_ends_in_a_model_that_segments(run, nuclei, tmp_path):
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    data = tmp_path / "data"
    (data / "images").mkdir(parents=True)
    image = np.asarray(PillowImage.open(nuclei))
    for i in range(3):
        PillowImage.fromarray(np.roll(image, 17 * i, axis=1)).save(data / "images" / f"{i}.png")
        write_labels(data / "labels" / f"{i}_label.tiff", (np.roll(image, 17 * i, axis=1) > 60).astype(np.int32))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'batch = 2\ncrop_px = 64\nworkers = 0\nrepresentation = "boundary"\n'
        'network = {name = "resunet", settings = {widths = [8, 12]}}'
    )
    code, out, _ = run("train", data, "-o", tmp_path / "run", "--recipe", recipe, "--steps", 2)
    assert code == 0
    model = tmp_path / "run" / "model"
    assert str(model) in out
    assert run("segment", nuclei, "-o", tmp_path / "out", "--model", model)[0] == 0
    code, _, err = run("train", data, "-o", tmp_path / "run", "--recipe", recipe, "--steps", 2)
    assert code == 1
    assert "--resume" in err
    assert run("train", data, "-o", tmp_path / "run", "--resume", "--threads", 1)[0] == 0
    code, _, err = run("train", data, "-o", tmp_path / "run", "--resume", "--steps", 3)
    assert code == 1
    assert "steps was 2, now 3" in err
    code, _, err = run("train", data, "-o", tmp_path / "another")
    assert code == 1
    assert "--minutes 60" in err


@pytest.mark.parametrize("library", ["torch", "cv2", "safetensors", "onnx"])
def test_train_says_what_is_not_installed(run, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    code, _, err = run("train", tmp_path, "-o", tmp_path / "run", "--steps", 1)
    assert code == 1
    assert f"This needs {library}, which is not installed" in err
    assert "'.[train]'" in err


def test_the_model_finds_cells_of_real_images(run, tmp_path):
    if not SHARED.is_dir():
        pytest.skip("the multi-modality data set is not beside the checkout")
    images = sorted((SHARED / "train" / "images").glob("dsb2018_*"))[:4]
    code, *_ = run("segment", *images, "-o", tmp_path)
    assert code == 0
    for image in images:
        true = read_labels(SHARED / "train" / "labels" / f"{image.stem}_label.tiff")
        assert f1(match(true, read_labels(tmp_path / f"{image.stem}_label.tiff"))) > 0.4


def test_what_fewcell_warns_of_is_said_without_where_in_its_source_it_was(monkeypatch, capsys):
    def warn() -> None:
        warnings.simplefilter("always")
        warnings.warn_explicit("3 images are left alone.", FewcellWarning, cli.__file__, 7)
        warnings.warn_explicit("old", FutureWarning, "/lib/other.py", 8)

    monkeypatch.setattr(cli, "app", warn)
    with warnings.catch_warnings():
        cli.main()
    assert capsys.readouterr().err == "fewcell warns: 3 images are left alone.\n/lib/other.py:8: FutureWarning: old\n"


@pytest.mark.parametrize(
    ("name", "encoding", "shown"), [("p3μ", "cp1252", "p3\\u03bc"), ("caf\udce9", "utf-8", "caf\\udce9")]
)
def test_names_that_the_terminal_cannot_show_are_spelled_out(tmp_path, name, encoding, shown):
    PillowImage.new("L", (64, 64)).save(tmp_path / "plain.png")
    try:
        shutil.copy(tmp_path / "plain.png", tmp_path / f"{name}.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    command = [sys.executable, "-c", "from fewcell.cli import main; main()"]
    environment = os.environ | {"PYTHONIOENCODING": encoding}

    def ran(*arguments: object) -> str:
        done = subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True, timeout=300)
        assert b"Traceback" not in done.stderr
        return done.stdout.decode(encoding)

    assert f"{shown}.png: 0 cells" in ran("segment", tmp_path, "-o", tmp_path / "out")
    (tmp_path / "one").mkdir()
    shutil.copy(tmp_path / "out" / "plain_label.tiff", tmp_path / "one")
    assert shown in ran("evaluate", tmp_path / "out", tmp_path / "one")


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_a_command_that_is_ended_removes_its_temporary_files(tmp_path):
    driver = """
import os, signal, sys, tempfile
from fewcell import cli

def app():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)

cli.app = app
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", driver, str(tmp_path)], capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (143, b"")
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_terminal_nothing_is_written_but_what_is_said(capsys):
    with terminal.shown_segmenting(2) as (advance, _):
        advance()
    with shown_progress():
        pass
    assert capsys.readouterr() == ("", "")
