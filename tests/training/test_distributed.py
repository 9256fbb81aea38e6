"""Two processes share a run. Were they to call collectives a different number of times, they would wait for ever."""

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from fewcell.config import Part, Recipe
from fewcell.data.dataset import open_dataset
from fewcell.errors import ConfigError
from fewcell.segmenter import read_model
from fewcell.training import fit as fit_module
from fewcell.training import scale as scale_module
from fewcell.training import state as state_module
from fewcell.training.blend import recipe_from
from fewcell.training.machine import Machine

TIMEOUT_S = 120

# Processes that wait for ever are ended by their own alarm: torchrun starts them in sessions of their own, where
# killing torchrun would not reach them. The second process has a clock that runs faster, so that whatever it decides
# for itself comes at other steps than in the first.
DRIVER = """
import json, os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import save_file

from fewcell.config import Recipe
from fewcell.data.dataset import open_dataset
from fewcell.segmenter import Segmenter
from fewcell.segmenter.scale import Estimate
from fewcell.training import fit as fit_module, forgetting, lessons as lessons_module, memory
from fewcell.training import scale as scale_module, state as state_module
from fewcell.training.teacher import Teacher

signal.alarm(int(sys.argv[4]))
rank, out = int(os.environ["RANK"]), Path(sys.argv[1])
values, wrote, runs, labelled = json.loads(sys.argv[3]), [], [], []
fit_module.REPORT_SECONDS = 0.1
memory.COLLAGES = forgetting.FIELDS = 12
if rank:
    fit_module.time = SimpleNamespace(perf_counter=lambda: 2.3 * time.perf_counter())


def watch(module, name):
    function = getattr(module, name)

    def watched(*args, **kwargs):
        wrote.append(name)
        return function(*args, **kwargs)

    setattr(module, name, watched)


def train_scale(*args):
    network = trained_scale(*args)
    weights = {k: v.detach().contiguous() for k, v in network.named_parameters()}
    save_file(weights, out / f"scale-{rank}.safetensors")
    return network


trained_scale, scale_module._train, scale_module.BATCH = scale_module._train, train_scale, 4
watch(scale_module, "save_checkpoint")
watch(state_module, "save_checkpoint")
watch(lessons_module, "finish")
watch(lessons_module, "blend")
watch(fit_module, "rewind_log")
watch(fit_module, "write_log")
label, Teacher.label = Teacher.label, lambda *args: labelled.append(args[1].stem) or label(*args)
begin = fit_module.begin
fit_module.begin = lambda *args: runs.append(begin(*args)) or runs[0]

recipe, samples = Recipe(**values), open_dataset(sys.argv[2])
if recipe.objective.name != "supervised":
    samples = [sample if i < 4 else replace(sample, labels=None) for i, sample in enumerate(samples)]
    Segmenter.estimate_scale = lambda *_, **__: Estimate(22.0, 0.99)  # the scale of discs is not what is tested
fit_module.fit(recipe, samples, out / "run", report=lambda _: wrote.append("report"))
save_file({k: v.detach().contiguous() for k, v in runs[0].network.named_parameters()}, out / f"{rank}.safetensors")
(out / f"{rank}.json").write_text(json.dumps({"step": runs[0].step, "wrote": sorted(set(wrote)), "labelled": labelled}))
"""


def run_two_processes(recipe, dataset, out):
    driver = out / "driver.py"
    driver.write_text(DRIVER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(driver), str(out), str(dataset), recipe.model_dump_json(), str(TIMEOUT_S)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        torchrun + arguments, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S + 60, check=False
    )
    assert done.returncode == 0, f"The two processes failed, or had not ended after {TIMEOUT_S} s.\n{done.stderr}"


def assert_together(tmp_path):
    """Both processes have the same weights, which are those of the checkpoint; only the first wrote. Its facts."""
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["step"] == second["step"]
    assert second["wrote"] == []
    assert (tmp_path / "run" / "model" / "model.json").is_file()
    weights, others = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert weights.keys() == others.keys()
    assert [k for k in weights if not torch.equal(weights[k], others[k])] == []
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert [k for k in weights if not torch.equal(weights[k], saved[f"network/{k}"])] == []
    return first


@pytest.mark.slow
@pytest.mark.parametrize("budget", [{"steps": 20}, {"minutes": 0.04}], ids=["steps", "minutes"])
def test_two_processes_end_together_with_the_same_weights(budget, tiny_recipe, disc_dataset, tmp_path):
    run_two_processes(tiny_recipe(**budget, checkpoint_minutes=0.005), disc_dataset, tmp_path)
    first = assert_together(tmp_path)
    assert first["step"] == budget.get("steps", first["step"])
    assert first["step"] > 1
    assert first["wrote"] == ["finish", "report", "rewind_log", "save_checkpoint", "write_log"]


@pytest.mark.slow
def test_two_processes_share_the_training_of_the_scale_network(tiny_recipe, disc_dataset, tmp_path):
    run_two_processes(tiny_recipe(steps=2, scale_steps=3, checkpoint_minutes=1e-9), disc_dataset, tmp_path)
    assert_together(tmp_path)
    weights, others = (load_file(tmp_path / f"scale-{rank}.safetensors") for rank in (0, 1))
    assert [k for k in weights if not torch.equal(weights[k], others[k])] == []
    made, shipped = ((tmp_path / "run" / name / "scale.onnx").read_bytes() for name in (".", "model"))
    assert made == shipped
    assert not list((tmp_path / "run").glob("scale-training*"))


def test_two_processes_see_other_crops(tiny_recipe, disc_dataset):
    recipe, samples = tiny_recipe(steps=1), open_dataset(disc_dataset)
    whole, first, second = (scale_module._Crops(recipe, samples, *place)[3][1] for place in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(torch.stack([first, second], dim=1).flatten().nan_to_num(-1), whole.nan_to_num(-1))


@pytest.mark.slow
def test_two_processes_share_the_rounds_of_a_teacher(tiny_recipe, disc_dataset, tmp_path):
    settings = {"at": [0.6, 0.8], "images": 3, "precision": 0.0}
    objective = Part(name="consensus", settings=settings)
    run_two_processes(tiny_recipe(steps=80, objective=objective), disc_dataset, tmp_path)
    assert assert_together(tmp_path)["step"] == 80
    facts = [json.loads(path.read_text()) for path in (tmp_path / "run" / "rounds").glob("*/labels/*.json")]
    assert len(facts) == 6, "three images in each of two rounds"
    assert any(fact["used"] for fact in facts)
    labelled = [json.loads((tmp_path / f"{rank}.json").read_text())["labelled"] for rank in (0, 1)]
    assert [len(stems) for stems in labelled] == [4, 2], "of three images the first takes two, in each round"
    for first, second in zip((labelled[0][:2], labelled[0][2:]), labelled[1], strict=True):
        assert second not in first


@pytest.mark.slow
def test_two_processes_share_a_mean_teacher(tiny_recipe, disc_dataset, tmp_path):
    run_two_processes(tiny_recipe(steps=6, objective=Part(name="mean_teacher")), disc_dataset, tmp_path)
    assert assert_together(tmp_path)["step"] == 6
    looked_at = [(tmp_path / "run" / f"pool-diameters-{rank}.jsonl").read_text().split() for rank in (0, 1)]
    assert [len(lines) > 0 for lines in looked_at] == [True, True], "the two look at images without labels in turns"


@pytest.mark.slow
def test_two_processes_teach_a_model(trained, disc_dataset, tmp_path):
    recipe = Recipe(**(recipe_from(str(trained.folder)) | {"minutes": None, "steps": 3}))
    run_two_processes(recipe, disc_dataset, tmp_path)
    first = assert_together(tmp_path)
    assert first["step"] == 3
    assert "blend" in first["wrote"]
    assert "finish" not in first["wrote"]
    assert read_model(tmp_path / "run" / "model").held_out["f1_50_before"] > 0.5


def test_every_process_needs_a_crop_with_labels_where_a_pool_has_none(tiny_recipe, disc_dataset, tmp_path, monkeypatch):
    four = Machine(torch.device("cpu"), torch.float32, world=4)
    monkeypatch.setattr(fit_module, "machine", lambda recipe: nullcontext(four))
    monkeypatch.setattr(state_module, "DistributedDataParallel", lambda network: network)
    samples = open_dataset(disc_dataset)
    data = [*samples[:5], *(replace(sample, labels=None) for sample in samples[5:])]
    recipe = tiny_recipe(steps=1, batch=4, objective=Part(name="mean_teacher"))
    with pytest.raises(ConfigError, match="2 have labels, and each of 4 processes needs one"):
        fit_module.fit(recipe, data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tiny_recipe, disc_dataset, tmp_path, monkeypatch):
    two = Machine(torch.device("cpu"), torch.float32, rank=1, world=2)
    monkeypatch.setattr(fit_module, "machine", lambda recipe: nullcontext(two))
    with pytest.raises(ConfigError, match="2 processes cannot share a batch of 3"):
        fit_module.fit(tiny_recipe(steps=2, batch=3), open_dataset(disc_dataset), tmp_path / "run")
    assert not (tmp_path / "run").exists()
