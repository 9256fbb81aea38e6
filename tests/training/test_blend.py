"""Training that begins with a model: it gets better on new images, or the model is kept."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import tifffile
from PIL import Image
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fewcell.cli import app
from fewcell.config import Part, Recipe, load_recipe
from fewcell.data.dataset import load_sample, open_dataset, open_unlabelled, true_diameter_px
from fewcell.data.split import split_each
from fewcell.errors import ConfigError, DataError, ModelError
from fewcell.segmenter import (
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    Int8Facts,
    Segmenter,
    read_model,
    write_model,
)
from fewcell.segmenter.scale import Estimate
from fewcell.training import lessons as lessons_module
from fewcell.training.batches import sitting
from fewcell.training.blend import recipe_from
from fewcell.training.fit import fit
from fewcell.training.held_out import Pooled, mean_f1_50, pooled_f1
from fewcell.training.lessons import parts_of


@pytest.fixture
def inverted(tmp_path: Path, draw_discs) -> Path:
    """Four images that the tiny model has never seen the like of: dark discs on a bright ground."""
    folder = tmp_path / "inverted"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for seed in range(20, 24):
        image, labels = draw_discs(seed, shape=(96, 176))
        Image.fromarray(255 - image).save(folder / "images" / f"dark_{seed}.png")
        tifffile.imwrite(folder / "labels" / f"dark_{seed}_label.tiff", labels)
    return folder


def recipe_of(model: Path, **changes) -> Recipe:
    return Recipe(**(recipe_from(str(model)) | {"minutes": None, "steps": 60, "learning_rate": 0.01} | changes))


def test_few_images_are_cut_in_two_and_no_pixel_is_in_both_parts(inverted: Path) -> None:
    samples = open_dataset(inverted)
    learn, held_out = split_each(samples, 0.25, seed=1)
    for whole, one, other in zip(samples, learn, held_out, strict=True):
        truth = load_sample(whole)[1]
        parts = [load_sample(part) for part in (one, other)]
        assert all(image.pixels.shape[1:] == labels.shape for image, labels in parts if labels is not None)
        sizes = [labels.size for _, labels in parts if labels is not None]
        assert truth is not None
        assert sum(sizes) == truth.size
        assert sizes[1] == truth.size // 4
        assert one.window is not None
        assert other.window is not None
        covered = np.zeros(truth.shape, dtype=int)
        for top, left, bottom, right in (one.window, other.window):
            covered[top:bottom, left:right] += 1
        assert (covered == 1).all()
    assert len({part.window for part in held_out}) == 2, "either end may be held out"
    whole = [true_diameter_px(s, truth) for s in samples for truth in [load_sample(s)[1]] if truth is not None]
    assert [part.diameter_px for part in learn] == [part.diameter_px for part in held_out] == whole
    assert split_each(samples, 0.25, seed=1) == (learn, held_out)


def test_a_model_learns_what_it_has_not_seen(trained, inverted: Path, tmp_path: Path, monkeypatch) -> None:
    """So small a network has no room for what is new beside what it knew: it may forget here, and else it is kept."""
    monkeypatch.setattr("fewcell.training.memory.WEIGHT", 2.0)
    monkeypatch.setattr("fewcell.training.memory.COLLAGES", 48)
    recipe = recipe_of(trained.folder, steps=150, learning_rate=0.02)
    kept = fit(recipe, open_dataset(inverted), tmp_path / "kept")
    assert read_model(kept).held_out["share"] == 0
    assert "still_found" not in read_model(kept).held_out
    assert read_model(kept).held_out["forgets_at"] in (0.25, 0.5, 0.75, 1.0)
    may_forget = recipe.model_copy(update={"still_found": 0.0})
    folder = fit(may_forget, open_dataset(inverted), tmp_path / "run")
    scores = read_model(folder).held_out
    assert "forgets_at" not in scores
    assert read_model(folder).recipe["still_found"] == 0
    assert recipe_from(str(folder))["still_found"] == 0.97, "what may be forgotten is said each time"
    assert scores["f1_50_before"] < 0.3
    assert scores["f1_50"] > 0.7
    assert scores["share"] > 0
    assert "inverted" in read_model(folder).trained_on
    assert set(read_model(trained.folder).trained_on) < set(read_model(folder).trained_on)
    segmenter = Segmenter.load(folder)
    assert segmenter.facts.min_score == read_model(trained.folder).min_score
    image, truth = load_sample(open_dataset(inverted)[0])
    assert truth is not None
    assert abs(len(segmenter.segment(image, diameter_px=22.0).instances) - truth.max()) <= 0.3 * truth.max()


def test_a_model_that_knows_all_there_is_to_know_is_kept(trained, disc_dataset: Path, tmp_path: Path) -> None:
    folder = fit(
        recipe_of(trained.folder, steps=3, learning_rate=0.3), open_dataset(disc_dataset)[:4], tmp_path / "run"
    )
    facts, start = read_model(folder), read_model(trained.folder)
    assert facts.held_out["share"] == 0
    assert facts.held_out["f1_50"] == facts.held_out["f1_50_before"] > 0.7
    assert facts.sha256 == start.sha256
    assert facts.trained_on == start.trained_on
    assert facts.min_surest <= start.min_surest


def test_a_model_that_is_kept_keeps_its_int8_network(trained, disc_dataset: Path, tmp_path: Path) -> None:
    for name in ("int8.xml", "int8.bin"):
        (tmp_path / name).write_text("what the start runs, and teaching does not")
    found = {"int8": Int8Facts(f1_50=0.8, f1_50_before=0.8, precision_before="f32", times_faster=1.5)}
    start, files = tmp_path / "start", [trained.folder / n for n in (NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE)]
    facts = read_model(trained.folder).model_copy(update=found)
    write_model(start, facts, *files, int8=tmp_path / "int8.xml")
    kept = fit(recipe_of(start, steps=3, learning_rate=0.3), open_dataset(disc_dataset)[:4], tmp_path / "run")
    assert read_model(kept).held_out["share"] == 0
    assert read_model(kept).sha256 == read_model(start).sha256
    assert read_model(kept).int8 == found["int8"]


def test_between_start_and_end_lie_their_weighted_means(trained, inverted: Path, tmp_path: Path, monkeypatch) -> None:
    from fewcell.training import blend as module

    seen = []
    reach = "pooled_f1"
    monkeypatch.setattr(module, "still_found", lambda *_: 0.98)
    monkeypatch.setattr(module, reach, lambda segmenter, _: seen.append(1) or Pooled(len(seen) * 0.1, len(seen) * 0.1))
    samples = open_dataset(inverted)
    fit(recipe_of(trained.folder, steps=2), samples, tmp_path / "run")
    assert len(seen) == 5
    end = load_file(tmp_path / "run" / "model" / "weights.safetensors")
    assert read_model(tmp_path / "run" / "model").held_out["share"] == 1.0
    seen.clear()
    monkeypatch.setattr(module, reach, lambda segmenter, _: seen.append(1) or Pooled(0.5, float(len(seen) == 3)))
    fit(recipe_of(trained.folder, steps=2), samples, tmp_path / "half")
    half = load_file(tmp_path / "half" / "model" / "weights.safetensors")
    start = load_file(trained.folder / "weights.safetensors")
    assert read_model(tmp_path / "half" / "model").held_out["share"] == 0.5
    for name, value in half.items():
        if value.dtype.kind == "f":
            mean = (start[name].astype(np.float64) + end[name].astype(np.float64)) / 2
            assert np.allclose(value, mean, atol=2e-3 * max(1, np.abs(mean).max())), name


@pytest.mark.parametrize(("gain", "of_half", "share"), [(0.009, 0.02, 0.0), (0.011, 0.0, 0.25), (0.02, -0.001, 0.0)])
def test_going_further_has_to_be_worth_it(
    trained, inverted: Path, tmp_path: Path, monkeypatch, gain, of_half, share
) -> None:
    """On average over IoU 0.5 to 0.9, and no worse at 0.5."""
    from fewcell.training import blend as module

    seen = []
    monkeypatch.setattr(module, "still_found", lambda *_: 0.98)

    def pooled(*_) -> Pooled:
        seen.append(1)
        return Pooled(0.6 + of_half * (len(seen) > 1), 0.5 + gain * (len(seen) > 1))

    monkeypatch.setattr(module, "pooled_f1", pooled)
    folder = fit(recipe_of(trained.folder, steps=1), open_dataset(inverted), tmp_path / "run")
    assert len(seen) == 5, "the start, and four shares of the way"
    assert read_model(folder).held_out["share"] == share


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"representation": Part(name="flows")}, "representation is boundary, not flows"),
        ({"canonical_diameter_px": 30.0}, "canonical diameter is 24.0, not 30.0"),
        ({"network": Part(name="unet")}, "network is resunet, not unet"),
    ],
)
def test_a_model_of_another_kind_is_no_start(trained, inverted: Path, tmp_path: Path, changes, said) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(recipe_of(trained.folder, **changes), open_dataset(inverted), tmp_path / "run")


@pytest.fixture
def begun(trained) -> dict[str, object]:
    return {"steps": 1, "learning_rate": 1e-9, "start": str(trained.folder), "keep_start": False}


def test_weights_may_be_no_more_than_a_beginning(trained, begun, disc_dataset, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("fewcell.training.memory.Memory.loss", lambda *_: pytest.fail("nothing is to be remembered"))
    folder = fit(tiny_recipe(**begun), open_dataset(disc_dataset), tmp_path / "run")
    facts, start = read_model(folder), read_model(trained.folder)
    there, here = (load_file(f / "weights.safetensors") for f in (trained.folder, folder))
    for name, value in here.items():
        if value.dtype.kind == "f" and "running" not in name:
            assert np.allclose(value, there[name], atol=2e-3 * max(1, np.abs(value).max())), name
    assert set(facts.held_out) == set(start.held_out), "it ends as any training does"
    assert facts.trained_on == start.trained_on
    assert facts.sha256["scale.onnx"] == start.sha256["scale.onnx"]


def test_going_on_with_other_images_keeps_in_mind_what_was_learned_from(
    trained, begun, inverted, tiny_recipe, tmp_path
) -> None:
    recipe = tiny_recipe(**begun, seed=77)  # none of these can have been learned from, whatever the seed
    facts = read_model(fit(recipe, open_dataset(inverted), tmp_path / "run"))
    assert set(facts.trained_on) == {*read_model(trained.folder).trained_on, "inverted"}


@pytest.mark.slow
def test_a_network_that_sees_windows_can_be_taught(disc_dataset, tiny_recipe, tmp_path) -> None:
    network = Part(name="vit-unet", settings={"preset": "small"})
    recipe = tiny_recipe(steps=1, network=network, crop_px=256, batch=2)
    folder = fit(recipe, open_dataset(disc_dataset), tmp_path / "first")
    taught = fit(recipe_of(folder, steps=1), open_dataset(disc_dataset)[:4], tmp_path / "second")
    assert read_model(taught).network.window_px == 256
    assert "f1_50_before" in read_model(taught).held_out


def test_images_without_labels_do_not_make_a_model_forget_what_was_held_out(
    begun, trained, disc_dataset, tiny_recipe, tmp_path
) -> None:
    """A part of a training that learned from a pool besides: the labelled images are the same, so it can go on."""
    shutil.copytree(trained.folder, tmp_path / "with-pool")
    facts = json.loads((tmp_path / "with-pool" / "model.json").read_text())
    (discs,) = facts["trained_on"]
    facts["trained_on"][discs]["unlabelled"] = 9
    facts["trained_on"]["smears"] = {"images": 0, "licence": "MIT", "unlabelled": 4}
    (tmp_path / "with-pool" / "model.json").write_text(json.dumps(facts))
    recipe = tiny_recipe(**(begun | {"start": str(tmp_path / "with-pool")}))
    folder = fit(recipe, open_dataset(disc_dataset), tmp_path / "run")
    known = read_model(folder).trained_on
    assert {source: (of.images, of.unlabelled) for source, of in known.items()} == {discs: (6, 9), "smears": (0, 4)}


def test_what_was_in_the_pool_before_is_not_held_out_now(begun, trained, inverted, tiny_recipe, tmp_path) -> None:
    """A teacher's labels of it were learned from, so it tells nothing of what is new."""
    shutil.copytree(trained.folder, tmp_path / "with-pool")
    facts = json.loads((tmp_path / "with-pool" / "model.json").read_text())
    facts["trained_on"]["inverted"] = {"images": 0, "licence": "MIT", "unlabelled": 4}
    (tmp_path / "with-pool" / "model.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="may have learned from images of inverted"):
        fit(tiny_recipe(**(begun | {"start": str(tmp_path / "with-pool")})), open_dataset(inverted), tmp_path / "run")


def test_what_a_model_learned_from_is_found_again(trained, disc_dataset: Path, inverted: Path) -> None:
    facts = read_model(trained.folder)
    learn, held_out = parts_of(facts, open_dataset(disc_dataset))
    assert (len(learn), len(held_out)) == (6, 2)
    with pytest.raises(ConfigError, match="not trained on these images: of inverted"):
        parts_of(facts, open_dataset(inverted))


def test_going_on_shows_other_crops_than_before(begun, tiny_recipe) -> None:
    def seen(**changes) -> tuple[int, ...]:
        return sitting(tiny_recipe(**(begun | changes)))

    assert seen() != seen(start=None, keep_start=True) == seen(keep_start=True) == ()
    assert seen() == seen()


@pytest.mark.parametrize("changes", [{"seed": 77}, {"held_out": 0.4}, {}])
def test_what_is_held_out_was_not_learned_from_before(begun, disc_dataset, tiny_recipe, tmp_path, changes) -> None:
    samples = open_dataset(disc_dataset)
    samples = samples if changes else samples[:5]  # of other images, others are held out
    with pytest.raises(ConfigError, match="may have learned from images of discs"):
        fit(tiny_recipe(**begun, **changes), samples, tmp_path / "run")


def test_a_model_that_was_trained_further_can_be_taught(trained, tmp_path: Path) -> None:
    shutil.copytree(trained.folder, tmp_path / "further")
    facts = json.loads((tmp_path / "further" / "model.json").read_text())
    facts["recipe"] |= {"start": "runs/earlier/model", "keep_start": False}
    facts["recipe"]["augmentation"] |= {"interference": 0.1}
    (tmp_path / "further" / "model.json").write_text(json.dumps(facts))
    recipe = Recipe(**recipe_from(str(tmp_path / "further")))
    assert recipe.teaches
    assert recipe.start == str(tmp_path / "further")
    assert recipe.augmentation.interference == 0


def test_nothing_to_go_on_from_is_an_error() -> None:
    with pytest.raises(ConfigError, match="name it as start"):
        load_recipe(None, steps=1, keep_start=False)


def test_a_start_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="no model folder 'nowhere'"):
        recipe_from("nowhere")


def test_a_held_out_part_without_a_whole_cell_is_an_error_before_training(
    trained, disc_dataset: Path, tmp_path: Path
) -> None:
    """A quarter of 96 px is not much wider than a disc."""
    with pytest.raises(DataError, match="No whole cell lies in the part of 1 images"):
        fit(recipe_of(trained.folder, seed=2), open_dataset(disc_dataset)[:1], tmp_path / "run")


@pytest.mark.parametrize(("count", "is_cut"), [(3, True), (8, True), (9, False)])
def test_few_images_are_held_out_in_part(trained, inverted: Path, tmp_path: Path, monkeypatch, count, is_cut) -> None:
    parts = []
    monkeypatch.setattr("fewcell.training.lessons.blend", lambda *args, **kwargs: parts.append(args[2:4]))
    monkeypatch.setattr("fewcell.training.lessons.FEW_IMAGES", 9)
    monkeypatch.setattr("fewcell.training.lessons.FEWEST_WHOLE", 8)
    samples = (open_dataset(inverted) * 3)[:count]
    fit(recipe_of(trained.folder, steps=1), samples, tmp_path / "run")
    learn, held_out = parts[0]
    assert len(learn) + len(held_out) == (2 * count if is_cut else count)
    assert all((s.window is not None) == is_cut for s in (*learn, *held_out))


@pytest.mark.parametrize("with_others", [False, True])
def test_the_command_says_before_and_after(
    trained, inverted: Path, draw_discs, tmp_path: Path, with_others: bool
) -> None:
    """Labels alone, by the argument or by its name, and images without labels in a plain folder besides.

    One of these is a copy of a labelled one, and does not count.
    """
    run, others = tmp_path / "run", tmp_path / "others"
    others.mkdir()
    for name, seed in (("new", 60), ("newer", 61), ("newest", 62)):
        Image.fromarray(255 - draw_discs(seed, shape=(96, 176))[0]).save(others / f"{name}.png")
    shutil.copy(inverted / "images" / "dark_20.png", others / "copy.png")
    mine = ["--labelled", str(inverted), "--unlabelled", str(others)] if with_others else [str(inverted)]
    arguments = ["train", *mine, "-o", str(run), "--from-model", str(trained.folder), "--steps", "2"]
    why = "Nothing is learned yet from 3 images without labels: of the cells that the model was surest of"
    with pytest.warns(UserWarning, match=why) if with_others else nullcontext():
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    before = read_model(run / "model").held_out["f1_50_before"]
    said = f"F1 of {trained.folder} on held-out parts, true diameter: {before:.3f}"
    assert 0 <= result.output.find(said) < result.output.find(f"diameter: {before:.3f} before")
    recipe = read_model(run / "model").recipe
    assert recipe["objective"]["name"] == ("consensus" if with_others else "supervised")
    assert len(list(run.glob("rounds/1/labels/*_new_label.json"))) == with_others


def test_only_what_is_taught_may_forget(inverted: Path, tmp_path: Path) -> None:
    arguments = ["train", str(inverted), "-o", str(tmp_path / "run"), "--steps", "2", "--may-forget"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ConfigError)
    assert "--from-model" in str(result.exception)


def test_an_image_with_labels_is_not_learned_from_without_them(trained, inverted: Path, tmp_path: Path) -> None:
    recipe = Recipe(**(recipe_from(str(trained.folder), unlabelled=True) | {"minutes": None, "steps": 1}))
    with pytest.raises(DataError, match="there is none, but for images"):
        fit(recipe, [*open_dataset(inverted), *open_unlabelled([inverted])], tmp_path / "run")


def test_a_model_is_taught_by_images_that_it_has_labelled_itself(trained, draw_discs, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Segmenter, "estimate_scale", lambda *_, **__: Estimate(22.0, 0.99))
    for kind in ("mine/images", "mine/labels", "others"):
        (tmp_path / kind).mkdir(parents=True)
    for seed in range(30, 37):
        image, labels = draw_discs(seed, shape=(96, 176))
        Image.fromarray(image).save(tmp_path / ("mine/images" if seed < 34 else "others") / f"{seed}.png")
        if seed < 34:
            tifffile.imwrite(tmp_path / "mine/labels" / f"{seed}_label.tiff", labels)
    drawn, make = [], lessons_module.CropSource
    monkeypatch.setattr(lessons_module, "CropSource", lambda part, *args: drawn.append(part) or make(part, *args))
    arguments = ["train", "--labelled", str(tmp_path / "mine"), "--unlabelled", str(tmp_path / "others")]
    arguments += ["-o", str(tmp_path / "run"), "--from-model", str(trained.folder), "--steps", "4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    facts = [json.loads(path.read_text()) for path in (tmp_path / "run" / "rounds").glob("1/labels/*.json")]
    assert [its["used"] for its in facts] == [True] * 3
    assert {sample.stem for part in drawn for sample in part if "rounds" in str(sample.labels)} == {"34", "35", "36"}


def test_the_cells_of_few_images_are_counted_together(tmp_path: Path) -> None:
    """One image of nine cells, all found, and one of a single cell, missed: by images that is a half."""
    folder = tmp_path / "few"
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for name, count in (("many", 9), ("one", 1), ("none", 0)):
        labels = np.zeros((40, 120), dtype=np.int32)
        for n in range(count):
            labels[10:20, 5 + 12 * n : 15 + 12 * n] = n + 1
        Image.fromarray(np.full(labels.shape, count, np.uint8)).save(folder / "images" / f"{name}.png")
        tifffile.imwrite(folder / "labels" / f"{name}_label.tiff", labels)
    truth = {int(load_sample(s)[0].pixels[0, 0, 0]): load_sample(s)[1] for s in open_dataset(folder)}

    class Finds:
        def segment(self, image, diameter_px):
            count = int(image.pixels[0, 0, 0])
            shrunk = np.where(np.arange(40)[:, None] < 18, truth[count], 0)  # an IoU of 0.8
            return SimpleNamespace(labels=shrunk.astype(np.int32) if count > 1 else np.zeros((40, 120), np.int32))

    found = pooled_f1(cast(Segmenter, Finds()), open_dataset(folder))
    assert found.f1_50 == pytest.approx(2 * 9 / 19)
    assert found.f1_mean == pytest.approx(found.f1_50 * 4 / 5)
    assert pooled_f1(cast(Segmenter, Finds()), []) == Pooled(0.0, 0.0)
    assert mean_f1_50(cast(Segmenter, Finds()), open_dataset(folder)) == 0.5
    assert mean_f1_50(cast(Segmenter, Finds()), []) == 0.0
