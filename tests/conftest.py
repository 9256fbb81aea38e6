"""Drawn cells, and one tiny model that has learned to find them; made once, and only where a test asks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

Drawn = tuple[NDArray[np.uint8], NDArray[np.int32]]


def _draw_discs(seed: int, shape: tuple[int, int] = (96, 96), radius_px: float = 11.0) -> Drawn:
    """Bright discs of about `radius_px` on noise, apart from each other: an image (height, width) and its labels."""
    rng = np.random.default_rng(seed)
    image, labels, count = rng.normal(40, 8, shape), np.zeros(shape, dtype=np.int32), 0
    for _ in range(shape[0] * shape[1] // 200):
        radius = radius_px * rng.uniform(0.85, 1.15)
        centre = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        around = tuple(
            slice(max(0, int(c - radius) - 3), min(side, int(c + radius) + 4))
            for c, side in zip(centre, shape, strict=True)
        )
        y, x = np.ogrid[around]
        distance = np.hypot(y - centre[0], x - centre[1])
        if not labels[around][distance <= radius + 2].any():
            count += 1
            labels[around][distance <= radius] = count
            image[around][distance <= radius] += 120
    return np.clip(image, 0, 255).astype(np.uint8), labels


@dataclass(frozen=True)
class TrainedModel:
    """A finished training run: its folder, the model folder in it, and the progress that it reported."""

    out: Path
    folder: Path
    progress: list = field(default_factory=list)


@pytest.fixture(scope="session")
def draw_discs() -> Callable[..., Drawn]:
    return _draw_discs


@pytest.fixture(scope="session")
def disc_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of discs in the challenge layout, without a manifest."""
    folder = tmp_path_factory.mktemp("discs")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for seed in range(8):
        image, labels = _draw_discs(seed)
        Image.fromarray(image).save(folder / "images" / f"discs_{seed}.png")
        tifffile.imwrite(folder / "labels" / f"discs_{seed}_label.tiff", labels)
    return folder


@pytest.fixture(scope="session")
def tiny_recipe() -> Callable[..., Any]:
    """Recipes for a network that learns in seconds. Without changes of intensity, which take it longer."""
    from fewcell.config import Augmentation, Part, Recipe

    still = {name: 0.0 for name in Augmentation.model_fields if name not in ("scale_jitter", "empty")}
    values = {
        "network": Part(name="resunet", settings={"widths": [8, 12], "blocks": 1}),
        "representation": Part(name="boundary"),  # is the quickest to learn and to fit
        "augmentation": Augmentation(**still, scale_jitter=1.3, empty=0.15),
        "batch": 4,
        "crop_px": 64,
        "learning_rate": 0.02,
        "ema_decay": 0.9,
        "held_out": 0.25,
        "precision": "f32",
        "threads": 1,
        "workers": 0,
    }

    def make(**changes: Any) -> Recipe:
        return Recipe(**(values | changes))

    return make


@pytest.fixture(scope="session")
def trained(
    disc_dataset: Path, tiny_recipe: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> TrainedModel:
    """The tiny model, trained until it finds the discs."""
    from fewcell.data.dataset import open_dataset
    from fewcell.training.fit import fit

    out, progress = tmp_path_factory.mktemp("run"), []
    recipe = tiny_recipe(steps=150, checkpoint_minutes=0.005)
    folder = fit(recipe, open_dataset(disc_dataset), out, report=progress.append)
    return TrainedModel(out, folder, progress)
