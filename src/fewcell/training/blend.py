"""The end of a training that teaches a model: how far to go from the model that there was to the one it led to."""

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from fewcell import __version__
from fewcell.config import NONE_BEYOND_LABELS, Recipe
from fewcell.data.dataset import Sample
from fewcell.engine import OpenVinoEngine, cpu_precision
from fewcell.networks import Network, load_network
from fewcell.representations import Representation
from fewcell.segmenter import (
    INT8_FILE,
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    Segmenter,
    find_model,
    read_model,
    write_model,
)
from fewcell.training.export import export_network, round_weights
from fewcell.training.finish import SUREST_SHARE, count_sources, joined, surest_cells
from fewcell.training.forgetting import found_in_drawn, still_found
from fewcell.training.held_out import Pooled, pooled_f1

__all__ = ["blend", "f1_of_start", "recipe_from"]

SHARES = (0.25, 0.5, 0.75, 1.0)
OF_UNLABELLED = {"name": "consensus", "settings": {"at": [0.0, 0.5], "images": 100}}
WORTH = 0.01  # of the mean F1: what going further has to bring


def recipe_from(model: str, *, unlabelled: bool = False) -> dict[str, Any]:
    """The recipe of a model, changed so that training begins with the model: short and gentle.

    unlabelled: whether it learns from images without labels as well: it labels these before it learns, and again.

    Raises ModelError if there is no such model.
    """
    recipe = read_model(find_model(model)).recipe
    gentle = {
        "start": model,
        "keep_start": True,
        "still_found": Recipe.model_fields["still_found"].default,  # whatever that model itself was allowed to forget
        "scale_steps": 0,
        "int8": False,  # what it would take to make it is more than teaching asks for
        "steps": None,
        "minutes": 4.0,
        "learning_rate": 4e-4,
        "warmup": 0.1,
        "held_out": 0.25,
    }
    # What is beyond those labels tells nothing of the user's own.
    augmentation = recipe["augmentation"] | NONE_BEYOND_LABELS
    objective = OF_UNLABELLED if unlabelled else {"name": "supervised"}
    return recipe | {"objective": objective, "augmentation": augmentation} | gentle


def blend(
    network: Network,
    representation: Representation,
    recipe: Recipe,
    learned_from: Sequence[Sample],
    held_out: Sequence[Sample],
    folder: Path,
    scale: Path,
    before: Pooled,
    *,
    also_seen: Sequence[Sample] = (),
) -> None:
    """Write a model whose weights lie between those of the start and those of the network, as good as they get.

    Between the two lie networks that know both what the start knew and what was learned; the way is gone no further
    than held-out images ask for. What goes further has to be better by WORTH, and at an IoU of 0.5 no worse than the
    start; if nothing is, that is kept. Settings of decoding, scorer and thresholds are the start's: a few images tell
    less of them than all that it learned from.

    What came of it stands in the model's `held_out`: F1 before (`f1_50_before`) and after (`f1_50`), likewise its means
    over IoU 0.5 to 0.9 (`f1_mean`), how far it went (`share`), and the F1 against what the start finds in drawn images
    (`still_found`). Where that would be less than the recipe's, the way ends (`forgets_at`, a share).

    scale: the file of the network that tells the scale. before: F1 of the start, see `f1_of_start`. also_seen: images
    without labels that the network has learned from.

    Source: robust fine-tuning by averaging weights (Wortsman et al., CVPR 2022).
    """
    start = _load_start(recipe)
    part = start.facts.network
    began = load_network(part.name, len(representation.channels), part.settings, start.folder / WEIGHTS_FILE)
    best, best_share, best_f1, best_kept, forgets_at = start, 0.0, before, None, None
    drawn = found_in_drawn(start)
    learned = count_sources(learned_from, also_seen)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for share in SHARES:
            mixed_folder = Path(temporary) / f"{share:g}"
            mixed_folder.mkdir()
            mixed = _between(began, network, share)
            round_weights(mixed)
            onnx, weights = mixed_folder / NETWORK_FILE, mixed_folder / WEIGHTS_FILE
            export_network(mixed, start.representation, onnx, weights)
            engine = OpenVinoEngine(onnx, threads=recipe.threads)
            segmenter = Segmenter(engine, start.representation, start.scorer, start.facts, mixed_folder)
            kept = still_found(segmenter, drawn)
            if kept is not None and kept < recipe.still_found:
                forgets_at = share
                break
            reached = pooled_f1(segmenter, held_out)
            if reached.f1_mean > best_f1.f1_mean + WORTH and reached.f1_50 >= before.f1_50:
                best, best_share, best_f1, best_kept = segmenter, share, reached, kept
        update: dict[str, object] = {
            "fewcell_version": __version__,
            "trained_on": joined(start.facts.trained_on, learned) if best_share else start.facts.trained_on,
            "held_out": {
                "f1_50": round(best_f1.f1_50, 4),
                "f1_50_before": round(before.f1_50, 4),
                "f1_mean": round(best_f1.f1_mean, 4),
                "f1_mean_before": round(before.f1_mean, 4),
                "share": best_share,
            }
            | ({} if best_kept is None else {"still_found": round(best_kept, 4)})
            | ({} if forgets_at is None else {"forgets_at": forgets_at}),
            "recipe": recipe.model_dump(mode="json"),
        }
        if best_share:
            update["int8"] = None  # it was the start's
        # What is new may be harder, its cells less sure: that is no reason to find none.
        surest = [SUREST_SHARE * score for score in surest_cells(best, held_out)]
        update["min_surest"] = round(min([start.facts.min_surest, *surest]), 3)
        facts = start.facts.model_copy(update=update)
        int8 = start.folder / INT8_FILE if not best_share and INT8_FILE in start.facts.sha256 else None
        scale = scale if best_share else start.folder / SCALE_FILE
        write_model(folder, facts, best.folder / NETWORK_FILE, scale, best.folder / WEIGHTS_FILE, int8=int8)


def f1_of_start(recipe: Recipe, held_out: Sequence[Sample]) -> Pooled:
    """F1 of the model that training begins with, on held-out images, each at its true diameter."""
    return pooled_f1(_load_start(recipe), held_out)


def _load_start(recipe: Recipe) -> Segmenter:
    """In the precision of what it is mixed with."""
    assert recipe.start is not None
    return Segmenter.load(recipe.start, threads=recipe.threads, precision=cpu_precision())


def _between(start: Network, end: Network, share: float) -> Network:
    mixed = deepcopy(end).cpu().float()
    there = dict(start.state_dict())
    with torch.no_grad():
        for name, value in mixed.state_dict().items():
            if value.is_floating_point():
                value.lerp_(there[name].to(value), 1 - share)
    return mixed
