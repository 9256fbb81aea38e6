"""Checkpoints: all that is needed to go on exactly, in one safetensors file. No pickle."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fewcell.errors import ModelError, WriteError

__all__ = ["load_checkpoint", "read_facts", "save_checkpoint", "save_tensors"]


def save_checkpoint(
    path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Write modules, optimiser and facts (anything that JSON can hold), as `save_tensors` does."""
    tensors = {f"{name}/{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{key}": torch.as_tensor(value) for key, value in state.items()}
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


def save_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all. Raises WriteError if it cannot be written."""
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(tensors, temporary, metadata=metadata)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # where the disk is full, safetensors raises an error of its own
        temporary.unlink(missing_ok=True)
        raise WriteError(
            f"{path}: cannot be written: {error}. Check the folder, your rights and the free space."
        ) from None


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a checkpoint, without its tensors. Raises ModelError if there is no such file, or it is damaged."""
    with _readable(path), safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["facts"])


def load_checkpoint(path: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put modules and the optimiser into the state that a checkpoint holds; return its facts.

    Raises ModelError if there is no such file, or it is damaged, or it belongs to another network.
    """
    facts = read_facts(path)
    with _readable(path):
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}/"))
        _restore(optimizer, _below(tensors, "optimizer/"))
    return facts


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    if not path.is_file():
        raise ModelError(f"There is no checkpoint {path} to resume from. Start without --resume.")
    try:
        yield
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"The checkpoint {path} is damaged or of another network: {error}.") from None


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _restore(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
