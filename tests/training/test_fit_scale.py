"""The scale network learns; a killed training goes on to the same bits; a run without one takes that of a model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from skimage.segmentation import clear_border

from fewcell.data import crops as module
from fewcell.data.dataset import diameter_px, load_sample, open_dataset
from fewcell.errors import ConfigError, DataError
from fewcell.networks import ScaleNetwork
from fewcell.segmenter import N_CLASSES, SCALE_FILE, class_of, find_model, scales_of
from fewcell.training import lessons as lessons_module
from fewcell.training import scale
from fewcell.training.fit import _forget, fit
from fewcell.training.machine import machine
from fewcell.training.scale import scale_file

STILL = {"rotate": 0.0, "gray": 0.0, "blur": 0.0}


@pytest.fixture
def samples(disc_dataset):
    return open_dataset(disc_dataset)


class Killed(Exception):
    pass


def loss(output, diameters):
    return scale._loss(output, diameters, scale._right(diameters))


def test_the_loss_is_least_where_the_network_is_right():
    diameters = torch.tensor([10.0, 40.0, 0.0, float("nan")])
    right = torch.full((4, N_CLASSES + 1), -9.0)
    for row, place in enumerate(class_of(diameters[:2].numpy()).round().astype(int)):
        right[row, place - 1 : place + 2] = torch.tensor([1.0, 2.0, 1.0])
    right[:, -1] = torch.tensor([9.0, 9.0, -9.0, 0.0])
    best = loss(right, diameters)
    for change in (lambda o: o.roll(5, dims=1), lambda o: -o, torch.zeros_like):
        wrong = right.clone()
        wrong[:, :-1] = change(right[:, :-1])
        assert loss(wrong, diameters) > best + 0.5
    absent = right.clone()
    absent[:3, -1] *= -1
    assert loss(absent, diameters) > best + 5


def test_what_is_not_known_teaches_nothing():
    output = torch.randn(3, N_CLASSES + 1, requires_grad=True)
    loss(output, torch.tensor([float("nan"), 20.0, 0.0])).backward()
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()
    assert not output.grad[0].any()
    assert not output.grad[2, :-1].any(), "an image without cells has no diameter"
    assert output.grad[1].any()


def test_a_batch_of_which_nothing_is_known_does_no_harm():
    output = torch.randn(2, N_CLASSES + 1, requires_grad=True)
    value = loss(output, torch.tensor([float("nan")] * 2))
    value.backward()
    assert value == 0
    assert output.grad is not None
    assert not output.grad.any()


def test_a_killed_training_goes_on_to_the_same_bits(samples, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "BATCH", 4)
    recipe = tiny_recipe(steps=1, scale_steps=4, checkpoint_minutes=1e-9)
    loss, calls = scale._loss, []

    def killed(output, diameters, right):
        calls.append(1)
        if len(calls) == 3:
            raise Killed
        return loss(output, diameters, right)

    reports = []
    with machine(recipe) as here:
        for name in ("whole", "killed"):
            (tmp_path / name).mkdir()
        whole = scale_file(recipe, samples, here, tmp_path / "whole", reports.append)
        assert [(progress.step, progress.share_done) for progress in reports] == [(1, 0.25)]
        monkeypatch.setattr(scale, "_loss", killed)
        with pytest.raises(Killed):
            scale_file(recipe, samples, here, tmp_path / "killed")
        assert not (tmp_path / "killed" / SCALE_FILE).exists()
        monkeypatch.setattr(scale, "_loss", loss)
        resumed = scale_file(recipe, samples, here, tmp_path / "killed")
        assert resumed.read_bytes() == whole.read_bytes()
        assert [path.name for path in resumed.parent.iterdir()] == [SCALE_FILE]
        made = resumed.stat().st_mtime_ns
        assert scale_file(recipe, samples, here, tmp_path / "killed").stat().st_mtime_ns == made, "trained once"
        _forget(tmp_path / "killed")
        assert not [*(tmp_path / "killed").iterdir()], "what another run left teaches nothing"


def test_a_training_that_diverges_says_so(samples, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "BATCH", 2)
    monkeypatch.setattr(scale, "_loss", lambda output, diameters, right: output.sum() * float("nan"))
    recipe = tiny_recipe(steps=1, scale_steps=2)
    with machine(recipe) as here, pytest.raises(ConfigError, match=r"not finite at step 0.*another seed"):
        scale_file(recipe, samples, here, tmp_path)
    assert not (tmp_path / SCALE_FILE).exists()


def test_without_steps_the_scale_network_is_that_of_the_start_or_the_package(samples, tiny_recipe, trained, tmp_path):
    recipe = tiny_recipe(steps=1)
    with machine(recipe) as here:
        assert scale_file(recipe, samples, here, tmp_path) == find_model("default") / SCALE_FILE
        begun = recipe.model_copy(update={"start": str(trained.folder)})
        assert scale_file(begun, samples, here, tmp_path) == trained.folder / SCALE_FILE
    assert (trained.folder / SCALE_FILE).read_bytes() == (find_model("default") / SCALE_FILE).read_bytes()


def _seen_px(image):
    """How wide the median of the bright things in a picture is, of those that its edge does not cut."""
    bright = image.mean(axis=0)
    regions = regionprops(clear_border(label(bright > threshold_otsu(bright))))
    return np.median([region.equivalent_diameter_area for region in regions if region.area > 30])


def test_pictures_show_cells_of_all_sizes_and_say_which(samples, tiny_recipe, monkeypatch):
    crops = scale._Crops(tiny_recipe(steps=1), samples)
    crops.source.settings = crops.source.settings.model_copy(update=STILL | {"empty": 0.0, "defocus": 0.0})
    monkeypatch.setattr(module, "ALONE", 0.0)
    monkeypatch.setattr(module, "DRAWN", 0.0)
    true = diameter_px(load_sample(samples[0])[1])
    sizes, seen = [], []
    for seed in range(40):
        image, diameter = crops.source.picture(0, np.random.default_rng(seed))
        assert (image.shape, image.dtype) == ((3, 256, 256), np.float32)
        sizes.append(diameter)
        if 12 < diameter < 50:
            seen.append(_seen_px(image) / diameter)
    assert min(sizes) < 4
    assert max(sizes) > 90
    assert len(seen) > 5
    whole = diameter_px(clear_border(load_sample(samples[0])[1]))
    assert np.median(seen) == pytest.approx(whole / true, abs=0.05)
    assert np.ptp(seen) < 0.5
    wide = replace(samples[0], diameter_px=3 * true)
    twice = scale._Crops(tiny_recipe(steps=1), [wide])
    twice.source.settings = crops.source.settings
    assert twice.source.picture(0, np.random.default_rng(3))[1] == pytest.approx(sizes[3]), "that of the picture"


def test_a_picture_without_cells_has_none_and_of_what_is_not_annotated_nothing_is_known(samples, tiny_recipe):
    crops = scale._Crops(tiny_recipe(steps=1), [samples[0], replace(samples[1], labels=None)])
    crops.source.settings = crops.source.settings.model_copy(update={"empty": 1.0})
    assert crops.source.picture(0, np.random.default_rng(0))[1] == 0
    crops.source.settings = crops.source.settings.model_copy(update={"empty": 0.0, "defocus": 1.0})
    assert crops.source.picture(0, np.random.default_rng(0))[1] == 0
    crops.source.settings = crops.source.settings.model_copy(update={"defocus": 0.0})
    assert np.isnan(crops.source.picture(1, np.random.default_rng(0))[1])


def test_pictures_as_they_are_looked_at_show_an_image_at_such_scales(samples, tiny_recipe, monkeypatch):
    monkeypatch.setattr(module, "DRAWN", 0.0)
    crops = scale._Crops(tiny_recipe(steps=1), samples)
    crops.source.settings = crops.source.settings.model_copy(update=STILL | {"empty": 0.0, "defocus": 0.0})
    true = diameter_px(load_sample(samples[0])[1])
    drawn = [crops.source.picture(0, np.random.default_rng(seed), lambda shape: (0.5, 2.0))[1] for seed in range(80)]
    drawn = np.array([diameter for diameter in drawn if diameter > 0]) / true
    assert drawn.min() == pytest.approx(0.5, rel=0.2)
    assert drawn.max() == pytest.approx(2.0, rel=0.2)


def test_boxes_teach_the_scale_whatever_else_is_learned_from(samples, tiny_recipe, tmp_path, monkeypatch):
    """Images with boxes are learned from, told of as such, and part of what a run is bound to; others are not."""
    monkeypatch.setattr(scale, "BATCH", 2)
    learned, told = [], []
    make = scale._Crops
    monkeypatch.setattr(scale, "_Crops", lambda *args: learned.append(make(*args)) or learned[-1])
    monkeypatch.setattr(lessons_module, "finish", lambda *args, also_seen, **kwargs: told.append(also_seen))
    (tmp_path / "boxes.csv").write_text("y0,x0,y1,x1\n10,10,40,40\n")
    boxed = replace(samples[0], labels=None, boxes=tmp_path / "boxes.csv")
    unlabelled = replace(samples[1], labels=None)
    data, recipe = [boxed, unlabelled, *samples[2:]], tiny_recipe(steps=1, scale_steps=2)
    fit(recipe, data, tmp_path / "run")
    source = learned[0].source
    assert unlabelled not in source.samples
    pictures = [
        source.picture(source.samples.index(boxed), np.random.default_rng(i), lambda _: (1, 1)) for i in range(20)
    ]
    assert sum(diameter == pytest.approx(30, rel=0.01) for _, diameter in pictures) > 3
    assert told == [[boxed]]
    with pytest.raises(DataError, match="other images"):
        fit(recipe, [replace(boxed, stem="other"), *data[1:]], tmp_path / "run", resume=True)
    fit(tiny_recipe(steps=1), data, tmp_path / "without")
    assert told[1:] == [[]], "no scale network is trained, so nobody learned from it"


def test_most_pictures_are_as_an_image_is_looked_at(samples, tiny_recipe, monkeypatch):
    crops = scale._Crops(tiny_recipe(steps=1), samples)
    picture, asked = crops.source.picture, []
    monkeypatch.setattr(crops.source, "picture", lambda i, rng, scales: asked.append(scales) or picture(i, rng, scales))
    crops[0]
    assert set(asked) == {None, scales_of}
    assert asked.count(scales_of) > len(asked) / 2


def test_how_often_widths_were_there_in_training_is_counted_and_evened_out(samples, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "BATCH", 4)
    expect, seen = ScaleNetwork.expect, []
    monkeypatch.setattr(
        ScaleNetwork, "expect", lambda network, p: seen.append(network.seen.sum()) or expect(network, p)
    )
    recipe = tiny_recipe(steps=1, scale_steps=2)
    with machine(recipe) as here:
        scale_file(recipe, samples, here, tmp_path)
    assert len(seen) == 1
    assert seen[0] > 0


def test_what_a_network_expects_changes_by_bayes_rule():
    """Its logits grow by how much likelier each class is held for than it was in training, and no more."""
    torch.manual_seed(0)
    network = ScaleNetwork(3).eval()
    network.seen.copy_(torch.tensor([10.0, 30.0, 60.0]))
    image = torch.rand(2, 3, 64, 64)
    before = network(image)
    network.expect(torch.tensor([0.2, 0.3, 0.5]))
    change = network(image) - before
    expected = torch.log(torch.tensor([2.0, 1.0, 0.5 / 0.6]))
    assert torch.allclose(change[:, :-1], expected.expand(2, 3), atol=1e-5)
    assert torch.allclose(change[:, -1], torch.zeros(2), atol=1e-5)
    again = network(image)
    network.expect(torch.tensor([0.2, 0.3, 0.5]))
    assert torch.allclose(network(image), again, atol=1e-5), "it expects that already"
