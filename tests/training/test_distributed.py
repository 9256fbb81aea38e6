"""Two processes share a run. Were they to call collectives a different number of times, they would wait for ever."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

TIMEOUT_S = 120

# The second process has a clock that runs faster, so that whatever it decides for itself comes at other steps than
# in the first.
DRIVER = """
import json, os, sys, time
from pathlib import Path
from types import SimpleNamespace

from safetensors.torch import save_file

from fewcell.config import Recipe
from fewcell.data.dataset import open_dataset
from fewcell.training import fit as fit_module

rank, out = int(os.environ["RANK"]), Path(sys.argv[1])
values, wrote, runs = json.loads(sys.argv[3]), [], []
fit_module.REPORT_SECONDS = 0.1
if rank:
    fit_module.time = SimpleNamespace(perf_counter=lambda: 2.3 * time.perf_counter())


def watch(name, keep=None):
    function = getattr(fit_module, name)

    def watched(*args):
        wrote.append(name)
        return function(*args)

    setattr(fit_module, name, watched)


for name in ("save_checkpoint", "finish", "_log", "_rewind_log"):
    watch(name)
begin = fit_module._begin
fit_module._begin = lambda *args: runs.append(begin(*args)) or runs[0]

try:
    fit_module.fit(
        Recipe(**values), open_dataset(sys.argv[2]), out / "run", report=lambda progress: wrote.append("report")
    )
except fit_module.ConfigError as error:
    (out / f"error_{rank}.txt").write_text(str(error))
else:
    save_file({k: v.detach().contiguous() for k, v in runs[0].network.named_parameters()}, out / f"{rank}.safetensors")
    facts = {"step": runs[0].step, "wrote": sorted(set(wrote))}
    (out / f"{rank}.json").write_text(json.dumps(facts))
"""


def run_two_processes(recipe, dataset, out):
    driver = out / "driver.py"
    driver.write_text(DRIVER)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(driver), str(out), str(dataset), recipe.model_dump_json()]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        torchrun + arguments,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output = process.communicate(timeout=TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"The two processes did not end in {TIMEOUT_S} s.\n{process.communicate()[0]}")
    assert process.returncode == 0, output


@pytest.mark.slow
@pytest.mark.parametrize("budget", [{"steps": 20}, {"minutes": 0.04}], ids=["steps", "minutes"])
def test_two_processes_end_together_with_the_same_weights(budget, tiny_recipe, disc_dataset, tmp_path):
    run_two_processes(tiny_recipe(**budget, checkpoint_minutes=0.005), disc_dataset, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["step"] == second["step"] == budget.get("steps", first["step"])
    assert first["step"] > 5
    assert first["wrote"] == ["_log", "_rewind_log", "finish", "report", "save_checkpoint"]
    assert second["wrote"] == []
    assert (tmp_path / "run" / "model" / "model.json").is_file()

    weights, others = (load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert weights.keys() == others.keys()
    assert [k for k in weights if not torch.equal(weights[k], others[k])] == []
    saved = load_file(tmp_path / "run" / "checkpoint.safetensors")
    assert [k for k in weights if not torch.equal(weights[k], saved[f"network/{k}"])] == []


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_evenly_is_refused_by_all(tiny_recipe, disc_dataset, tmp_path):
    run_two_processes(tiny_recipe(steps=2, batch=3), disc_dataset, tmp_path)
    for rank in (0, 1):
        assert "2 processes cannot share a batch of 3" in (tmp_path / f"error_{rank}.txt").read_text()
    assert not (tmp_path / "run").exists()
