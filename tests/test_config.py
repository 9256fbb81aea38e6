"""Recipes: what they take, what they refuse, and what they say then."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fewcell.config import CANONICAL_DIAMETER_PX, Augmentation, Part, Recipe, load_recipe
from fewcell.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_states_only_what_differs(tmp_path: Path) -> None:
    text = 'minutes = 3.5\nseed = 4\n[augmentation]\nblur = 0\n[network]\nname = "x"\nsettings = { widths = [8, 16] }'
    recipe = load_recipe(write(tmp_path, text))
    assert (recipe.minutes, recipe.steps, recipe.seed) == (3.5, None, 4)
    assert recipe.augmentation == Augmentation(blur=0)
    assert recipe.network == Part(name="x", settings={"widths": [8, 16]})
    assert recipe == Recipe(minutes=3.5, seed=4, augmentation=Augmentation(blur=0), network=recipe.network)
    assert recipe.canonical_diameter_px == CANONICAL_DIAMETER_PX


def test_the_recipes_of_the_project_are_right() -> None:
    recipes = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))
    assert recipes
    for path in recipes:
        load_recipe(path)


def test_without_a_file_there_are_the_defaults() -> None:
    assert load_recipe(None, steps=7) == Recipe(steps=7)
    assert Recipe(steps=7).representation.name == "canopy", "which finds most cells"


def test_overrides_win_unless_they_are_none(tmp_path: Path) -> None:
    path = write(tmp_path, "steps = 5\nbatch = 2\nseed = 1")
    recipe = load_recipe(path, batch=4, seed=None, workers=0)
    assert (recipe.steps, recipe.batch, recipe.seed, recipe.workers) == (5, 4, 1, 0)


@pytest.mark.parametrize(("text", "budget"), [("steps = 5", {"minutes": 2.0}), ("minutes = 5", {"steps": 2})])
def test_a_budget_that_is_given_replaces_that_of_the_file(tmp_path: Path, text: str, budget: dict[str, Any]) -> None:
    recipe = load_recipe(write(tmp_path, text), **budget)
    assert {k: v for k in ("steps", "minutes") if (v := getattr(recipe, k)) is not None} == budget


@pytest.mark.parametrize(
    ("text", "given", "budget"),
    [("", {}, {"minutes": 2.0}), ("steps = 5", {}, {"steps": 5}), ("steps = 5", {"minutes": 1.0}, {"minutes": 1.0})],
)
def test_another_recipe_stands_in_for_the_defaults(
    tmp_path: Path, text: str, given: dict[str, Any], budget: dict[str, Any]
) -> None:
    base = Recipe(minutes=2, seed=3, batch=2).model_dump(mode="json")
    assert load_recipe(write(tmp_path, text), base=base, batch=5, **given) == Recipe(**budget, seed=3, batch=5)


def test_each_change_of_crops_wins_by_itself(tmp_path: Path) -> None:
    base = Recipe(minutes=2, augmentation=Augmentation(blur=0.7, noise=0.6)).model_dump(mode="json")
    recipe = load_recipe(write(tmp_path, "[augmentation]\nblur = 0"), base=base, augmentation={"gray": 0.9})
    assert recipe.augmentation == Augmentation(blur=0, noise=0.6, gray=0.9)
    with pytest.raises(ConfigError, match="augmentation"):
        load_recipe(None, base=base, augmentation="none")


@pytest.mark.parametrize("part", ["network", "representation", "objective"])
def test_a_part_may_be_its_name(tmp_path: Path, part: str) -> None:
    path = write(tmp_path, f'{part} = "from_file"\nsteps = 1')
    assert getattr(load_recipe(path), part) == Part(name="from_file")
    assert getattr(load_recipe(path, **{part: "given"}), part) == Part(name="given")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("steps = 1\nlerning_rate = 1", "no setting 'lerning_rate'; did you mean 'learning_rate'"),
        ("steps = 1\n[augmentation]\ngama = 1", "no setting 'augmentation.gama'; did you mean 'gamma'"),
        ("steps = 1\n[network]\nname = 'x'\nseting = {}", "no setting 'network.seting'; did you mean 'settings'"),
        ("seed = 1", "either steps or minutes, and not both; got steps = None, minutes = None; add --minutes 60"),
        ("steps = 1\nminutes = 2", "either steps or minutes, and not both; got steps = 1, minutes = 2.0"),
        ("steps = 0", "steps: .*, got 0"),
        ("minutes = -1", "minutes: .*, got -1"),
        ("minutes = inf", "minutes: .*finite.*, got inf"),
        ("steps = 1\nbalance = nan", "balance: .*, got nan"),
        ("steps = 1\nseed = -1", "seed: .*, got -1"),
        ("steps = 1\nprecision = 'fp8'", "precision: .*'bf16'.*, got 'fp8'"),
        ("steps = 1\naugmentation = { blur = 2 }", "augmentation.blur: .*, got 2"),
        ("steps = 1\nnetwork = 3", "network: .*, got 3"),
        ("steps = ", "no valid TOML"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_recipe(path)
    assert str(path) in str(caught.value)


def test_every_mistake_is_listed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"batch: .*, got 0\. crop_px: .*, got 1\."):
        load_recipe(write(tmp_path, "steps = 1\nbatch = 0\ncrop_px = 1"))


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)
    path = tmp_path / "image.toml"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match="no valid TOML"):
        load_recipe(path)


def test_every_key_is_documented_with_its_default() -> None:
    text = (Path(__file__).parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) ?\|", text, flags=re.MULTILINE))
    assert list(rows) == [*Recipe.model_fields, *Augmentation.model_fields]
    for name, field in {**Recipe.model_fields, **Augmentation.model_fields}.items():
        default = field.default.name if isinstance(field.default, Part) else field.default
        said = rows[name].strip()
        if isinstance(default, str):
            assert said == f'`"{default}"`', name
        elif isinstance(default, bool):
            assert said == str(default).lower(), name
        elif default is None:
            assert said in ("none", "all"), name
        elif isinstance(default, Augmentation):
            assert not said
        else:
            assert float(said) == default, name


def test_a_recipe_never_changes() -> None:
    recipe = Recipe(steps=1)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.steps = 2  # pyright: ignore[reportAttributeAccessIssue]
    assert Recipe(**recipe.model_dump(mode="json")) == recipe
