"""The end of a training that teaches a model: how far to go from the model that there was to the one it led to."""

import tempfile
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fewcell import __version__
from fewcell.config import NONE_BEYOND_LABELS, Recipe
from fewcell.data.dataset import Sample
from fewcell.engine import OpenVinoEngine, cpu_precision
from fewcell.networks import Network
from fewcell.segmenter import (
    INT8_FILE,
    NETWORK_FILE,
    SCALE_FILE,
    WEIGHTS_FILE,
    Segmenter,
    SourceFacts,
    find_model,
    network_of,
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


@dataclass(frozen=True)
class _Reached:
    """A model on the way from the start to what was learned.

    share: how far it went. f1: on held-out images. still_found: F1 against what the start finds in drawn images; None
    where that is not known.
    """

    share: float
    segmenter: Segmenter
    f1: Pooled
    still_found: float | None = None


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
    start = _Reached(0.0, _load_start(recipe), before)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        best, forgets_at = _farthest(start, network, recipe, held_out, Path(temporary))
        _write(best, start, forgets_at, recipe, count_sources(learned_from, also_seen), held_out, folder, scale)


def _farthest(
    start: _Reached, network: Network, recipe: Recipe, held_out: Sequence[Sample], temporary: Path
) -> tuple[_Reached, float | None]:
    """The best of the start and the mixtures; and the share of the first that forgets too much, if one does."""
    began = network_of(start.segmenter.folder, len(start.segmenter.representation.channels))
    drawn, best = found_in_drawn(start.segmenter), start
    for share in SHARES:
        segmenter = _mixture(began, network, share, start.segmenter, recipe, temporary / f"{share:g}")
        kept = still_found(segmenter, drawn)
        if kept is not None and kept < recipe.still_found:
            return best, share
        reached = _Reached(share, segmenter, pooled_f1(segmenter, held_out), kept)
        if reached.f1.f1_mean > best.f1.f1_mean + WORTH and reached.f1.f1_50 >= start.f1.f1_50:
            best = reached
    return best, None


def _mixture(began: Network, ended: Network, share: float, start: Segmenter, recipe: Recipe, folder: Path) -> Segmenter:
    """What a mixture of two networks finds, decoded as the start is; its files are written into `folder`."""
    folder.mkdir()
    mixed = _between(began, ended, share)
    round_weights(mixed)
    onnx = folder / NETWORK_FILE
    export_network(mixed, start.representation, onnx, folder / WEIGHTS_FILE)
    engine = OpenVinoEngine(onnx, threads=recipe.threads)
    return Segmenter(engine, start.representation, start.scorer, start.facts, folder)


def _write(
    best: _Reached,
    start: _Reached,
    forgets_at: float | None,
    recipe: Recipe,
    learned: dict[str, SourceFacts],
    held_out: Sequence[Sample],
    folder: Path,
    scale: Path,
) -> None:
    """Write the best as a model folder."""
    facts, is_new = start.segmenter.facts, best.share > 0
    scores = {
        "f1_50": best.f1.f1_50,
        "f1_50_before": start.f1.f1_50,
        "f1_mean": best.f1.f1_mean,
        "f1_mean_before": start.f1.f1_mean,
        "share": best.share,
        "still_found": best.still_found,
        "forgets_at": forgets_at,
    }
    # What is new may be harder, its cells less sure: that is no reason to find none.
    surest = [SUREST_SHARE * score for score in surest_cells(best.segmenter, held_out)]
    update: dict[str, object] = {
        "fewcell_version": __version__,
        "trained_on": joined(facts.trained_on, learned) if is_new else facts.trained_on,
        "held_out": {name: round(score, 4) for name, score in scores.items() if score is not None},
        "recipe": recipe.model_dump(mode="json"),
        "min_surest": round(min([facts.min_surest, *surest]), 3),
    }
    if is_new:
        update["int8"] = None  # it was the start's
    int8 = start.segmenter.folder / INT8_FILE if not is_new and INT8_FILE in facts.sha256 else None
    scale = scale if is_new else start.segmenter.folder / SCALE_FILE
    here = best.segmenter.folder
    write_model(folder, facts.model_copy(update=update), here / NETWORK_FILE, scale, here / WEIGHTS_FILE, int8=int8)


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
