"""The challenge's container, without Docker: its script on folders, and what its recipe copies."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as PillowImage

from fewcell.images import read_labels
from fewcell.segmenter import read_seconds
from fewcell.slides import LARGE_PX

ROOT = Path(__file__).parents[1]


def predict(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the script as the challenge does, with the `fewcell` of this environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["sh", str(ROOT / "predict.sh"), *map(str, arguments)]
    return subprocess.run(
        command, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_every_image_gets_its_labels_large_ones_included(draw_discs, tmp_path) -> None:
    inputs, outputs = tmp_path / "in puts", tmp_path / "out puts"
    inputs.mkdir()
    PillowImage.fromarray(draw_discs(0, shape=(200, 300))[0]).save(inputs / "cell_1.png")
    large = np.zeros((5000, LARGE_PX // 5000), np.uint8)
    large[:1000, :1500] = np.tile(draw_discs(1, shape=(200, 300))[0], (5, 5))
    tifffile.imwrite(inputs / "cell_2.tif", large)
    (inputs / "broken.png").write_bytes(b"no picture")
    done = predict(inputs, outputs, "--diameter", 22, "--threads", 1)
    assert done.returncode == 1, done.stderr
    assert "1 of 3 files failed" in done.stderr
    assert sorted(p.name for p in outputs.iterdir()) == ["cell_1_label.tiff", "cell_2_label.tiff", "seconds.csv"]
    assert read_labels(outputs / "cell_1_label.tiff").max() > 30
    labels = read_labels(outputs / "cell_2_label.tiff")
    assert labels.shape == large.shape
    assert labels.max() > 500
    assert set(read_seconds(outputs)) == {"cell_1", "cell_2"}


def test_without_images_it_fails_and_says_why(tmp_path) -> None:
    done = predict(tmp_path / "nowhere", tmp_path / "out")
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_the_recipe_copies_what_is_there_and_ends_in_the_script() -> None:
    recipe = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    let_in = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [name for line in re.findall(r"^COPY (.*) \S+$", recipe, re.MULTILINE) for name in line.split()]
    assert {"src", "predict.sh", "pyproject.toml"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in let_in, f"{name} is copied, but .dockerignore keeps it out"
    assert re.search(r"^WORKDIR /workspace$", recipe, re.MULTILINE)
    script = (ROOT / "predict.sh").read_text(encoding="utf-8")
    assert "${1:-/workspace/inputs}" in script
    assert "${2:-/workspace/outputs}" in script
