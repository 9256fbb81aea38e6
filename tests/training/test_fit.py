"""A training run from end to end: it learns, it can be killed and resumed, and it refuses what cannot work."""

import csv
import math
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from fastremap import renumber
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.optim.swa_utils import AveragedModel

from fewcell.config import Part, Recipe
from fewcell.data.dataset import load_sample, open_dataset
from fewcell.data.split import hold_out
from fewcell.errors import ConfigError, DataError, ModelError, WriteError
from fewcell.metrics import f1, match
from fewcell.networks import load_network
from fewcell.representations import Canopy, make_representation
from fewcell.segmenter import Segmenter, read_model
from fewcell.training import finish as finish_module
from fewcell.training import fit as fit_module
from fewcell.training import lessons as lessons_module
from fewcell.training import state as state_module
from fewcell.training.blend import recipe_from
from fewcell.training.checkpoint import read_facts
from fewcell.training.finish import (
    _Case,
    _choose_min_score,
    _diameter_bias,
    _f1_by_threshold,
    _fit_folds,
    _judge,
    _min_surest,
    finish,
)
from fewcell.training.fit import fit
from fewcell.training.machine import Machine
from fewcell.training.supervised import Supervised
from fewcell.types import UNKNOWN


class Killed(Exception):
    pass


@pytest.fixture
def samples(disc_dataset):
    return open_dataset(disc_dataset)


@pytest.fixture
def without_finish(monkeypatch):
    """Spare the end of training where only the training itself is looked at."""
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)


def kill_when(is_time):
    def report(progress):
        if is_time(progress):
            raise Killed

    return report


def rows_of(log: Path) -> list[dict[str, str]]:
    with open(log, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def change_recipe_in_checkpoint(path: Path, old: str, new: str) -> None:
    with safe_open(path, framework="pt") as file:
        facts = file.metadata()["facts"]
    assert old in facts
    save_file(load_file(path), path, metadata={"facts": facts.replace(old, new)})


def test_the_loss_falls(trained):
    held_out = [p.held_out_loss for p in trained.progress if p.held_out_loss is not None]
    assert len(held_out) > 2
    assert held_out[-1] < held_out[0]
    f1s = [p.held_out_f1 for p in trained.progress if p.held_out_f1 is not None]
    assert len(f1s) == len(held_out)
    assert f1s[-1] >= f1s[0]  # a fast machine may know them all when it is first asked
    assert f1s[-1] > 0.8
    assert trained.progress[-1].share_done == 1


def test_the_model_folder_is_whole_and_nothing_else_is_left(trained):
    files = {"model.json", "network.onnx", "scale.onnx", "weights.safetensors"}
    assert {p.name for p in trained.folder.iterdir()} == files
    left = {p.name for p in trained.out.iterdir()} - {"training.lock"}  # whether it stays depends on the system
    assert left == {"checkpoint.safetensors", "log.csv", "model"}
    facts = read_model(trained.folder)
    assert facts.held_out["f1_50"] > 0.8
    # All discs are alike, so estimates are not far off.
    assert 0.7 < facts.diameter_bias < 1.4
    assert sum(source.images for source in facts.trained_on.values()) == 6
    assert facts.recipe["steps"] == 150


def test_the_bias_is_how_far_estimates_of_the_diameter_are_off(samples):
    class Estimates:
        def __init__(self):
            self.factors = iter([1.1, 1.3, None, 1.2] * 2)

        def measure_diameter(self, pixels, diameter_px):
            factor = next(self.factors)
            return factor and factor * diameter_px

    assert _diameter_bias(Estimates(), samples) == pytest.approx(1.2)


def test_the_least_sure_held_out_image_says_how_sure_a_cell_must_be_in_any(samples, trained, monkeypatch):
    segmenter = Segmenter.load(trained.folder, threads=1)
    surest = [segmenter.segment(load_sample(s)[0], diameter_px=22.0).scores.max() for s in samples]
    assert _min_surest(segmenter, samples) == 0, "too few images tell nothing"
    monkeypatch.setattr(finish_module, "FEWEST_IMAGES", len(samples))
    assert 0.6 * min(surest) < _min_surest(segmenter, samples) < 0.8 * min(surest)


def test_the_model_finds_discs_that_it_has_not_seen(trained, draw_discs):
    image, labels = draw_discs(100, (150, 211))
    found = Segmenter.load(trained.folder, threads=1).segment(image[None])
    assert f1(match(labels, found.labels)) > 0.8


def test_the_log_has_a_header_and_rising_steps(trained):
    rows = rows_of(trained.out / "log.csv")
    assert {"step", "loss", "held_out_loss", "held_out_f1", "learning_rate", "crops_per_s"} <= rows[0].keys()
    steps = [int(row["step"]) for row in rows]
    assert steps == [p.step for p in trained.progress] == sorted(set(steps))


def test_the_learning_rate_rises_then_follows_half_a_cosine(samples, tiny_recipe, tmp_path, without_finish):
    recipe, rates = tiny_recipe(steps=10, warmup=0.2, checkpoint_minutes=1e-6), []
    fit(recipe, samples, tmp_path, report=lambda p: rates.append(p.learning_rate / recipe.learning_rate))
    rise = [0.2 / 2.2, 1.2 / 2.2]
    fall = [0.01 + 0.99 * (1 + math.cos(math.pi * i / 8)) / 2 for i in range(8)]
    np.testing.assert_allclose(rates, rise + fall, rtol=1e-6)


@pytest.mark.parametrize("kind", ["supervised", "mean_teacher", "taught"])
def test_a_killed_run_goes_on_to_the_same_bits(
    kind, samples, tiny_recipe, trained, tmp_path, without_finish, monkeypatch
):
    recipe = tiny_recipe(steps=12, checkpoint_minutes=1e-6)
    if kind == "mean_teacher":
        recipe = recipe.model_copy(update={"objective": Part(name="mean_teacher", settings={"scale_by": None})})
        samples = [sample if i < 5 else replace(sample, labels=None) for i, sample in enumerate(samples)]
    if kind == "taught":
        monkeypatch.setattr(lessons_module, "blend", lambda *args, **kwargs: None)
        short = {"minutes": None, "steps": 12, "checkpoint_minutes": 1e-6}
        recipe = Recipe(**(recipe_from(str(trained.folder)) | short))
    fit(recipe, samples, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(recipe, samples, tmp_path / "killed", report=kill_when(lambda p: p.step == 6))
    steps = []
    fit(recipe, samples, tmp_path / "killed", resume=True, report=lambda p: steps.append(p.step))
    assert steps[0] == 6
    whole, resumed = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert {k.split("/")[0] for k in whole} == {"network", "average", "optimizer"}
    assert [k for k in whole if not torch.equal(whole[k], resumed[k])] == []


def test_an_int8_network_is_added_where_the_recipe_wants_one(
    samples, tiny_recipe, tmp_path, without_finish, monkeypatch
):
    monkeypatch.setattr(fit_module, "require", lambda *_: None)
    seen = []
    monkeypatch.setattr(fit_module, "add_int8", lambda *args, **how: seen.append((args[0], how)))
    fit(tiny_recipe(steps=1, int8=True), samples, tmp_path)
    assert seen == [(tmp_path / "model", {"threads": 1})]


def test_a_folder_in_which_a_training_is_at_work_is_left_alone(samples, tiny_recipe, tmp_path, without_finish):
    recipe = tiny_recipe(steps=3)

    def again(progress):
        with pytest.raises(WriteError, match="another training is at work there"):
            fit(recipe, samples, tmp_path, resume=True)
        seen.append(progress)

    seen = []
    fit(recipe, samples, tmp_path, report=again)
    assert seen
    fit(recipe, samples, tmp_path, resume=True)


def test_a_resumed_run_logs_no_step_twice(samples, tiny_recipe, tmp_path, without_finish):
    recipe = tiny_recipe(steps=8, checkpoint_minutes=1e-6)
    with pytest.raises(Killed):
        fit(recipe, samples, tmp_path, report=kill_when(lambda p: p.step == 5))
    log = tmp_path / "log.csv"
    last = log.read_text().splitlines()[-1]
    with open(log, "a") as file:
        file.write(last.replace("4,", "5,", 1) + "\n")  # logged, but killed before its checkpoint
    fit(recipe, samples, tmp_path, resume=True)
    assert [int(row["step"]) for row in rows_of(log)] == list(range(1, 9))


def test_a_finished_run_only_finishes_again(samples, tiny_recipe, tmp_path, monkeypatch):
    finished = []
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: finished.append(args))
    recipe, progress = tiny_recipe(steps=3), []
    fit(recipe, samples, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    fit(recipe, samples, tmp_path, resume=True, report=progress.append)
    assert len(finished) == 2
    assert progress == []
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_budget_in_minutes_holds_across_a_resume(samples, tiny_recipe, tmp_path, without_finish, monkeypatch):
    ticks = count()
    monkeypatch.setattr(fit_module, "time", SimpleNamespace(perf_counter=lambda: 0.03 * next(ticks)))
    recipe = tiny_recipe(minutes=0.05, checkpoint_minutes=0.002)
    with pytest.raises(Killed):
        fit(recipe, samples, tmp_path, report=kill_when(lambda p: p.seconds > 1.5))
    saved = float(rows_of(tmp_path / "log.csv")[-1]["seconds"])
    assert 0.5 < saved <= 1.5
    before, progress = next(ticks), []
    fit(recipe, samples, tmp_path, resume=True, report=progress.append)
    assert 0.03 * (next(ticks) - before) < 1.3 * (3 - saved) + 0.3  # checkpoints do not count, nor the last step
    assert 3 <= progress[-1].seconds < 3.3
    rates = [p.learning_rate for p in progress]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.05 * recipe.learning_rate


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 40}, "steps was 2, now 40"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"network": Part(name="resunet", settings={"widths": [8, 16]})}, "network was"),
    ],
)
def test_another_recipe_cannot_resume_a_run(changes, words, samples, tiny_recipe, tmp_path, without_finish):
    fit(tiny_recipe(steps=2), samples, tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(ConfigError, match=words):
        fit(tiny_recipe(**({"steps": 2} | changes)), samples, tmp_path, resume=True)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_a_resumed_run_may_differ_where_the_outcome_does_not(samples, tiny_recipe, tmp_path, without_finish):
    fit(tiny_recipe(steps=2), samples, tmp_path)
    changes = {"threads": 2, "workers": 1, "checkpoint_minutes": 9, "precision": "auto"}
    fit(tiny_recipe(steps=2, **changes), samples, tmp_path, resume=True)
    assert read_facts(tmp_path / "checkpoint.safetensors")["step"] == 2


def test_other_data_cannot_resume_a_run(samples, tiny_recipe, tmp_path, without_finish):
    fit(tiny_recipe(steps=2), samples, tmp_path)
    fit(tiny_recipe(steps=2), samples[::-1], tmp_path, resume=True)
    others = [*samples[:-1], replace(samples[-1], stem="another")]
    with pytest.raises(DataError, match="was made from other images"):
        fit(tiny_recipe(steps=2), others, tmp_path, resume=True)
    change_recipe_in_checkpoint(tmp_path / "checkpoint.safetensors", '"data"', '"no data"')
    fit(tiny_recipe(steps=2), others, tmp_path, resume=True)


def test_a_checkpoint_older_than_a_setting_can_be_resumed(samples, tiny_recipe, tmp_path, without_finish):
    fit(tiny_recipe(steps=2), samples, tmp_path)
    checkpoint = tmp_path / "checkpoint.safetensors"
    change_recipe_in_checkpoint(checkpoint, ', "seed": 0', "")
    fit(tiny_recipe(steps=2), samples, tmp_path, resume=True)
    with pytest.raises(ConfigError, match="seed"):
        fit(tiny_recipe(steps=2, seed=3), samples, tmp_path, resume=True)


def test_a_run_is_not_overwritten(samples, tiny_recipe, tmp_path, without_finish):
    fit(tiny_recipe(steps=1), samples, tmp_path)
    with pytest.raises(WriteError, match="--resume"):
        fit(tiny_recipe(steps=1), samples, tmp_path)


def test_nothing_can_be_resumed_where_nothing_was_begun(samples, tiny_recipe, tmp_path):
    with pytest.raises(ModelError, match="no checkpoint"):
        fit(tiny_recipe(steps=1), samples, tmp_path / "out", resume=True)
    assert not (tmp_path / "out").exists()


def test_images_without_labels_teach_nothing(samples, tiny_recipe, tmp_path):
    with pytest.raises(DataError, match="None of the 8 images has labels"):
        fit(tiny_recipe(steps=1), [replace(s, labels=None) for s in samples], tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"objective": Part(name="supervized")}, "did you mean 'supervised'"),
        ({"objective": Part(name="supervised", settings={"weight": 1})}, "weight"),
        ({"representation": Part(name="boundry")}, "did you mean 'boundary'"),
        ({"network": Part(name="resnet")}, "did you mean 'resunet'"),
        ({"crop_px": 66}, "crop_px must be a multiple of 4.*it is 66"),
        ({"network": {"name": "unet"}}, "crop_px must be 256, the only size that unet is given; it is 64"),
    ],
)
def test_a_wrong_recipe_is_refused_before_any_work(changes, words, samples, tiny_recipe, tmp_path):
    unreadable = [replace(s, image=Path("missing.png")) for s in samples]
    with pytest.raises(ConfigError, match=words):
        fit(tiny_recipe(steps=1, **changes), unreadable, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_tables_of_indices_are_not_averaged():
    """Their mean with themselves, cut to whole numbers, would go down step by step."""
    network = torch.nn.Module()
    network.register_buffer("index", torch.arange(169))
    network.register_buffer("mean", torch.zeros(3))
    average = AveragedModel(network, multi_avg_fn=state_module._ema(0.998), use_buffers=True)
    for step in range(50):
        network.get_buffer("mean").fill_(step)
        average.update_parameters(network)
    assert torch.equal(average.module.get_buffer("index"), torch.arange(169))
    assert 30 < float(average.module.get_buffer("mean")[0]) < 49


def test_a_network_of_windows_is_trained_and_used(samples, tiny_recipe, tmp_path):
    """Larger than the images: they are mirrored, in training as in use."""
    network = Part(name="unet", settings={"preset": "small"})
    folder = fit(tiny_recipe(steps=2, batch=2, crop_px=256, network=network), samples, tmp_path / "out")
    assert read_model(folder).network.model_dump() == {
        "name": "unet",
        "settings": {"preset": "small"},
        "stride": 1,
        "multiple_px": 16,
        "reach_px": None,
        "window_px": 256,
    }
    image = np.random.default_rng(0).random((3, 70, 300), dtype=np.float32)
    assert Segmenter.load(folder, threads=1).segment(image, diameter_px=24).labels.shape == (70, 300)


def test_one_held_out_image_is_enough_for_thresholds(trained, samples, tiny_recipe, tmp_path):
    """The scorer of the other folds would know wrong instances only, and every threshold would drop all."""
    recipe = tiny_recipe(steps=1)
    representation = make_representation("boundary")
    weights = trained.folder / "weights.safetensors"
    network = load_network("resunet", len(representation.channels), recipe.network.settings, weights)
    scale = trained.folder / "scale.onnx"
    finish(network, representation, recipe, samples[1:], samples[:1], tmp_path / "model", scale)
    assert read_model(tmp_path / "model").held_out["f1_50"] > 0.8


def test_no_fold_is_judged_by_a_model_that_tuning_fitted_to_it():
    rng = np.random.default_rng(0)
    truth = np.zeros((3, 24, 24), dtype=np.int32)
    for labels, width in zip(truth, (4, 8, 12), strict=True):
        labels[4:16, 4 : 4 + width] = 1
    canopy = Canopy()
    noise = [rng.normal(0, 0.2, (len(canopy.channels), 24, 24)) for _ in truth]
    predictions = [np.clip(canopy.targets(t) + n, -1, 1).astype(np.float32) for t, n in zip(truth, noise, strict=True)]
    cases = [_Case(p, t, fold, "phase") for p, t, fold in zip(predictions, truth, (0, 1, 1), strict=True)]
    refitted = _fit_folds(canopy, cases, [])
    assert refitted[0] == canopy.refit(predictions[1:], truth[1:])
    assert refitted[1] == canopy.refit(predictions[:1], truth[:1])
    assert refitted[0].scorer != refitted[1].scorer
    assert not _fit_folds(make_representation("boundary"), cases, [])
    no_cells = [replace(case, labels=np.zeros_like(case.labels)) for case in cases[1:]]
    assert 0 not in _fit_folds(canopy, [cases[0], *no_cells], [])
    learned = [(predictions[2], truth[2])]
    assert _fit_folds(canopy, [cases[0], *no_cells], learned)[0].scorer


def test_thresholds_are_judged_as_if_the_cells_below_were_not_there():
    """Cells that the border cuts, that lie mostly where nothing is known, and two halves of one, both as good."""
    rng = np.random.default_rng(0)
    truth = np.repeat(np.repeat(np.arange(1, 65).reshape(8, 8), 8, axis=0), 8, axis=1).astype(np.int32)
    truth[:, 5::8], truth[rng.random(truth.shape) < 0.1] = 0, 0
    found = np.roll(truth, (1, 2), axis=(0, 1))
    found[found == 20] = 0
    found[truth == 20] = np.where(np.cumsum(np.ones(np.sum(truth == 20))) <= np.sum(truth == 20) // 2, 20, 65)
    truth[20:40, 30:50] = UNKNOWN
    found = renumber(found)[0]
    for scores in (rng.random(found.max()), np.full(found.max(), 0.3), np.zeros(found.max())):
        plain = []
        for threshold in finish_module.MIN_SCORES:
            left = np.where(np.append(False, scores >= threshold)[found], found, 0)
            counts = match(truth, left)
            plain.append(1.0 if counts.n_true == counts.n_predicted == 0 else f1(counts))
        assert _f1_by_threshold(truth, found, scores) == plain
    assert len(set(plain)) == 1, "no cell is left"
    nothing = np.zeros_like(truth)
    assert set(_f1_by_threshold(nothing, nothing, np.zeros(0))) == {1.0}
    assert set(_f1_by_threshold(nothing, found, np.ones(found.max()))) == {0.0}
    assert set(_f1_by_threshold(truth, nothing, np.zeros(0))) == {0.0}


def test_a_modality_may_have_any_name():
    truth = np.zeros((32, 32), dtype=np.int32)
    truth[8:16, 8:16], truth[18:26, 18:26] = 1, 2
    boundary = make_representation("boundary")
    cells, blank = (boundary.targets(labels) for labels in (truth, np.zeros_like(truth)))
    cases = [_Case(cells, truth, fold, "empty") for fold in (0, 1)] + [_Case(blank, 0 * truth, 0, None, 0.3)]
    scores = _choose_min_score(cases, [_judge(case, boundary) for case in cases])[1]
    assert scores == {"f1_50": 1.0, "f1_50_empty": 1.0, "empty_images_left_empty": 1.0}
    cases[2] = replace(cases[2], prediction=cells)
    scores = _choose_min_score(cases, [_judge(case, boundary) for case in cases])[1]
    assert scores == {"f1_50": 1.0, "f1_50_empty": 1.0, "empty_images_left_empty": 0.0}


def test_every_file_that_cannot_be_used_is_listed_before_the_first_step(samples, tiny_recipe, tmp_path):
    """One to learn from and one that is held out."""
    recipe = tiny_recipe(steps=2)
    bad = [part[0] for part in hold_out(samples, recipe.held_out, recipe.seed)]
    small = tmp_path / "small_label.tiff"
    tifffile.imwrite(small, np.zeros((5, 5), np.int32))
    changed = [replace(s, labels=small) if s in bad else s for s in samples]
    with pytest.raises(DataError, match="2 of 8 images cannot be used") as caught:
        fit(recipe, changed, tmp_path / "out", report=lambda _: pytest.fail("it began to train"))
    assert str(caught.value).count(str(small)) == 2
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_used_is_named_where_nothing_can_be_held_out(samples, tiny_recipe, tmp_path):
    """Of one experiment, each image is parted; that one is damaged must not be said as advice about experiments."""
    small = tmp_path / "small_label.tiff"
    tifffile.imwrite(small, np.zeros((5, 5), np.int32))
    alike = [replace(s, experiment="slide 1") for s in samples]
    with pytest.raises(DataError, match=r"small_label\.tiff"):
        fit(tiny_recipe(steps=2), [replace(alike[0], labels=small), *alike[1:]], tmp_path / "out")


@pytest.mark.parametrize(("value", "words"), [(0, "all of it is background"), (-1, "nothing is known of them")])
def test_labels_without_a_cell_teach_nothing(value, words, samples, tiny_recipe, tmp_path):
    empty = tmp_path / "empty_label.tiff"
    tifffile.imwrite(empty, np.full((96, 96), value, np.int32))
    without = [replace(s, labels=empty) for s in samples]
    with pytest.raises(DataError, match=rf"Not one cell is labelled .*{words}"):
        fit(tiny_recipe(steps=2), without, tmp_path / "out", report=lambda _: pytest.fail("it began to train"))
    assert not (tmp_path / "out").exists()


def test_held_out_images_without_a_cell_are_said(samples, tiny_recipe, tmp_path, without_finish):
    empty = tmp_path / "empty_label.tiff"
    tifffile.imwrite(empty, np.zeros((96, 96), np.int32))
    recipe = tiny_recipe(steps=1)
    many = [replace(s, stem=f"{s.stem}-{n}", experiment=f"{n}") for n, s in enumerate(list(samples) * 4)]
    _, held_out = hold_out(many, recipe.held_out, recipe.seed)
    changed = [replace(s, labels=empty) if s in held_out else s for s in many]
    with pytest.warns(UserWarning, match=rf"No cell is labelled in the {len(held_out)} images"):
        fit(recipe, changed, tmp_path / "out")


@pytest.mark.parametrize("lost", ["loss", "weights"])
def test_a_run_that_diverges_ends_and_keeps_its_last_checkpoint(
    lost, samples, tiny_recipe, tmp_path, without_finish, monkeypatch
):
    recipe = tiny_recipe(steps=4, checkpoint_minutes=1e-6)
    checkpoint, at = tmp_path / "checkpoint.safetensors", []
    step = torch.optim.AdamW.step
    losses = Supervised.losses

    def lose_weights(optimizer, *args):
        step(optimizer, *args)
        if 2 in at:
            optimizer.param_groups[0]["params"][0].data.fill_(float("nan"))

    def lose(objective, output, batch, share):
        return {k: v * (float("inf") if 2 in at else 1) for k, v in losses(objective, output, batch, share).items()}

    if lost == "loss":
        monkeypatch.setattr(Supervised, "losses", lose)
    else:
        monkeypatch.setattr(torch.optim.AdamW, "step", lose_weights)
    with pytest.raises(ConfigError, match=r"not finite at step 3.*lower learning_rate \(it is 0.02\)"):
        fit(recipe, samples, tmp_path, report=lambda progress: at.append(progress.step))
    assert read_facts(checkpoint)["step"] == 2
    assert [int(row["step"]) for row in rows_of(tmp_path / "log.csv")] == [1, 2]


def test_only_the_first_process_looks_at_held_out_images(samples, tiny_recipe, tmp_path, monkeypatch):
    second = Machine(torch.device("cpu"), torch.float32, rank=1)
    monkeypatch.setattr(fit_module, "machine", lambda recipe: nullcontext(second))
    monkeypatch.setattr(fit_module, "measure", lambda *args: pytest.fail("the second process looked"))
    fit(tiny_recipe(steps=2, checkpoint_minutes=1e-6), samples, tmp_path / "run")
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_the_time_that_measuring_takes_is_not_part_of_the_budget(
    samples, tiny_recipe, tmp_path, without_finish, monkeypatch
):
    clock, measured = fit_module.time.perf_counter, []

    def measure_for_an_hour(*args):
        measured.append(3600)
        return 1.0, None

    monkeypatch.setattr(fit_module, "measure", measure_for_an_hour)
    monkeypatch.setattr(fit_module, "time", SimpleNamespace(perf_counter=lambda: clock() + sum(measured)))
    seconds = []
    fit(tiny_recipe(steps=6, checkpoint_minutes=1e-6), samples, tmp_path, report=lambda p: seconds.append(p.seconds))
    assert len(measured) == len(seconds) == 6
    assert seconds == sorted(seconds)
    assert seconds[-1] < 3600
