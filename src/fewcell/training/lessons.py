"""What a training run learns from, and what it is judged by: labelled images, held-out ones, the pool."""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from fewcell.config import NONE_BEYOND_LABELS, Recipe, load_recipe
from fewcell.data.crops import CropSource, Grid
from fewcell.data.dataset import Sample, load_labelled
from fewcell.data.split import hold_out, split_each
from fewcell.errors import ConfigError, DataError, FewcellError, FewcellWarning
from fewcell.metrics import remove_border
from fewcell.networks import Network
from fewcell.segmenter import ModelFacts, Segmenter, find_model, read_model
from fewcell.training.batches import Share, batches
from fewcell.training.blend import blend
from fewcell.training.finish import count_sources, finish
from fewcell.training.held_out import HeldOut, Pooled, fixed_crops
from fewcell.training.memory import COLLAGE_PX, draw_collages, replay
from fewcell.training.objective import Batch
from fewcell.training.pool import Pool
from fewcell.training.state import CHECKPOINT_FILE, TrainingState

__all__ = [
    "COLLAGES_FOLDER",
    "ROUNDS_FOLDER",
    "Lessons",
    "check_unseen",
    "fingerprint",
    "parts_of",
    "read_all",
    "split",
]

ROUNDS_FOLDER = "rounds"
COLLAGES_FOLDER = "collages"
FEW_IMAGES = 32  # of fewer, too few could be spared whole to tell anything: a part of each is held out
FEWEST_WHOLE = 20  # cells in these parts; with fewer, whole images are held out
FEWEST_IMAGES = 4  # of fewer, none can be


def split(recipe: Recipe, labelled: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Mostly whole experiments are held out; of few images a part of each, for two or three of them tell too little."""
    unusable = None
    if len(labelled) < FEW_IMAGES:
        try:
            learn, held_out = split_each(labelled, recipe.held_out, recipe.seed)
            n_whole = sum(_whole_cells(part) for part in held_out)
        except FewcellError as error:
            if len(labelled) < FEWEST_IMAGES:
                raise
            n_whole, unusable = 0, error  # such files are listed later, all of them
        else:
            if n_whole >= (FEWEST_WHOLE if len(labelled) >= FEWEST_IMAGES else 1):
                return learn, held_out
        if len(labelled) < FEWEST_IMAGES and recipe.teaches:  # what is better than it must be told
            raise DataError(
                f"No whole cell lies in the part of {len(labelled)} images that is held out. Label {FEWEST_IMAGES} "
                "images or more, or larger ones."
            )
    try:
        return hold_out(labelled, recipe.held_out, recipe.seed)
    except DataError as error:
        raise unusable or error from None


def parts_of(facts: ModelFacts, samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """The labelled images that a model learned from, and those held out from it, of the dataset of its training.

    Raises ConfigError if these are not the images of its training, as far as their numbers tell.
    """
    learn, held_out = split(load_recipe(None, **facts.recipe), [sample for sample in samples if sample.labels])
    known = {source: of.images for source, of in facts.trained_on.items()}
    differ = [source for source, of in count_sources(learn).items() if of.images != known.get(source)]
    if differ:
        raise ConfigError(f"The model was not trained on these images: of {', '.join(differ)} it learned from others.")
    return learn, held_out


def check_unseen(recipe: Recipe, learn: Sequence[Sample], held_out: Sequence[Sample]) -> None:
    """Raise ConfigError where training goes on from a model that may have learned from what is held out now.

    Thresholds and scores would be fitted to cells that the network knows. It cannot have where it knows none of these
    sources, or where it learned from the images that are learned from again, as far as their numbers tell.
    """
    if recipe.start is None or recipe.teaches:
        return
    before = read_model(find_model(recipe.start))
    known, now = before.trained_on, count_sources(learn)
    shared = sorted({sample.source for sample in held_out} & set(known))
    changed = [key for key in ("seed", "held_out") if getattr(recipe, key) != before.recipe.get(key)]
    n_now = {source: of.images for source, of in now.items()}
    if shared and (changed or any(known[name].images != n_now.get(name) for name in shared)):
        raise ConfigError(
            f"{recipe.start} may have learned from images of {', '.join(shared)} that are held out now. With "
            f"keep_start = false go on with its images, its seed ({before.recipe.get('seed')}) and its held_out "
            f"({before.recipe.get('held_out')}), or teach it with keep_start = true."
        )


def _whole_cells(part: Sample) -> int:
    _, truth, _ = load_labelled(part)
    return int(np.count_nonzero(np.unique(remove_border(truth)) > 0))


def fingerprint(learn: Sequence[Sample], held_out: Sequence[Sample], others: Sequence[Sample]) -> str:
    """Which images are learned from, which are held out and which have no labels, in one short word."""
    stems = ["learn", *sorted(s.stem for s in learn), "held out", *sorted(s.stem for s in held_out)]
    stems = "\n".join(stems + (["others", *(f"{s.source}/{s.stem}" for s in others)] if others else []))
    return hashlib.sha256(stems.encode(errors="surrogateescape")).hexdigest()


def read_all(run: TrainingState, learn: Sequence[Sample], held_out: Sequence[Sample]) -> tuple[CropSource, HeldOut]:
    """Read every image once: the source of crops to learn from, and a fixed batch of held-out ones.

    A file that cannot be used would otherwise be noticed late: held-out images are needed when training is over.
    """
    recipe = run.recipe
    grid = Grid(recipe.crop_px, run.network.stride, run.representation.margin_px, recipe.canonical_diameter_px)
    source = CropSource(learn, grid, recipe.augmentation, run.n_readers)
    # Curves of several recipes would be of other crops.
    plain = recipe.augmentation.model_copy(update=NONE_BEYOND_LABELS)
    held = CropSource(held_out, grid, plain, run.here.world)
    problems = source.pyramids.preload() + held.pyramids.preload()
    if problems:
        raise DataError(
            "\n  ".join([f"{len(problems)} of {len(learn) + len(held_out)} images cannot be used:", *problems])
        )
    known = source.pyramids.n_known
    if source.pyramids.n_with_cells == 0 and (recipe.start is None or known == 0):
        raise DataError(
            f"Not one cell is labelled in the {len(learn)} images that are to be learned from; "
            + ("nothing is known of them. " if known == 0 else "all of it is background. ")
            + "Check the label images: 0 background, 1, 2, 3 and so on cells, -1 where nobody annotated."
        )
    if held.pyramids.n_with_cells == 0 and run.here.is_first:
        warnings.warn(
            f"No cell is labelled in the {len(held_out)} images or parts of images that are held out: thresholds and "
            "the F1 that is reported tell nothing. Label more images.",
            FewcellWarning,
            stacklevel=2,
        )
    return source, fixed_crops(held, run.representation)


@dataclass
class Lessons:
    """What a run learns from, as it goes on: labelled images, then those of the pool that a teacher has labelled.

    scale: the file of the network that tells the scale. boxed: images without labels that it has learned from. before:
    F1 on the held-out images of the model that is taught, if one is.
    """

    run: TrainingState
    source: CropSource
    learn: Sequence[Sample]
    held_out: Sequence[Sample]
    others: Sequence[Sample]
    out: Path
    scale: Path
    boxed: Sequence[Sample]
    before: Pooled | None

    def write_teacher(self, folder: Path) -> None:
        """Write the model of a round: the mean network so far; before the first step, what it begins with as it was."""
        run = self.run
        if run.step == 0 and run.recipe.start is not None and not run.recipe.scale_steps:
            Segmenter.load(run.recipe.start).save(folder)
        else:
            self.write_model(folder)

    def write_model(self, folder: Path) -> None:
        """Write the mean network so far as a model; training can go on."""
        run = self.run
        network = deepcopy(cast(Network, run.average.module))  # whose weights are rounded
        also = list({sample.image: sample for sample in (*self.boxed, *self._others())}.values())
        given = (run.recipe, self.learn, self.held_out, folder, self.scale)
        if self.before is not None:
            blend(network, *given, self.before, also_seen=also)
        else:
            finish(network, run.representation, *given, also_seen=also)

    def hold_due_round(self, share: float) -> float | None:
        """Hold the round that is due at this share of the budget; None if none is.

        A round takes a part of the budget itself. Where that makes several due at once, the last of them is held.
        Returns the seconds that labels took which were there already, as the run was killed in this round before.
        """
        pool = self._pool()
        n_due = pool.n_due(share) if pool else 0
        if pool is None or n_due == self.run.n_rounds:
            return None
        self.run.save(self.out / CHECKPOINT_FILE)
        earlier = pool.teach(n_due, self.write_teacher)
        self.run.n_rounds = n_due
        return earlier

    def stream(self) -> Iterator[Batch]:
        """Batches from the step on at which the run stands."""
        run, recipe = self.run, self.run.recipe
        others, settings = self._others(), recipe.augmentation.stronger()
        settings = settings.model_copy(update={"paste": max(settings.paste, run.objective.paste)})
        if run.objective.rounds is None and run.objective.scale_by is None:  # nobody knows the scale of these images
            settings = settings.model_copy(update={"off_scale": 1.0})
        n_labelled, n_others, n_replay = run.crops_of_batch(has_others=bool(others))
        shares = [Share(self.source, n_labelled)]
        if n_others:
            pool = CropSource(others, self.source.grid, settings, run.n_readers)
            shares.append(Share(pool, n_others, like=self.source))
        if n_replay:
            folder = self.out / COLLAGES_FOLDER
            if run.here.is_first and run.memory:
                side_px = run.network.window_px or COLLAGE_PX
                draw_collages(folder, recipe.canonical_diameter_px, run.memory, side_px)
            run.here.wait()
            shares.append(Share(replay(self.source.grid, run.n_readers, folder), n_replay))
        place = {"start": run.step, "rank": run.here.rank, "world": run.here.world}
        return batches(shares, run.representation, recipe, **place, plain=run.objective.needs_plain)

    def _others(self) -> Sequence[Sample]:
        """Images beyond the labelled ones that are learned from now."""
        pool = self._pool()
        return pool.taught(self.run.n_rounds) if pool else self.others

    def _pool(self) -> Pool | None:
        run, folder = self.run, self.out / ROUNDS_FOLDER
        rounds, threads = run.objective.rounds, run.recipe.threads
        return Pool(self.others, self.held_out, folder, rounds, run.here, threads) if rounds else None
