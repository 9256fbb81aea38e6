"""Objectives: what they make of a batch, and whole runs that learn from more than labels."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from fewcell.config import Augmentation, Part
from fewcell.data import pyramids
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample, load_sample, open_dataset
from fewcell.errors import ConfigError, DataError, WriteError
from fewcell.images import resize_image, resize_labels
from fewcell.metrics import bounding_boxes, f1, match, overlaps
from fewcell.networks import make_network
from fewcell.representations import REPRESENTATIONS, make_representation
from fewcell.representations.affinities import NO_TRUTH
from fewcell.scoring import Scorer, n_features
from fewcell.segmenter import NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE, Segmenter, read_model, write_model
from fewcell.segmenter.scale import Estimate
from fewcell.training import lessons as lessons_module
from fewcell.training import pool as pool_module
from fewcell.training import pool_scale
from fewcell.training import teacher as teacher_module
from fewcell.training.batches import Share, batches, make_batch
from fewcell.training.checkpoint import read_facts, save_tensors
from fewcell.training.fit import _forget, fit
from fewcell.training.machine import Machine
from fewcell.training.objective import Rounds
from fewcell.training.objectives import OBJECTIVES, make_objective
from fewcell.training.pool_scale import with_diameters
from fewcell.training.state import begin
from fewcell.training.teacher import VIEWS, Teacher, View
from fewcell.types import UNKNOWN, FloatArray, Labels


@pytest.fixture(autouse=True)
def scale_of_discs():
    """These tests are about what a teacher makes of what it finds, not about the scale of discs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "estimate_scale", lambda *_, **__: Estimate(22.0, 0.99))
        yield


class Killed(Exception):
    pass


@pytest.fixture
def samples(disc_dataset):
    """Four images with labels, four without."""
    return [s if i < 4 else replace(s, labels=None) for i, s in enumerate(open_dataset(disc_dataset))]


def source_of(samples, representation, **settings) -> CropSource:
    still = dict.fromkeys((name for name in Augmentation.model_fields if name != "scale_jitter"), 0.0)
    return CropSource(samples, Grid(64, 2, representation.margin_px, 24.0), Augmentation(**(still | settings)))


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(count)]


@pytest.mark.parametrize("name", ["boundary", "flows", "stars"])
def test_plain_images_are_the_crops_before_their_intensities_were_varied_turned(samples, name) -> None:
    representation = make_representation(name)
    source = source_of(samples, representation, noise=1.0)
    batch = make_batch([source] * 6, representation, [0, 1, 2, 3, 0, 1], generators(6), plain=True)
    assert batch.plain is not None
    still = make_batch([source_of(samples, representation)] * 6, representation, [0, 1, 2, 3, 0, 1], generators(6))
    for plain, image, noisy, way in zip(batch.plain, still.images, batch.images, batch.turned, strict=True):
        back = torch.rot90(plain, -way.quarters, dims=(-2, -1))
        back = back.flip(-1) if way.flip else back
        assert torch.allclose(back.clip(-0.5, 4), image)
        assert not torch.allclose(back, noisy)
    assert len({(way.quarters, way.flip) for way in batch.turned}) > 2


class _Knows(torch.nn.Module):
    """A network that gives the targets' own raw output, whichever way it sees the crop."""

    def __init__(self, answers: dict[bytes, torch.Tensor]) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.answers[image.contiguous().numpy().tobytes()] for image in images])


@pytest.mark.parametrize("name", ["boundary", "flows"])
def test_a_teacher_that_says_the_same_of_a_turned_crop_is_agreed_with(samples, name) -> None:
    representation = make_representation(name)
    batch = make_batch(
        [source_of(samples, representation)] * 5, representation, [0, 1, 2, 3, 0], generators(5), plain=True
    )
    assert batch.plain is not None
    raw = torch.randn(batch.targets.shape, generator=torch.Generator().manual_seed(0))
    answers = {}
    for plain, output, way in zip(batch.plain, raw, batch.turned, strict=True):
        turned = representation.turn(output.numpy(), quarters=way.quarters, flip=way.flip)
        answers[plain.contiguous().numpy().tobytes()] = torch.from_numpy(turned)

    objective = make_objective(Part(name="mean_teacher"), representation, _Knows(answers))
    losses = objective.losses(raw, batch, 1.0)
    assert losses["consistency"] < 1e-10
    answers.update({key: -value for key, value in answers.items()})
    wrong = objective.losses(raw, batch, 1.0)["consistency"]
    assert wrong > 0.01
    assert objective.losses(raw, batch, 0.15)["consistency"] == pytest.approx(float(wrong) / 2), (
        "the weight rises slowly"
    )


def test_nothing_is_learned_of_crops_without_labels_but_by_the_teacher(samples) -> None:
    representation = make_representation("boundary")
    batch = make_batch([source_of(samples, representation)] * 2, representation, [5, 6], generators(2), plain=True)
    assert not batch.known.any()
    network = make_network("resunet", 3, {"widths": [8, 12], "blocks": 1})
    torch.manual_seed(1)
    teacher = make_network("resunet", 3, {"widths": [8, 12], "blocks": 1})
    objective = make_objective(Part(name="mean_teacher"), representation, teacher)
    losses = objective.losses(network(batch.images), batch, 1.0)
    assert float(losses["supervised"].detach()) == 0
    assert float(losses["consistency"].detach()) > 0
    sum(losses.values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert all(p.grad is None for p in teacher.parameters())


def test_a_network_is_distilled_from_a_finished_model(samples, trained) -> None:
    """What it says itself is agreed with; there is nothing to learn but from the model where no labels are."""
    part = Part(name="distilled", settings={"model": str(trained.folder)})
    representation = make_representation("boundary")
    objective = make_objective(part, representation, torch.nn.Identity())
    source = source_of(samples, representation)
    batch = make_batch([source] * 4, representation, [0, 5, 6, 7], generators(4), plain=True)
    network = make_network("resunet", 3, read_model(trained.folder).network.settings)
    losses = objective.losses(network(batch.images), batch, 0.0)
    sum(losses.values()).backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    model = objective.model  # pyright: ignore[reportAttributeAccessIssue]
    assert not any(p.requires_grad for p in model.parameters())
    said = objective.losses(model(batch.images), batch, 0.0)["distilled"]
    assert said < 0.2 * losses["distilled"], "but for what the sides differ in"


def test_a_finished_model_tells_how_wide_cells_are(samples, trained, tmp_path) -> None:
    tifffile.imwrite(tmp_path / "blank.tif", np.zeros((64, 64), dtype=np.uint8))
    (tmp_path / "torn.png").write_bytes(b"no picture")
    blank, torn = (replace(samples[4], image=tmp_path / name) for name in ("blank.tif", "torn.png"))
    here = Machine(torch.device("cpu"), torch.float32)
    pool = [*samples[4:], blank, torn]
    with pytest.warns(UserWarning, match=r"Not learned from: .*torn\.png"):
        found, took = with_diameters(pool, trained.folder, tmp_path, here)
    assert took > 0
    assert found == [replace(sample, diameter_px=22.0) for sample in samples[4:]]
    moved = [replace(sample, image=Path("elsewhere") / sample.image.name) for sample in pool]
    assert [s.stem for s in with_diameters(moved, tmp_path / "gone", tmp_path, here)[0]] == [s.stem for s in found]
    (file,) = tmp_path.glob("pool-diameters*")
    file.write_text(file.read_text()[:-8])  # by a kill
    with pytest.warns(UserWarning, match="Not learned from"):
        assert with_diameters(pool, trained.folder, tmp_path, here)[0] == found
    assert with_diameters(pool, tmp_path / "gone", tmp_path, here)[0] == found, "it is known again"
    _forget(tmp_path)
    with pytest.raises(DataError, match="In none of the 1 images"):
        with_diameters([blank], trained.folder, tmp_path, here)


def test_a_width_that_is_known_is_not_estimated(samples, trained, tmp_path) -> None:
    here = Machine(torch.device("cpu"), torch.float32)
    said = replace(samples[4], diameter_px=31.5)
    assert with_diameters([said], tmp_path / "no model", tmp_path, here) == ([said], 0)
    found, _ = with_diameters([said, samples[5]], trained.folder, tmp_path, here)
    assert [sample.diameter_px for sample in found] == [31.5, 22.0]


def test_a_run_is_distilled_at_the_scale_that_its_model_tells(samples, trained, tiny_recipe, tmp_path, monkeypatch):
    part = Part(name="distilled", settings={"model": str(trained.folder), "pool_share": 0.5})
    seen = []
    monkeypatch.setattr(lessons_module, "CropSource", lambda *a: seen.append(a) or CropSource(*a))
    fit(tiny_recipe(steps=2, objective=part), samples, tmp_path / "run")
    (pool, _, settings, _), *_ = [arguments for arguments in seen if arguments[0][0].labels is None]
    assert {sample.diameter_px for sample in pool} == {22.0}
    assert settings.off_scale == 0
    assert read_model(tmp_path / "run" / "model").recipe["objective"]["name"] == "distilled"


def test_nothing_is_distilled_from_a_model_that_predicts_something_else(trained) -> None:
    part = Part(name="distilled", settings={"model": str(trained.folder)})
    with pytest.raises(ConfigError, match="predicts boundary, so nothing of flows"):
        make_objective(part, make_representation("flows"), torch.nn.Identity())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network": Part(name="unet"), "crop_px": 256}, "stride of the network is 2, that of this run 1"),
        ({"canonical_diameter_px": 30.0}, "canonical diameter is 24, that of this run 30"),
    ],
)
def test_nothing_is_distilled_from_a_model_of_another_grid_or_scale(trained, tiny_recipe, change, said) -> None:
    part = Part(name="distilled", settings={"model": str(trained.folder)})
    with pytest.raises(ConfigError, match=said):
        begin(tiny_recipe(steps=2, objective=part, **change), Machine(torch.device("cpu"), torch.float32))


@pytest.mark.parametrize(
    ("name", "targets", "reading"),
    [
        ("omni", {"depth_px": 5.0}, {"n_steps": 3}),
        ("watershed", {"range_px": 9}, {"prominence": 0.2}),
        ("watershed", {"alpha": 2.0}, {"smoothing_px": 1.1}),
    ],
)
def test_a_model_to_distil_from_may_read_cells_in_another_way_but_not_have_learned_other_targets(
    trained, tmp_path: Path, name, targets, reading
) -> None:
    ours = make_representation(name)
    network = make_network("resunet", len(ours.channels), read_model(trained.folder).network.settings)
    save_tensors(tmp_path / WEIGHTS_FILE, network.state_dict())
    for settings, folder in ((targets | reading, tmp_path / "other"), (reading, tmp_path / "same")):
        facts = read_model(trained.folder).model_copy(update={"representation": Part(name=name, settings=settings)})
        files = (trained.folder / NETWORK_FILE, trained.folder / SCALE_FILE, tmp_path / WEIGHTS_FILE)
        write_model(folder, facts, *files)
    ((setting, got),) = targets.items()
    with pytest.raises(ConfigError, match=f"learned with {setting} = {got}"):
        make_objective(Part(name="distilled", settings={"model": str(tmp_path / "other")}), ours, torch.nn.Identity())
    make_objective(Part(name="distilled", settings={"model": str(tmp_path / "same")}), ours, torch.nn.Identity())


def test_consensus_learns_softly_only_where_nothing_is_known(samples) -> None:
    representation = make_representation("boundary")
    source = source_of(samples, representation)
    batch = make_batch([source] * 2, representation, [0, 6], generators(2), plain=True)
    torch.manual_seed(1)
    network, teacher = (make_network("resunet", 3, {"widths": [8, 12], "blocks": 1}) for _ in range(2))
    objective = make_objective(Part(name="consensus", settings={"soft": 4.0}), representation, teacher)
    assert objective.needs_plain
    output = network(batch.images)
    losses = objective.losses(output, batch, 1.0)
    (gradient,) = torch.autograd.grad(losses["soft"], output)
    assert gradient[0].abs().sum() == 0, "all is known of the first crop"
    assert gradient[1].abs().sum() > 0
    assert not make_objective(Part(name="consensus"), representation, teacher).needs_plain


def test_each_part_of_a_batch_comes_from_its_own_source(samples, tiny_recipe) -> None:
    representation = make_representation("boundary")
    labelled, others = source_of(samples[:4], representation), source_of(samples[4:], representation)
    shares = [Share(labelled, 3), Share(others, 1)]
    for rank in (0, 1):
        batch = next(batches(shares, representation, tiny_recipe(steps=1), rank=rank, world=2))
        known = [bool(k.any()) for k in batch.known]
        assert known == [[True, True], [True, False]][rank]


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_a_seed_teaches_nothing_that_is_untrue_of_its_cell(name, tmp_path: Path) -> None:
    """What is known of a seed's pixels is what would be known of them in the whole cell."""
    from_centre = np.hypot(*(np.indices((64, 64)) - 32))
    whole = (from_centre < 28).astype(np.int32)
    seeds = [(whole, "whole"), (np.where(from_centre < 10, 1, np.where(from_centre < 31, UNKNOWN, 0)), "seed")]
    representation, batch, marks = make_representation(name), {}, tmp_path / "points.csv"
    Image.fromarray((whole * 200).astype(np.uint8)).save(tmp_path / "cell.png")
    for labels, kind in seeds:
        tifffile.imwrite(tmp_path / f"{kind}.tiff", labels.astype(np.int32))
        files = (tmp_path / "cell.png", tmp_path / f"{kind}.tiff")
        sample = Sample(kind, *files, "", "", kind, points=marks, diameter_px=24.0)
        for name_of, its in ((kind, sample), (f"{kind}, by trust", replace(sample, points=None))):
            source = source_of([its], representation, scale_jitter=1.0)
            batch[name_of] = make_batch([source], representation, [0], generators(1))
    true, taught = (batch[kind].targets[0] for kind in ("whole", "seed"))
    in_seed = torch.from_numpy(representation.foreground(taught.numpy())) > 0
    untrue = ((taught - true).abs() * (taught != NO_TRUTH))[:, in_seed].mean()
    assert batch["seed"].known[0][in_seed].any() != representation.needs_outlines
    assert batch["seed, by trust"].known[0][in_seed].all(), "a teacher's cell has an outline"
    assert untrue > 0.1 if representation.needs_outlines else untrue < 0.03


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("mean_teacher", {"weight": -1}, "weight of 0 or more"),
        ("mean_teacher", {"pool_share": 1.0}, "between 0 and 1"),
        ("mean_teacher", {"ramps": 0.5}, "The objective 'mean_teacher' has no setting 'ramps'; did you mean 'ramp'"),
        ("mean_teacher", {"teacher": 3}, "no setting 'teacher'"),
        ("mean_teacher", {"weight": "much"}, "does not take these settings"),
        ("supervised", {"weight": 1}, "no setting 'weight'; known: none"),
        ("consensus", {"at": [0.5, 1.2]}, "between 0 and 1"),
        ("consensus", {"at": []}, "between 0 and 1"),
        ("consensus", {"keep": 70}, "between 0 and 1"),
        ("consensus", {"paste": 2}, "between 0 and 1"),
        ("consensus", {"images": 0}, "at least one image"),
        ("consensus", {"soft": -1}, "soft of 0 or more"),
        ("distilled", {"weight": 0}, "a weight above 0"),
        ("distilled", {"pool_share": 1.0}, "from 0 to below 1"),
        ("consensu", {}, "consensus"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name, settings, said) -> None:
    with pytest.raises(ConfigError, match=said):
        make_objective(Part(name=name, settings=settings), make_representation("boundary"), torch.nn.Identity())


@pytest.mark.parametrize("view", [*VIEWS, View(quarters=3), View(quarters=3, flip=True)])
def test_a_view_can_be_undone(view) -> None:
    labels = np.arange(6 * 9, dtype=np.int32).reshape(6, 9)
    pixels = labels[None].astype(np.float32) / 60
    seen = view.of(pixels)
    assert np.array_equal(view.undo.of(np.rint(60 * seen[0]).astype(np.int32)), labels)


def test_a_teacher_knows_which_of_its_cells_are_right(trained, samples) -> None:
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    assert teacher.precision > 0.9
    for sample, truth in zip(samples[4:], open_dataset(samples[0].image.parent.parent)[4:], strict=True):
        lesson = teacher.label(sample)
        true_labels = load_sample(truth)[1]
        assert true_labels is not None
        known = np.where(lesson.labels >= 0, true_labels, 0)
        assert f1(match(known, np.maximum(lesson.labels, 0))) > 0.85
        assert lesson.n_kept <= lesson.n_found
        assert 15 < lesson.diameter_px < 30
    no_teacher = Teacher(Segmenter.load(trained.folder), [], keep=0.7)
    alike = np.array([[np.log(p / (1 - p)), p, p] for p in (0.1, 0.5, 0.9)])
    assert no_teacher.trust(alike) == pytest.approx([0.1, 0.5, 0.9], abs=0.05), "nothing but what they say themselves"
    unsure = np.array([[np.log(0.9 / 0.1), 0.3, 0.3]])
    assert no_teacher.trust(unsure)[0] < 0.75, "a sure cell that no view shows again"
    assert no_teacher.precision == 0, "so its own labels are not used"


def test_a_few_cells_do_not_show_that_a_teacher_is_right(trained, samples) -> None:
    teacher = Teacher(Segmenter.load(trained.folder), samples[:1], keep=0.0)
    features = np.zeros((5, 1 + len(VIEWS)))
    for n_right, expected in ((4, 0.0), (5, 1.0)):
        assert teacher._learn([features[:n_right]], [np.ones(n_right, dtype=bool)], ["one"])[1] == expected


class _Sees:
    """A network that is always right about discs: the targets of what is bright in an image."""

    def __init__(self, representation, stride: int) -> None:
        self.representation, self.stride = representation, stride

    def __call__(self, image: FloatArray) -> FloatArray:
        height, width = (side // self.stride for side in image.shape[1:])
        seen = resize_image(image[:1], (height, width))[0]
        bright, _ = ndimage.label(ndimage.binary_opening(seen > (seen.min() + seen.max()) / 2))
        return self.representation.targets(bright.astype(np.int32))


@pytest.mark.parametrize("name", sorted(REPRESENTATIONS))
def test_a_teacher_of_any_representation_keeps_cells_and_knows_background(trained, samples, name) -> None:
    """With predictions that are all right, most is known: neither cells nor background fall into what is doubtful."""
    representation = make_representation(name, {})
    n = n_features(len(representation.channels))
    scorer = Scorer((0.0,) * n, (1.0,) * n, (0.0,) * 2 * n, 3.0)
    facts = read_model(trained.folder)
    segmenter = Segmenter(_Sees(representation, facts.network.stride), representation, scorer, facts, trained.folder)
    lesson = Teacher(segmenter, samples[:4], keep=0.7).label(samples[5])
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    assert lesson.n_kept > 0.8 * truth.max()
    table = overlaps(truth, np.maximum(lesson.labels, 0))
    assert (table.pair_iou >= 0.5).sum() > 0.9 * lesson.n_kept
    assert np.mean(lesson.labels[truth > 0] == 0) < 0.05, "cells are not taught as background"
    assert np.mean(lesson.labels[truth == 0] == 0) > 0.5, "most background is known"


def test_a_teacher_takes_the_width_that_is_stated(trained, samples) -> None:
    teacher = Teacher(Segmenter.load(trained.folder), [], keep=0.7)
    assert teacher.label(replace(samples[5], diameter_px=31.5)).diameter_px == 31.5
    assert teacher.label(samples[5]).diameter_px != 31.5


def test_a_cell_much_larger_than_the_others_is_not_background(trained, samples, draw_discs, tmp_path: Path) -> None:
    """Views look for cells of one size."""
    small, _ = draw_discs(7, (280, 280), 11.0)
    large, large_labels = draw_discs(8, (70, 140), 11.0)
    large = resize_image(large[None].astype(np.float32), (280, 560))[0]
    tifffile.imwrite(tmp_path / "mixed.tif", np.concatenate([small, large], axis=1).astype(np.uint8))
    teacher = Teacher(Segmenter.load(trained.folder), [], keep=0.7)
    labels = teacher.label(replace(samples[5], image=tmp_path / "mixed.tif", labels=None)).labels
    inside = resize_labels(large_labels, (280, 560)) > 0
    assert np.mean(labels[:, 280:][inside] == 0) < 0.2


def test_of_a_large_image_the_part_is_learned_from_that_the_teacher_has_looked_at(
    trained, samples, draw_discs, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(teacher_module, "LESSON_PX", 96)
    image = np.full((400, 500), 30, dtype=np.uint8)
    image[260:390, 60:200] = draw_discs(7, (130, 140))[0]
    tifffile.imwrite(tmp_path / "large.tif", image)
    large = replace(samples[5], image=tmp_path / "large.tif", labels=None, stem="large")
    rounds = Rounds((0.5,), 1, 0.7, 0.5)
    here = Machine(torch.device("cpu"), torch.float32)
    pool = pool_module.Pool([large], samples[:4], tmp_path / "rounds", rounds, here, 1)
    pool.teach(1, lambda folder: Segmenter.load(trained.folder).save(folder))
    (taught,) = pool.taught(1)
    known = load_sample(taught)[1]
    assert known is not None
    assert known.shape < image.shape
    assert taught.diameter_px is not None
    assert np.mean(known >= 0) > 0.6, "most of what is drawn from is known"
    assert known.max() >= 3
    whole = load_sample(replace(taught, window=None))[1]
    assert whole is not None
    assert np.sum(whole >= 0) == np.sum(known >= 0), "beyond it nothing is"


def test_points_decide_where_there_are_any(trained, samples, tmp_path: Path) -> None:
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    (tmp_path / "p.csv").write_text("y,x\n" + "".join(f"{y.mean()},{x.mean()}\n" for y, x in [np.nonzero(truth == 1)]))
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    lesson = teacher.label(replace(samples[5], points=tmp_path / "p.csv"))
    assert lesson.n_kept == 1
    assert np.sum((lesson.labels > 0) & (truth == 1)) > 0.7 * np.sum(truth == 1)
    assert not (lesson.labels[truth > 1] > 0).any()


@pytest.mark.parametrize(("share", "regions"), [(1.0, False), (0.5, False), (0.5, True)])
@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_cells_without_a_mark_are_wrong_if_nearly_all_have_one_and_else_not_known(
    trained, samples, tmp_path: Path, share, regions, kind
) -> None:
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    numbers = range(1, int(truth.max()) + 1)
    marked = [number for number in numbers if number <= share * len(numbers)]
    lines = []
    for number in marked:
        y, x = np.nonzero(truth == number)
        box = f"{y.min()},{x.min()},{y.max() + 1},{x.max() + 1}"
        lines.append(f"{y.mean()},{x.mean()}" if kind == "points" else box)
    header = "y,x" if kind == "points" else "y0,x0,y1,x1"
    (tmp_path / "m.csv").write_text("\n".join([header, *lines]))
    weak = {kind: tmp_path / "m.csv"}
    if regions:
        height, width = truth.shape
        ring = [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]
        (tmp_path / "r.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
        weak["regions"] = tmp_path / "r.geojson"
    labels = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7).label(replace(samples[5], **weak)).labels
    middles = [tuple(int(np.median(i)) for i in np.nonzero(truth == number)) for number in numbers]
    others = [labels[middle] for number, middle in zip(numbers, middles, strict=True) if number not in marked]
    kept = [labels[middle] > 0 for number, middle in zip(numbers, middles, strict=True) if number in marked]
    assert np.mean(kept) > 0.9
    assert np.mean(labels[truth == 0] == 0) > 0.5
    if others:
        assert np.mean(np.array(others) == (0 if regions else -1)) > 0.9


@pytest.mark.parametrize("fewest_sure", [5, 1000])
@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_marks_on_cells_that_were_not_found_do_not_make_the_others_background(
    trained, samples, tmp_path: Path, monkeypatch, kind, fewest_sure
) -> None:
    monkeypatch.setattr(teacher_module, "FEWEST_SURE", fewest_sure)
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    y, x = np.unravel_index(np.argmax(ndimage.distance_transform_edt(truth == 0)), truth.shape)  # far from any cell
    mark = f"y,x\n{y},{x}" if kind == "points" else f"y0,x0,y1,x1\n{y - 9},{x - 9},{y + 9},{x + 9}"
    (tmp_path / "m.csv").write_text(mark)
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    labels = teacher.label(replace(samples[5], **{kind: tmp_path / "m.csv"})).labels
    assert np.mean(labels[truth > 0] == UNKNOWN) > 0.9
    assert np.mean(labels[truth == 0] == 0) > 0.5


def test_of_all_that_may_be_a_cell_what_fits_a_box_is_taken(trained, samples, tmp_path: Path, monkeypatch) -> None:
    """A teacher that finds no cell by itself still reads those that boxes ask for."""
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    lines = [",".join(map(str, box.astype(int))) for box in bounding_boxes(truth)]
    (tmp_path / "b.csv").write_text("\n".join(["y0,x0,y1,x1", *lines]))
    facts = read_model(trained.folder)
    canopy = replace(make_representation("canopy", {}), level=1.0)  # nothing is so likely
    stride, n = facts.network.stride, n_features(len(canopy.channels))
    scorer = Scorer((0.0,) * n, (1.0,) * n, (0.0,) * 2 * n, 3.0)
    segmenter = Segmenter(_Sees(canopy, stride), canopy, scorer, facts, trained.folder)
    lesson = Teacher(segmenter, [], keep=0.7).label(replace(samples[5], boxes=tmp_path / "b.csv"))
    assert lesson.n_found == 0
    assert lesson.n_kept > 0.8 * truth.max()
    table = overlaps(truth, np.maximum(lesson.labels, 0))
    assert (table.pair_iou >= 0.6).sum() > 0.8 * truth.max()


@pytest.mark.parametrize("kind", ["points", "boxes"])
def test_what_may_be_a_cell_is_not_background_though_all_that_are_sure_bear_a_mark(
    trained, samples, tmp_path: Path, monkeypatch, kind
) -> None:
    """Seven sure cells, of which one bears no mark; and a clump in which no cell was found."""
    found, foreground = np.zeros((96, 96), dtype=np.int32), np.zeros((96, 96), dtype=np.float32)
    marks = []
    for number in range(1, 9):
        top, left = 24 * ((number - 1) // 4) + 4, 24 * ((number - 1) % 4) + 4
        found[top : top + 12, left : left + 12] = number
        box = f"{top},{left},{top + 12},{left + 12}"
        marks += [f"{top + 6},{left + 6}" if kind == "points" else box] if number <= 6 else []
    foreground[found > 0] = 1
    foreground[70:90, 10:60] = 0.5
    header = "y,x" if kind == "points" else "y0,x0,y1,x1"
    (tmp_path / "m.csv").write_text("\n".join([header, *marks]))
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    seen = teacher_module._Seen((0, 0, 96, 96), found, [found], foreground, np.zeros((8, 5)), 12.0)
    monkeypatch.setattr(teacher, "_look", lambda *_: seen)
    monkeypatch.setattr(teacher, "_find_near", lambda *_: found)
    monkeypatch.setattr(teacher, "trust", lambda features: np.array([0.9] * 7 + [0.2], dtype=np.float32))
    labels = teacher.label(replace(samples[5], **{kind: tmp_path / "m.csv"})).labels
    assert all((labels[found == number] == number).all() for number in range(1, 7))
    assert not labels[found == 7].any(), "a sure cell without a mark is wrong, as nearly all have one"
    assert (labels[found == 8] == UNKNOWN).all()
    assert (labels[70:90, 10:60] == UNKNOWN).all()
    assert not labels[50:68].any(), "ground is ground"


@pytest.fixture
def consensus(tiny_recipe):
    settings = {"at": [0.7, 0.85], "images": 3, "precision": 0.5}
    return tiny_recipe(steps=80, objective=Part(name="consensus", settings=settings))


def recipe_with(recipe, **settings):
    """The same recipe, but for these settings of its objective."""
    part = recipe.objective
    return recipe.model_copy(update={"objective": Part(name=part.name, settings=part.settings | settings)})


def lessons_of(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted((out / "rounds").rglob("*")) if p.is_file()}


def what_is_taught(out: Path) -> dict[str, object]:
    """The labels of all rounds and the facts of each but for how long they took."""
    found: dict[str, object] = {name: data for name, data in lessons_of(out).items() if "labels" in name}
    facts = {name: json.loads(data) for name, data in found.items() if name.endswith(".json")}  # pyright: ignore
    return found | {name: {key: value for key, value in its.items() if key != "seconds"} for name, its in facts.items()}


def test_a_run_learns_from_what_its_teacher_says_and_ends_the_same_if_killed_in_a_round(
    samples, consensus, tmp_path: Path, monkeypatch
) -> None:
    whole = fit(consensus, samples, tmp_path / "whole")
    facts = [json.loads(p.read_text()) for p in sorted((tmp_path / "whole" / "rounds").glob("*/labels/*.json"))]
    assert len(facts) == 6, "three images in each of two rounds"
    assert sum(f["used"] for f in facts) >= 3
    assert all(Segmenter.load(tmp_path / "whole" / "rounds" / name / "teacher") for name in "12")

    label, calls = pool_module.Teacher.label, []

    def dies(teacher, sample):
        calls.append(sample)
        if len(calls) == 2:
            raise Killed
        return label(teacher, sample)

    monkeypatch.setattr(pool_module.Teacher, "label", dies)
    with pytest.raises(Killed):
        fit(consensus, samples, tmp_path / "killed")
    monkeypatch.undo()
    (labelled,) = (tmp_path / "killed" / "rounds").glob("1/labels/*.json")
    labelled.write_text(json.dumps(json.loads(labelled.read_text()) | {"seconds": 1000.0}))
    before = lessons_of(tmp_path / "killed")
    assert sum(name.endswith(".json") for name in before) == 2, "the teacher's own and one image"
    resumed = fit(consensus, samples, tmp_path / "killed", resume=True)
    after = lessons_of(tmp_path / "killed")
    assert before.items() <= after.items(), "what was there was not made again"
    assert what_is_taught(tmp_path / "killed") == what_is_taught(tmp_path / "whole")
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    end = read_facts(tmp_path / "killed" / "checkpoint.safetensors")
    assert 1000 < end["seconds"] < 2000, "what the round had taken before is a part of the budget, and once"
    assert end["n_rounds"] == 2


DIES = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from fewcell.config import Recipe
from fewcell.data.dataset import open_dataset
from fewcell.segmenter import Segmenter
from fewcell.segmenter.scale import Estimate
from fewcell.training.fit import fit
from fewcell.training.teacher import Teacher
Segmenter.estimate_scale = lambda *_, **__: Estimate(22.0, 0.99)
label, calls = Teacher.label, []


def dies(teacher, sample):
    calls.append(sample)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return label(teacher, sample)


Teacher.label = dies
samples = open_dataset(Path(sys.argv[2]))
samples = samples[:4] + [replace(sample, labels=None) for sample in samples[4:]]
fit(Recipe.model_validate_json(sys.argv[1]), samples, Path(sys.argv[3]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_process_that_is_killed_in_a_round_ends_with_the_same_labels(
    samples, consensus, disc_dataset: Path, tmp_path: Path, all_drawn
) -> None:
    recipe = recipe_with(consensus, precision=0.0).model_copy(update={"steps": 20})
    fit(recipe, samples, tmp_path / "whole")
    arguments = [recipe.model_dump_json(), str(disc_dataset), str(tmp_path / "killed")]
    done = subprocess.run([sys.executable, "-c", DIES, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    before = lessons_of(tmp_path / "killed")
    assert len([name for name in before if "labels" in name and name.endswith(".json")]) == 2
    fit(recipe, samples, tmp_path / "killed", resume=True)
    assert before.items() <= lessons_of(tmp_path / "killed").items(), "what was there was not made again"
    assert what_is_taught(tmp_path / "killed") == what_is_taught(tmp_path / "whole")


@pytest.mark.parametrize("name", sorted(REPRESENTATIONS))
def test_a_network_of_any_representation_is_its_own_teacher(samples, consensus, tmp_path: Path, name) -> None:
    recipe = recipe_with(consensus, at=[0.5], images=2, precision=0.0)
    recipe = recipe.model_copy(update={"steps": 4, "representation": Part(name=name)})
    folder = fit(recipe, samples, tmp_path / "run")
    assert read_model(folder).representation.name == name
    assert len(list((tmp_path / "run" / "rounds").glob("1/labels/*.json"))) == 2


def test_a_run_that_is_killed_between_its_first_round_and_its_first_step_goes_on_with_that_round(
    samples, consensus, tmp_path: Path, monkeypatch
) -> None:
    recipe = recipe_with(consensus, at=[0.0], precision=0.0).model_copy(update={"steps": 12})
    whole = fit(recipe, samples, tmp_path / "whole")
    labelled, label, stream = [], pool_module.Teacher.label, lessons_module.Lessons.stream

    def counted(teacher, sample):
        labelled.append(sample.stem)
        return label(teacher, sample)

    def dies(lessons):
        if lessons.run.n_rounds:
            raise Killed
        return stream(lessons)

    monkeypatch.setattr(pool_module.Teacher, "label", counted)
    with monkeypatch.context() as patched:
        patched.setattr(lessons_module.Lessons, "stream", dies)
        with pytest.raises(Killed):
            fit(recipe, samples, tmp_path / "killed")
    assert len(labelled) == 3
    facts = read_facts(tmp_path / "killed" / "checkpoint.safetensors")
    assert (facts["step"], facts["n_rounds"]) == (0, 1)
    resumed = fit(recipe, samples, tmp_path / "killed", resume=True)
    assert len(labelled) == 3, "nothing is labelled again"
    assert (resumed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert (resumed / "model.json").read_bytes() == (whole / "model.json").read_bytes()


def test_where_training_goes_on_from_a_model_that_is_the_first_teacher(samples, consensus, tmp_path: Path) -> None:
    first = fit(
        consensus.model_copy(update={"objective": Part(name="supervised"), "steps": 30}), samples, tmp_path / "1"
    )
    changes = {"start": str(first), "keep_start": False, "steps": 4}
    changes["objective"] = Part(name="consensus", settings={"at": [0.0], "images": 2, "precision": 0.0})
    second = fit(consensus.model_copy(update=changes), samples, tmp_path / "2")
    weights, teacher = "weights.safetensors", tmp_path / "2" / "rounds" / "1" / "teacher"
    assert (teacher / weights).read_bytes() == (first / weights).read_bytes() != (second / weights).read_bytes()


def test_a_teacher_that_is_often_wrong_is_not_listened_to(samples, consensus, tmp_path: Path, monkeypatch) -> None:
    sources, make, learn = [], lessons_module.CropSource, pool_module.Teacher._learn
    monkeypatch.setattr(lessons_module, "CropSource", lambda part, *args: sources.append(part) or make(part, *args))
    monkeypatch.setattr(pool_module.Teacher, "_learn", lambda *args: (learn(*args)[0], 0.49))
    fit(consensus, samples, tmp_path)
    facts = [json.loads(p.read_text()) for p in (tmp_path / "rounds").glob("*/labels/*.json")]
    assert len(facts) == 6
    assert not any(f["used"] or "kept" in f for f in facts), "no time is spent on what nobody learns from"
    assert all(s.labels and "rounds" not in str(s.labels) for part in sources for s in part)


def test_a_file_that_cannot_be_read_costs_its_own_lesson_alone(samples, consensus, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    others = [replace(samples[4], image=broken, stem="broken"), samples[5]]
    fit(consensus.model_copy(update={"steps": 60}), samples[:4] + others, tmp_path / "run")
    facts = {
        json.loads(p.read_text())["image"]: json.loads(p.read_text())
        for p in (tmp_path / "run" / "rounds").glob("1/labels/*.json")
    }
    assert "broken.png" in facts[str(broken)]["problem"]
    assert not facts[str(broken)]["used"]
    assert "problem" not in facts[str(samples[5].image)]


def test_of_a_pool_of_100000_files_only_what_is_drawn_is_read(samples, tiny_recipe, monkeypatch) -> None:
    """And of what was read only what fits into the cache stays."""
    read, load = [], pyramids.load_sample
    monkeypatch.setattr(pyramids, "load_sample", lambda sample: read.append(sample.stem) or load(sample))
    pool = [replace(samples[4 + i % 4], stem=f"{i}", experiment=f"plate {i % 384}") for i in range(100_000)]
    representation = make_representation("canopy", {})
    source = source_of(pool, representation)
    source.pyramids.cache_bytes = 300_000  # a few images
    stream = batches([Share(source, 8)], representation, tiny_recipe(steps=10, batch=8))
    assert len(list(stream)) == 10
    assert 60 < len(set(read)) <= 80
    assert source.pyramids.kept_bytes <= 300_000
    assert len(source.pyramids.kept) < 20


def test_of_very_many_images_a_finished_model_looks_at_some(samples, trained, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(pool_scale, "MOST_LOOKED_AT", 6)
    monkeypatch.setattr(pool_scale, "_diameter_px", lambda sample, segmenter: 20.0)
    pool = [replace(samples[4], stem=f"{i}", modality=f"m{i % 2}", experiment=f"e{i % 6}") for i in range(600)]
    with pytest.warns(UserWarning, match="Of 600 images without labels 6"):
        found, _ = with_diameters(pool, trained.folder, tmp_path, Machine(torch.device("cpu"), torch.float32))
    assert len(found) == 6
    assert sorted(sample.modality for sample in found) == ["m0"] * 3 + ["m1"] * 3
    assert len({sample.experiment for sample in found}) == 6


def test_images_that_nothing_is_learned_from_are_told_of(samples, tiny_recipe, tmp_path: Path) -> None:
    data = [*samples[:5], *(replace(sample, labels=None) for sample in samples[5:])]
    count = sum(sample.labels is None for sample in data)
    with pytest.warns(UserWarning, match=f"{count} images without labels are not learned from.*consensus"):
        fit(tiny_recipe(steps=1), data, tmp_path / "run")


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "supervised"])
def test_without_any_other_image_there_is_nothing_more_to_learn(samples, tiny_recipe, tmp_path: Path, name) -> None:
    with pytest.raises(DataError, match="without labels"):
        fit(tiny_recipe(steps=2, objective=Part(name=name), representation=Part(name="canopy")), samples[:4], tmp_path)


def test_a_file_without_labels_that_cannot_be_read_does_not_stop_a_mean_teacher(
    samples, tiny_recipe, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    (tmp_path / "broken.png").write_bytes(b"no image")
    others = [replace(samples[4], image=tmp_path / "broken.png"), replace(samples[5], labels=None)]
    with pytest.warns(UserWarning, match="Not learned from: .*broken"):
        fit(tiny_recipe(steps=2, objective=Part(name="mean_teacher")), samples[:4] + others, tmp_path / "run")
    at_any_scale = Part(name="mean_teacher", settings={"scale_by": None})
    with pytest.warns(UserWarning, match="Not learned from: .*broken"):
        fit(tiny_recipe(steps=8, objective=at_any_scale), samples[:4] + others, tmp_path / "any")
    assert not list((tmp_path / "any").glob("pool-diameters*")), "nobody asked how wide cells are"


def test_what_shares_an_experiment_with_held_out_images_is_not_in_the_pool(
    samples, tiny_recipe, tmp_path: Path, monkeypatch
) -> None:
    sources, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    monkeypatch.setattr(lessons_module, "CropSource", lambda part, *args: sources.append(part) or make(part, *args))
    grouped = [replace(s, experiment=f"plate {i % 4}") for i, s in enumerate(samples)]
    fit(tiny_recipe(steps=1, objective=Part(name="mean_teacher")), grouped, tmp_path / "run")
    learn, held_out, others = ({s.experiment for s in part} for part in sources)
    assert len(held_out) == 1
    assert learn == others == {f"plate {i}" for i in range(4)} - held_out


@pytest.mark.parametrize("name", ["mean_teacher", "consensus"])
def test_images_without_labels_are_altered_more_than_labelled_ones_and_nothing_is_drawn_into_them(
    samples, tiny_recipe, tmp_path: Path, monkeypatch, name
) -> None:
    settings, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    monkeypatch.setattr(lessons_module.Pool, "teach", lambda *args: 0.0)
    monkeypatch.setattr(lessons_module.Pool, "taught", lambda pool, n: pool.samples)
    monkeypatch.setattr(
        lessons_module, "CropSource", lambda part, grid, how, n: settings.append(how) or make(part, grid, how, n)
    )
    rounds = {"at": [0.0]} if name == "consensus" else {}
    drawn = {"from_afar": 0.1, "collage": 0.1, "transparent": 0.1, "fluorescent": 0.1}
    recipe = tiny_recipe(steps=1, objective=Part(name=name, settings=rounds), augmentation=Augmentation(**drawn))
    fit(recipe, samples, tmp_path / "run")
    labelled, pool = settings[0], settings[-1]
    for change in ("invert", "gamma", "gray", "shade", "blur", "noise", "jpeg"):
        assert getattr(pool, change) > getattr(labelled, change)
    assert pool.scale_jitter == labelled.scale_jitter > 1
    assert pool.empty == pool.defocus == pool.immunostain == 0
    assert all(getattr(labelled, kind) == share and getattr(pool, kind) == 0 for kind, share in drawn.items())


def test_the_time_that_a_finished_model_looks_at_a_pool_is_part_of_the_budget(
    samples, tiny_recipe, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    now, clock = [0.0], pool_scale.time.perf_counter
    monkeypatch.setattr(pool_scale.time, "perf_counter", lambda: clock() + now[0])

    def look(sample, segmenter):
        now[0] += 60
        if sample.stem in dies_at:
            raise Killed
        return 20.0

    monkeypatch.setattr(pool_scale, "_diameter_px", look)
    objective, dies_at = Part(name="mean_teacher"), {samples[-1].stem}
    short, run = tiny_recipe(minutes=3, objective=objective), tiny_recipe(steps=1, objective=objective)
    n_pool = sum(sample.labels is None for sample in samples)
    for recipe, name in ((short, "short"), (run, "run")):
        with pytest.raises(Killed):
            fit(recipe, samples, tmp_path / name)
    dies_at = set()
    for _ in range(2):
        with pytest.raises(ConfigError, match="took all of 3 minutes"):
            fit(short, samples, tmp_path / "short", resume=True)
    for _ in range(2):
        fit(run, samples, tmp_path / "run", resume=True)
        seconds = read_facts(tmp_path / "run" / "checkpoint.safetensors")["seconds"]
        assert 60 * n_pool <= seconds < 60 * n_pool + 50, "what an interrupted look took as well, and once"


def test_images_without_labels_that_are_labelled_elsewhere_are_none_of_the_pool(
    samples, tiny_recipe, tmp_path: Path, monkeypatch
) -> None:
    """Linked or copied into another folder, under another name: what is held out would be learned from."""
    sources, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    monkeypatch.setattr(lessons_module, "CropSource", lambda part, *args: sources.append(part) or make(part, *args))
    labelled = [sample for sample in samples if sample.labels]
    copy, link = tmp_path / "copy.png", tmp_path / "link.png"
    copy.write_bytes(labelled[0].image.read_bytes())
    link.symlink_to(labelled[1].image)
    again = [replace(labelled[0], image=copy, stem="copy", labels=None, experiment="x")]
    again += [replace(labelled[1], image=link, stem="link", labels=None, experiment="y")]
    around = labelled[2].image.parent / ".." / labelled[2].image.parent.name / labelled[2].image.name
    again += [replace(labelled[2], image=around, stem="around", labels=None, experiment="z")]
    fit(tiny_recipe(steps=1, objective=Part(name="mean_teacher")), [*samples, *again], tmp_path / "run")
    pool = {sample.stem for sample in sources[-1]}
    assert pool
    assert not pool & {"copy", "link", "around"}


def test_regions_without_any_mark_are_told_of(samples, tiny_recipe, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    data = [*samples[:5], replace(samples[5], labels=None, regions=tmp_path / "r.geojson")]
    with pytest.warns(UserWarning, match="1 images have regions .* but no points or boxes"):
        fit(tiny_recipe(steps=1, objective=Part(name="mean_teacher")), data, tmp_path / "run")


def test_cells_that_a_teacher_is_sure_of_are_set_into_other_images_of_the_pool(
    samples, consensus, tmp_path: Path, monkeypatch
) -> None:
    sources, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "CropSource", lambda *args: sources.append(make(*args)) or sources[-1])
    monkeypatch.setattr(lessons_module, "finish", lambda *args, **kwargs: None)
    monkeypatch.setattr(lessons_module.Lessons, "write_model", lambda *_: None)
    monkeypatch.setattr(lessons_module.Pool, "teach", lambda *_: None)
    monkeypatch.setattr(lessons_module.Pool, "taught", lambda *_: samples[:2])
    fit(with_paste := recipe_with(consensus, paste=0.3), samples, tmp_path)
    assert with_paste.augmentation.paste == 0
    pasted = {source.settings.paste for source in sources if source.samples == samples[:2]}
    assert pasted == {0.3}
    assert {source.settings.paste for source in sources if source.samples != samples[:2]} == {0.0}


def test_an_image_that_is_labelled_again_has_its_newest_labels(samples, consensus, tmp_path: Path, monkeypatch) -> None:
    sources, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "CropSource", lambda part, *args: sources.append(part) or make(part, *args))
    fit(consensus, samples[:6], tmp_path)
    last = [s for s in sources[-1] if s.labels and "rounds" in str(s.labels)]
    assert 1 <= len(last) <= 2, "two images make up the whole pool, in every round"
    assert all(s.labels.parent.parent.name == "2" and s.diameter_px for s in last)


def test_a_round_that_is_due_with_the_next_is_left_out(samples, consensus, tmp_path: Path) -> None:
    settings = consensus.objective.settings | {"at": [0.701, 0.705]}
    fit(consensus.model_copy(update={"objective": Part(name="consensus", settings=settings)}), samples, tmp_path)
    assert [p.name for p in (tmp_path / "rounds").iterdir()] == ["2"]


def test_images_of_a_pool_that_was_changed_are_noticed(samples, consensus, tmp_path: Path) -> None:
    fit(consensus, samples, tmp_path)
    (tmp_path / "checkpoint.safetensors").unlink()
    with pytest.raises(WriteError, match="holds a training run"):
        fit(consensus, samples, tmp_path)
    pool = pool_module.Pool(
        samples[4:],
        samples[:1],
        tmp_path / "rounds",
        Rounds((0.5,), 3, 0.7, 0.5),
        Machine(torch.device("cpu"), torch.float32),
        1,
    )
    assert pool.taught(2)
    moved = [replace(s, image=tmp_path / s.image.name) for s in samples[4:]]
    assert len(replace(pool, samples=moved).taught(2)) == len(pool.taught(2)), "folders may be moved"
    others = [replace(s, image=s.image.with_name(f"other_{s.image.name}")) for s in samples[4:]]
    with pytest.raises(DataError, match="is of other images"):
        replace(pool, samples=others).taught(2)


def test_boxes_tell_the_scale_and_an_image_without_any_is_background(trained, samples, tmp_path: Path) -> None:
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    (tmp_path / "b.csv").write_text("y0,x0,y1,x1\n10,10,50,20\n0,0,40,10\n")
    assert teacher.label(replace(samples[5], boxes=tmp_path / "b.csv")).diameter_px == 20
    (tmp_path / "none.csv").write_text("y0,x0,y1,x1\n")
    lesson = teacher.label(replace(samples[5], boxes=tmp_path / "none.csv"))
    assert not lesson.labels.any()
    assert lesson.n_kept == 0


def test_cells_are_sought_as_wide_as_boxes_are(trained, samples, tmp_path: Path, monkeypatch) -> None:
    truth = load_sample(open_dataset(samples[0].image.parent.parent)[5])[1]
    assert truth is not None
    corners = [(y.min(), x.min(), y.max() + 1, x.max() + 1) for y, x in map(np.nonzero, by_number(truth))]
    lines = [",".join(map(str, corner)) for corner in corners]
    (tmp_path / "b.csv").write_text("\n".join(["y0,x0,y1,x1", *lines]))
    teacher = Teacher(Segmenter.load(trained.folder), samples[:4], keep=0.7)
    monkeypatch.setattr(Segmenter, "likely_diameter", lambda *_, **__: 100.0)
    boxed = teacher.label(replace(samples[5], boxes=tmp_path / "b.csv"))
    assert boxed.n_kept > 0.8 * len(corners)
    assert teacher.label(samples[5]).n_kept < 0.2 * len(corners), "as wide as the network says that they are"


def by_number(labels: Labels) -> list[NDArray[np.bool_]]:
    return [labels == number for number in range(1, int(labels.max()) + 1)]


def test_a_mean_teacher_learns(samples, tiny_recipe, tmp_path: Path) -> None:
    folder = fit(tiny_recipe(steps=120, objective=Part(name="mean_teacher")), samples, tmp_path)
    assert read_model(folder).held_out["f1_50"] > 0.7


TRAIN = """
import sys
from dataclasses import replace
from pathlib import Path
from fewcell.config import Recipe
from fewcell.data.dataset import open_dataset
from fewcell.training.fit import fit
samples = open_dataset(Path(sys.argv[2]))
samples = samples[:5] + [replace(sample, labels=None) for sample in samples[5:]]
fit(Recipe.model_validate_json(sys.argv[1]), samples, Path(sys.argv[3]))
"""


def test_workers_survive_a_round(consensus, disc_dataset: Path, tmp_path: Path) -> None:
    """In a process of its own, which would die if a worker's end was heard on the stack that OpenVINO leaves."""
    recipe = consensus.model_copy(update={"workers": 1, "steps": 40})
    arguments = [recipe.model_dump_json(), str(disc_dataset), str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-c", TRAIN, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "rounds" / "2").is_dir()
