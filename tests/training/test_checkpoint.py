"""Checkpoints come back as they were written, and whatever else is in their place is one clear error."""

import json
import struct

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from fewcell.errors import ModelError, WriteError
from fewcell.training import checkpoint
from fewcell.training.checkpoint import load_checkpoint, read_facts, save_checkpoint

FACTS = {"step": 7, "recipe": {"widths": [8, 12], "minutes": None}}


def make(seed, width=5):
    """A network with buffers, and an optimiser that has made some steps."""
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        network(torch.rand(2, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    return network, optimizer


def load_into(path, made, name="network"):
    network, optimizer = made
    return load_checkpoint(path, {name: network}, optimizer)


def tensors(network, optimizer):
    state = optimizer.state_dict()["state"]
    return {
        **network.state_dict(),
        **{f"{i}/{k}": torch.as_tensor(v) for i, values in state.items() for k, v in values.items()},
    }


@pytest.fixture
def saved(tmp_path):
    network, optimizer = make(0)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, {"network": network}, optimizer, FACTS)
    return path


def test_a_round_trip_gives_every_tensor_back(saved):
    expected = {k: v.clone() for k, v in tensors(*make(0)).items()}
    network, optimizer = make(1)
    assert load_checkpoint(saved, {"network": network}, optimizer) == FACTS == read_facts(saved)
    found = tensors(network, optimizer)
    assert found.keys() == expected.keys()
    assert len(found) > len(network.state_dict())
    assert [k for k in expected if not torch.equal(found[k], expected[k])] == []


def test_an_optimizer_goes_on_as_if_nothing_had_happened(saved):
    runs = [make(0), make(1)]
    load_into(saved, runs[1])
    for network, optimizer in runs:
        optimizer.zero_grad()
        network(torch.ones(1, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    first, second = (tensors(*run) for run in runs)
    assert [k for k in first if not torch.equal(first[k], second[k])] == []


@pytest.mark.parametrize("share", [0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_a_model_error(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match="damaged"):
        load_into(saved, make(1))
    with pytest.raises(ModelError, match="damaged"):
        read_facts(saved)


def test_another_network_is_a_model_error(saved):
    with pytest.raises(ModelError, match="another network"):
        load_into(saved, make(0, width=6))
    with pytest.raises(ModelError, match="another network"):
        load_into(saved, make(0), "teacher")


def test_a_missing_file_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="no checkpoint"):
        load_into(tmp_path / "missing", make(0))
    with pytest.raises(ModelError, match="no checkpoint"):
        read_facts(tmp_path)


def test_a_pickle_is_neither_written_nor_read(saved):
    content = saved.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert json.loads(header["__metadata__"]["facts"]) == FACTS
    torch.save({"network": 1}, saved)
    with pytest.raises(ModelError, match="damaged"):
        load_into(saved, make(1))


def test_a_checkpoint_is_replaced_whole_or_not_at_all(saved, monkeypatch):
    before = saved.read_bytes()

    def fail_half_way(tensors, path, metadata):
        path.write_bytes(before[:100])
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail_half_way)
    network, optimizer = make(1)
    with pytest.raises(WriteError, match=r"cannot be written: .*No space left.* the free space"):
        save_checkpoint(saved, {"network": network}, optimizer, FACTS)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
    monkeypatch.undo()
    save_checkpoint(saved, {"network": network}, optimizer, {"step": 8})
    assert read_facts(saved) == {"step": 8}
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]
