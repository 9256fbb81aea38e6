"""Plans: which runs a comparison is made of, read from a TOML file."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from fewcell.config import Part, Recipe, Strict, load_recipe, read_toml
from fewcell.data.dataset import Sample, open_dataset
from fewcell.data.split import label_order, split_by_modality, without_copies
from fewcell.errors import ConfigError

__all__ = ["Block", "Plan", "Run", "load_plan", "runs_of", "samples_of"]

Diameter = Literal["true", "estimated", "none"]
Budget = Annotated[int, Field(ge=2)] | Literal["all"]
Many = Annotated[list[str | Part], Field(min_length=1)]


class Block(Strict):
    """Runs that are made of every combination of these lists.

    network, representation, objective: names, or tables with `name` and `settings`. labels: how many labelled images
    may be used, those for tuning among them; smaller budgets are part of larger ones. seed: of network, split and
    crops. diameter: how an image's scale is found when a model is scored: from its true labels, by the model itself,
    or "none", the image's own scale. recipe: settings in which these runs differ from those of the plan. after: each
    run begins with the weights of one that learned from the same labels alone for the same time, which is made first,
    so that several ways to go on share it.
    """

    network: Many = ["resunet"]
    representation: Many = ["canopy"]
    objective: Many = ["supervised"]
    labels: Annotated[list[Budget], Field(min_length=1)] = ["all"]
    seed: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0]
    diameter: Annotated[list[Diameter], Field(min_length=1)] = ["true"]
    recipe: dict[str, Any] = {}
    after: Literal["supervised"] | None = None


class Plan(Strict):
    """A comparison: the data, what all runs share, and blocks of runs.

    data: a dataset folder to learn from. test: a dataset folder to score on; without one, `test_share` of `data` is set
    aside, the same for every run: whole experiments, and images of modalities that have too few of these. test_sources:
    these sources are set aside instead, in the pool too: how good a model is where nobody labelled. pool: dataset
    folders of images without labels, or with points or boxes, for objectives that learn from these as well. recipe:
    settings of all runs; give `minutes` there, the training time that every run gets (and the one before it, with
    `after`). processes: how many training processes share a run.
    """

    data: Path
    test: Path | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_sources: list[str] = []
    processes: Annotated[int, Field(ge=1)] = 1
    pool: list[Path] = []
    recipe: dict[str, Any] = {}
    compare: Annotated[list[Block], Field(min_length=1)]


@dataclass(frozen=True)
class Run:
    """One model of a comparison: its recipe, its labels, and how it is scored.

    Two runs that differ in `diameter` only share their training. before: the run with whose weights this one begins.
    own: what its block changes of the plan's recipe, but for how much is held out, which goes with the labels.
    """

    recipe: Recipe
    labels: int | None
    diameter: Diameter
    plan: Plan
    before: "Run | None" = None
    own: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What tells the run from others, for people: parts, labels, seed and budget."""
        recipe = self.recipe
        parts = [_part_name(part) for part in (recipe.network, recipe.representation, recipe.objective)]
        budget = f"{recipe.minutes:g}min" if recipe.minutes else f"{recipe.steps}steps"
        labels = "all-labels" if self.labels is None else f"{self.labels}-labels"
        after = ["after", _part_name(self.before.recipe.objective)] if self.before else []
        return "_".join([*parts, labels, f"seed{recipe.seed}", budget, *after])

    @property
    def training(self) -> str:
        """The folder name of the training: the name, and a hash of everything that decides its outcome."""
        facts = [self.recipe.model_dump(mode="json"), self.labels, str(self.plan.data), self._set_aside()]
        facts += [self.plan.processes]  # they share a batch, and its statistics
        facts += [self.before.training] if self.before else []
        return f"{self.name}_{_hash(facts)}"

    @property
    def key(self) -> str:
        """The folder name of the scoring of this run; the same key means that nothing has changed."""
        return f"{self.training}_{self.diameter}"

    def _set_aside(self) -> list[object]:
        aside: list[object] = [str(self.plan.test)] if self.plan.test else ["by modality", self.plan.test_share]
        if self.plan.test_sources:
            aside = ["sources", *sorted(self.plan.test_sources)]
        return aside + [str(folder) for folder in self.plan.pool]


def load_plan(path: Path | str) -> Plan:
    """Read a plan from a TOML file; its folders are relative to the file.

    Raises ConfigError for a file that is missing or no TOML, for unknown keys and values out of range.
    """
    path = Path(path)
    try:
        plan = Plan(**read_toml(path, "plan"))
    except ValidationError as error:
        problems = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}, got {e['input']!r}" for e in error.errors()]
        raise ConfigError(f"The plan {path} is wrong: {'; '.join(problems)}.") from None
    if len(chosen := plan.model_fields_set & {"test", "test_share", "test_sources"}) > 1:
        raise ConfigError(f"The plan {path} has {' and '.join(sorted(chosen))}; give what is to be scored once.")
    folder = path.resolve().parent
    test = None if plan.test is None else folder / plan.test
    return plan.model_copy(update={"data": folder / plan.data, "test": test, "pool": [folder / p for p in plan.pool]})


def runs_of(plan: Plan) -> list[Run]:
    """Every run of a plan, in the order in which they are made; each only once.

    Raises ConfigError if a recipe is wrong.
    """
    runs = [run for block in plan.compare for run in _runs_of_block(plan, block)]
    return list({each.key: each for run in runs for each in (run.before, run) if each}.values())


def samples_of(run: Run) -> tuple[list[Sample], list[Sample]]:
    """The images that a run learns from, and those that it is scored on.

    Beyond the run's budget, images keep their place but lose their labels. Raises DataError as `open_dataset` does,
    ConfigError if there are fewer labelled images than the budget asks for, or none of a source that is set aside.
    """
    plan = run.plan
    learn = open_dataset(plan.data)
    if plan.test_sources:
        learn, test = _without_sources(learn, plan.test_sources)
    elif plan.test is None:
        labelled, test = split_by_modality([s for s in learn if s.labels], plan.test_share)
        learn = [*labelled, *(s for s in learn if not s.labels)]
    else:
        test = [sample for sample in open_dataset(plan.test) if sample.labels]
    pool = [replace(sample, labels=None) for folder in plan.pool for sample in open_dataset(folder)]
    learn += without_copies([sample for sample in pool if sample.source not in plan.test_sources], test)
    if plan.test is None:
        apart = {sample.experiment for sample in test} - {sample.experiment for sample in learn if sample.labels}
        learn = [sample for sample in learn if sample.experiment not in apart]
    return _within_budget(learn, run.labels), test


def _without_sources(samples: Sequence[Sample], sources: Sequence[str]) -> tuple[list[Sample], list[Sample]]:
    """The samples of other sources, and the labelled ones of these."""
    labelled = {sample.source for sample in samples if sample.labels}
    if missing := sorted(set(sources) - labelled):
        raise ConfigError(
            f"No labelled image is of the source {missing[0]!r}; there are {', '.join(sorted(labelled))}."
        )
    test = [sample for sample in samples if sample.source in sources and sample.labels]
    return [sample for sample in samples if sample.source not in sources], test


def _within_budget(samples: Sequence[Sample], labels: int | None) -> list[Sample]:
    labelled = [sample for sample in samples if sample.labels]
    if labels is None:
        return list(samples)
    if labels > len(labelled):
        raise ConfigError(f"The plan asks for {labels} labelled images; there are {len(labelled)}.")
    kept = {labelled[i].image for i in label_order(labelled)[:labels]}
    return [sample if sample.image in kept else replace(sample, labels=None) for sample in samples]


def _runs_of_block(plan: Plan, block: Block) -> Iterator[Run]:
    lists = (block.network, block.representation, block.objective, block.labels, block.seed, block.diameter)
    for network, representation, objective, labels, seed, diameter in product(*lists):
        parts = {"network": network, "representation": representation, "objective": objective}
        settings: Mapping[str, Any] = {k: v if isinstance(v, str) else v.model_dump() for k, v in parts.items()}
        recipe = load_recipe(None, base=plan.recipe, **{**block.recipe, **settings, "seed": seed})
        own = {name: value for name, value in block.recipe.items() if name != "held_out"}
        run = Run(recipe, None if labels == "all" else labels, diameter, plan, own=own)
        if block.after is None:
            yield run
        else:
            if recipe.start is not None:
                raise ConfigError(
                    f"A run begins either with a model ({recipe.start}) or `after` another run, not both."
                )
            first = load_recipe(None, base=recipe.model_dump(), objective=block.after)
            yield replace(run, before=replace(run, recipe=first))


def _part_name(part: Part) -> str:
    settings = "-".join(str(value) for value in part.settings.values())
    return f"{part.name}-{settings}" if settings else part.name


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:8]
