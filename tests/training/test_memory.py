"""What a model that is taught something new goes on saying of everything else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from fewcell.config import Augmentation
from fewcell.data.collage import PICTURES, collage, photographs
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import open_dataset
from fewcell.images import read_image
from fewcell.networks import make_network
from fewcell.representations import REPRESENTATIONS, make_representation
from fewcell.segmenter import Segmenter, network_of, read_model
from fewcell.training import fit as fit_module
from fewcell.training.batches import make_batch
from fewcell.training.blend import recipe_from
from fewcell.training.fit import fit
from fewcell.training.memory import COLLAGES, Memory, draw_collages, replay

NOWHERE = Path("no such folder")


@pytest.fixture
def representation():
    return make_representation("boundary")


def drawn_network(representation, seed):
    torch.manual_seed(seed)
    return make_network("resunet", len(representation.channels), {"widths": [8, 12], "blocks": 1}).eval()


@pytest.fixture
def batch(disc_dataset, representation):
    """Two crops with labels, two to remember by."""
    learn, grid = open_dataset(disc_dataset)[:2], Grid(64, 2, representation.margin_px, 24.0)
    sources = [CropSource(learn, grid, Augmentation()), replay(grid, 1, NOWHERE)]
    sources = [sources[i] for i in (0, 0, 1, 1)]
    batch = make_batch(sources, representation, [0, 1, 0, 7], [np.random.default_rng(i) for i in range(4)])
    assert batch.known.flatten(1).any(1).tolist() == [True, True, False, False]
    return batch


def test_a_network_that_is_still_the_start_has_forgotten_nothing(representation, batch) -> None:
    start = drawn_network(representation, 0)
    memory = Memory(start, representation)
    assert float(memory.loss(start(batch.images), batch).detach()) == pytest.approx(0, abs=1e-6)
    other = drawn_network(representation, 1)
    loss = memory.loss(other(batch.images), batch)
    assert float(loss.detach()) > 0.01
    loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in other.parameters())


def test_only_what_is_not_known_counts(representation, batch) -> None:
    start, other = (drawn_network(representation, seed) for seed in (0, 1))
    output = start(batch.images).detach()
    output[:2] = other(batch.images[:2])
    memory = Memory(start, representation)
    inside = memory.loss(torch.where(batch.known[:, None], output, start(batch.images)), batch)
    assert float(inside.detach()) == pytest.approx(0, abs=1e-6)
    batch.known[:] = True
    assert float(memory.loss(output, batch).detach()) == 0


def test_a_memory_does_not_change_with_the_network(representation, batch) -> None:
    start = drawn_network(representation, 0)
    memory = Memory(start, representation)
    with torch.no_grad():
        for parameter in start.parameters():
            parameter += 1
    assert float(memory.loss(start(batch.images), batch).detach()) > 0


def test_pictures_to_remember_by_are_there_and_can_be_read() -> None:
    source = replay(Grid(64, 2, 0, 24.0), 1, NOWHERE)
    assert len(source.samples) == len(PICTURES)
    assert source.pyramids.preload() == []
    assert all(sample.labels is None for sample in source.samples)


def test_training_that_begins_with_a_model_remembers_it(trained, disc_dataset, tmp_path, monkeypatch) -> None:
    losses, loss = [], Memory.loss
    monkeypatch.setattr(Memory, "loss", lambda *args: losses.append(loss(*args)) or losses[-1])
    monkeypatch.setattr(fit_module.Lessons, "write_model", lambda *_: None)
    recipe = fit_module.Recipe(**(recipe_from(str(trained.folder)) | {"minutes": None, "steps": 10}))
    fit(recipe, open_dataset(disc_dataset)[:4], tmp_path)
    assert len(losses) == 10
    assert float(losses[0].detach()) < max(float(value.detach()) for value in losses[1:]), "it began as the start"


def test_collages_to_remember_by_are_those_whose_cells_the_start_finds(trained, tmp_path, all_drawn) -> None:
    facts = read_model(trained.folder)
    representation = make_representation(facts.representation.name, facts.representation.settings)
    start = network_of(trained.folder, len(representation.channels))
    draw_collages(tmp_path / "known", 24.0, Memory(start, representation))
    kept = sorted(path.name for path in (tmp_path / "known").iterdir())
    assert 3 <= len(kept) < COLLAGES, "this one knows bright discs alone"
    source = replay(Grid(64, 2, 0, 24.0), 1, tmp_path / "known")
    assert source.pyramids.preload() == []
    assert [s.image.name for s in source.samples if s.source == "collages"] == kept
    segmenter = Segmenter.load(trained.folder)
    found = [segmenter.segment(read_image(tmp_path / "known" / name), diameter_px=24.0) for name in kept]
    assert np.mean([len(cells.instances) >= 3 for cells in found]) > 0.7
    torch.manual_seed(0)
    for parameter in start.parameters():
        torch.nn.init.normal_(parameter, 0, 1e-3)
    draw_collages(tmp_path / "none", 24.0, Memory(start, representation))
    assert len(list((tmp_path / "none").iterdir())) <= 2, "but for fields that are all cells"


def test_a_network_that_sees_windows_is_shown_collages_of_their_size(tmp_path) -> None:
    representation = make_representation("boundary", {})
    torch.manual_seed(0)
    network = make_network("vit-unet", len(representation.channels), {"preset": "small"})
    assert network.window_px == 256
    memory = Memory(network, representation)
    memory.knows = lambda picture, cells: bool(Memory.knows(memory, picture, cells)) or True  # whatever it says
    draw_collages(tmp_path / "drawn", 24.0, memory, network.window_px)
    assert {read_image(path).pixels.shape for path in (tmp_path / "drawn").iterdir()} == {(3, 256, 256)}


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_cells_that_any_representation_finds_are_known(name, monkeypatch) -> None:
    image, cells = collage(photographs(), 256, 32.0, np.random.default_rng(4))
    labels = ndimage.label(cells[1::2, 1::2])[0].astype(np.int32)
    picture = np.clip(image * 255, 0, 255).astype(np.uint8).transpose(2, 0, 1)
    representation = make_representation(name)
    said = torch.from_numpy(representation.targets(labels))[None]
    monkeypatch.setattr(type(representation), "activate", lambda self, output: said)
    memory = Memory(torch.nn.Conv2d(3, 3, 1), representation)
    assert memory.knows(picture, cells)
    assert not memory.knows(picture, np.where(cells > 0, 0, np.roll(cells, 128, axis=0)))
