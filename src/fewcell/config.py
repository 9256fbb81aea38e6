"""Recipes: what a training run is made of. A recipe file (TOML) states only what differs from these defaults."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fewcell.errors import ConfigError, nearest

__all__ = [
    "CANONICAL_DIAMETER_PX",
    "NONE_BEYOND_LABELS",
    "Augmentation",
    "Part",
    "Probability",
    "Recipe",
    "Strict",
    "load_recipe",
    "read_toml",
]

CANONICAL_DIAMETER_PX = 24.0

# Augmentation without what is drawn for microscopes, sizes and cells of which there are no labels.
NONE_BEYOND_LABELS: dict[str, float] = dict.fromkeys(
    ("interference", "from_afar", "collage", "transparent", "fluorescent"), 0.0
)

Probability = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """What is read from files and requests: unknown keys and infinite numbers are errors, and nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Strict):
    """A variant by its name in the literal table of its package, with its own settings."""

    name: str
    settings: dict[str, Any] = {}


class Augmentation(Strict):
    """How crops are varied. Every number is a probability unless its name says otherwise. What is drawn instead of an
    image is decided one after the other, so a later share is of what the ones before leave.

    scale_jitter: cells are trained at canonical scale times a factor between 1 / scale_jitter and scale_jitter.
    off_scale: of crops whose scale is drawn from a quarter to four times the canonical one instead.
    immunostain: of images whose modality is histology, turned into a drawn immunostain.
    paste: of crops into which cells of another image of the same modality are set.
    empty, defocus: of crops without any cell, drawn, or so far out of focus that nothing is left of the cells.
    from_afar: of crops in which cells are so small that none is to be found: what they make up, glands and clumps, is
    none either.
    collage: of crops with drawn cells, that have the textures of photographs.
    transparent: of crops with drawn cells that nobody stained, as phase contrast, DIC and brightfield show them.
    fluorescent: of crops with drawn nuclei and cells that glow. The network that tells the scale sees as many of both.
    """

    scale_jitter: Annotated[float, Field(ge=1, le=4)] = 1.8
    off_scale: Probability = 0.0
    rotate: Probability = 0.5
    invert: Probability = 0.15
    gamma: Probability = 0.5
    gray: Probability = 0.15
    tint: Probability = 0.1
    shuffle_channels: Probability = 0.05
    stain: Probability = 0.5
    interference: Probability = 0.0
    shade: Probability = 0.2
    blur: Probability = 0.2
    noise: Probability = 0.3
    jpeg: Probability = 0.1
    immunostain: Probability = 0.3
    paste: Probability = 0.0
    empty: Probability = 0.04
    defocus: Probability = 0.03
    from_afar: Probability = 0.0
    collage: Probability = 0.0
    transparent: Probability = 0.0
    fluorescent: Probability = 0.0

    def stronger(self) -> "Augmentation":
        """For images whose labels come from a teacher: a student learns more than it only where it sees less."""
        often = {"invert": 0.25, "gamma": 0.7, "gray": 0.25, "shade": 0.3, "blur": 0.4, "noise": 0.5, "jpeg": 0.2}
        changes = {name: max(getattr(self, name), value) for name, value in often.items()}
        # An immunostain is drawn around the cells that are known: it would paint over the others.
        drawn = dict.fromkeys(("empty", "defocus", "immunostain", *NONE_BEYOND_LABELS), 0.0)
        return self.model_copy(update=changes | drawn | {"interference": self.interference})


class Recipe(Strict):
    """Everything that decides the outcome of a training run, but the data.

    steps or minutes: how long to train; exactly one of them. With steps a run is repeatable to the bit on one
        machine; with minutes the learning rate follows the time spent training, summed over resumed runs.
    start: the model with whose weights training begins, a folder or a name; see `keep_start` for how it ends.
    keep_start: whether what `start` knows is to be kept, and the end lies between it and what was learned, see
        `training.blend`. If not, its weights are no more than a good beginning, and training ends as without one.
    still_found: F1 against what `start` finds in drawn images that what is taught must reach, lest too much be
        forgotten; 0: it may forget all that its labels do not ask for.
    scale_steps: in how many steps, besides, a network that tells the scale of images is trained; 0: that of `start` is
        kept, or that of the model inside the package.
    batch: crops a step, over all processes. crop_px: side of a crop, a multiple of the network's down-sampling.
    balance: 1 draws sources in proportion to their number of images, 0 draws each source equally often.
    even_modalities: 0 draws modalities as often as that makes them, 1 draws each equally often.
    held_out: share of the images kept for thresholds, scorer and the log, mostly whole experiments at a time.
    precision: "auto" is bf16 where the CPU or GPU computes in it, else f32.
    workers: processes that prepare crops.
    int8: whether an int8 network is made as well, see `training.quantise`.
    """

    network: Part = Part(name="resunet")
    representation: Part = Part(name="canopy")
    objective: Part = Part(name="supervised")
    augmentation: Augmentation = Augmentation()
    start: str | None = None
    keep_start: bool = True
    still_found: Probability = 0.97
    steps: Annotated[int, Field(ge=1)] | None = None
    minutes: Annotated[float, Field(gt=0)] | None = None
    scale_steps: Annotated[int, Field(ge=0)] = 0
    batch: Annotated[int, Field(ge=1)] = 8
    crop_px: Annotated[int, Field(ge=32)] = 256
    canonical_diameter_px: Annotated[float, Field(gt=4, le=200)] = CANONICAL_DIAMETER_PX
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    warmup: Probability = 0.02
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.998
    balance: Probability = 0.5
    even_modalities: Probability = 0.0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.12
    precision: Literal["auto", "f32", "bf16"] = "auto"
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=0)] = 1
    int8: bool = False
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 4.0
    seed: Annotated[int, Field(ge=0)] = 0

    def n_readers(self, processes: int) -> int:
        """How many processes read images: the training processes, or their workers."""
        return processes * max(1, self.workers)

    @property
    def teaches(self) -> bool:
        """Whether a model is taught something new beside what it knows."""
        return self.start is not None and self.keep_start

    @model_validator(mode="after")
    def _one_budget(self) -> "Recipe":
        if (self.steps is None) == (self.minutes is None):
            got = f"steps = {self.steps}, minutes = {self.minutes}"
            advice = "; add --minutes 60, for example" if self.steps is None else ""
            raise ValueError(f"give either steps or minutes, and not both; got {got}{advice}")
        return self

    @model_validator(mode="after")
    def _something_to_go_on_from(self) -> "Recipe":
        if self.start is None and not self.keep_start:
            raise ValueError("keep_start = false says how training goes on from a model; name it as start")
        return self


def read_toml(path: Path | str, kind: str) -> dict[str, Any]:
    """What a TOML file says; raises ConfigError if it is missing or no TOML. kind: what it is called then."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The {kind} {path} cannot be read: {error.strerror or error}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"The {kind} {path} is no valid TOML: {error}.") from None


def load_recipe(path: Path | str | None, *, base: dict[str, Any] | None = None, **overrides: Any) -> Recipe:
    """Read a recipe from a TOML file (None: the defaults); overrides that are not None win over the file.

    base: settings of another recipe, which stand in for the defaults.

    Raises ConfigError for a file that is missing or no TOML, and for unknown keys and values out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = read_toml(path, "recipe")
    values = _over(base or {}, values)
    values = _over(values, {k: v for k, v in overrides.items() if v is not None})
    values = {k: {"name": v} if k in _PARTS and isinstance(v, str) else v for k, v in values.items()}
    try:
        return Recipe(**values)
    except ValidationError as error:
        raise ConfigError(f"The recipe{f' {path}' if path else ''} is wrong: {_explain(error)}") from None


def _over(values: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The values, but those that are given win; a budget that is given replaces the other one as well.

    Of [augmentation] each value wins by itself.
    """
    for budget, other in (("steps", "minutes"), ("minutes", "steps")):
        if budget in given and other not in given:
            values = {k: v for k, v in values.items() if k != other}
    before, now = values.get("augmentation"), given.get("augmentation")
    both = {"augmentation": before | now} if isinstance(before, dict) and isinstance(now, dict) else {}
    return values | given | both


_PARTS = ("network", "representation", "objective")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        *tables, name = (str(part) for part in problem["loc"]) if problem["loc"] else ("",)
        where = ".".join([*tables, name])
        if problem["type"] == "extra_forbidden":
            known = Recipe.model_fields
            if tables:
                known = Part.model_fields if tables[0] in _PARTS else Augmentation.model_fields
            lines.append(f"there is no setting {where!r}; {nearest(name, known)}")
        elif where:
            lines.append(f"{where}: {problem['msg']}, got {problem['input']!r}.")
        else:
            lines.append(f"{problem['msg'].removeprefix('Value error, ')}.")
    return " ".join(lines)
