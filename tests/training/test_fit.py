import torch
import pytest
from safetensors.torch import load_file
from fewcell.data.dataset import open_dataset
from fewcell.training import fit as fit_module
from fewcell.training.fit import fit

class Killed(Exception):
    pass

def kill_at(step):
    def report(progress):
        if progress.step >= step:
            raise Killed
    return report

def test_resume(disc_dataset, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "finish", lambda *a: None)
    recipe = tiny_recipe(steps=24, checkpoint_minutes=1e-6)
    samples = open_dataset(disc_dataset)
    fit(recipe, samples, tmp_path / "whole")
    with pytest.raises(Killed):
        fit(recipe, samples, tmp_path / "killed", report=kill_at(10))
    fit(recipe, samples, tmp_path / "killed", resume=True)
    whole, resumed = (load_file(tmp_path / run / "checkpoint.safetensors") for run in ("whole", "killed"))
    assert whole.keys() == resumed.keys()
    assert {k for k in whole if not torch.equal(whole[k], resumed[k])} == set()
