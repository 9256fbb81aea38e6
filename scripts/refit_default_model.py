#!/usr/bin/env python
"""Fit scorers and thresholds of the model inside the package anew, its networks as they are.

    scripts/refit_default_model.py [TRAIN_FOLDER]

For a change of how cells are read or judged, which needs no training. The images that the model has learned from, and
those held out, are those of its own recipe. Its int8 network is made again as well, and measured.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from fewcell.config import load_recipe
from fewcell.data.dataset import open_dataset
from fewcell.representations import make_representation
from fewcell.segmenter import find_model, network_of, read_model, write_model
from fewcell.segmenter.model_folder import NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE
from fewcell.training.finish import finish
from fewcell.training.lessons import parts_of
from fewcell.training.quantise import add_int8

folder = find_model("default")
before = read_model(folder)
recipe = load_recipe(None, **before.recipe | {"start": None, "keep_start": True})
learned_from, held_out = parts_of(before, open_dataset(Path(*sys.argv[1:] or ["../shared/data/train"])))
representation = make_representation(recipe.representation.name, recipe.representation.settings)
network = network_of(folder, len(representation.channels))
with tempfile.TemporaryDirectory() as temporary:
    made = Path(temporary) / "model"
    finish(network, representation, recipe, learned_from, held_out, made, folder / SCALE_FILE)
    facts = read_model(made).model_copy(update={"trained_on": before.trained_on, "recipe": before.recipe})
    write_model(made, facts, *(folder / name for name in (NETWORK_FILE, SCALE_FILE, WEIGHTS_FILE)))
    print(add_int8(made, learned_from, held_out))
    shutil.copytree(made, folder, dirs_exist_ok=True)  # beside what else is there: the NOTICE
