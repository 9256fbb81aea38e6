"""Teaching from the page: what it begins with, what it says, keep or drop. The training itself is the command's."""

import json
import shutil
import sys

import pytest

from fewcell.errors import ConfigError
from fewcell.segmenter import find_model
from fewcell.web import teaching
from fewcell.web.work_folder import WorkFolder

CELLS = "/api/images/discs.png/cells/default"


@pytest.fixture
def taught(root):
    """A folder in which teaching has led to a model, which is the default one under other scores."""
    model = root / "fewcell" / "teaching" / "run" / "model"
    shutil.copytree(find_model("default"), model)
    facts = json.loads((model / "model.json").read_text())
    facts["held_out"] = {"f1_50": 0.8, "f1_50_before": 0.7, "share": 0.5}
    (model / "model.json").write_text(json.dumps(facts))
    return root


def test_nothing_is_taught_without_corrections(client):
    answer = client.post("/api/teaching", json={"model": "default"})
    assert answer.status_code == 409
    assert "nothing to learn from" in answer.json()["error"]
    for path in ("keep", "drop"):
        assert client.post(f"/api/teaching/{path}").status_code == 409
    assert client.get("/api/state").json()["taught"] is None


@pytest.mark.parametrize(
    "body", [{"model": "default", "minutes": 0}, {"model": "default", "minutes": 1e9}, {}, {"model": 3}]
)
def test_what_makes_no_sense_is_refused(client, body):
    assert client.post("/api/teaching", json=body).status_code == 422


def test_a_model_that_is_not_there_is_not_taught(client):
    assert client.post("/api/teaching", json={"model": "../default"}).status_code == 404


def test_a_model_is_kept_and_can_be_chosen(client, taught):
    assert client.get("/api/state").json()["taught"] == {"before": 0.7, "after": 0.8, "share": 0.5}
    assert client.post("/api/teaching/keep").json() == {"model": "taught-1"}
    state = client.get("/api/state").json()
    assert state["models"] == ["default", "taught-1"]
    assert state["taught"] is None
    assert (taught / "fewcell/models/taught-1/model.json").exists()
    assert not (taught / "fewcell/teaching").exists()


def test_a_kept_model_does_not_hide_behind_a_given_one(taught, tmp_path, open_page):
    """A model that was kept in another folder may have the name that would be the next."""
    other = tmp_path / "another" / "taught-1"
    shutil.copytree(find_model("default"), other)
    with open_page(taught, models=["default", str(other)]) as client:
        assert client.post("/api/teaching/keep").json() == {"model": "taught-2"}
        assert client.get("/api/state").json()["models"] == ["default", "taught-1", "taught-2"]
    folder = WorkFolder(taught)
    own = folder.models / "taught-2"
    assert teaching.known_models(folder, [str(own)]) == {"taught-2": own}
    other.rename(other.with_name("taught-2"))
    with pytest.raises(ConfigError, match="Two models would be called 'taught-2'"):
        teaching.known_models(folder, [str(other.with_name("taught-2"))])


def test_a_model_is_dropped(client, taught):
    assert client.post("/api/teaching/drop").status_code == 200
    assert client.get("/api/state").json()["models"] == ["default"]
    assert not (taught / "fewcell/teaching").exists()


def test_a_taught_model_that_is_damaged_can_only_be_dropped(client, taught):
    (taught / "fewcell/teaching/run/model/network.onnx").write_bytes(b"torn")
    state = client.get("/api/state").json()
    assert state["images"]
    assert "network.onnx" in state["taught"]["error"]
    assert client.post("/api/teaching/keep").status_code == 409
    assert client.post("/api/teaching/drop").status_code == 200
    assert client.get("/api/state").json()["taught"] is None


def test_what_was_taught_is_decided_on_first(client, taught):
    client.post(f"{CELLS}/corrections", json={"kind": "confirm", "cells": [1]})
    answer = client.post("/api/teaching", json={"model": "default"})
    assert answer.status_code == 409
    assert "Keep or drop" in answer.json()["error"]


@pytest.mark.parametrize("may_forget", [False, True])
def test_the_command_is_run_on_the_corrections_and_its_words_are_shown(client, root, wait_for, monkeypatch, may_forget):
    said = "import sys; sys.exit('noise\\nfewcell: No whole cell lies in it: ' + ' '.join(sys.argv[1:]))"
    monkeypatch.setattr(teaching, "COMMAND", (sys.executable, "-c", said, "train"))
    monkeypatch.setattr(teaching, "require_training", lambda: None)
    client.post(f"{CELLS}/corrections", json={"kind": "confirm", "cells": [1]})
    job = client.post("/api/teaching", json={"model": "default", "minutes": 0.5, "may_forget": may_forget}).json()
    ended = wait_for(client, job["number"])
    assert ended["state"] == "failed"
    words = ended["error"]
    assert words.startswith("No whole cell lies in it: train")
    assert str(root / "fewcell" / "teaching" / "corrections") in words
    forget = "--may-forget " if may_forget else ""
    assert f"--from-model {find_model('default').resolve()} --minutes 0.5 {forget}--threads 1" in words


def test_models_are_called_by_the_runs_that_they_lie_in(root, tmp_path):
    for run in ("one", "two", "other/one"):
        shutil.copytree(find_model("default"), tmp_path / run / "model")
    folder = WorkFolder(root)
    models = teaching.known_models(
        folder, ["default", str(tmp_path / "one" / "model"), str(tmp_path / "two" / "model")]
    )
    assert list(models) == ["default", "one", "two"]
    with pytest.raises(ConfigError, match="Two models would be called 'one'"):
        teaching.known_models(folder, [str(tmp_path / "one" / "model"), str(tmp_path / "other" / "one" / "model")])


def test_the_log_of_the_run_is_its_progress(tmp_path):
    log = tmp_path / "log.csv"
    assert list(teaching._last_row(log)) == []
    log.write_text("step,share_done,seconds_left\n1,0.1,9\n2,0.2,8\n")
    assert list(teaching._last_row(log)) == [{"step": "2", "share_done": "0.2", "seconds_left": "8"}]
