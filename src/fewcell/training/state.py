"""The state of a training run: what a checkpoint keeps, and how it begins."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import PARAM_LIST, AveragedModel, get_ema_multi_avg_fn

from fewcell.config import Recipe, load_recipe
from fewcell.errors import ConfigError, DataError
from fewcell.networks import Network, make_network
from fewcell.representations import Representation, make_representation
from fewcell.segmenter import find_model, network_of, read_model
from fewcell.training.checkpoint import load_checkpoint, read_facts, save_checkpoint
from fewcell.training.machine import Machine
from fewcell.training.memory import REPLAY_SHARE, Memory
from fewcell.training.objective import Objective
from fewcell.training.objectives import make_objective

__all__ = ["CHECKPOINT_FILE", "TrainingState", "begin"]

CHECKPOINT_FILE = "checkpoint.safetensors"
# Settings that a resumed run may change.
MAY_DIFFER = {"threads", "workers", "checkpoint_minutes", "precision", "int8", "still_found"}


@dataclass
class TrainingState:
    """The state that a checkpoint keeps, and what it belongs to.

    shared: the network, as several processes train it together. memory: of the model that is taught, if one is.
    data: the fingerprint of the images. n_rounds: the number of the last round of a teacher that was held.
    """

    recipe: Recipe
    here: Machine
    representation: Representation
    network: Network
    shared: nn.Module
    average: AveragedModel
    objective: Objective
    optimizer: torch.optim.Optimizer
    memory: Memory | None
    data: str = ""
    step: int = 0
    seconds: float = 0.0
    n_rounds: int = 0

    @property
    def n_readers(self) -> int:
        """How many processes read images, each of which keeps some in memory."""
        return self.recipe.n_readers(self.here.world)

    def save(self, path: Path) -> None:
        if self.here.is_first:
            facts = {
                "step": self.step,
                "seconds": self.seconds,
                "n_rounds": self.n_rounds,
                "recipe": self.recipe.model_dump(mode="json"),
                "data": self.data,
            }
            save_checkpoint(path, {"network": self.network, "average": self.average}, self.optimizer, facts)

    def load(self, path: Path) -> None:
        # The recipe comes first: of another one, the network would not fit. Settings that are newer than the
        # checkpoint have their defaults in it.
        facts = read_facts(path)
        began, now = (
            load_recipe(None, **recipe).model_dump(mode="json")
            for recipe in (facts["recipe"], self.recipe.model_dump(mode="json"))
        )
        changed = [
            f"{key} was {began[key]}, now {now[key]}" for key in now if key not in MAY_DIFFER and began[key] != now[key]
        ]
        if changed:
            raise ConfigError(
                f"{path} was made by another recipe: {'; '.join(changed)}. Resume with the recipe it began with."
            )
        if facts.get("data", self.data) != self.data:  # older checkpoints do not say
            raise DataError(
                f"{path} was made from other images, or by another fewcell. Resume with what the run began with."
            )
        load_checkpoint(path, {"network": self.network, "average": self.average}, self.optimizer)
        self.step, self.seconds, self.n_rounds = facts["step"], facts["seconds"], facts.get("n_rounds", 0)

    def crops_of_batch(self, *, has_others: bool) -> tuple[int, int, int]:
        """How many crops of a batch are of labelled images, of other images, and of pictures to remember by."""
        n_replay = round(self.recipe.batch * REPLAY_SHARE) if self.memory else 0
        n_new = self.recipe.batch - n_replay
        n_others = min(max(round(n_new * self.objective.pool_share), 1), n_new - 1) if has_others else 0
        return n_new - n_others, n_others, n_replay

    def share_done(self) -> float:
        """How much of the budget is spent, 0 to 1. All processes must ask at the same time, and agree."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        assert self.recipe.minutes is not None
        share = torch.tensor(min(1.0, self.seconds / 60 / self.recipe.minutes), device=self.here.device)
        if self.here.world > 1:
            distributed.broadcast(share, src=0)
        return float(share)


def begin(recipe: Recipe, here: Machine) -> TrainingState:
    """A run before its first step. Raises ConfigError if the recipe names what does not exist or fit."""
    if recipe.batch % here.world:
        raise ConfigError(f"{here.world} processes cannot share a batch of {recipe.batch} evenly.")
    torch.manual_seed(recipe.seed)
    representation = make_representation(recipe.representation.name, recipe.representation.settings)
    network = _first_network(recipe, representation)
    _check_crops(recipe, network)
    # The types that torch ships leave memory_format out.
    network.to(here.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    average = AveragedModel(network, multi_avg_fn=_ema(recipe.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    shared = DistributedDataParallel(network) if here.world > 1 else network
    objective = make_objective(recipe.objective, representation, average.module)
    objective.check(recipe, network)
    memory = Memory(network, representation) if recipe.teaches else None
    run = TrainingState(recipe, here, representation, network, shared, average, objective, optimizer, memory)
    n_labelled, *_ = run.crops_of_batch(has_others=objective.pool_share > 0)
    if objective.pool_share and objective.rounds is None and n_labelled < here.world:
        # The mean over processes would count those without a label as if they had learned all.
        raise ConfigError(
            f"Of a batch of {recipe.batch} crops {n_labelled} have labels, and each of {here.world} processes needs "
            "one. Set a larger batch in the recipe."
        )
    return run


def _first_network(recipe: Recipe, representation: Representation) -> Network:
    part, n_channels = recipe.network, len(representation.channels)
    if recipe.start is None:
        return make_network(part.name, n_channels, part.settings)
    folder = find_model(recipe.start)
    facts = read_model(folder)
    kinds = {
        "network": (part.name, facts.network.name),
        "settings of the network": (part.settings, facts.network.settings),
        "representation": (recipe.representation.name, facts.representation.name),
        "canonical diameter": (recipe.canonical_diameter_px, facts.canonical_diameter_px),
    }
    for kind, (wanted, there) in kinds.items():
        if wanted != there:
            raise ConfigError(f"Training cannot begin with {recipe.start}: its {kind} is {there}, not {wanted}.")
    return network_of(folder, n_channels)


def _check_crops(recipe: Recipe, network: Network) -> None:
    """Raise ConfigError unless the network takes crops of the recipe's size."""
    if network.window_px is not None and recipe.crop_px != network.window_px:
        wanted = f"{network.window_px}, the only size that {recipe.network.name} is given"
    elif recipe.crop_px % network.multiple_px:
        wanted = f"a multiple of {network.multiple_px} for this {recipe.network.name}"
    else:
        return
    raise ConfigError(f"crop_px must be {wanted}; it is {recipe.crop_px}.")


def _ema(decay: float) -> Callable[[PARAM_LIST, PARAM_LIST, Tensor | int], None]:
    """An exponential moving average that forgets the first, random weights quickly: it starts with a short memory."""

    def update(average: PARAM_LIST, current: PARAM_LIST, count: Tensor | int) -> None:
        if not average[0].is_floating_point():  # counters and tables of indices: a mean would be cut to whole numbers
            for mean, value in zip(average, current, strict=True):
                mean.copy_(value)
            return
        step = float(count)
        get_ema_multi_avg_fn(min(decay, (1 + step) / (10 + step)))(average, current, count)

    return update
